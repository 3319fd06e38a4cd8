//! Compressed clusters: the longest run of input whose compressed form fits a given size, cluster
//! after cluster ("fixed-size output"). In the kernel's words an *extent* is the run of input, a
//! *pcluster* the blocks that it is compressed to.

use super::fit::Fit;
use super::format::{Algorithm, BLOCK};
use super::lz4_cut;
use super::model::{Compression, Options};
use crate::sys::lz4::{self, HcState};

/// The longest input that one cluster stands for, unless clusters are so large that sixteen of them are
/// longer: a read of its last byte unpacks it all.
const EXTENT_MAX: usize = 1 << 20;
/// What is looked at to see whether more is worth compressing, in bytes.
const SAMPLE: usize = 64 << 10;
/// Where a quick search does not save this part of the sample, a thorough one saves little.
const HOPELESS: usize = 64;
/// The longest window of Zstandard that the kernel allows.
const ZSTD_WINDOW_MAX: u32 = 1 << 20;

/// A run of input and what it has become. Runs other than the last of a file are at least a block
/// long and longer than their blocks where compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of input.
    pub(super) length: u32,
    /// Blocks on disk; 0 where it stands behind the inode.
    pub(super) blocks: u16,
    /// Not compressed; one block or behind the inode.
    pub(super) raw: bool,
}

/// The extents of a run of input and, where it stands behind the inode, the last cluster.
#[derive(Debug)]
pub(super) struct Clusters {
    pub(super) extents: Vec<Extent>,
    pub(super) inline: Option<Box<[u8]>>,
    /// Bytes of input behind the extents, to be stored as a fragment.
    pub(super) left: u32,
}

/// Where the end of a run of input may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// To blocks, as all before it.
    Blocks,
    /// Behind the inode, which has room for so many bytes.
    Behind(usize),
    /// To the packed file, if it is not longer than a cluster.
    Fragment,
}

/// A compressor with its memory.
pub(super) enum Codec {
    Lz4,
    Lz4hc(HcState, u8),
    /// Zstandard or Deflate.
    Fit(Fit),
}

impl Codec {
    /// `None` where nothing is to be compressed.
    pub(super) fn new(options: &Options) -> Option<Self> {
        match options.compression {
            Compression::None => None,
            Compression::Lz4 => Some(Self::Lz4),
            Compression::Lz4hc(level) => Some(Self::Lz4hc(HcState::new(), level)),
            Compression::Deflate(level) => Some(Self::Fit(Fit::deflate(level))),
            Compression::Zstd(level) => Some(Self::Fit(Fit::zstd(level, window_log(options)))),
        }
    }

    /// Compresses as much of the start of `input` as fits `capacity` bytes to `output`. Returns how
    /// much of the input that is.
    fn fit(&mut self, input: &[u8], capacity: usize, output: &mut Vec<u8>) -> Result<usize, String> {
        match self {
            Self::Lz4 => lz4::fit(input, capacity, output),
            Self::Lz4hc(state, level) => lz4::fit_hc(state, *level, input, capacity, output),
            Self::Fit(fit) => fit.fit(input, capacity, output),
        }
    }

    /// As [`Codec::fit`] where `packed` is already all of `input`: without searching again where the format allows.
    fn refit(
        &mut self,
        input: &[u8],
        packed: &[u8],
        capacity: usize,
        output: &mut Vec<u8>,
    ) -> Result<usize, String> {
        if !matches!(self, Self::Fit(_))
            && let Some(taken) = lz4_cut::cut(packed, input, capacity, output)
        {
            return Ok(taken);
        }
        self.fit(input, capacity, output)
    }

    /// Whether so little would be gained from the start of `input` that a thorough search for it is not worth its
    /// time: a quick one finds nothing in it. What is compressed already is like that.
    fn is_hopeless(&self, input: &[u8], scratch: &mut Vec<u8>) -> bool {
        let fails = |length: usize, scratch: &mut Vec<u8>| {
            let sample = &input[..input.len().min(length)];
            let aim = sample.len() - sample.len() / HOPELESS;
            lz4::fit(sample, aim, scratch).is_ok_and(|taken| taken < sample.len())
        };
        // Most input shows at once that it is not.
        matches!(self, Self::Lz4hc(..))
            && input.len() >= 2 * BLOCK
            && fails(SAMPLE / 8, scratch)
            && fails(SAMPLE, scratch)
    }

    /// Forgets what was learnt from other files, on which the result must not depend.
    fn begin(&mut self) {
        if let Self::Fit(fit) = self {
            fit.begin();
        }
    }
}

/// The algorithm's number on disk.
pub(super) fn algorithm(compression: Compression) -> Option<Algorithm> {
    match compression {
        Compression::None => None,
        Compression::Lz4 | Compression::Lz4hc(_) => Some(Algorithm::Lz4),
        Compression::Deflate(_) => Some(Algorithm::Deflate),
        Compression::Zstd(_) => Some(Algorithm::Zstd),
    }
}

/// Binary logarithm of the window of Zstandard: eight clusters, as a longer one rarely helps and
/// costs memory at every mount.
fn window_log(options: &Options) -> u32 {
    (options.cluster_size * 8).min(ZSTD_WINDOW_MAX).ilog2()
}

/// The algorithm's parameters behind the superblock, with their length.
pub(super) fn parameters(options: &Options) -> Vec<u8> {
    match algorithm(options.compression) {
        None => Vec::new(),
        Some(Algorithm::Lz4) => {
            // Longest distance of a match, blocks of the largest cluster.
            let blocks = (options.cluster_size / BLOCK as u32) as u16;
            let mut bytes = vec![14, 0, 0xff, 0xff];
            bytes.extend(blocks.to_le_bytes());
            bytes.resize(16, 0);
            bytes
        }
        Some(Algorithm::Deflate) => {
            // The window's logarithm.
            let mut bytes = vec![6, 0, 15];
            bytes.resize(8, 0);
            bytes
        }
        Some(Algorithm::Zstd) => {
            // Format 0; the window's logarithm counts from Zstandard's least, 10.
            let mut bytes = vec![6, 0, 0, (window_log(options) - 10) as u8];
            bytes.resize(8, 0);
            bytes
        }
    }
}

/// Compresses `input`, which starts at a block boundary of its file, to clusters of at most
/// `cluster_size` bytes and appends them to `out`. `end` says what may become of its end: a last cluster behind the
/// inode is returned instead of appended, and the length of a fragment said.
///
/// # Errors
/// What the compressor says.
pub(super) fn compress(
    codec: &mut Codec,
    input: &[u8],
    cluster_size: usize,
    end: End,
    out: &mut Vec<u8>,
) -> Result<Clusters, String> {
    codec.begin();
    let room = match end {
        End::Behind(room) => room,
        End::Blocks | End::Fragment => 0,
    };
    let extent_max = EXTENT_MAX.max(cluster_size * 16);
    let mut extents = Vec::new();
    let mut inline = None;
    let mut rest = input;
    let mut packed = Vec::new();
    let mut left = 0;
    while !rest.is_empty() {
        if end == End::Fragment && rest.len() <= cluster_size {
            // At most a cluster.
            left = rest.len() as u32;
            break;
        }
        if rest.len() <= BLOCK && room == 0 {
            extents.push(raw(rest, out));
            break;
        }
        if codec.is_hopeless(rest, &mut packed) {
            let (plain, behind) = rest.split_at(rest.len().min(SAMPLE) / BLOCK * BLOCK);
            extents.extend(plain.chunks(BLOCK).map(|block| raw(block, out)));
            rest = behind;
            continue;
        }
        let window = &rest[..rest.len().min(extent_max)];
        let mut taken = codec.fit(window, cluster_size, &mut packed)?;
        if taken == rest.len() && room > 0 {
            if let Some((extent, bytes)) = behind(rest, &packed, room) {
                extents.push(extent);
                inline = Some(bytes);
                break;
            }
            if let Some(halves) = split(codec, rest, &packed, room)? {
                extents.push(padded(halves.taken, &halves.packed, out));
                extents.push(Extent {
                    length: (rest.len() - halves.taken) as u32,
                    blocks: 0,
                    raw: false,
                });
                inline = Some(halves.behind.into());
                break;
            }
        }
        if taken == rest.len()
            && end == End::Fragment
            && let Some(whole) = whole_blocks(codec, rest, &packed, cluster_size)?
        {
            extents.push(padded(whole.taken, &whole.packed, out));
            // At most a cluster.
            left = (rest.len() - whole.taken) as u32;
            break;
        }
        if is_readable(&packed) && packed.len().next_multiple_of(BLOCK) < taken {
            extents.push(padded(taken, &packed, out));
        } else {
            // Nothing gained: whole blocks, so that a better part behind is tried again.
            taken = match taken {
                0..=BLOCK => taken.max(BLOCK).min(rest.len()),
                _ => taken / BLOCK * BLOCK,
            };
            extents.extend(rest[..taken].chunks(BLOCK).map(|block| raw(block, out)));
        }
        rest = &rest[taken..];
    }
    Ok(Clusters {
        extents,
        inline,
        left,
    })
}

/// Appends `block` (at most a block) as it is, filled up.
fn raw(block: &[u8], out: &mut Vec<u8>) -> Extent {
    out.extend(block);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    Extent {
        length: block.len() as u32,
        blocks: 1,
        raw: true,
    }
}

/// Whether a reader finds where it begins behind zeros. Only Deflate can start with one, where it stores the first
/// bytes as they are.
fn is_readable(packed: &[u8]) -> bool {
    packed.first().is_some_and(|byte| *byte != 0)
}

/// Appends a cluster, zeros before it so that it ends with a block.
fn padded(taken: usize, packed: &[u8], out: &mut Vec<u8>) -> Extent {
    let length = packed.len().next_multiple_of(BLOCK);
    out.resize(out.len() + length - packed.len(), 0);
    out.extend(packed);
    Extent {
        length: taken as u32,
        blocks: (length / BLOCK) as u16,
        raw: false,
    }
}

/// The end of a file for standing behind its inode, if it fits: compressed or, where that is not
/// smaller, as it is.
fn behind(rest: &[u8], packed: &[u8], room: usize) -> Option<(Extent, Box<[u8]>)> {
    let raw = packed.len() >= rest.len() || !is_readable(packed);
    let bytes = if raw { rest } else { packed };
    let extent = Extent {
        length: rest.len() as u32,
        blocks: 0,
        raw,
    };
    (bytes.len() <= room.min(BLOCK - 1)).then(|| (extent, bytes.into()))
}

/// The end of a file in two parts.
#[derive(Default)]
struct Halves {
    /// Bytes of input of the first.
    taken: usize,
    packed: Vec<u8>,
    /// The second, compressed, for standing behind the inode.
    behind: Vec<u8>,
}

/// Where the end of a file takes some blocks and a bit: the whole blocks filled, and the remainder
/// for standing behind the inode, if that works out.
fn split(codec: &mut Codec, rest: &[u8], packed: &[u8], room: usize) -> Result<Option<Halves>, String> {
    let whole = packed.len() / BLOCK * BLOCK;
    if whole == 0 || packed.len() - whole > room {
        return Ok(None);
    }
    let mut halves = Halves::default();
    halves.taken = codec.refit(rest, packed, whole, &mut halves.packed)?;
    let behind = &rest[halves.taken..];
    let filled = halves.packed.len().next_multiple_of(BLOCK);
    if filled >= halves.taken || behind.is_empty() || !is_readable(&halves.packed) {
        return Ok(None);
    }
    let taken = codec.fit(behind, BLOCK - 1, &mut halves.behind)?;
    let length = halves.behind.len();
    let is_smaller = length < behind.len() && is_readable(&halves.behind);
    let fits = taken == behind.len() && is_smaller && length <= room;
    let gains = filled + length < packed.len().next_multiple_of(BLOCK);
    Ok((fits && gains).then_some(halves))
}

/// Where the end of a file takes some blocks and a bit: the whole blocks filled, if what remains is short enough for a
/// fragment.
fn whole_blocks(
    codec: &mut Codec,
    rest: &[u8],
    packed: &[u8],
    longest: usize,
) -> Result<Option<Halves>, String> {
    let whole = packed.len() / BLOCK * BLOCK;
    if whole == 0 || whole == packed.len() {
        return Ok(None);
    }
    let mut halves = Halves::default();
    halves.taken = codec.refit(rest, packed, whole, &mut halves.packed)?;
    let gains = halves.packed.len().next_multiple_of(BLOCK) < halves.taken && is_readable(&halves.packed);
    let fits = halves.taken < rest.len() && rest.len() - halves.taken <= longest;
    Ok((gains && fits).then_some(halves))
}
