//! The initrd's bytes: newc archives, each under zstd (or as it is), one after the other. The kernel unpacks them in turn.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::error::InitrdError;
use crate::formats::cpio::{Inode, WriteError, Writer};
use crate::tree::path::TreePath;
use crate::tree::{Children, FileData, Kind, LinkId, Node, Tree, TreeError};

/// Files of so many bytes and more are most of an initrd's bytes: programs and libraries.
const LARGE: u64 = 16 << 10;

/// What an initrd is packed in, each member an archive of its own: so that another kernel, another program or another name
/// of the image leaves the others as they were.
enum Member {
    /// Directories, links, units, what says which image it is.
    Own,
    Programs,
    Modules,
}

impl Member {
    const COUNT: usize = 3;

    fn of(path: &TreePath, node: &Node) -> Self {
        match &node.kind {
            // Names of one file stay together.
            Kind::File(FileData { link: Some(_), .. }) => Self::Own,
            Kind::File(_) if path.as_bytes().starts_with(b"/usr/lib/modules/") => Self::Modules,
            Kind::File(file) if file.blob.size() >= LARGE => Self::Programs,
            _ => Self::Own,
        }
    }
}

/// The trees that the members of an initrd hold, in their order; all but the first have files and the directories above them.
///
/// # Errors
/// Where something lies below what is no directory.
pub fn members(tree: &Tree) -> Result<Vec<Tree>, TreeError> {
    let root = tree.root().meta.clone();
    let mut members = vec![Tree::new(root); Member::COUNT];
    for (path, node) in tree.walk().skip(1) {
        let member = &mut members[Member::of(&path, node) as usize];
        lay_above(tree, &path, member)?;
        member.insert(&path, without_children(node))?;
    }
    members.retain(|member| member.walk().nth(1).is_some());
    Ok(members)
}

/// Puts the directories above `path` into `member`, as `tree` has them.
fn lay_above(tree: &Tree, path: &TreePath, member: &mut Tree) -> Result<(), TreeError> {
    let Some(directory) = path.parent().filter(|directory| member.get(directory).is_none()) else {
        return Ok(());
    };
    lay_above(tree, &directory, member)?;
    if let Some(node) = tree.get(&directory) {
        member.insert(&directory, without_children(node))?;
    }
    Ok(())
}

fn without_children(node: &Node) -> Node {
    match node.kind {
        Kind::Dir(_) => Node::new(
            node.meta.clone(),
            Kind::Dir(Children::default()),
            node.origin.clone(),
        ),
        _ => node.clone(),
    }
}

/// The tree as a newc archive, with its length before compression: by zstd, or at level 0 not at all. The same for
/// every number of `workers` (at least one is used: zstd without workers gives other bytes).
pub fn pack(tree: &Tree, level: i32, workers: u32) -> Result<(Vec<u8>, u64), InitrdError> {
    if level == 0 {
        let bytes = archive(tree, Vec::new())?;
        let size = bytes.len() as u64;
        return Ok((bytes, size));
    }
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
    fn another_program_leaves_the_other_members_as_they_were() {
        let file = |size: usize| Kind::file(vec![1; size]);
        let sample = |program: usize| {
            let mut tree = sample();
            for (path, kind) in [
                ("/usr/bin/program", file(program)),
                ("/usr/lib/modules/6/m.ko", file(9)),
                ("/usr/lib/os-release", file(9)),
            ] {
                let node = Node::new(Meta::root(0o600, 5), kind, Origin::Composer("test"));
                tree.insert(&TreePath::literal(path), node).unwrap();
            }
            tree.get_mut(&TreePath::literal("/usr")).unwrap().meta.mode = 0o711;
            members(&tree).unwrap()
        };
        let members = sample(LARGE as usize);
        let listed: Vec<String> = members
            .iter()
            .map(|member| {
                let nodes = member.walk().skip(1);
                let shown = nodes.map(|(path, node)| format!("{path} {:o}", node.meta.mode));
                shown.collect::<Vec<_>>().join(", ")
            })
            .collect();
        assert_eq!(
            listed,
            [
                "/a 600, /usr 711, /usr/bin 755, /usr/lib 755, /usr/lib/modules 755, /usr/lib/modules/6 755, \
                 /usr/lib/os-release 600, /z 755, /z/b 600",
                "/m 600, /usr 711, /usr/bin 755, /usr/bin/program 600",
                "/usr 711, /usr/lib 755, /usr/lib/modules 755, /usr/lib/modules/6 755, /usr/lib/modules/6/m.ko 600",
            ]
        );
        let other = sample(LARGE as usize + 1);
        let equal = members
            .iter()
            .zip(&other)
            .map(|(one, other)| archive(one, Vec::new()).unwrap() == archive(other, Vec::new()).unwrap());
        assert_eq!(equal.collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(sample(1).len(), 3);
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_workers() {
        let (one, size) = pack(&sample(), 3, 1).unwrap();
        for workers in [0, 2, 4] {
            assert_eq!(pack(&sample(), 3, workers).unwrap(), (one.clone(), size));
        }
        assert_eq!(zstd::decode_all(&one[..]).unwrap().len() as u64, size);
        assert_eq!(
            pack(&sample(), 0, 1).unwrap().0,
            zstd::decode_all(&one[..]).unwrap()
        );
        assert!(matches!(pack(&sample(), 23, 1), Err(InitrdError::Level(23))));
    }
}
