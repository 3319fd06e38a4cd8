//! The resize inode, which holds the blocks reserved for descriptors of groups to come.
//!
//! Its double-indirect block lists the reserved blocks behind the first superblock's descriptors; each of those is in turn
//! an indirect block that lists its counterparts in the groups with copies.

use super::format::{ADDRESSES, BLOCK, BLOCK_SIZE, BLOCKS_PER_GROUP, S_IFREG, put32};
use super::geometry::Geometry;
use super::inode::{MAP_SIZE, Record};

/// As many blocks as direct, indirect and double-indirect ones could be, of which most are holes.
const SIZE: u64 = (ADDRESSES * ADDRESSES + ADDRESSES + 12) * BLOCK_SIZE;

/// The inode, whose double-indirect block is `double`.
pub(super) fn inode(geometry: &Geometry, double: u64, time: i64) -> Record {
    let mut map = [0; MAP_SIZE];
    put32(&mut map, 13 * 4, double as u32);
    let copies = geometry.copies().take(ADDRESSES as usize).count() as u64;
    Record {
        mode: S_IFREG | 0o600,
        uid: 0,
        gid: 0,
        time,
        size: SIZE,
        links: 1,
        blocks: 1 + geometry.reserved_blocks * (1 + copies),
        flags: 0,
        map,
        xattr_block: 0,
        xattrs: Vec::new(),
    }
}

/// The double-indirect block.
pub(super) fn double(geometry: &Geometry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (number, index) in reserved(geometry).zip(geometry.descriptor_blocks..) {
        put32(&mut block, (index % ADDRESSES) as usize * 4, number as u32);
    }
    block
}

/// The reserved blocks of the first group.
fn reserved(geometry: &Geometry) -> std::ops::Range<u64> {
    let first = 1 + geometry.descriptor_blocks;
    first..first + geometry.reserved_blocks
}

/// Each reserved block's number and content.
pub(super) fn indirect(geometry: &Geometry) -> impl Iterator<Item = (u64, [u8; BLOCK])> {
    reserved(geometry).map(|number| {
        let mut block = [0; BLOCK];
        for (place, group) in block.chunks_exact_mut(4).zip(geometry.copies()) {
            put32(place, 0, (group * BLOCKS_PER_GROUP + number) as u32);
        }
        (number, block)
    })
}
