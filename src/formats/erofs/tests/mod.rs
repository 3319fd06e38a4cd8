//! Tests of the room as a whole. Here: the trees that they are made with, and how trees are compared.

mod properties;
mod refusals;
mod round_trip;
mod tools;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use super::*;

type Tree = FileSystem<Vec<u8>>;

/// Numbers as text, pseudo-random but always the same: compresses by half or so.
pub(super) fn words(count: usize, seed: u64) -> Vec<u8> {
    noise(count, seed)
        .into_iter()
        .flat_map(|number| format!("{} ", number % 5000).into_bytes())
        .collect()
}

/// Pseudo-random numbers, always the same.
fn noise(count: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Bytes that do not compress.
fn random(count: usize, seed: u64) -> Vec<u8> {
    noise(count, seed).into_iter().map(|n| (n >> 7) as u8).collect()
}

/// A tree being put together: the root is inode 0.
struct Builder(Tree);

impl Builder {
    fn new() -> Self {
        let root = Inode {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: TIME,
            xattrs: BTreeMap::new(),
            kind: InodeKind::Dir(BTreeMap::new()),
        };
        Self(FileSystem {
            inodes: vec![root],
            root: InodeIndex(0),
        })
    }

    /// Adds an inode to directory `parent` and returns it for changes, with its index.
    fn add(&mut self, parent: usize, name: &str, kind: InodeKind<Vec<u8>>) -> (usize, &mut Inode<Vec<u8>>) {
        let index = self.0.inodes.len();
        self.link(parent, name, index);
        self.0.inodes.push(Inode {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: TIME,
            xattrs: BTreeMap::new(),
            kind,
        });
        (index, &mut self.0.inodes[index])
    }

    fn link(&mut self, parent: usize, name: &str, index: usize) {
        if let InodeKind::Dir(entries) = &mut self.0.inodes[parent].kind {
            entries.insert(name.as_bytes().into(), InodeIndex(index));
        }
    }
}

const TIME: i64 = 1_700_000_000;

fn dir() -> InodeKind<Vec<u8>> {
    InodeKind::Dir(BTreeMap::new())
}

fn xattr(inode: &mut Inode<Vec<u8>>, name: &str, value: &[u8]) {
    inode.xattrs.insert(name.as_bytes().into(), value.into());
}

/// A tree with an example of everything that the format treats in its own way.
fn everything() -> Tree {
    let mut b = Builder::new();
    for (size, name) in [0, 1, 4000, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 70_000]
        .into_iter()
        .zip(0..)
    {
        b.add(0, &format!("random{name}"), InodeKind::File(random(size, 3)));
        b.add(0, &format!("zeros{name}"), InodeKind::File(vec![0; size]));
        b.add(0, &format!("words{name}"), InodeKind::File(words(size, 5)));
    }
    let mut mixed = random(30_001, 1);
    mixed.extend(words(90_000, 2));
    mixed.extend(random(123_456, 3));
    mixed.extend(vec![7; 3_000_000]);
    b.add(0, "mixed", InodeKind::File(mixed));
    // Longer than a segment.
    b.add(0, "long", InodeKind::File(words(1_000_000, 9)));
    let (linked, inode) = b.add(0, "linked", InodeKind::File(words(3, 3)));
    inode.mode = 0o4755;
    let (sub, inode) = b.add(0, "+sub", dir());
    inode.mode = 0o1777;
    inode.mtime = -1;
    xattr(inode, "system.posix_acl_default", &[2, 0, 0, 0]);
    b.link(sub, "second", linked);
    let (owned, inode) = b.add(sub, "owned", InodeKind::File(b"mine".to_vec()));
    (inode.uid, inode.gid, inode.mtime) = (100_000, 70_000, TIME + 1);
    xattr(inode, "user.long", &[b'x'; 5000]);
    b.link(0, "-owned", owned);
    for i in 0..5 {
        let (_, inode) = b.add(sub, &format!("label{i}"), InodeKind::File(words(i * 900, 7)));
        xattr(inode, "security.selinux", b"system_u:object_r:usr_t:s0\0");
        xattr(inode, "trusted.number", &[i as u8]);
    }
    let (many, _) = b.add(sub, "many", dir());
    for i in 0..2000 {
        b.add(
            many,
            &format!("{i:0width$}", width = 1 + i % 200),
            InodeKind::Fifo,
        );
    }
    b.add(sub, "char", InodeKind::CharDevice { major: 1, minor: 3 });
    let wide = InodeKind::BlockDevice {
        major: 259,
        minor: 65_537,
    };
    b.add(sub, "block", wide);
    b.add(sub, "socket", InodeKind::Socket);
    b.add(sub, "link", InodeKind::Symlink((*b"../linked").into()));
    b.add(sub, "longlink", InodeKind::Symlink(vec![b'y'; 4095].into()));
    b.0
}

/// The same, with files that begin as others and have holes.
fn everything_shared() -> Tree {
    let mut b = Builder(everything());
    let long = words(300_000, 4);
    b.add(
        0,
        "begun1",
        InodeKind::File([&long[..], &random(5000, 1)].concat()),
    );
    b.add(
        0,
        "begun2",
        InodeKind::File([&long[..], &random(9000, 2)].concat()),
    );
    let hole = [&long[..50_000], &[0; 300_000], &long[..70_001]].concat();
    b.add(0, "hole", InodeKind::File(hole));
    b.0
}

fn options(compression: Compression, tail_packing: bool) -> Options {
    Options {
        uuid: *b"0123456789abcdef",
        volume_name: (*b"test").into(),
        build_time: TIME,
        compression,
        tail_packing,
        ..Options::default()
    }
}

fn all_options() -> Vec<Options> {
    use Compression::{Deflate, Lz4, Lz4hc, None, Zstd};
    let mut all = Vec::new();
    for compression in [None, Lz4, Lz4hc(9), Deflate(1), Zstd(3)] {
        for (cluster_size, tail_packing) in [(4096, false), (65536, false), (65536, true), (1 << 20, true)] {
            all.push(Options {
                cluster_size,
                ..options(compression, tail_packing)
            });
        }
        for (size, fragments) in [(4096, false), (65536, true)] {
            all.push(match compression {
                None => Options {
                    chunk_size: Some(size),
                    ..options(compression, true)
                },
                _ => Options {
                    cluster_size: size,
                    fragments,
                    dedupe: !fragments,
                    ..options(compression, true)
                },
            });
        }
    }
    all
}

fn volume(tree: &Tree, options: &Options) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let stats = write(tree, options, &mut out).unwrap();
    let bytes = out.into_inner();
    assert_eq!(bytes.len() as u64, stats.blocks * 4096);
    bytes
}

fn volume_by(threads: usize, tree: &Tree, options: &Options) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(|| volume(tree, options))
}

/// [`everything_shared`] with each of [`all_options`], made once, by two threads, for all tests that look at them.
fn all_volumes() -> &'static [(Options, Vec<u8>)] {
    static ALL: LazyLock<Vec<(Options, Vec<u8>)>> = LazyLock::new(|| {
        let tree = everything_shared();
        let made = all_options().into_iter().map(|options| {
            let volume = volume_by(2, &tree, &options);
            (options, volume)
        });
        made.collect()
    });
    &ALL
}

/// The tree as paths with all that is known of them, so that trees with inodes in another order are
/// equal.
fn flatten<C>(tree: &FileSystem<C>, mut content: impl FnMut(&C) -> Vec<u8>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut pending = vec![(String::new(), tree.root)];
    while let Some((path, index)) = pending.pop() {
        let inode = &tree.inodes[index.0];
        let kind = match &inode.kind {
            InodeKind::Dir(entries) => {
                for (name, index) in entries {
                    pending.push((format!("{path}/{}", name.escape_ascii()), *index));
                }
                "directory".to_owned()
            }
            InodeKind::File(bytes) => format!("{:x?}", Sha256::digest(content(bytes))),
            InodeKind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            InodeKind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            InodeKind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            InodeKind::Fifo => "fifo".to_owned(),
            InodeKind::Socket => "socket".to_owned(),
        };
        let meta = (inode.mode, inode.uid, inode.gid, inode.mtime, &inode.xattrs);
        all.insert(path.clone(), format!("{kind} {meta:?}"));
        first.entry(index).or_insert_with(Vec::new).push(path);
    }
    for mut paths in first.into_values().filter(|paths| paths.len() > 1) {
        paths.sort();
        all.insert(format!("links of {}", paths[0]), format!("{paths:?}"));
    }
    all
}

/// Reads a volume back.
fn read_back(volume: Vec<u8>) -> Result<BTreeMap<String, String>, ReadError> {
    let image = Image::open(volume)?;
    let tree = image.tree()?;
    let mut failed = None;
    let flat = flatten(&tree, |inode| {
        let mut bytes = Vec::new();
        failed = failed.take().or(image.read(inode, &mut bytes).err());
        bytes
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(flat),
    }
}
