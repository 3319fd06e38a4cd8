//! Files in chunks of the same size, each with its own address: equal chunks are stored once, and chunks of zeros not
//! at all.

use super::format::{BLOCK_BITS, NULL_ADDR, Wrong, get16, get32};

/// The addresses have eight bytes instead of four.
const INDEXES: u32 = 0x20;
/// The logarithm of a chunk's blocks.
const BITS: u32 = 0x1f;
/// The largest that is read: 1 GiB.
const BITS_MAX: u32 = 18;

/// How the chunks of a file are described (`chunkformat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Binary logarithm of a chunk's bytes.
    bits: u32,
    indexes: bool,
}

/// Bytes of the addresses of a file's chunks.
pub(super) fn encoded_length(addresses: &[u32]) -> usize {
    addresses.len() * 4
}

/// The addresses of a file's chunks. Inodes and extended attributes are multiples of their four bytes.
pub(super) fn encode(addresses: &[u32]) -> Vec<u8> {
    addresses.iter().flat_map(|block| block.to_le_bytes()).collect()
}

impl Format {
    /// Chunks of `size` bytes, a power of two from a block on, with short addresses.
    pub(super) fn new(size: u32) -> Self {
        Self {
            bits: size.ilog2(),
            indexes: false,
        }
    }

    /// The inode's `i_u`.
    pub(super) fn encode(self) -> u32 {
        let indexes = if self.indexes { INDEXES } else { 0 };
        self.bits.saturating_sub(u32::from(BLOCK_BITS)) | indexes
    }

    /// Reads the inode's `i_u`.
    pub(super) fn decode(union: u32) -> Result<Self, Wrong> {
        if union & !(BITS | INDEXES) != 0 || union & BITS > BITS_MAX {
            return Err("the form of its chunks is not supported here");
        }
        Ok(Self {
            bits: (union & BITS) + u32::from(BLOCK_BITS),
            indexes: union & INDEXES != 0,
        })
    }

    /// Bytes of a chunk.
    pub(super) fn chunk(self) -> u64 {
        1 << self.bits
    }

    /// Bytes of an address.
    pub(super) fn entry(self) -> usize {
        if self.indexes { 8 } else { 4 }
    }

    /// Bytes of all addresses of a file of `size` bytes.
    pub(super) fn map_length(self, size: u64) -> Option<u64> {
        size.div_ceil(self.chunk()).checked_mul(self.entry() as u64)
    }

    /// The first block of a chunk; `None` for a hole.
    pub(super) fn block(self, entry: &[u8]) -> Result<Option<u64>, Wrong> {
        let block = match self.indexes {
            true if get32(entry, 4) != NULL_ADDR && (get16(entry, 0) != 0 || get16(entry, 2) != 0) => {
                return Err("a chunk lies on another device");
            }
            true => get32(entry, 4),
            false => get32(entry, 0),
        };
        Ok((block != NULL_ADDR).then_some(u64::from(block)))
    }
}
