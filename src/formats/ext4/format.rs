//! Numbers of the on-disk format, and putting fields into blocks. All integers are little-endian.

/// Bytes of a block; the only size that is written.
pub const BLOCK_SIZE: u64 = 4096;
pub(super) const BLOCK: usize = 4096;
/// One bitmap block's worth.
pub(super) const BLOCKS_PER_GROUP: u64 = 8 * BLOCK_SIZE;
pub(super) const INODE_SIZE: usize = 256;
pub(super) const INODES_PER_BLOCK: u64 = BLOCK_SIZE / INODE_SIZE as u64;
/// Of a group descriptor.
pub(super) const DESCRIPTOR_SIZE: usize = 64;
pub(super) const DESCRIPTORS_PER_BLOCK: u64 = BLOCK_SIZE / DESCRIPTOR_SIZE as u64;
/// Block numbers in an indirect block.
pub(super) const ADDRESSES: u64 = BLOCK_SIZE / 4;
/// Blocks of a file's `i_blocks`, which counts sectors.
pub(super) const SECTORS: u64 = BLOCK_SIZE / 512;
/// Bytes of an inode behind its 128 classic ones that have fields.
pub(super) const EXTRA_SIZE: u16 = 32;

pub(super) const ROOT_INODE: u32 = 2;
pub(super) const RESIZE_INODE: u32 = 7;
pub(super) const JOURNAL_INODE: u32 = 8;
/// The first that is not reserved: `lost+found`.
pub(super) const FIRST_INODE: u32 = 11;
/// Blocks of a new `lost+found`, so that e2fsck need not allocate any.
pub(super) const LOST_AND_FOUND_BLOCKS: u64 = 4;

pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFLNK: u16 = 0o120_000;

/// `has_journal ext_attr resize_inode dir_index`
pub(super) const COMPAT: u32 = 0x4 | 0x8 | 0x10 | 0x20;
/// `filetype extent 64bit flex_bg`
pub(super) const INCOMPAT: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `sparse_super large_file huge_file dir_nlink extra_isize metadata_csum`
pub(super) const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// The inode bitmap was not written: no inode is in use.
pub(super) const INODE_UNINIT: u16 = 1;
/// The block bitmap was not written: nothing is in use but copies of superblock and descriptors.
pub(super) const BLOCK_UNINIT: u16 = 2;

pub(super) const EXTENTS_FLAG: u32 = 0x8_0000;
pub(super) const EXTENT_MAGIC: u16 = 0xf30a;
/// Longest extent of written blocks.
pub(super) const EXTENT_BLOCKS: u64 = 32_768;
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;

/// Entries of directories say what they lead to.
pub(super) const TYPE_FILE: u8 = 1;
pub(super) const TYPE_DIRECTORY: u8 = 2;
pub(super) const TYPE_SYMLINK: u8 = 7;
/// What stands for a type in the entry that holds a block's checksum.
pub(super) const TYPE_CHECKSUM: u8 = 0xde;

pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The lower half of `value` at `low`, the upper one at `high`.
pub(super) fn put32s(bytes: &mut [u8], low: usize, high: usize, value: u64) {
    put32(bytes, low, value as u32);
    put32(bytes, high, (value >> 32) as u32);
}

/// The lower half of `value` at `low`, the upper one at `high`.
pub(super) fn put16s(bytes: &mut [u8], low: usize, high: usize, value: u32) {
    put16(bytes, low, value as u16);
    put16(bytes, high, (value >> 16) as u16);
}
