//! The tree's `/usr` as a sealed volume: an erofs and its hash tree.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter};

use crate::formats::erofs::{self, FileSystem, Inode, InodeIndex, InodeKind};
use crate::store::{Blob, Values};
use crate::tree::{Kind, LinkId, Node};

impl erofs::Content for Blob {
    fn size(&self) -> u64 {
        Blob::size(self)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Blob::read_exact_at(self, buffer, offset)
    }

    fn digest(&self) -> Option<[u8; 32]> {
        Some(self.sha256().0)
    }
}

/// What the store keeps compressed clusters as.
pub const CLUSTERS: &str = "erofs-clusters";

impl erofs::ClusterCache for Values {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        Values::get(self, key)
    }

    fn put(&self, key: &[u8; 32], value: &[u8]) {
        Values::put(self, key, value);
    }
}

/// Writes `directory` as the root of an erofs volume into `file`, which is empty. Clusters
/// that `clusters` has are not compressed again.
///
/// # Errors
/// Whatever reading contents and writing the volume give.
pub fn write_erofs(
    directory: &Node,
    options: &erofs::Options,
    file: &File,
    clusters: &dyn erofs::ClusterCache,
) -> Result<erofs::Stats, erofs::Error> {
    let mut volume = FileSystem {
        inodes: Vec::new(),
        root: InodeIndex(0),
    };
    volume.root = add(&mut volume, directory, &mut HashMap::new());
    let mut out = BufWriter::with_capacity(1 << 20, file);
    erofs::write_cached(&volume, options, clusters, &mut out)
}

fn add<'a>(
    volume: &mut FileSystem<&'a Blob>,
    node: &'a Node,
    links: &mut HashMap<LinkId, InodeIndex>,
) -> InodeIndex {
    let kind = match &node.kind {
        Kind::Dir(children) => {
            let mut entries = BTreeMap::new();
            for (name, child) in children {
                entries.insert(name.clone(), add(volume, child, links));
            }
            InodeKind::Dir(entries)
        }
        Kind::File(file) => {
            if let Some(known) = file.link.and_then(|link| links.get(&link)) {
                return *known;
            }
            InodeKind::File(&file.blob)
        }
        Kind::Symlink(target) => InodeKind::Symlink(target.clone()),
        &Kind::CharDevice { major, minor } => InodeKind::CharDevice { major, minor },
        &Kind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
        Kind::Fifo => InodeKind::Fifo,
        Kind::Socket => InodeKind::Socket,
    };
    let index = InodeIndex(volume.inodes.len());
    if let Kind::File(file) = &node.kind
        && let Some(link) = file.link
    {
        links.insert(link, index);
    }
    volume.inodes.push(Inode {
        mode: node.meta.mode,
        uid: node.meta.uid,
        gid: node.meta.gid,
        mtime: node.meta.mtime,
        xattrs: node.meta.xattrs.clone(),
        kind,
    });
    index
}
