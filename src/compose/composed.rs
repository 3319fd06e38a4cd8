//! What a build has made of the packages, before anything is signed: enough to seal it, and no more.

use std::collections::BTreeMap;
use std::fs::File;

use serde::{Deserialize, Serialize};

use super::ComposeError;
use super::boot::Boot;
use crate::ostree::CommitTree;
use crate::report::{ManifestDifference, ManifestOpen, ManifestPackage};
use crate::scriptlet::ledger::Entry;
use crate::store::{Blob, Digest};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree, selinux};

/// Everything that is sealed, signed and written to disks.
pub struct Composed {
    pub facts: Facts,
    pub boot: Boot,
    /// The kernel's image.
    pub kernel: Blob,
    pub initrd: Blob,
    /// The file system of `/usr`.
    pub usr: File,
    /// Its hash tree.
    pub verity: File,
}

/// What is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// NEVRA of the kernel's package.
    pub kernel_package: String,
    /// As `uname -r` shows it.
    pub kernel_release: String,
    pub initrd_modules: Vec<String>,
    /// Bytes of the file system of `/usr` and of its hash tree.
    pub usr_size: u64,
    pub verity_size: u64,
    /// Of their files.
    pub usr_sha256: Digest,
    pub verity_sha256: Digest,
    /// Of the chunks that the file system fills on a disk.
    pub usr_chunks: Vec<Digest>,
    /// In hexadecimal.
    pub root_hash: String,
    pub salt: Digest,
    /// Bytes of a slot for `/usr`.
    pub slot: u64,
    /// The commit's tree, whose objects are in the repository.
    pub tree: CommitTree,
    /// What the root file system holds at first, where the composer makes it.
    pub root: Option<Vec<RootNode>>,
    pub packages: Vec<ManifestPackage>,
    pub rpm_verify: Vec<ManifestDifference>,
    pub scriptlets: Vec<Entry>,
    pub open_requirements: Vec<ManifestOpen>,
    /// What people should know of the caches that were made.
    pub remarks: Vec<String>,
    /// Files, directories and links of the tree.
    pub paths: usize,
    /// SELinux labels; empty where the definition wants none.
    pub labels: selinux::Report,
}

impl Facts {
    /// The root hash's bytes.
    pub fn root_hash_bytes(&self) -> Vec<u8> {
        crate::store::unhex(&self.root_hash).unwrap_or_default()
    }
}

/// A directory, symbolic link or empty file of the root file system. Names, values and targets are bytes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootNode {
    path: String,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    /// Of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Whether it is a file.
    #[serde(default)]
    file: bool,
}

/// The nodes of `tree`, which holds directories, symbolic links and empty files, parents first.
pub fn root_nodes(tree: &Tree) -> Vec<RootNode> {
    use crate::store::hex;
    let node = |(path, node): (TreePath, &Node)| RootNode {
        path: hex(path.as_bytes()),
        mode: node.meta.mode,
        uid: node.meta.uid,
        gid: node.meta.gid,
        mtime: node.meta.mtime,
        xattrs: node
            .meta
            .xattrs
            .iter()
            .map(|(name, value)| (hex(name), hex(value)))
            .collect(),
        target: match &node.kind {
            Kind::Symlink(target) => Some(hex(target)),
            _ => None,
        },
        file: matches!(node.kind, Kind::File(_)),
    };
    tree.walk().map(node).collect()
}

/// The tree of which these are the nodes.
///
/// # Errors
/// Nodes that make no tree.
pub fn root_tree(nodes: &[RootNode]) -> Result<Tree, ComposeError> {
    let bytes = |text: &str| {
        crate::store::unhex(text).ok_or(ComposeError::State {
            what: "the root partition",
        })
    };
    let mut tree = Tree::new(Meta::root(0o755, 0));
    for node in nodes {
        let mut meta = Meta::root(node.mode, node.mtime);
        (meta.uid, meta.gid) = (node.uid, node.gid);
        for (name, value) in &node.xattrs {
            meta.xattrs.insert(bytes(name)?.into(), bytes(value)?.into());
        }
        let path = TreePath::new(bytes(&node.path)?).map_err(|_| ComposeError::State {
            what: "the root partition",
        })?;
        match tree.get_mut(&path).filter(|_| path.is_root()) {
            Some(root) => root.meta = meta,
            None => {
                let kind = match &node.target {
                    Some(target) => Kind::Symlink(bytes(target)?.into()),
                    None if node.file => Kind::file(Vec::new()),
                    None => Kind::Dir(Default::default()),
                };
                let origin = Origin::Composer("the root partition");
                tree.insert(&path, Node::new(meta, kind, origin))?;
            }
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_file_system_is_told_without_loss() {
        let mut tree = Tree::new(Meta::root(0o755, 7));
        let mut var = Meta::root(0o750, 8);
        (var.uid, var.gid) = (3, 4);
        var.xattrs
            .insert((*b"security.selinux").into(), (*b"label\0").into());
        let origin = Origin::Composer("the root partition");
        let nodes = [
            ("/var", var.clone(), Kind::Dir(Default::default())),
            ("/var/\u{e9}", var, Kind::Dir(Default::default())),
            ("/var/key", Meta::root(0o600, 8), Kind::file(Vec::new())),
            ("/bin", Meta::root(0o777, 9), Kind::Symlink((*b"usr/bin").into())),
        ];
        for (path, meta, kind) in nodes {
            tree.insert(
                &TreePath::new(path).unwrap(),
                Node::new(meta, kind, origin.clone()),
            )
            .unwrap();
        }
        let told = root_nodes(&tree);
        let text = serde_json::to_string(&told).unwrap();
        let read: Vec<RootNode> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, told);
        let again = root_tree(&read).unwrap();
        assert_eq!(root_nodes(&again), told);
        assert_eq!(again.walk().count(), tree.walk().count());
        let damaged = [RootNode {
            path: "2f2e2e".into(),
            ..told[0].clone()
        }];
        assert!(root_tree(&damaged).is_err());
    }
}
