//! Where the parts of a file system lie that do not depend on its content.

use std::ops::Range;

use super::error::Ext4Error;
use super::format::{ADDRESSES, BLOCK_SIZE, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK, INODES_PER_BLOCK};

/// The least bytes: half a group, of which tables and journal leave something.
pub const MIN_SIZE: u64 = 64 << 20;
/// The most bytes: block numbers of 32 bits, which the resize inode has.
pub const MAX_SIZE: u64 = 16 << 40;

/// Groups whose bitmaps and inode tables lie together, in the first of them.
pub(super) const GROUPS_PER_FLEX: u64 = 16;
/// Bytes of the file system for each inode, as `mke2fs` counts.
const BYTES_PER_INODE: u64 = 16 << 10;
/// Blocks up to which descriptors are reserved for growth: 4 TiB, as large as disks of Azure's become. Beyond, Linux
/// changes over to `meta_bg` by itself.
const GROWTH: u64 = 1 << 30;
/// Blocks that a last group must have beyond its own tables.
const LEAST_LAST_GROUP: u64 = 64;

/// The shape of a file system, in blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    pub blocks: u64,
    pub groups: u64,
    pub inodes_per_group: u64,
    /// Of group descriptors, behind each superblock.
    pub descriptor_blocks: u64,
    /// Reserved behind them.
    pub reserved_blocks: u64,
    pub journal_blocks: u64,
}

/// Where a group's bitmaps and inode table lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tables {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
}

impl Geometry {
    pub fn new(size: u64) -> Result<Self, Ext4Error> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(Ext4Error::Size { size });
        }
        let mut geometry = Self::of_blocks(size / BLOCK_SIZE);
        let last = geometry.groups - 1;
        let own: u64 = geometry.fixed(last).iter().map(|run| run.end - run.start).sum();
        let start = last * BLOCKS_PER_GROUP;
        if geometry.blocks - start < own + LEAST_LAST_GROUP {
            // At least half a group is left: `MIN_SIZE` is no such remainder.
            geometry = Self::of_blocks(start);
        }
        Ok(geometry)
    }

    fn of_blocks(blocks: u64) -> Self {
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let inodes = blocks * BLOCK_SIZE / BYTES_PER_INODE / groups;
        let descriptor_blocks = groups.div_ceil(DESCRIPTORS_PER_BLOCK);
        // Some growth always: a file system with the feature and without a reserve is an odd one.
        let most = GROWTH.max(blocks.saturating_mul(2)).div_ceil(BLOCKS_PER_GROUP);
        let wanted = most.div_ceil(DESCRIPTORS_PER_BLOCK);
        Self {
            blocks,
            groups,
            inodes_per_group: inodes.next_multiple_of(INODES_PER_BLOCK),
            descriptor_blocks,
            reserved_blocks: (wanted - descriptor_blocks).min(ADDRESSES),
            journal_blocks: journal_blocks(blocks),
        }
    }

    pub fn inode_table_blocks(&self) -> u64 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    /// The blocks of group `group`.
    pub fn group(&self, group: u64) -> Range<u64> {
        let start = group * BLOCKS_PER_GROUP;
        start..(start + BLOCKS_PER_GROUP).min(self.blocks)
    }

    /// Blocks of superblock, descriptors and reserve at the start of `group`.
    pub fn base_blocks(&self, group: u64) -> u64 {
        if has_copy(group) {
            1 + self.descriptor_blocks + self.reserved_blocks
        } else {
            0
        }
    }

    /// Groups behind the first with copies of superblock and descriptors, rising.
    pub fn copies(&self) -> impl Iterator<Item = u64> {
        (1..self.groups).filter(|&group| has_copy(group))
    }

    pub fn tables(&self, group: u64) -> Tables {
        let lead = group / GROUPS_PER_FLEX * GROUPS_PER_FLEX;
        let members = self.members(lead);
        let start = lead * BLOCKS_PER_GROUP + self.base_blocks(lead);
        let index = group - lead;
        Tables {
            block_bitmap: start + index,
            inode_bitmap: start + members + index,
            inode_table: start + 2 * members + index * self.inode_table_blocks(),
        }
    }

    /// How many groups keep their tables in `lead`.
    fn members(&self, lead: u64) -> u64 {
        (self.groups - lead).min(GROUPS_PER_FLEX)
    }

    /// What of `group` is in use whatever the content is, as rising runs of blocks.
    pub fn fixed(&self, group: u64) -> Vec<Range<u64>> {
        let start = group * BLOCKS_PER_GROUP;
        let mut end = start + self.base_blocks(group);
        if group.is_multiple_of(GROUPS_PER_FLEX) {
            end += self.members(group) * (2 + self.inode_table_blocks());
        }
        if end > start { vec![start..end] } else { Vec::new() }
    }
}

/// Whether `group` begins with a copy of superblock and descriptors (`sparse_super`): 0, 1, powers of 3, 5 and 7.
pub(super) fn has_copy(group: u64) -> bool {
    let is_power = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || [3, 5, 7].into_iter().any(is_power)
}

/// As `mke2fs` sizes journals.
fn journal_blocks(blocks: u64) -> u64 {
    let steps = [
        (32_768, 1024),
        (256 << 10, 4096),
        (512 << 10, 8192),
        (4096 << 10, 16_384),
        (8192 << 10, 32_768),
        (16_384 << 10, 65_536),
        (32_768 << 10, 131_072),
    ];
    let step = steps.iter().find(|(below, _)| blocks < *below);
    step.map_or(262_144, |&(_, journal)| journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stand_in_powers_of_three_five_and_seven() {
        let copies: Vec<u64> = (0..130).filter(|&group| has_copy(group)).collect();
        assert_eq!(copies, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn tables_lie_in_the_first_group_of_a_flexible_one() {
        // 2.5 GiB: 20 groups.
        let geometry = Geometry::new(5 << 29).unwrap();
        assert_eq!((geometry.groups, geometry.inodes_per_group), (20, 8192));
        assert_eq!((geometry.descriptor_blocks, geometry.reserved_blocks), (1, 511));
        let tables = |group| {
            let found = geometry.tables(group);
            (found.block_bitmap, found.inode_bitmap, found.inode_table)
        };
        assert_eq!(tables(0), (513, 529, 545));
        assert_eq!(tables(15), (528, 544, 545 + 15 * 512));
        let lead = 16 * 32_768;
        assert_eq!(tables(16), (lead, lead + 4, lead + 8));
        assert_eq!(geometry.fixed(0), [0..545 + 16 * 512]);
        assert_eq!(geometry.fixed(2), []);
        assert_eq!(geometry.fixed(3), [3 * 32_768..3 * 32_768 + 513]);
        assert_eq!(geometry.fixed(16), [lead..lead + 8 + 4 * 512]);
    }

    #[test]
    fn a_last_group_without_room_is_left_out() {
        let whole = Geometry::new(384 << 20).unwrap();
        assert_eq!(whole.groups, 3);
        // Group 3 would begin with 513 blocks of its own.
        for more in [1, 513, 576] {
            let left = Geometry::new((384 << 20) + more * 4096).unwrap();
            assert_eq!((left.groups, left.blocks), (3, whole.blocks), "{more}");
        }
        let more = Geometry::new((384 << 20) + 577 * 4096 + 100).unwrap();
        assert_eq!((more.groups, more.blocks), (4, whole.blocks + 577));
        for size in [0, MIN_SIZE - 1, MAX_SIZE + 1, u64::MAX] {
            assert!(matches!(Geometry::new(size), Err(Ext4Error::Size { .. })));
        }
        let largest = Geometry::new(MAX_SIZE).unwrap();
        assert_eq!((largest.descriptor_blocks, largest.reserved_blocks), (2048, 1024));
    }
}
