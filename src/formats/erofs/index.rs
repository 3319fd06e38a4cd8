//! The compact cluster index behind a compressed inode: for every block of the file, whether an
//! extent starts in it and where, or how far its start is away. Two blocks share eight bytes, in the
//! middle of long indexes sixteen blocks share 32; the address of the first cluster is stored once in
//! each such pack. Where clusters do not lie one behind the other, the full index says of every block in eight bytes
//! the same, each address included. What stands in the packed file as a whole has a header alone.

use super::cluster::{self, Extent};
use super::format::{BLOCK, BLOCK_BITS};
use super::index_reader::Tail;
use super::model::Compression;

pub(super) const ADVISE_COMPACTED_2B: u16 = 0x1;
pub(super) const ADVISE_BIG_PCLUSTER: u16 = 0x2 | 0x4;
pub(super) const ADVISE_INLINE_PCLUSTER: u16 = 0x8;
pub(super) const ADVISE_INTERLACED: u16 = 0x10;
pub(super) const ADVISE_FRAGMENT: u16 = 0x20;
/// In a header, read as one number: the whole file is a fragment, and the rest of the number says where.
pub(super) const WHOLE_FRAGMENT: u64 = 1 << 63;
/// Length of the header before the packs.
pub(super) const MAP_HEADER: usize = 8;
/// In the first block behind an extent's start: the value is the number of the cluster's blocks.
pub(super) const CBLKCNT: u16 = 1 << 11;
pub(super) const TYPE_PLAIN: u16 = 0;
pub(super) const TYPE_HEAD: u16 = 1;
pub(super) const TYPE_NONHEAD: u16 = 2;
/// Bits of an entry's value; its type stands above them.
pub(super) const VALUE_BITS: u32 = 12;
/// Length of an entry of a full index.
pub(super) const FULL_ENTRY: usize = 8;
/// In a full index, with a start: the cluster goes on behind the extent.
pub(super) const PARTIAL_REF: u16 = 1 << 15;
/// Zeros between the header and a full index.
const FULL_GAP: usize = 8;

/// The packs of an index: how many blocks are described in packs of two, then of sixteen, and then
/// of two again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packs {
    pub(super) before: usize,
    pub(super) middle: usize,
    pub(super) after: usize,
    /// Where the header starts, in bytes from the start of the inode.
    pub(super) header: usize,
}

impl Packs {
    /// For a file of `size` bytes whose inode and extended attributes have `head` bytes. The
    /// middle starts at a multiple of 32 bytes.
    pub(super) fn new(head: usize, size: u64) -> Self {
        let total = size.div_ceil(BLOCK as u64) as usize;
        let header = head.next_multiple_of(8);
        let start = header + MAP_HEADER;
        let before = (start.next_multiple_of(32) - start) / 4;
        let (before, middle) = match before < total {
            true => (before, (total - before) / 16 * 16),
            false => (total, 0),
        };
        Self {
            before,
            middle,
            after: total - before - middle,
            header,
        }
    }

    /// Length of the packs in bytes.
    pub(super) fn length(&self) -> usize {
        self.before.next_multiple_of(2) * 4 + self.middle * 2 + self.after.next_multiple_of(2) * 4
    }
}

/// Length of the index, from the end of the extended attributes on, in bytes.
pub(super) fn size(head: usize, size: u64) -> usize {
    let packs = Packs::new(head, size);
    packs.header - head + MAP_HEADER + packs.length()
}

/// Where the entries of a full index start, in bytes from the start of the inode.
pub(super) fn full_start(head: usize) -> usize {
    head.next_multiple_of(8) + MAP_HEADER + FULL_GAP
}

/// As [`size`], of a full index.
pub(super) fn full_size(head: usize, size: u64) -> usize {
    full_start(head) - head + size.div_ceil(BLOCK as u64) as usize * FULL_ENTRY
}

/// Length of what stands in place of an index where the whole file is a fragment.
pub(super) fn fragment_size(head: usize) -> usize {
    head.next_multiple_of(8) - head + MAP_HEADER
}

/// That for a file that begins at byte `offset` of the packed file.
pub(super) fn encode_fragment(head: usize, offset: u64) -> Vec<u8> {
    let mut out = vec![0; fragment_size(head) - MAP_HEADER];
    out.extend((offset | WHOLE_FRAGMENT).to_le_bytes());
    out
}

/// What is said of a block of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// An extent starts in it, or the file ends in it.
    Start {
        plain: bool,
        /// Offset in the block.
        offset: u16,
    },
    /// The first block behind a start.
    Count {
        /// Blocks of the cluster.
        blocks: u16,
        /// Blocks to the next start.
        ahead: u16,
    },
    Within {
        /// Blocks since the start.
        back: u16,
        ahead: u16,
    },
}

/// The blocks of a file with, for each, the address that an index pack which begins with it needs:
/// that of the cluster whose start or count comes first.
fn blocks(extents: &[Extent], addresses: &[u32]) -> Vec<(Block, u32)> {
    let mut all = Vec::new();
    let mut behind = 0;
    let mut offset = 0;
    for (extent, &address) in extents.iter().zip(addresses) {
        let end = offset + extent.length as usize;
        // The last extent of a file may end within the block in which it starts.
        let count = (end >> BLOCK_BITS).max(1);
        let next = address + u32::from(extent.blocks);
        for back in 0..count {
            // An extent is shorter than 2048 blocks, as are the segments that files are cut into.
            let ahead = (count - back) as u16;
            all.push(match back {
                0 => {
                    let start = Block::Start {
                        plain: extent.raw,
                        offset: offset as u16,
                    };
                    (start, address)
                }
                1 => {
                    let blocks = extent.blocks.max(1);
                    (Block::Count { blocks, ahead }, address)
                }
                _ => {
                    let back = back as u16;
                    (Block::Within { back, ahead }, next)
                }
            });
        }
        behind = next;
        offset = match end < BLOCK {
            // Nothing more to say of this block.
            true => 0,
            false => end % BLOCK,
        };
    }
    if offset > 0 {
        let end = Block::Start {
            plain: true,
            offset: offset as u16,
        };
        all.push((end, behind));
    }
    all
}

/// Writes values of `width` bits one behind the other, and an address behind them.
fn pack(blocks: &[(Block, u32)], count: usize, length: usize, out: &mut Vec<u8>) {
    let width = (length * 8 - 32) / count;
    let start = out.len();
    out.resize(start + length, 0);
    for (i, (block, _)) in blocks.iter().enumerate() {
        let (kind, value) = match *block {
            Block::Start { plain, offset } => (if plain { TYPE_PLAIN } else { TYPE_HEAD }, offset),
            Block::Count { blocks, .. } => (TYPE_NONHEAD, blocks | CBLKCNT),
            // The last value of a pack looks ahead, as it can look back through the one before it.
            Block::Within { ahead, .. } if i + 1 == count => (TYPE_NONHEAD, ahead),
            Block::Within { back, .. } => (TYPE_NONHEAD, back),
        };
        let bits = u32::from(kind << VALUE_BITS | value) << (i * width % 8);
        let at = start + i * width / 8;
        for (byte, more) in out[at..].iter_mut().zip(bits.to_le_bytes()) {
            *byte |= more;
        }
    }
    if let Some((_, address)) = blocks.first() {
        out[start + length - 4..].copy_from_slice(&address.to_le_bytes());
    }
}

/// Whether the clusters lie one behind the other, as a compact index can only say.
pub(super) fn is_compact(extents: &[Extent], addresses: &[u32]) -> bool {
    let mut pairs = extents.iter().zip(addresses).zip(addresses.iter().skip(1));
    pairs.all(|((extent, address), next)| address.checked_add(u32::from(extent.blocks)) == Some(*next))
}

/// The header of an index, with the padding before it.
fn header(head: usize, mut advise: u16, tail: Tail, compression: Compression) -> Vec<u8> {
    let mut out = vec![0; head.next_multiple_of(8) - head];
    match tail {
        Tail::Blocks => out.extend([0; 4]),
        Tail::Behind(length) => {
            advise |= ADVISE_INLINE_PCLUSTER;
            out.extend([0; 2]);
            out.extend(length.to_le_bytes());
        }
        Tail::Fragment(offset) => {
            advise |= ADVISE_FRAGMENT;
            out.extend(offset.to_le_bytes());
        }
    }
    out.extend(advise.to_le_bytes());
    out.push(cluster::algorithm(compression).map_or(0, |algorithm| algorithm as u8));
    out.push(0);
    out
}

/// The full index of a file, with the padding before it: its clusters are at `addresses`, that of a fragment being
/// the upper half of its place in the packed file.
pub(super) fn encode_full(
    extents: &[Extent],
    addresses: &[u32],
    head: usize,
    tail: Tail,
    compression: Compression,
) -> Vec<u8> {
    let mut out = header(head, ADVISE_BIG_PCLUSTER, tail, compression);
    out.extend([0; FULL_GAP]);
    for (block, address) in blocks(extents, addresses) {
        let (kind, offset, rest) = match block {
            Block::Start { plain, offset } => (if plain { TYPE_PLAIN } else { TYPE_HEAD }, offset, address),
            Block::Count { blocks, ahead } => (
                TYPE_NONHEAD,
                0,
                u32::from(blocks | CBLKCNT) | u32::from(ahead) << 16,
            ),
            Block::Within { back, ahead } => (TYPE_NONHEAD, 0, u32::from(back) | u32::from(ahead) << 16),
        };
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        out.extend(rest.to_le_bytes());
    }
    out
}

/// The compact index of a file of `file_size` bytes whose clusters lie one behind the other at `addresses`, with the
/// padding before it.
pub(super) fn encode(
    extents: &[Extent],
    addresses: &[u32],
    file_size: u64,
    head: usize,
    tail: Tail,
    compression: Compression,
) -> Vec<u8> {
    let packs = Packs::new(head, file_size);
    let blocks = blocks(extents, addresses);
    let mut out = header(head, ADVISE_COMPACTED_2B | ADVISE_BIG_PCLUSTER, tail, compression);
    let (before, rest) = blocks.split_at(packs.before.min(blocks.len()));
    let (middle, after) = rest.split_at(packs.middle.min(rest.len()));
    for (part, count, length) in [(before, 2, 8), (middle, 16, 32), (after, 2, 8)] {
        for blocks in part.chunks(count) {
            pack(blocks, count, length, &mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_starts_at_32_bytes() {
        for (head, size, before, middle, after) in [
            (32, 4096 * 5, 5, 0, 0),
            (32, 4096 * 6, 6, 0, 0),
            (32, 4096 * 22, 6, 16, 0),
            (32, 4096 * 22 + 1, 6, 16, 1),
            (56, 4096 * 16, 0, 16, 0),
            (64, 1, 1, 0, 0),
        ] {
            let packs = Packs::new(head, size);
            assert_eq!((packs.before, packs.middle, packs.after), (before, middle, after));
        }
    }

    #[test]
    fn an_extent_over_several_blocks_is_described() {
        let extent = |length, blocks, raw| Extent { length, blocks, raw };
        // Three blocks and 100 bytes in two blocks; one raw block; the rest in one block.
        let extents = [
            extent(12388, 2, false),
            extent(4096, 1, true),
            extent(8000, 1, false),
        ];
        let start = |plain, offset| Block::Start { plain, offset };
        assert_eq!(
            blocks(&extents, &[10, 12, 13]),
            [
                (start(false, 0), 10),
                (Block::Count { blocks: 2, ahead: 2 }, 10),
                (Block::Within { back: 2, ahead: 1 }, 12),
                (start(true, 100), 12),
                (start(false, 100), 13),
                (start(true, 4004), 14),
            ]
        );
    }
}
