//! The journal's first block; what is behind it is not read before it has been written.

use super::format::BLOCK;

const MAGIC: u32 = 0xc03b_3998;
/// A superblock of version 2.
const KIND: u32 = 4;

/// The superblock of an empty journal of `blocks` blocks. Big-endian, as all of a journal.
pub(super) fn superblock(blocks: u64, uuid: &[u8; 16]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let fields = [
        (0x00, MAGIC),
        (0x04, KIND),
        (0x0c, BLOCK as u32),
        (0x10, blocks as u32),
        // First block of the log, first transaction; it starts nowhere, so there is nothing to replay.
        (0x14, 1),
        (0x18, 1),
        // One user: this file system.
        (0x40, 1),
    ];
    for (at, value) in fields {
        block[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    block[0x30..0x40].copy_from_slice(uuid);
    block
}
