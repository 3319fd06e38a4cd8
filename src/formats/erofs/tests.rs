//! Tests of the room as a whole: against its own reader, erofs-utils and the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
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
    use Compression::{Lz4, Lz4hc, None, Zstd};
    let mut all = Vec::new();
    for compression in [None, Lz4, Lz4hc(9), Zstd(3)] {
        for (cluster_size, tail_packing) in [(4096, false), (65536, false), (65536, true), (1 << 20, true)] {
            all.push(Options {
                cluster_size,
                ..options(compression, tail_packing)
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

/// Whether a tool is there; says so where it is not.
fn tool(name: &str) -> bool {
    let found = Command::new(name)
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: {name} is missing");
    }
    found
}

#[test]
fn the_reader_gives_back_what_was_written() {
    let tree = everything();
    let expected = flatten(&tree, Clone::clone);
    for options in all_options() {
        let found = read_back(volume(&tree, &options)).unwrap();
        for (path, line) in &expected {
            assert_eq!(found.get(path), Some(line), "{path} with {options:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let tree = everything();
    for options in all_options().into_iter().filter(|options| options.tail_packing) {
        let digests = [1, 2, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| Sha256::digest(volume(&tree, &options)))
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{options:?}");
    }
}

/// A change here changes the bytes of every image: it must be wanted, and be said in the release's
/// notes.
#[test]
fn bytes_are_stable() {
    let tree = everything();
    let expected = [
        (Compression::None, true, "d9a0fdd2f4820dca"),
        (Compression::Lz4, true, "7432b955060f2570"),
        (Compression::Lz4hc(9), false, "ebb7659f933fb4a3"),
        (Compression::Lz4hc(9), true, "b8a1492a70e51eb5"),
        (Compression::Zstd(3), false, "b8687cd86712b696"),
        (Compression::Zstd(3), true, "3eb99100795a7e23"),
    ];
    let found = expected.map(|(compression, tail_packing, _)| {
        let digest = Sha256::digest(volume(&tree, &options(compression, tail_packing)));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        (compression, tail_packing, digest)
    });
    let found = found.each_ref().map(|(c, t, digest)| (*c, *t, digest.as_str()));
    assert_eq!(found, expected);
}

#[test]
fn erofs_utils_find_no_fault() {
    if !tool("fsck.erofs") {
        return;
    }
    let version = Command::new("fsck.erofs").arg("-V").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    // Zstandard came with 1.8.
    let old = [" 1.4", " 1.5", " 1.6", " 1.7"]
        .iter()
        .any(|old| version.contains(old));
    let directory = tempfile::tempdir().unwrap();
    let tree = everything();
    for options in all_options() {
        if old && matches!(options.compression, Compression::Zstd(_)) {
            continue;
        }
        let path = directory.path().join("volume");
        fs::write(&path, volume(&tree, &options)).unwrap();
        // `--extract` without a path unpacks everything without keeping it.
        let output = Command::new("fsck.erofs")
            .arg("--extract")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}: {output:?}");
    }
}

#[test]
fn the_reader_reads_what_mkfs_writes() {
    if !tool("mkfs.erofs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir_all(source.join("sub/deeper")).unwrap();
    let files = [
        ("words", words(300_000, 1)),
        ("sub/random", random(200_001, 2)),
        ("sub/deeper/zeros", vec![0; 5_000_000]),
        ("small", b"small".to_vec()),
    ];
    for (name, bytes) in &files {
        fs::write(source.join(name), bytes).unwrap();
    }
    fs::hard_link(source.join("words"), source.join("sub/again")).unwrap();
    std::os::unix::fs::symlink("words", source.join("link")).unwrap();
    for extra in [
        &["-zlz4hc,9", "-C65536"][..],
        &["-zlz4", "-C16384", "-Eztailpacking"],
        &[],
    ] {
        let path = directory.path().join("volume");
        let _ = fs::remove_file(&path);
        let output = Command::new("mkfs.erofs")
            .args(extra)
            .arg(&path)
            .arg(&source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let image = Image::open(fs::read(&path).unwrap()).unwrap();
        let tree = image.tree().unwrap();
        let found = flatten(&tree, |inode| {
            let mut bytes = Vec::new();
            image.read(inode, &mut bytes).unwrap();
            bytes
        });
        for (name, bytes) in &files {
            let digest = format!("{:x?} ", Sha256::digest(bytes));
            assert!(
                found[&format!("/{name}")].starts_with(&digest),
                "{name} with {extra:?}"
            );
        }
        assert_eq!(found["links of /sub/again"], r#"["/sub/again", "/words"]"#);
        assert!(found["/link"].starts_with("-> words"));
    }
}

/// What a mounted file system shows of a path, in the form of [`flatten`]; without extended
/// attributes, which the standard library cannot read.
fn mounted(path: &Path) -> (String, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    let device = || {
        (
            meta.rdev() >> 8 & 0xfff,
            meta.rdev() & 0xff | meta.rdev() >> 12 & 0xf_ff00,
        )
    };
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "directory".to_owned(),
        kind if kind.is_file() => format!("{:x?}", Sha256::digest(fs::read(path).unwrap())),
        kind if kind.is_symlink() => {
            let target = fs::read_link(path).unwrap();
            format!("-> {}", target.as_os_str().as_encoded_bytes().escape_ascii())
        }
        kind if kind.is_char_device() => format!("char {}:{}", device().0, device().1),
        kind if kind.is_block_device() => format!("block {}:{}", device().0, device().1),
        kind if kind.is_fifo() => "fifo".to_owned(),
        _ => "socket".to_owned(),
    };
    let mode = meta.mode() & 0o7777;
    let line = format!(
        "{kind} ({mode}, {}, {}, {}, ",
        meta.uid(),
        meta.gid(),
        meta.mtime()
    );
    (line, meta.nlink())
}

/// A mount that ends with the test.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn the_kernel_shows_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let (path, point) = (directory.path().join("volume"), directory.path().join("mount"));
    fs::create_dir(&point).unwrap();
    let tree = everything();
    let expected = flatten(&tree, Clone::clone);
    for options in all_options() {
        fs::write(&path, volume(&tree, &options)).unwrap();
        let output = Command::new("mount")
            .args(["-t", "erofs", "-o", "loop,ro"])
            .args([&path, &point])
            .output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!(
                "SKIPPED: mounting erofs needs root, a loop device and a kernel that has it: {output:?}"
            );
            return;
        }
        let _mount = Mount(&point);
        for (path, line) in expected.iter().filter(|(path, _)| !path.starts_with("links of")) {
            let (shown, _) = mounted(&point.join(path.trim_start_matches('/')));
            assert!(
                line.starts_with(&shown),
                "{path} with {options:?}: {shown} is not {line}"
            );
        }
        assert_eq!(mounted(&point.join("linked")).1, 2);
        assert_eq!(mounted(&point).1, 3);
        let names = fs::read_dir(point.join("+sub/many")).unwrap().count();
        assert_eq!(names, 2000);
    }
}

/// Files of a size and kind that meet the edges of blocks and clusters.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let piece = (
        0_u8..3,
        prop_oneof![0_usize..9000, 4090_usize..4100, 60_000_usize..70_000],
        any::<u64>(),
    );
    prop::collection::vec(piece, 0..5).prop_map(|pieces| {
        let mut bytes = Vec::new();
        for (kind, length, seed) in pieces {
            match kind {
                0 => bytes.extend(random(length, seed)),
                1 => bytes.extend(words(length / 4, seed)),
                _ => bytes.resize(bytes.len() + length, seed as u8),
            }
        }
        bytes
    })
}

/// Compressions and sizes of clusters.
fn any_options() -> impl Strategy<Value = Options> {
    let compression = prop_oneof![
        Just(Compression::None),
        Just(Compression::Lz4),
        (1_u8..=12).prop_map(Compression::Lz4hc),
        (1_u8..=5).prop_map(Compression::Zstd),
    ];
    (compression, 1_u32..40, any::<bool>()).prop_map(|(compression, blocks, tail_packing)| Options {
        cluster_size: blocks * 4096,
        ..options(compression, tail_packing)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_comes_back(
        files in prop::collection::vec((any_file(), "[^/\0]{1,40}", 0_usize..5000), 1..6),
        options in any_options(),
    ) {
        let mut b = Builder::new();
        for (i, (bytes, name, xattr_length)) in files.into_iter().enumerate() {
            let parent = match i % 2 {
                0 => 0,
                _ => b.add(0, &format!("directory{i}"), dir()).0,
            };
            let name = format!("{name}{i}");
            let (_, inode) = b.add(parent, &name, InodeKind::File(bytes));
            if xattr_length > 2000 {
                xattr(inode, "user.filler", &vec![b'v'; xattr_length]);
            }
        }
        let found = read_back(volume(&b.0, &options));
        prop_assert_eq!(found.unwrap(), flatten(&b.0, Clone::clone));
    }

    #[test]
    fn a_damaged_volume_is_refused_or_read_but_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        in_metadata in any::<bool>(),
        zstd in any::<bool>(),
    ) {
        let mut b = Builder::new();
        b.add(0, "words", InodeKind::File(words(60_000, 1)));
        b.add(0, "random", InodeKind::File(random(5000, 1)));
        b.add(0, "link", InodeKind::Symlink((*b"words").into()));
        let (sub, inode) = b.add(0, "sub", dir());
        xattr(inode, "user.a", b"b");
        b.add(sub, "small", InodeKind::File(words(100, 1)));
        let compression = if zstd { Compression::Zstd(3) } else { Compression::Lz4 };
        let mut bytes = volume(&b.0, &options(compression, true));
        // The metadata is the last block. The superblock has a checksum and is left alone.
        let start = if in_metadata { bytes.len() - 4096 } else { 4096 };
        for (at, value) in flips {
            let at = start + at.index(bytes.len() - start);
            bytes[at] = value;
        }
        let image = Image::open(bytes).unwrap();
        let _ = dump(&image, &mut std::io::sink());
        if let Ok(tree) = image.tree() {
            for inode in &tree.inodes {
                if let InodeKind::File(file) = &inode.kind {
                    let _ = image.read(file, &mut Limited(64 << 20));
                }
            }
        }
    }
}

/// Takes so many bytes and no more: a damaged size can promise any number of zeros.
struct Limited(usize);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(std::io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_stored_is_named() {
    let refused = |change: &dyn Fn(&mut Builder)| {
        let mut b = Builder::new();
        b.add(0, "file", InodeKind::File(Vec::new()));
        change(&mut b);
        let result = write(&b.0, &options(Compression::None, true), Cursor::new(Vec::new()));
        result.unwrap_err().to_string()
    };
    let prefix = "cannot be stored in an erofs volume";
    for (change, message) in [
        (
            &(|b: &mut Builder| b.link(0, "two", 7)) as &dyn Fn(&mut Builder),
            format!("`/two` {prefix}: it refers to inode 7, which does not exist"),
        ),
        (
            &|b| b.link(0, "..", 1),
            format!("`/..` {prefix}: its name is empty, `.` or `..`, or contains `/` or a zero byte"),
        ),
        (
            &|b| b.link(0, &"n".repeat(256), 1),
            format!(
                "`/{}` {prefix}: its name has 256 bytes; at most 255 are allowed",
                "n".repeat(256)
            ),
        ),
        (
            &|b| b.link(0, "loop", 0),
            format!("`/loop` {prefix}: it is a directory that stands in more than one place"),
        ),
        (
            &|b| b.0.inodes[1].mode = 0o100_644,
            format!("`/file` {prefix}: its mode 100644 has bits outside of 07777"),
        ),
        (
            &|b| xattr(&mut b.0.inodes[1], "btrfs.x", b""),
            format!(
                "`/file` {prefix}: the extended attribute `btrfs.x` is not in the namespace user, trusted, \
                 security or posix_acl"
            ),
        ),
        (
            &|b| {
                let sub = b.add(0, "sub", dir()).0;
                b.add(
                    sub,
                    "device",
                    InodeKind::CharDevice {
                        major: 4096,
                        minor: 0,
                    },
                );
            },
            format!(
                "`/sub/device` {prefix}: device 4096:0 is out of range (major below 4096, minor below 1048576)"
            ),
        ),
        (
            &|b| b.0.inodes.push(b.0.inodes[1].clone()),
            "inode 2 of the tree for the erofs volume stands in no directory".to_owned(),
        ),
    ] {
        assert_eq!(refused(change), message);
    }
}

#[test]
fn files_with_the_same_digest_are_stored_once() {
    struct Known(Vec<u8>);
    impl Content for Known {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
            self.0.read_exact_at(buffer, offset)
        }
        fn digest(&self) -> Option<[u8; 32]> {
            Some(Sha256::digest(&self.0).into())
        }
    }
    for options in all_options() {
        let mut b = Builder::new();
        b.add(0, "one", InodeKind::File(words(100_000, 1)));
        b.add(0, "two", InodeKind::File(words(100_000, 1)));
        let plain = volume(&b.0, &options);
        let inodes = b.0.inodes.iter().map(|inode| Inode {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: inode.xattrs.clone(),
            kind: match &inode.kind {
                InodeKind::File(bytes) => InodeKind::File(Known(bytes.clone())),
                InodeKind::Dir(entries) => InodeKind::Dir(entries.clone()),
                _ => InodeKind::Fifo,
            },
        });
        let tree = FileSystem {
            inodes: inodes.collect(),
            root: InodeIndex(0),
        };
        let mut out = Cursor::new(Vec::new());
        let stats = write(&tree, &options, &mut out).unwrap();
        assert_eq!(stats.shared_files, 1);
        let shared = out.into_inner();
        assert!(shared.len() < plain.len() - 100_000, "{options:?}");
        assert_eq!(read_back(shared).unwrap(), read_back(plain).unwrap());
    }
}

/// Content that is all one byte, whatever its size.
struct Even(u64);

impl Content for Even {
    fn size(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, buffer: &mut [u8], _: u64) -> std::io::Result<()> {
        buffer.fill(b'e');
        Ok(())
    }
}

#[test]
fn a_file_beyond_4_gib_is_compressed_and_read() {
    let size = (4 << 30) + 12_345;
    let root = Builder::new().0.inodes.remove(0);
    let file = Inode {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: TIME,
        xattrs: BTreeMap::new(),
        kind: InodeKind::File(Even(size)),
    };
    let root = Inode {
        mode: root.mode,
        uid: 0,
        gid: 0,
        mtime: TIME,
        xattrs: BTreeMap::new(),
        kind: InodeKind::Dir([((*b"even").into(), InodeIndex(1))].into()),
    };
    let tree = FileSystem {
        inodes: vec![root, file],
        root: InodeIndex(0),
    };
    let mut out = Cursor::new(Vec::new());
    write(&tree, &options(Compression::Lz4, true), &mut out).unwrap();
    let image = Image::open(out.into_inner()).unwrap();
    let tree = image.tree().unwrap();
    let file = tree.inodes.iter().find_map(|inode| match &inode.kind {
        InodeKind::File(file) => Some(file),
        _ => None,
    });
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            assert!(
                bytes
                    .chunks(4096)
                    .all(|chunk| chunk == &[b'e'; 4096][..chunk.len()])
            );
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    image.read(file.unwrap(), &mut count).unwrap();
    assert_eq!(count.0, size);
}
