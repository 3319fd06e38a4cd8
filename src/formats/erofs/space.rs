//! Where in the metadata area things lie. What must not cross a block's end goes to the fullest
//! block that still holds it, so that little is wasted.

use std::collections::BTreeSet;

use super::format::{BLOCK, SLOT};

/// The metadata area while places in it are given away. Positions are bytes from its start.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Number of blocks.
    blocks: u64,
    /// Blocks with room at their end: free bytes, block.
    open: BTreeSet<(usize, u64)>,
}

impl Space {
    /// A place for `length` bytes that starts at a slot. Up to a block, it does not cross a block's
    /// end; what is larger starts a block.
    pub(super) fn take(&mut self, length: usize) -> u64 {
        let length = length.next_multiple_of(SLOT);
        if let Some(&(free, block)) = self.open.range((length, 0)..).next() {
            self.open.remove(&(free, block));
            self.leave(free - length, block);
            return block * BLOCK as u64 + (BLOCK - free) as u64;
        }
        let position = self.take_blocks(length);
        self.leave(length.next_multiple_of(BLOCK) - length, self.blocks - 1);
        position
    }

    /// As many consecutive blocks as hold `length` bytes, for this alone.
    pub(super) fn take_blocks(&mut self, length: usize) -> u64 {
        let position = self.blocks * BLOCK as u64;
        self.blocks += length.div_ceil(BLOCK) as u64;
        position
    }

    fn leave(&mut self, free: usize, block: u64) {
        if free > 0 {
            self.open.insert((free, block));
        }
    }

    /// Blocks given away so far.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_block_that_fits_is_taken() {
        let mut space = Space::default();
        assert_eq!(space.take(4000), 0);
        assert_eq!(space.take(3000), 4096);
        assert_eq!(space.take(64), 4000, "96 bytes are left in the first block");
        assert_eq!(space.take(64), 4096 + 3008);
        assert_eq!(space.take_blocks(1), 8192, "whole blocks are not shared");
        assert_eq!(space.take(5000), 3 * 4096);
        assert_eq!(space.take(3000), 3 * 4096 + 5024);
        assert_eq!(space.take(32), 4064);
        assert_eq!(space.blocks(), 5);
    }
}
