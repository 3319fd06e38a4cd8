//! Hard links: identities of the tree outside against inodes inside.

use std::collections::HashMap;

use super::records::Inode;
use crate::path::TreePath;
use crate::store::Blob;
use crate::tree::LinkId;

/// Identities that scriptlets' own hard links get have this bit, which those of a merged tree have not.
const OWN: u64 = 1 << 63;

#[derive(Debug, Default)]
pub(super) struct Links {
    /// The name under which a link set was last laid.
    laid: HashMap<LinkId, (TreePath, Inode)>,
    identities: HashMap<Inode, LinkId>,
    /// Contents that were read back, with the change time at which they were.
    contents: HashMap<Inode, ((i64, u32), Blob)>,
    made: u64,
}

impl Links {
    pub(super) fn path_of(&self, link: LinkId) -> Option<(TreePath, Inode)> {
        self.laid.get(&link).cloned()
    }

    pub(super) fn note(&mut self, link: LinkId, path: &TreePath, inode: Inode) {
        self.laid.insert(link, (path.clone(), inode));
        self.identities.insert(inode, link);
    }

    /// The content of an inode that was read under another name, unless it has changed since.
    pub(super) fn content(&self, inode: Inode, changed: (i64, u32)) -> Option<Blob> {
        let (at, blob) = self.contents.get(&inode)?;
        (*at == changed).then(|| blob.clone())
    }

    pub(super) fn note_content(&mut self, inode: Inode, changed: (i64, u32), blob: Blob) {
        self.contents.insert(inode, (changed, blob));
    }

    /// The identity of an inode that has several names: that under which it was laid, or a new one.
    pub(super) fn identity(&mut self, inode: Inode) -> LinkId {
        *self.identities.entry(inode).or_insert_with(|| {
            self.made += 1;
            LinkId(OWN | self.made)
        })
    }
}
