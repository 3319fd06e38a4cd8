//! Any tree comes back; any damage is met without a panic.

use proptest::prelude::*;

use super::*;

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
        (1_u8..=9).prop_map(Compression::Deflate),
        (1_u8..=5).prop_map(Compression::Zstd),
    ];
    let choices = (compression, 1_u32..40, any::<[bool; 3]>());
    choices.prop_map(|(compression, blocks, [tail_packing, fragments, dedupe])| {
        let compresses = compression != Compression::None;
        Options {
            cluster_size: blocks * 4096,
            fragments: fragments && compresses,
            dedupe: dedupe && compresses,
            chunk_size: (dedupe && !compresses).then_some(4096 << (blocks % 5)),
            ..options(compression, tail_packing)
        }
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
            // Something for chunks and clusters to share.
            b.add(0, &format!("{i} again"), InodeKind::File([&bytes[..], b"more"].concat()));
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
        [fragments, dedupe, plain] in any::<[bool; 3]>(),
    ) {
        let mut b = Builder::new();
        b.add(0, "words", InodeKind::File(words(60_000, 1)));
        b.add(0, "random", InodeKind::File(random(5000, 1)));
        b.add(0, "twice", InodeKind::File(words(70_000, 1)));
        b.add(0, "hole", InodeKind::File([words(3000, 1), vec![0; 9000]].concat()));
        b.add(0, "link", InodeKind::Symlink((*b"words").into()));
        let (sub, inode) = b.add(0, "sub", dir());
        xattr(inode, "user.a", b"b");
        b.add(sub, "small", InodeKind::File(words(100, 1)));
        let compression = match (plain, zstd) {
            (true, _) => Compression::None,
            (_, true) => Compression::Zstd(3),
            _ => Compression::Lz4,
        };
        let options = Options {
            fragments: fragments && !plain,
            dedupe: dedupe && !plain,
            chunk_size: plain.then_some(4096),
            ..options(compression, true)
        };
        let mut bytes = volume(&b.0, &options);
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
