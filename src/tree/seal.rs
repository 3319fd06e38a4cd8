//! A digest of a whole tree, and what must be settled before it is sealed.

use sha2::{Digest as _, Sha256};

use super::path::TreePath;
use super::{Kind, Tree};
use crate::store::Digest;

/// Sets every time after `newest` back to it, and gives directories that no one dated `default`.
pub fn clamp_times(tree: &mut Tree, newest: i64, default: i64) {
    tree.for_each_mut(|_, node| {
        let undated = node.meta.mtime == 0 && matches!(node.kind, Kind::Dir(_));
        node.meta.mtime = if undated {
            default
        } else {
            node.meta.mtime.min(newest)
        };
    });
}

/// SHA-256 over everything at and below `path` that a file system of it would hold: two trees with
/// the same digest make the same volume.
pub fn digest(tree: &Tree, path: &TreePath) -> Digest {
    let mut hasher = Sha256::new();
    for (path, node) in tree.walk_from(path) {
        let meta = &node.meta;
        field(&mut hasher, path.as_bytes());
        for number in [
            i64::from(node.st_mode()),
            i64::from(meta.uid),
            i64::from(meta.gid),
            meta.mtime,
        ] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update((meta.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &meta.xattrs {
            field(&mut hasher, name);
            field(&mut hasher, value);
        }
        match &node.kind {
            Kind::File(file) => {
                hasher.update(file.blob.sha256().0);
                hasher.update(file.link.map_or(0, |link| link.0).to_le_bytes());
            }
            Kind::Symlink(target) => field(&mut hasher, target),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                hasher.update(major.to_le_bytes());
                hasher.update(minor.to_le_bytes());
            }
            Kind::Dir(_) | Kind::Fifo | Kind::Socket => {}
        }
    }
    Digest::finish(hasher)
}

/// Bytes with their length before them, so that no two lists of fields run together.
fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Node, Origin};

    fn tree(change: impl FnOnce(&mut Node)) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 5));
        let mut node = Node::new(Meta::root(0o644, 5), Kind::file(*b"a"), Origin::Composer("test"));
        change(&mut node);
        tree.insert(&TreePath::literal("/usr/a"), node).unwrap();
        tree
    }

    #[test]
    fn every_property_counts() {
        let of = |tree: &Tree| digest(tree, &TreePath::literal("/usr"));
        let plain = of(&tree(|_| {}));
        assert_eq!(plain, of(&tree(|_| {})));
        let changes: [fn(&mut Node); 6] = [
            |node| node.meta.mode = 0o600,
            |node| node.meta.uid = 1,
            |node| node.meta.gid = 1,
            |node| node.meta.mtime = 6,
            |node| node.kind = Kind::file(*b"b"),
            |node| drop(node.meta.xattrs.insert((*b"user.x").into(), (*b"").into())),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_ne!(plain, of(&tree(change)), "change {index}");
        }
    }

    #[test]
    fn times_are_clamped() {
        let mut tree = tree(|node| node.meta.mtime = 99);
        clamp_times(&mut tree, 50, 7);
        assert_eq!(tree.get(&TreePath::literal("/usr/a")).unwrap().meta.mtime, 50);
        assert_eq!(tree.root().meta.mtime, 5);
    }
}
