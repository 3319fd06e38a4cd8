//! Inodes as they stand in a table, and the map from a file's blocks to the file system's.

use std::ops::Range;

use super::checksum;
use super::format::{
    BLOCK, EXTENT_BLOCKS, EXTENT_MAGIC, EXTENTS_FLAG, EXTRA_SIZE, INODE_SIZE, SECTORS, put16, put16s, put32,
    put32s,
};

/// Bytes of `i_block`: block numbers, extents, or a short link's target.
pub(super) const MAP_SIZE: usize = 60;
/// Where extended attributes begin, with their magic number.
pub(super) const XATTRS_AT: usize = 128 + EXTRA_SIZE as usize;
const HEADER: usize = 12;
const EXTENT: usize = 12;
/// Extents that an inode itself holds.
const IN_INODE: usize = (MAP_SIZE - HEADER) / EXTENT;
/// Extents of a block, which ends with a checksum.
const IN_BLOCK: usize = (BLOCK - HEADER - 4) / EXTENT;

/// The fields of an inode; what is not here is 0.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// With the type.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub time: i64,
    /// In bytes.
    pub size: u64,
    pub links: u16,
    /// Blocks of content, maps and extended attributes.
    pub blocks: u64,
    pub flags: u32,
    pub map: [u8; MAP_SIZE],
    pub xattr_block: u64,
    /// From [`XATTRS_AT`] on.
    pub xattrs: Vec<u8>,
}

impl Record {
    /// The inode's bytes. `seed` is [`checksum::of_inode`]; times have been checked.
    pub fn encode(&self, seed: u32) -> [u8; INODE_SIZE] {
        let mut bytes = [0; INODE_SIZE];
        put16(&mut bytes, 0x00, self.mode);
        put16s(&mut bytes, 0x02, 0x78, self.uid);
        put16s(&mut bytes, 0x18, 0x7a, self.gid);
        put32s(&mut bytes, 0x04, 0x6c, self.size);
        put16(&mut bytes, 0x1a, self.links);
        let sectors = self.blocks * SECTORS;
        put32(&mut bytes, 0x1c, sectors as u32);
        put16(&mut bytes, 0x74, (sectors >> 32) as u16);
        put32(&mut bytes, 0x20, self.flags);
        bytes[0x28..0x28 + MAP_SIZE].copy_from_slice(&self.map);
        put32(&mut bytes, 0x68, self.xattr_block as u32);
        put16(&mut bytes, 0x76, (self.xattr_block >> 32) as u16);
        put16(&mut bytes, 0x80, EXTRA_SIZE);
        // Access, change, modification, creation: the low 32 bits, and two more beside the nanoseconds.
        for (at, extra) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            let low = self.time as u32;
            put32(&mut bytes, at, low);
            let epoch = self.time.wrapping_sub(i64::from(low.cast_signed())) >> 32;
            put32(&mut bytes, extra, epoch as u32 & 3);
        }
        bytes[XATTRS_AT..XATTRS_AT + self.xattrs.len()].copy_from_slice(&self.xattrs);
        let sum = checksum::crc(seed, &bytes);
        put16s(&mut bytes, 0x7c, 0x82, sum);
        bytes
    }
}

/// Whether an inode's time fields, 34 bits from 1901 on, hold `time`.
pub(super) fn holds_time(time: i64) -> bool {
    (i64::from(i32::MIN)..i64::from(i32::MAX) + 3 * (1 << 32)).contains(&time)
}

/// How a file's blocks are found.
pub(super) struct Map {
    pub inode: [u8; MAP_SIZE],
    /// The block that holds the extents which the inode has no room for.
    pub leaf: Option<[u8; BLOCK]>,
}

/// Whether blocks in `runs` need a block more for their map. None are ever so scattered as to need two.
pub(super) fn needs_leaf(runs: &[Range<u64>]) -> bool {
    extents(runs).len() > IN_INODE
}

/// Whether a map can hold `runs` at all.
pub(super) fn holds(runs: &[Range<u64>]) -> bool {
    extents(runs).len() <= IN_BLOCK
}

/// Maps a file's blocks, in order, to `runs`. `leaf` is the block for the map, where [`needs_leaf`] wants it.
pub(super) fn map(runs: &[Range<u64>], leaf: Option<u64>, seed: u32) -> Map {
    let extents = extents(runs);
    let mut inode = [0; MAP_SIZE];
    let Some(leaf) = leaf else {
        fill(&mut inode, &extents, IN_INODE);
        return Map { inode, leaf: None };
    };
    header(&mut inode, 1, IN_INODE, 1);
    put32(&mut inode, HEADER + 4, leaf as u32);
    put16(&mut inode, HEADER + 8, (leaf >> 32) as u16);
    let mut block = [0; BLOCK];
    fill(&mut block, &extents, IN_BLOCK);
    let end = HEADER + IN_BLOCK * EXTENT;
    let sum = checksum::crc(seed, &block[..end]);
    put32(&mut block, end, sum);
    Map {
        inode,
        leaf: Some(block),
    }
}

/// First block of the file, and blocks of the file system, each within what an extent counts.
fn extents(runs: &[Range<u64>]) -> Vec<(u64, Range<u64>)> {
    let mut extents = Vec::new();
    let mut logical = 0;
    for run in runs {
        let mut start = run.start;
        while start < run.end {
            let end = run.end.min(start + EXTENT_BLOCKS);
            extents.push((logical, start..end));
            logical += end - start;
            start = end;
        }
    }
    extents
}

fn header(bytes: &mut [u8], entries: usize, most: usize, depth: u16) {
    put16(bytes, 0, EXTENT_MAGIC);
    put16(bytes, 2, entries as u16);
    put16(bytes, 4, most as u16);
    put16(bytes, 6, depth);
}

fn fill(bytes: &mut [u8], extents: &[(u64, Range<u64>)], most: usize) {
    header(bytes, extents.len(), most, 0);
    let (_, places) = bytes.split_at_mut(HEADER);
    for (place, (logical, run)) in places.chunks_exact_mut(EXTENT).zip(extents) {
        put32(place, 0, *logical as u32);
        put16(place, 4, (run.end - run.start) as u16);
        put16(place, 6, (run.start >> 32) as u16);
        put32(place, 8, run.start as u32);
    }
}

impl Record {
    /// A record with the flag and the map of extents.
    pub fn with_extents(mut self, map: &Map) -> Self {
        self.flags |= EXTENTS_FLAG;
        self.map = map.inode;
        self
    }
}
