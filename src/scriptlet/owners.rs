//! Names and numbers of owners, while scriptlets run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tree::identity::accounts::Accounts;
use crate::tree::{Children, Kind, Meta, Node};

/// Users and groups by name and by number.
#[derive(Debug, Default)]
pub struct Owners {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    user_names: BTreeMap<u32, Arc<str>>,
    group_names: BTreeMap<u32, Arc<str>>,
}

impl Owners {
    pub fn new(accounts: &Accounts) -> Self {
        let mut owners = Self::default();
        for (name, user) in &accounts.users {
            owners.users.insert(name.clone(), user.uid);
            owners
                .user_names
                .entry(user.uid)
                .or_insert_with(|| name.as_str().into());
        }
        for (name, group) in &accounts.groups {
            owners.groups.insert(name.clone(), group.gid);
            owners
                .group_names
                .entry(group.gid)
                .or_insert_with(|| name.as_str().into());
        }
        owners
    }

    /// `node`, without what it holds, its owners as numbers; root where a name is not known.
    pub fn numbered(&self, node: &Node) -> Node {
        let number = |names: &BTreeMap<String, u32>, name: &Option<Arc<str>>, number: u32| match name {
            Some(name) => names.get(&**name).copied().unwrap_or(0),
            None => number,
        };
        let kind = match &node.kind {
            Kind::Dir(_) => Kind::Dir(Children::new()),
            kind => kind.clone(),
        };
        let meta = Meta {
            uid: number(&self.users, &node.meta.user, node.meta.uid),
            gid: number(&self.groups, &node.meta.group, node.meta.gid),
            user: None,
            group: None,
            ..node.meta.clone()
        };
        Node::new(meta, kind, node.origin.clone())
    }

    /// Gives owners that have a name their name, by which the image numbers them; root needs none.
    pub fn name(&self, meta: &mut Meta) {
        if meta.uid != 0 {
            meta.user = self.user_names.get(&meta.uid).cloned();
        }
        if meta.gid != 0 {
            meta.group = self.group_names.get(&meta.gid).cloned();
        }
    }
}
