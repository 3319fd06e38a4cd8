//! The initrd's bytes: a newc archive under zstd.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::error::InitrdError;
use crate::formats::cpio::{Inode, WriteError, Writer};
use crate::tree::{FileData, Kind, LinkId, Node, Tree};

/// The tree as a newc archive, zstd-compressed, with its length before compression. The same for
/// every number of `workers` (at least one is used: zstd without workers gives other bytes).
pub fn pack(tree: &Tree, level: i32, workers: u32) -> Result<(Vec<u8>, u64), InitrdError> {
    if !(1..=22).contains(&level) {
        return Err(InitrdError::Level(level));
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), level).map_err(InitrdError::Compress)?;
    encoder
        .multithread(workers.max(1))
        .map_err(InitrdError::Compress)?;
    // The kernel's decompressor ignores it; a damaged initrd is caught by the UKI's signature.
    encoder.include_checksum(false).map_err(InitrdError::Compress)?;
    let counter = archive(
        tree,
        Counter {
            out: encoder,
            bytes: 0,
        },
    )?;
    let bytes = counter.out.finish().map_err(InitrdError::Compress)?;
    Ok((bytes, counter.bytes))
}

/// Writes every node but the root, parents first, names without a leading slash.
fn archive<W: Write>(tree: &Tree, out: W) -> Result<W, WriteError> {
    let mut links: BTreeMap<LinkId, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, node) in tree.walk() {
        if let Kind::File(FileData { link: Some(link), .. }) = &node.kind {
            links
                .entry(*link)
                .or_default()
                .push(name(path.as_bytes()).to_vec());
        }
    }
    let mut writer = Writer::new(out);
    for (path, node) in tree.walk().skip(1) {
        let name = name(path.as_bytes());
        let inode = inode(node);
        match &node.kind {
            Kind::File(file) => {
                let alone = [name.to_vec()];
                let names = file
                    .link
                    .and_then(|link| links.get(&link))
                    .map_or(&alone[..], Vec::as_slice);
                // A set of hard links is written at the last of its names, when the directories
                // of all of them are there.
                if names.last().is_some_and(|last| last == name) {
                    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
                    writer.file(&names, &inode, file.blob.size(), file.blob.reader())?;
                }
            }
            Kind::Symlink(target) => writer.symlink(name, &inode, target)?,
            _ => writer.node(name, &inode)?,
        }
    }
    writer.finish()
}

fn name(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn inode(node: &Node) -> Inode {
    let (rdev_major, rdev_minor) = match node.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    Inode {
        mode: node.st_mode().into(),
        uid: node.meta.uid,
        gid: node.meta.gid,
        mtime: u32::try_from(node.meta.mtime.max(0)).unwrap_or(u32::MAX),
        rdev_major,
        rdev_minor,
    }
}

/// Counts what passes.
struct Counter<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::path::TreePath;
    use crate::tree::{Meta, Origin};

    fn sample() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let blob = crate::store::Blob::from_bytes(vec![7; 3 << 20]);
        for (at, link) in [("/a", Some(LinkId(1))), ("/m", None), ("/z/b", Some(LinkId(1)))] {
            let kind = Kind::File(FileData {
                blob: blob.clone(),
                link,
            });
            let node = Node::new(Meta::root(0o600, 5), kind, Origin::Composer("test"));
            tree.insert(&TreePath::new(at).unwrap(), node).unwrap();
        }
        tree
    }

    #[test]
    fn links_share_one_copy_after_their_directories() {
        let bytes = archive(&sample(), Vec::new()).unwrap();
        let at = |name: &[u8]| bytes.windows(name.len()).position(|w| w == name).unwrap();
        let (z, b) = (at(b"z\0"), at(b"z/b\0"));
        let a = at(b"00a\0");
        assert!(z < a && a < b, "{z} {a} {b}");
        assert!(bytes.len() > 6 << 20 && bytes.len() < (6 << 20) + 4096);
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_workers() {
        let (one, size) = pack(&sample(), 3, 1).unwrap();
        for workers in [0, 2, 4] {
            assert_eq!(pack(&sample(), 3, workers).unwrap(), (one.clone(), size));
        }
        assert_eq!(zstd::decode_all(&one[..]).unwrap().len() as u64, size);
        assert!(matches!(pack(&sample(), 23, 1), Err(InitrdError::Level(23))));
    }
}
