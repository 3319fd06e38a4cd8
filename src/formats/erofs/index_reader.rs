//! Reads cluster indexes: the compact one that the writer makes, and the full one with eight bytes for each
//! block of the file.

use super::format::{BLOCK_BITS, Wrong, get16, get32, get64};
use super::index::{
    ADVISE_BIG_PCLUSTER, ADVISE_COMPACTED_2B, ADVISE_FRAGMENT, ADVISE_INLINE_PCLUSTER, ADVISE_INTERLACED,
    CBLKCNT, FULL_ENTRY, MAP_HEADER, PARTIAL_REF, Packs, TYPE_HEAD, TYPE_NONHEAD, TYPE_PLAIN, VALUE_BITS,
    WHOLE_FRAGMENT,
};

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
    /// The cluster holds more than this extent, which is its beginning.
    pub(super) partial: bool,
    /// It is the last of a file whose last extent lies elsewhere.
    pub(super) is_tail: bool,
}

/// Where the last extent of a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// In blocks, like all others.
    Blocks,
    /// Behind the index, so many bytes.
    Behind(u16),
    /// In the packed file, from this byte on. Of a full index, the lower 32 bits: the upper stand in place of the
    /// extent's block.
    Fragment(u32),
}

/// The header of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapHeader {
    /// There is no index: the whole file lies in the packed file, from this byte on.
    Fragment(u64),
    Index {
        tail: Tail,
        /// The algorithm's number.
        algorithm: u8,
        /// Plain clusters begin where the extent does in its block, and go on at the block's start.
        interlaced: bool,
    },
}

impl MapHeader {
    /// Reads the header's eight bytes; `full` says that a full index follows.
    pub(super) fn decode(bytes: &[u8; MAP_HEADER], full: bool) -> Result<Self, Wrong> {
        let whole = get64(bytes, 0);
        if whole & WHOLE_FRAGMENT != 0 {
            return Ok(Self::Fragment(whole & !WHOLE_FRAGMENT));
        }
        let advise = get16(bytes, 4);
        let choices = ADVISE_INLINE_PCLUSTER | ADVISE_FRAGMENT | ADVISE_INTERLACED;
        let fixed = match full {
            true => ADVISE_BIG_PCLUSTER,
            false => ADVISE_COMPACTED_2B | ADVISE_BIG_PCLUSTER,
        };
        if advise & !choices != fixed || bytes[7] != 0 {
            return Err("the form of the cluster index is not supported here");
        }
        let tail = match (
            advise & ADVISE_INLINE_PCLUSTER != 0,
            advise & ADVISE_FRAGMENT != 0,
        ) {
            (false, false) => Tail::Blocks,
            (true, false) => Tail::Behind(get16(bytes, 2)),
            (false, true) => Tail::Fragment(get32(bytes, 0)),
            (true, true) => return Err("the end of a file lies in two places"),
        };
        Ok(Self::Index {
            tail,
            algorithm: bytes[6] & 15,
            interlaced: advise & ADVISE_INTERLACED != 0,
        })
    }
}

/// An extent of which only the start has been read.
#[derive(Debug, Clone, Copy)]
struct Open {
    start: u64,
    raw: bool,
    partial: bool,
    block: u32,
    blocks: Option<u16>,
    /// The block in which, as has been said ahead, the next extent starts.
    next: Option<u64>,
}

const DISTANCE: Wrong = "a distance in the cluster index is wrong";
const COUNT: Wrong = "an extent has a wrong count of blocks";
/// Larger distances are said to be this.
const FAR: u64 = CBLKCNT as u64 - 1;

/// The extents of a file while its index is read, block by block.
struct Extents<T> {
    open: Option<Open>,
    file_size: u64,
    has_tail: bool,
    take: T,
}

impl<T> Extents<T> {
    fn new(file_size: u64, has_tail: bool, take: T) -> Self {
        Self {
            open: None,
            file_size,
            has_tail,
            take,
        }
    }

    fn close<E: From<Wrong>>(&mut self, end: u64, number: u64) -> Result<(), E>
    where
        T: FnMut(Found) -> Result<(), E>,
    {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if open.next.is_some_and(|next| next != number) {
            return Err(DISTANCE.into());
        }
        let length = end.checked_sub(open.start).filter(|length| *length > 0);
        let is_tail = end >= self.file_size && self.has_tail;
        if open.blocks == Some(0) && !is_tail {
            return Err(COUNT.into());
        }
        (self.take)(Found {
            start: open.start,
            length: length.ok_or("the extents of the cluster index overlap")?,
            block: open.block,
            blocks: open.blocks.unwrap_or(1),
            raw: open.raw,
            partial: open.partial,
            is_tail,
        })
    }

    /// An extent starts `offset` bytes into block `number`; at the very end of the file that only says where the
    /// last one ends.
    fn begin<E: From<Wrong>>(&mut self, number: u64, offset: u16, extent: Open) -> Result<(), E>
    where
        T: FnMut(Found) -> Result<(), E>,
    {
        let start = (number << BLOCK_BITS) + u64::from(offset);
        if self.open.is_none() && start != 0 {
            return Err("the cluster index does not begin with an extent".into());
        }
        self.close(start.min(self.file_size), number)?;
        if start < self.file_size {
            self.open = Some(Open { start, ..extent });
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Open, Wrong> {
        self.open.as_mut().ok_or("an entry has no extent")
    }

    /// The first block behind a start says how many blocks the cluster has.
    fn count(&mut self, blocks: u16) -> Result<(), Wrong> {
        match self.open()?.blocks.replace(blocks) {
            Some(_) => Err(COUNT),
            None => Ok(()),
        }
    }

    /// A block says how far behind it its extent's start is. Distances follow from the order, but the kernel goes
    /// by them.
    fn check_back(&mut self, number: u64, back: u16) -> Result<(), Wrong> {
        let start = self.open()?.start >> BLOCK_BITS;
        match u64::from(back) == (number - start).min(FAR) {
            true => Ok(()),
            false => Err(DISTANCE),
        }
    }

    fn finish<E: From<Wrong>>(mut self, number: u64) -> Result<(), E>
    where
        T: FnMut(Found) -> Result<(), E>,
    {
        let end = self.file_size;
        self.close(end, number)
    }
}

/// Reads the packs of a compact index, [`Packs::length`] bytes, and gives each extent to `take`. `has_tail` says that
/// the last one lies elsewhere.
pub(super) fn decode<E: From<Wrong>>(
    bytes: &[u8],
    packs: Packs,
    file_size: u64,
    has_tail: bool,
    take: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut extents = Extents::new(file_size, has_tail, take);
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
                        let extent = Open {
                            start: 0,
                            raw: kind == TYPE_PLAIN,
                            partial: false,
                            block,
                            blocks: None,
                            next: None,
                        };
                        extents.begin(number, value, extent)?;
                    }
                    TYPE_NONHEAD if value & CBLKCNT != 0 => {
                        let blocks = value & !CBLKCNT;
                        extents.count(blocks)?;
                        block = block.wrapping_add(u32::from(blocks));
                        uncounted = false;
                    }
                    TYPE_NONHEAD if i + 1 == count => {
                        extents.open()?.next = (value < CBLKCNT - 1).then(|| number + u64::from(value));
                    }
                    TYPE_NONHEAD => extents.check_back(number, value)?,
                    _ => return Err("the cluster index has an unknown entry".into()),
                }
                number += 1;
            }
        }
    }
    extents.finish(number)
}

/// As [`decode`], of a full index: `bytes` has [`FULL_ENTRY`] bytes for each block of the file.
pub(super) fn decode_full<E: From<Wrong>>(
    bytes: &[u8],
    file_size: u64,
    has_tail: bool,
    take: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut extents = Extents::new(file_size, has_tail, take);
    let mut number = 0;
    for entry in bytes.chunks_exact(FULL_ENTRY) {
        let (advise, offset) = (get16(entry, 0), get16(entry, 2));
        let (back, ahead) = (get16(entry, 4), get16(entry, 6));
        match advise & 3 {
            kind @ (TYPE_PLAIN | TYPE_HEAD) => {
                if offset >> VALUE_BITS != 0 {
                    return Err("an extent does not start in its block".into());
                }
                let extent = Open {
                    start: 0,
                    raw: kind == TYPE_PLAIN,
                    partial: advise & PARTIAL_REF != 0,
                    block: get32(entry, 4),
                    blocks: None,
                    next: None,
                };
                extents.begin(number, offset, extent)?;
            }
            TYPE_NONHEAD => {
                match back & CBLKCNT != 0 {
                    true => extents.count(back & !CBLKCNT)?,
                    false => extents.check_back(number, back)?,
                }
                let next = number + u64::from(ahead);
                if extents
                    .open()?
                    .next
                    .replace(next)
                    .is_some_and(|known| known != next)
                {
                    return Err(DISTANCE.into());
                }
            }
            _ => return Err("the cluster index has an unknown entry".into()),
        }
        number += 1;
    }
    extents.finish(number)
}
