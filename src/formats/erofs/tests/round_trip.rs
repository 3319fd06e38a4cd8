//! What is written comes back, in the same bytes every time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn the_reader_gives_back_what_was_written() {
    let tree = everything_shared();
    let expected = flatten(&tree, Clone::clone);
    for (options, volume) in all_volumes() {
        let found = read_back(volume.clone()).unwrap();
        for (path, line) in &expected {
            assert_eq!(found.get(path), Some(line), "{path} with {options:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let tree = everything_shared();
    for (options, by_two) in all_volumes().iter().filter(|(options, _)| options.tail_packing) {
        for threads in [1, 4] {
            let volume = volume_by(threads, &tree, options);
            assert!(volume == *by_two, "{threads} threads, {options:?}");
        }
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
        (Compression::Lz4hc(9), false, "f1bf3ead28e550f8"),
        (Compression::Lz4hc(9), true, "3c34e1fb925c115c"),
        (Compression::Deflate(1), true, "1bf5cfc622250480"),
        (Compression::Zstd(3), false, "5640cecb6700d7cc"),
        (Compression::Zstd(3), true, "9b6cc0aec0f3bb24"),
    ];
    let found = expected.map(|(compression, tail_packing, _)| {
        let digest = Sha256::digest(volume(&tree, &options(compression, tail_packing)));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        (compression, tail_packing, digest)
    });
    let found = found.each_ref().map(|(c, t, digest)| (*c, *t, digest.as_str()));
    assert_eq!(found, expected);
}

/// A file whose digest is known.
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

/// The same tree with the digests of its files.
fn known(tree: Tree) -> FileSystem<Known> {
    let inodes = tree.inodes.into_iter().map(|inode| Inode {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs: inode.xattrs,
        kind: match inode.kind {
            InodeKind::Dir(entries) => InodeKind::Dir(entries),
            InodeKind::File(bytes) => InodeKind::File(Known(bytes)),
            InodeKind::Symlink(target) => InodeKind::Symlink(target),
            InodeKind::CharDevice { major, minor } => InodeKind::CharDevice { major, minor },
            InodeKind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
            InodeKind::Fifo => InodeKind::Fifo,
            InodeKind::Socket => InodeKind::Socket,
        },
    });
    FileSystem {
        inodes: inodes.collect(),
        root: tree.root,
    }
}

/// A cache in memory, which counts what it has given away.
#[derive(Default)]
struct Kept {
    values: Mutex<BTreeMap<[u8; 32], Vec<u8>>>,
    found: AtomicUsize,
    /// What was to be expected and has not been asked for.
    expected: Mutex<BTreeMap<[u8; 32], u64>>,
}

impl ClusterCache for Kept {
    fn expect(&self, coming: &[([u8; 32], u64)]) {
        self.expected.lock().unwrap().extend(coming.iter().copied());
    }

    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        assert!(self.expected.lock().unwrap().remove(key).unwrap() > 0);
        let value = self.values.lock().unwrap().get(key).cloned();
        self.found
            .fetch_add(usize::from(value.is_some()), Ordering::Relaxed);
        value
    }

    fn put(&self, key: &[u8; 32], value: &[u8]) {
        self.values.lock().unwrap().insert(*key, value.to_vec());
    }
}

#[test]
fn a_cache_changes_nothing_but_the_work() {
    let tree = known(everything());
    for options in all_options().into_iter().filter(|o| o.cluster_size == 65536) {
        let cache = Kept::default();
        let write = |cache: &Kept| {
            let mut out = Cursor::new(Vec::new());
            write_cached(&tree, &options, cache, &mut out).unwrap();
            assert_eq!(cache.expected.lock().unwrap().len(), 0);
            out.into_inner()
        };
        let first = write(&cache);
        assert_eq!(cache.found.swap(0, Ordering::Relaxed), 0);
        let count = cache.values.lock().unwrap().len();
        // Fragments are kept by run.
        let least = if options.fragments { 3 } else { 30 };
        assert_eq!(count > least, options.compression != Compression::None);
        assert!(write(&cache) == first, "from the cache, {options:?}");
        assert_eq!(cache.found.swap(0, Ordering::Relaxed), count);
        for (value, i) in cache.values.lock().unwrap().values_mut().zip(0..) {
            match i % 2 {
                0 => value.truncate(value.len() / 2),
                _ => *value.last_mut().unwrap() ^= 1,
            }
        }
        assert!(write(&cache) == first, "from a damaged cache, {options:?}");
        let other = Options {
            cluster_size: 8192,
            ..options.clone()
        };
        cache.found.store(0, Ordering::Relaxed);
        write_cached(&tree, &other, &cache, Cursor::new(Vec::new())).unwrap();
        assert_eq!(
            cache.found.load(Ordering::Relaxed),
            0,
            "other settings, other clusters"
        );
    }
}

#[test]
fn files_with_the_same_digest_are_stored_once() {
    // Chunks and clusters are compared whatever the digest of the file.
    let by_file = |options: &Options| options.chunk_size.is_none() && !options.dedupe;
    for options in all_options().into_iter().filter(by_file) {
        let mut b = Builder::new();
        b.add(0, "one", InodeKind::File(words(100_000, 1)));
        b.add(0, "two", InodeKind::File(words(100_000, 1)));
        let plain = volume(&b.0, &options);
        let tree = known(b.0);
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

#[test]
fn a_dump_shows_what_was_chosen() {
    let mut b = Builder::new();
    let (sub, inode) = b.add(0, "sub", dir());
    inode.mode = 0o700;
    b.add(sub, "words", InodeKind::File(words(30_000, 1)));
    let (_, inode) = b.add(0, "a\nb", InodeKind::Symlink((*b"sub/words").into()));
    inode.mtime = 5;
    xattr(inode, "trusted.x", b"\x01y");
    let image = Image::open(volume(&b.0, &options(Compression::Lz4hc(9), true))).unwrap();
    let mut text = Vec::new();
    dump(&image, &mut text).unwrap();
    let expected = r#"
volume "test" uuid 30313233343536373839616263646566 blocks 23 inodes 4 built 1700000000
/ nid 1 mode 40755 links 3 owner 0:0 time 1700000000 size 57 FlatInline at 4294967295
/a\nb nid 4 mode 120644 links 1 owner 0:0 time 5 size 9 FlatInline at 4294967295 -> sub/words
  xattr trusted.x = \x01y
/sub nid 7 mode 40700 links 2 owner 0:0 time 1700000000 size 44 FlatInline at 4294967295
/sub/words nid 10 mode 100644 links 1 owner 0:0 time 1700000000 size 143312 CompressedCompact at 21
  extent 0+112224 blocks 1+16 packed
  extent 112224+31088 blocks 17+5 packed
"#;
    assert_eq!(String::from_utf8(text).unwrap(), expected.trim_start());
}

#[test]
fn small_files_and_ends_of_others_are_packed_together() {
    let mut b = Builder::new();
    for i in 0..300 {
        b.add(0, &format!("small{i}"), InodeKind::File(words(400, i)));
    }
    // Text first, so that its last cluster is not full.
    b.add(0, "large", InodeKind::File(words(40_000, 7)));
    let tailed = options(Compression::Lz4hc(9), true);
    let packed = Options {
        fragments: true,
        ..tailed.clone()
    };
    let mut out = Cursor::new(Vec::new());
    let stats = write(&b.0, &packed, &mut out).unwrap();
    assert_eq!((stats.fragmented_files, stats.compressed_files), (301, 1));
    let out = out.into_inner();
    assert!(out.len() < volume(&b.0, &tailed).len());
    let mut text = Vec::new();
    let image = Image::open(out).unwrap();
    dump(&image, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("  fragment at 0\n"), "{text}");
}

#[test]
fn equal_chunks_and_clusters_are_stored_once() {
    let mut b = Builder::new();
    // A cluster sees at most 1 MiB: the beginnings become the same clusters, the ends do not.
    let long = words(700_000, 4);
    b.add(
        0,
        "one",
        InodeKind::File([&long[..], &random(5000, 1)[..]].concat()),
    );
    b.add(
        0,
        "two",
        InodeKind::File([&long[..], &random(9000, 2)[..]].concat()),
    );
    b.add(0, "zeros", InodeKind::File(vec![0; 100_000]));
    for (plain, sharing) in [
        (options(Compression::Lz4, true), options(Compression::Lz4, true)),
        (options(Compression::None, true), options(Compression::None, true)),
    ] {
        let compresses = plain.compression != Compression::None;
        let sharing = Options {
            dedupe: compresses,
            chunk_size: (!compresses).then_some(4096),
            ..sharing
        };
        let mut out = Cursor::new(Vec::new());
        let stats = write(&b.0, &sharing, &mut out).unwrap();
        let shared = out.into_inner();
        let plain = volume(&b.0, &plain);
        assert!(
            shared.len() + (stats.shared_blocks as usize - 4) * 4096 <= plain.len(),
            "{stats:?}"
        );
        assert!(stats.shared_blocks > 200, "{stats:?}");
        assert_eq!(stats.chunked_files, if compresses { 0 } else { 2 });
        assert_eq!(read_back(shared).unwrap(), read_back(plain).unwrap());
    }
}
