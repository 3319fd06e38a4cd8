//! Blocks of directories.

use super::checksum;
use super::format::{BLOCK, LOST_AND_FOUND_BLOCKS, TYPE_CHECKSUM, put16, put32};

/// Name, inode, type.
pub(super) type Entry<'t> = (&'t [u8], u32, u8);

/// The entry that ends each block and holds its checksum.
const TAIL: usize = 12;
const HEADER: usize = 8;

/// Bytes of an entry whose name has `length` bytes.
fn entry_size(length: usize) -> usize {
    (HEADER + length).next_multiple_of(4)
}

/// How many blocks a directory of these entries takes; `.` and `..` are among them.
pub(super) fn block_count(entries: &[Entry<'_>]) -> u64 {
    let mut blocks = 1;
    let mut used = 0;
    for (name, ..) in entries {
        let size = entry_size(name.len());
        if used + size > BLOCK - TAIL {
            blocks += 1;
            used = 0;
        }
        used += size;
    }
    blocks
}

/// The blocks themselves. `seed` is [`checksum::of_inode`] of the directory.
pub(super) fn blocks(entries: &[Entry<'_>], least: u64, seed: u32) -> Vec<[u8; BLOCK]> {
    let mut blocks = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() || (blocks.len() as u64) < least {
        let mut block = [0; BLOCK];
        let (mut at, mut last) = (0, 0);
        while let [(name, inode, kind), behind @ ..] = rest
            && at + entry_size(name.len()) <= BLOCK - TAIL
        {
            put32(&mut block, at, *inode);
            put16(&mut block, at + 4, entry_size(name.len()) as u16);
            block[at + 6] = name.len() as u8;
            block[at + 7] = *kind;
            block[at + HEADER..at + HEADER + name.len()].copy_from_slice(name);
            (last, at, rest) = (at, at + entry_size(name.len()), behind);
        }
        // The last entry, or an unused one, reaches to the tail.
        put16(&mut block, last + 4, (BLOCK - TAIL - last) as u16);
        let tail = BLOCK - TAIL;
        put16(&mut block, tail + 4, TAIL as u16);
        block[tail + 7] = TYPE_CHECKSUM;
        let sum = checksum::crc(seed, &block[..tail]);
        put32(&mut block, tail + 8, sum);
        blocks.push(block);
    }
    blocks
}

/// The least blocks of the directory `number`.
pub(super) fn least_blocks(number: u32) -> u64 {
    if number == super::format::FIRST_INODE {
        LOST_AND_FOUND_BLOCKS
    } else {
        1
    }
}
