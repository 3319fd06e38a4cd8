//! Clusters kept from one build to the next: what a piece of a file has been compressed to, by the
//! digest of the file and all that has a say in the result.

use sha2::{Digest, Sha256};

use super::cluster::{Clusters, Extent};
use super::format::{BLOCK, get16, get32};
use super::model::{Compression, Options};
use super::stored::Form;

/// Changes with every change of what is kept or of how it is made.
const VERSION: &[u8] = b"hullwright erofs clusters 3";

/// A store for compressed clusters, used by several threads at once. Values check themselves: one
/// that is damaged or cut off is made anew.
pub trait ClusterCache: Sync {
    /// Told before anything of it is asked for: the keys that will be, in about that order, and how many bytes each is of.
    fn expect(&self, _coming: &[([u8; 32], u64)]) {}

    /// What has been put under `key`, if it is still there.
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>>;

    /// Keeps `value` under `key`. Failing to is no error.
    fn put(&self, key: &[u8; 32], value: &[u8]);
}

/// Keeps nothing.
pub(super) struct NoCache;

impl ClusterCache for NoCache {
    fn get(&self, _: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _: &[u8; 32], _: &[u8]) {}
}

/// The piece of a file that a value is about.
pub(super) struct Piece {
    /// SHA-256 of the whole file.
    pub(super) digest: [u8; 32],
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Of the whole file.
    pub(super) size: u64,
    /// Length of the inode with its extended attributes: the room behind it depends on that.
    pub(super) head: usize,
}

/// What has a say in every value.
fn hasher(options: &Options) -> Sha256 {
    let (kind, level) = match options.compression {
        Compression::None => (0, 0),
        Compression::Lz4 => (1, 0),
        Compression::Lz4hc(level) => (2, level),
        Compression::Zstd(level) => (3, level),
        Compression::Deflate(level) => (4, level),
    };
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    hasher.update(options.cluster_size.to_le_bytes());
    hasher.update([
        kind,
        level,
        u8::from(options.tail_packing),
        u8::from(options.fragments),
        u8::from(options.dedupe),
    ]);
    hasher
}

/// The name of the clusters of a run of the packed file: digest of a file, where a piece of it begins, and how long
/// it is.
pub(super) fn run_key(options: &Options, pieces: impl Iterator<Item = ([u8; 32], u64, u64)>) -> [u8; 32] {
    let mut hasher = hasher(options);
    hasher.update(b"run");
    for (digest, offset, length) in pieces {
        hasher.update(digest);
        hasher.update(offset.to_le_bytes());
        hasher.update(length.to_le_bytes());
    }
    hasher.finalize().into()
}

impl Piece {
    /// The name of the piece's clusters.
    pub(super) fn key(&self, options: &Options) -> [u8; 32] {
        let mut hasher = hasher(options);
        hasher.update(b"file");
        hasher.update(self.digest);
        for number in [self.offset, self.length, self.size, self.head as u64] {
            hasher.update(number.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

const DIGEST: usize = 32;
const EXTENT: usize = 8;

/// A value: its digest, the number of extents, the length of the last cluster behind the inode
/// (`u16::MAX` for none) and of what is left for a fragment, the extents, that cluster, the blocks. No extents mean that the file does
/// not get smaller; its bytes are read again then.
pub(super) fn encode(form: &Form, blocks: &[u8]) -> Vec<u8> {
    let (extents, inline, left): (&[Extent], _, _) = match form {
        Form::Compressed(clusters) => (&clusters.extents, clusters.inline.as_deref(), clusters.left),
        Form::Flat | Form::Chunks | Form::Fragment | Form::Same(_) => (&[], None, 0),
    };
    let mut value = vec![0; DIGEST];
    // A segment has at most 1024 extents; a cluster behind an inode is shorter than a block.
    value.extend((extents.len() as u32).to_le_bytes());
    value.extend(inline.map_or(u16::MAX, |bytes| bytes.len() as u16).to_le_bytes());
    value.extend(left.to_le_bytes());
    for extent in extents {
        value.extend(extent.length.to_le_bytes());
        value.extend(extent.blocks.to_le_bytes());
        value.extend(u16::from(extent.raw).to_le_bytes());
    }
    if !extents.is_empty() {
        value.extend(inline.unwrap_or_default());
        value.extend(blocks);
    }
    let digest = Sha256::digest(&value[DIGEST..]);
    value[..DIGEST].copy_from_slice(&digest);
    value
}

/// Reads the value of a piece of `length` bytes, appends its blocks to `out`. `None` where it is
/// damaged.
pub(super) fn decode(value: &[u8], length: usize, out: &mut Vec<u8>) -> Option<Form> {
    let (digest, body) = value.split_at_checked(DIGEST)?;
    if *Sha256::digest(body) != *digest {
        return None;
    }
    let (head, rest) = body.split_at_checked(10)?;
    let count = usize::try_from(get32(head, 0)).ok()?;
    let inline = get16(head, 4);
    let left = get32(head, 6);
    let (extents, rest) = rest.split_at_checked(count.checked_mul(EXTENT)?)?;
    let extents: Vec<_> = extents
        .chunks_exact(EXTENT)
        .map(|bytes| Extent {
            length: get32(bytes, 0),
            blocks: get16(bytes, 4),
            raw: get16(bytes, 6) != 0,
        })
        .collect();
    let (inline, blocks) = match inline {
        u16::MAX => (None, rest),
        length => {
            let (inline, blocks) = rest.split_at_checked(usize::from(length))?;
            (Some(inline.into()), blocks)
        }
    };
    if extents.is_empty() && left == 0 {
        return Some(Form::Flat);
    }
    let covered: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
    let stored: usize = extents.iter().map(|extent| usize::from(extent.blocks)).sum();
    if covered + u64::from(left) != length as u64 || blocks.len() != stored * BLOCK {
        return None;
    }
    out.extend(blocks);
    Some(Form::Compressed(Clusters {
        extents,
        inline,
        left,
    }))
}
