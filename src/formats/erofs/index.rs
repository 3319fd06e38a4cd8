//! The compact cluster index behind a compressed inode: for every block of the file, whether an
//! extent starts in it and where, or how far its start is away. Two blocks share eight bytes, in the
//! middle of long indexes sixteen blocks share 32; the address of the first cluster is stored once in
//! each such pack.

use super::cluster::{self, Extent};
use super::format::{BLOCK, BLOCK_BITS, Wrong, get16, get32};
use super::model::Compression;

pub(super) const ADVISE_COMPACTED_2B: u16 = 0x1;
pub(super) const ADVISE_BIG_PCLUSTER: u16 = 0x2 | 0x4;
pub(super) const ADVISE_INLINE_PCLUSTER: u16 = 0x8;
/// Length of the header before the packs.
pub(super) const MAP_HEADER: usize = 8;
/// In the first block behind an extent's start: the value is the number of the cluster's blocks.
pub(super) const CBLKCNT: u16 = 1 << 11;
pub(super) const TYPE_PLAIN: u16 = 0;
pub(super) const TYPE_HEAD: u16 = 1;
pub(super) const TYPE_NONHEAD: u16 = 2;
/// Bits of an entry's value; its type stands above them.
pub(super) const VALUE_BITS: u32 = 12;

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
fn blocks(extents: &[Extent], first: u32) -> Vec<(Block, u32)> {
    let mut all = Vec::new();
    let mut address = first;
    let mut offset = 0;
    for extent in extents {
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
        address = next;
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
        all.push((end, address));
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

/// The index of a file of `size` bytes whose clusters lie one behind the other from block `first`
/// on, with the padding before it. `inline` is the length of the last cluster where that stands
/// behind the inode.
pub(super) fn encode(
    extents: &[Extent],
    file_size: u64,
    first: u32,
    head: usize,
    inline: Option<usize>,
    compression: Compression,
) -> Vec<u8> {
    let packs = Packs::new(head, file_size);
    let blocks = blocks(extents, first);
    let mut out = vec![0; packs.header - head];
    let mut advise = ADVISE_COMPACTED_2B | ADVISE_BIG_PCLUSTER;
    if inline.is_some() {
        advise |= ADVISE_INLINE_PCLUSTER;
    }
    out.extend([0; 2]);
    // Less than a block.
    out.extend((inline.unwrap_or_default() as u16).to_le_bytes());
    out.extend(advise.to_le_bytes());
    out.push(cluster::algorithm(compression).map_or(0, |algorithm| algorithm as u8));
    out.push(0);
    let (before, rest) = blocks.split_at(packs.before.min(blocks.len()));
    let (middle, after) = rest.split_at(packs.middle.min(rest.len()));
    for (part, count, length) in [(before, 2, 8), (middle, 16, 32), (after, 2, 8)] {
        for blocks in part.chunks(count) {
            pack(blocks, count, length, &mut out);
        }
    }
    out
}

/// An extent as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it starts in the file, in bytes.
    pub(super) start: u64,
    /// Bytes of the file.
    pub(super) length: u64,
    /// The cluster's first block, and how many it has.
    pub(super) block: u32,
    pub(super) blocks: u16,
    pub(super) raw: bool,
    /// The cluster stands behind the index instead.
    pub(super) inline: bool,
}

/// The header of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapHeader {
    /// Length of the last cluster where it stands behind the index.
    pub(super) inline: Option<u16>,
    /// The algorithm's number.
    pub(super) algorithm: u8,
}

impl MapHeader {
    /// Reads the header's eight bytes.
    pub(super) fn decode(bytes: &[u8; MAP_HEADER]) -> Result<Self, Wrong> {
        let advise = get16(bytes, 4);
        if advise & !ADVISE_INLINE_PCLUSTER != ADVISE_COMPACTED_2B | ADVISE_BIG_PCLUSTER || bytes[7] != 0 {
            return Err("the form of the cluster index is not supported here");
        }
        Ok(Self {
            inline: (advise & ADVISE_INLINE_PCLUSTER != 0).then(|| get16(bytes, 2)),
            algorithm: bytes[6] & 15,
        })
    }
}

/// An extent of which only the start has been read.
#[derive(Debug, Clone, Copy)]
struct Open {
    start: u64,
    raw: bool,
    block: u32,
    blocks: Option<u16>,
}

/// Reads the packs of an index, [`Packs::length`] bytes, and gives each extent to `take`.
pub(super) fn decode<E: From<Wrong>>(
    bytes: &[u8],
    packs: Packs,
    file_size: u64,
    has_inline: bool,
    mut take: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: Option<Open> = None;
    let mut close = |open: Open, end: u64, is_last: bool| -> Result<(), E> {
        let length = end.checked_sub(open.start).filter(|length| *length > 0);
        take(Found {
            start: open.start,
            length: length.ok_or("the extents of the cluster index overlap")?,
            block: open.block,
            blocks: open.blocks.unwrap_or(1),
            raw: open.raw,
            inline: is_last && has_inline,
        })
    };
    let mut at = 0;
    let mut number: u64 = 0;
    for (total, count, length) in [(packs.before, 2, 8), (packs.middle, 16, 32), (packs.after, 2, 8)] {
        let width = (length * 8 - 32) / count;
        for begun in (0..total).step_by(count) {
            let pack = bytes
                .get(at..at + length)
                .ok_or("the cluster index is too short")?;
            at += length;
            let mut block = get32(pack, length - 4);
            // Whether the last start in this pack has had no count, so that its cluster has one block.
            let mut uncounted = false;
            for i in 0..count.min(total - begun) {
                let bits = i * width;
                let window = pack[bits / 8..].iter().take(3).rev();
                let value = window.fold(0, |value, byte| value << 8 | u32::from(*byte)) >> (bits % 8);
                let kind = (value >> VALUE_BITS & 3) as u16;
                let value = (value & ((1 << VALUE_BITS) - 1)) as u16;
                match kind {
                    TYPE_PLAIN | TYPE_HEAD => {
                        if uncounted {
                            block = block.wrapping_add(1);
                        }
                        uncounted = true;
                        let start = (number << BLOCK_BITS) + u64::from(value);
                        if let Some(open) = open.take() {
                            close(open, start.min(file_size), start >= file_size)?;
                        } else if start != 0 {
                            return Err("the cluster index does not begin with an extent".into());
                        }
                        // At the very end of the file it only says where the last extent ends.
                        if start < file_size {
                            open = Some(Open {
                                start,
                                raw: kind == TYPE_PLAIN,
                                block,
                                blocks: None,
                            });
                        }
                    }
                    TYPE_NONHEAD if value & CBLKCNT != 0 => {
                        let open = open.as_mut().ok_or("a count has no extent")?;
                        let blocks = value & !CBLKCNT;
                        if open.blocks.replace(blocks).is_some() || blocks == 0 {
                            return Err("an extent has a wrong count of blocks".into());
                        }
                        block = block.wrapping_add(u32::from(blocks));
                        uncounted = false;
                    }
                    // How far away the start is follows from the order.
                    TYPE_NONHEAD => {}
                    _ => return Err("the cluster index has an unknown entry".into()),
                }
                number += 1;
            }
        }
    }
    match open {
        Some(open) => close(open, file_size, true),
        None => Ok(()),
    }
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
            blocks(&extents, 10),
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
