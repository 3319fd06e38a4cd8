//! What is written into the tree: the databases, and lines of sysusers.d with every number.

use std::collections::BTreeSet;

use super::super::path::TreePath;
use super::super::{Kind, Meta, Node, Origin, Tree, TreeError};
use super::accounts::{Accounts, User};
use super::sysusers::{self, GroupRef, Request};
use super::{ACCOUNTS_FILE, IdentityError, SysusersFiles};

/// Puts `content` at `path`, keeping mode, owner and provenance of a file that is there.
fn write(tree: &mut Tree, path: &TreePath, content: String, mode: u16, time: i64) -> Result<(), TreeError> {
    if let Some(node) = tree.get_mut(path) {
        node.kind = Kind::file(content.into_bytes());
        node.meta.mtime = time;
        return Ok(());
    }
    let meta = Meta::root(mode, time);
    let node = Node::new(
        meta,
        Kind::file(content.into_bytes()),
        Origin::Composer("accounts"),
    );
    tree.insert(path, node).map(|_| ())
}

pub(super) fn databases(tree: &mut Tree, accounts: &Accounts, time: i64) -> Result<(), IdentityError> {
    let files = accounts.files(time.div_euclid(86_400));
    for (path, content, mode) in [
        ("/etc/passwd", files.passwd, 0o644),
        ("/etc/group", files.group, 0o644),
        ("/etc/shadow", files.shadow, 0o000),
        ("/etc/gshadow", files.gshadow, 0o000),
    ] {
        write(tree, &TreePath::literal(path), content, mode, time)?;
    }
    Ok(())
}

/// Every number as a sysusers.d line, so that a machine whose /etc/passwd is older than the image
/// makes new accounts with the image's numbers. Lines of packages that leave the number open are
/// written again, with it, under the same name in /etc, which hides theirs: a second line for one
/// account would be a conflict.
pub(super) fn sysusers_lines(
    tree: &mut Tree,
    accounts: &Accounts,
    files: &SysusersFiles,
    time: i64,
) -> Result<(), IdentityError> {
    let mut covered = BTreeSet::new();
    for (name, (_, lines)) in files {
        let mut changed = false;
        let mut content =
            String::from("# As in /usr/lib/sysusers.d, with the numbers that this image has.\n");
        for line in lines {
            let id = match &line.request {
                Some(Request::User { name, uid, group, .. }) => {
                    covered.extend([("user", name.clone()), ("group", name.clone())]);
                    let user = &accounts.users[name];
                    let suffix = match group {
                        Some(GroupRef::Name(name)) => format!(":{name}"),
                        Some(GroupRef::Number(gid)) => format!(":{gid}"),
                        None if user.gid != user.uid => format!(":{}", user.gid),
                        None => String::new(),
                    };
                    let fits = *uid == Some(user.uid) && (group.is_some() || suffix.is_empty());
                    (!fits).then(|| format!("{}{suffix}", user.uid))
                }
                Some(Request::Group { name, gid }) => {
                    covered.insert(("group", name.clone()));
                    let found = accounts.groups[name].gid;
                    (*gid != Some(found)).then(|| found.to_string())
                }
                _ => None,
            };
            changed |= id.is_some();
            content.push_str(&id.map_or_else(|| line.text.clone(), |id| sysusers::with_id(&line.text, &id)));
            content.push('\n');
        }
        if changed {
            let path = TreePath::literal("/etc/sysusers.d").join_name(name);
            write(tree, &path, content, 0o644, time)?;
        }
    }
    let mut content = String::from("# Accounts of this image that no package's sysusers.d names.\n");
    let mut groups: Vec<_> = accounts.groups.iter().collect();
    groups.sort_by_key(|(_, group)| group.gid);
    for (name, group) in groups {
        if !covered.contains(&("group", name.clone())) {
            content.push_str(&format!("g {name} {}\n", group.gid));
        }
    }
    let mut users: Vec<_> = accounts.users.iter().collect();
    users.sort_by_key(|(_, user)| user.uid);
    for (name, user) in users {
        if !covered.contains(&("user", name.clone())) {
            let User { uid, gid, .. } = user;
            let gecos = sysusers::quoted(&user.gecos);
            let home = sysusers::quoted_place(&user.home);
            // Nothing means this to login(1), and another default to sysusers.d.
            let shell = match user.shell.as_str() {
                "" => "/bin/sh".to_owned(),
                shell => sysusers::quoted_place(shell),
            };
            content.push_str(&format!("u {name} {uid}:{gid} {gecos} {home} {shell}\n"));
        }
    }
    write(tree, &TreePath::literal(ACCOUNTS_FILE), content, 0o644, time)?;
    Ok(())
}
