//! The on-disk structures of erofs, as bytes. All integers are little-endian.
//!
//! Specification: the kernel's `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`.
//! Only the parts that [`super::write`] makes and [`super::Image`] understands are here.

/// `EROFS_SUPER_MAGIC_V1`.
pub(super) const MAGIC: u32 = 0xE0F5_E1E2;
/// Where the superblock starts, in bytes from the start of the volume.
pub(super) const SUPER_OFFSET: usize = 1024;
/// Length of the superblock without extension slots.
pub(super) const SUPER_SIZE: usize = 128;
pub(super) const BLOCK_BITS: u8 = 12;
/// Block size and logical cluster size in bytes. The kernel refuses blocks larger than a page, and
/// 4096 is the page size of every machine that we build for.
pub(super) const BLOCK: usize = 1 << BLOCK_BITS;
/// Inodes start on multiples of this many bytes; an inode's number (nid) counts them from the
/// start of the metadata area.
pub(super) const SLOT: usize = 32;
pub(super) const NAME_MAX: usize = 255;
/// In an address field: no block.
pub(super) const NULL_ADDR: u32 = u32::MAX;

pub(super) const COMPAT_SB_CHKSUM: u32 = 0x1;
/// Times in inodes are modification times, not change times.
pub(super) const COMPAT_MTIME: u32 = 0x2;

/// Compressed data stands at the end of its cluster, zeros before it.
pub(super) const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// Clusters may be larger than a block, and each algorithm's parameters follow the superblock.
pub(super) const INCOMPAT_BIG_PCLUSTER: u32 = 0x2;
/// The last cluster of a file may stand behind its inode.
pub(super) const INCOMPAT_ZTAILPACKING: u32 = 0x10;

/// Files may be stored as chunks, each with its address.
pub(super) const INCOMPAT_CHUNKED: u32 = 0x4;
/// Small files and ends of others may lie in the packed file; clusters may be shared. One bit says both.
pub(super) const INCOMPAT_FRAGMENTS: u32 = 0x20;

pub(super) const INCOMPAT_KNOWN: u32 = INCOMPAT_ZERO_PADDING
    | INCOMPAT_BIG_PCLUSTER
    | INCOMPAT_CHUNKED
    | INCOMPAT_ZTAILPACKING
    | INCOMPAT_FRAGMENTS;

/// The little-endian number at `at`; panics where `bytes` is too short, so callers slice first.
pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// As [`get16`].
pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get16(bytes, at)) | u32::from(get16(bytes, at + 2)) << 16
}

/// As [`get16`].
pub(super) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get32(bytes, at)) | u64::from(get32(bytes, at + 4)) << 32
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// How the data of an inode is stored (`i_format`, bits 1 to 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Whole blocks from an address on.
    FlatPlain = 0,
    /// Clusters, with the full index behind the inode.
    CompressedFull = 1,
    /// The same, but the last, partial block stands behind the inode.
    FlatInline = 2,
    /// Clusters, with the compact index behind the inode.
    CompressedCompact = 3,
    /// Chunks of the same size, with their addresses behind the inode.
    Chunked = 4,
}

/// The algorithm of compressed clusters (`h_algorithmtype`, bit number of `available_compr_algs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Lz4 = 0,
    Deflate = 2,
    Zstd = 3,
}

/// The superblock. `blkszbits` is always [`BLOCK_BITS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Super {
    pub(super) incompat: u32,
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    /// Seconds since the epoch; the time of every compact inode.
    pub(super) build_time: i64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    pub(super) uuid: [u8; 16],
    pub(super) volume_name: [u8; 16],
    pub(super) algorithms: u16,
    /// The number of the packed file; 0 where there is none.
    pub(super) packed_nid: u64,
}

impl Super {
    /// The block that holds the superblock, with the algorithms' parameters behind it and the
    /// checksum filled in.
    pub(super) fn encode(&self, parameters: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let s = &mut block[SUPER_OFFSET..];
        put(s, 0, &MAGIC.to_le_bytes());
        put(s, 8, &(COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
        s[12] = BLOCK_BITS;
        put(s, 14, &self.root_nid.to_le_bytes());
        put(s, 16, &self.inodes.to_le_bytes());
        put(s, 24, &self.build_time.to_le_bytes());
        put(s, 36, &self.blocks.to_le_bytes());
        put(s, 40, &self.meta_block.to_le_bytes());
        put(s, 44, &self.xattr_block.to_le_bytes());
        put(s, 48, &self.uuid);
        put(s, 64, &self.volume_name);
        put(s, 80, &self.incompat.to_le_bytes());
        put(s, 84, &self.algorithms.to_le_bytes());
        put(s, 96, &self.packed_nid.to_le_bytes());
        put(s, SUPER_SIZE, parameters);
        let checksum = checksum(&block);
        put(&mut block, SUPER_OFFSET + 4, &checksum.to_le_bytes());
        block
    }
}

/// What is wrong with a structure read from a volume, in the words of a message.
pub(super) type Wrong = &'static str;

impl Super {
    /// Reads the superblock out of the first block.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Self, Wrong> {
        let s = &block[SUPER_OFFSET..];
        let array = |at: usize| std::array::from_fn(|i| s[at + i]);
        if get32(s, 0) != MAGIC {
            return Err("it has no erofs superblock");
        }
        if s[12] != BLOCK_BITS {
            return Err("its block size is not 4096");
        }
        if get32(s, 8) & COMPAT_SB_CHKSUM == 0 || get32(s, 4) != checksum(block) {
            return Err("the checksum of the superblock is wrong");
        }
        let incompat = get32(s, 80);
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err("it uses features of erofs that are not supported here");
        }
        Ok(Self {
            incompat,
            root_nid: get16(s, 14),
            inodes: get64(s, 16),
            build_time: get64(s, 24).cast_signed(),
            blocks: get32(s, 36),
            meta_block: get32(s, 40),
            xattr_block: get32(s, 44),
            uuid: array(48),
            volume_name: array(64),
            algorithms: get16(s, 84),
            packed_nid: get64(s, 96),
        })
    }
}

/// The checksum of the first block: CRC-32C without the final inversion, from the superblock to the
/// end of the block, the checksum field taken as zero.
pub(super) fn checksum(block: &[u8; BLOCK]) -> u32 {
    let head = crc32c::crc32c(&block[SUPER_OFFSET..SUPER_OFFSET + 4]);
    let zeroed = crc32c::crc32c_append(head, &[0; 4]);
    !crc32c::crc32c_append(zeroed, &block[SUPER_OFFSET + 8..])
}

/// An inode without what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InodeHead {
    pub(super) layout: Layout,
    /// `i_xattr_icount`.
    pub(super) xattr_count: u16,
    /// `st_mode`.
    pub(super) mode: u16,
    pub(super) nlink: u32,
    /// Bytes.
    pub(super) size: u64,
    /// `i_u`: first block, number of compressed blocks, or device number.
    pub(super) union: u32,
    /// A running number; the kernel shows the nid instead.
    pub(super) ino: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
}

pub(super) const COMPACT_SIZE: usize = 32;
pub(super) const EXTENDED_SIZE: usize = 64;

impl InodeHead {
    /// Whether the 32-byte form can hold it. It has 16 bits for owners and links, 32 bits for the
    /// size and no time of its own: it takes the superblock's.
    pub(super) fn is_compact(&self, build_time: i64) -> bool {
        self.mtime == build_time
            && self.uid <= u32::from(u16::MAX)
            && self.gid <= u32::from(u16::MAX)
            && self.nlink <= u32::from(u16::MAX)
            && u32::try_from(self.size).is_ok()
    }

    /// The inode in the form that [`InodeHead::is_compact`] chooses.
    pub(super) fn encode(&self, build_time: i64) -> Vec<u8> {
        let compact = self.is_compact(build_time);
        let mut bytes = vec![0; if compact { COMPACT_SIZE } else { EXTENDED_SIZE }];
        let format = (self.layout as u16) << 1 | u16::from(!compact);
        put(&mut bytes, 0, &format.to_le_bytes());
        put(&mut bytes, 2, &self.xattr_count.to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 16, &self.union.to_le_bytes());
        put(&mut bytes, 20, &self.ino.to_le_bytes());
        if compact {
            // `is_compact` has checked that the upper halves are zero.
            put(&mut bytes, 6, &self.nlink.to_le_bytes()[..2]);
            put(&mut bytes, 8, &self.size.to_le_bytes()[..4]);
            put(&mut bytes, 24, &self.uid.to_le_bytes()[..2]);
            put(&mut bytes, 26, &self.gid.to_le_bytes()[..2]);
        } else {
            put(&mut bytes, 8, &self.size.to_le_bytes());
            put(&mut bytes, 24, &self.uid.to_le_bytes());
            put(&mut bytes, 28, &self.gid.to_le_bytes());
            put(&mut bytes, 32, &self.mtime.to_le_bytes());
            put(&mut bytes, 44, &self.nlink.to_le_bytes());
        }
        bytes
    }
}

impl InodeHead {
    /// Reads an inode; `bytes` holds at least [`EXTENDED_SIZE`] bytes where it is extended. Returns
    /// it with its length.
    pub(super) fn decode(bytes: &[u8], build_time: i64) -> Result<(Self, usize), Wrong> {
        let format = get16(bytes, 0);
        let layout = match format >> 1 {
            0 => Layout::FlatPlain,
            1 => Layout::CompressedFull,
            2 => Layout::FlatInline,
            3 => Layout::CompressedCompact,
            4 => Layout::Chunked,
            _ => return Err("the inode's data layout is not supported here"),
        };
        let common = Self {
            layout,
            xattr_count: get16(bytes, 2),
            mode: get16(bytes, 4),
            nlink: u32::from(get16(bytes, 6)),
            size: u64::from(get32(bytes, 8)),
            union: get32(bytes, 16),
            ino: get32(bytes, 20),
            uid: u32::from(get16(bytes, 24)),
            gid: u32::from(get16(bytes, 26)),
            mtime: build_time,
        };
        if format & 1 == 0 {
            return Ok((common, COMPACT_SIZE));
        }
        if bytes.len() < EXTENDED_SIZE {
            return Err("the inode lies beyond the end of the volume");
        }
        let extended = Self {
            size: get64(bytes, 8),
            uid: get32(bytes, 24),
            gid: get32(bytes, 28),
            mtime: get64(bytes, 32).cast_signed(),
            nlink: get32(bytes, 44),
            ..common
        };
        Ok((extended, EXTENDED_SIZE))
    }
}

pub(super) const S_IFMT: u16 = 0o170_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFLNK: u16 = 0o120_000;
pub(super) const S_IFCHR: u16 = 0o020_000;
pub(super) const S_IFBLK: u16 = 0o060_000;
pub(super) const S_IFIFO: u16 = 0o010_000;
pub(super) const S_IFSOCK: u16 = 0o140_000;

/// The type in a directory entry for the type bits of `mode`; 0 (unknown) for others.
pub(super) fn file_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFSOCK => 6,
        S_IFLNK => 7,
        _ => 0,
    }
}

/// A device number as in the kernel's `new_encode_dev`; `None` where major needs more than 12 or
/// minor more than 20 bits.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// The inverse of [`encode_device`]: major, minor.
pub(super) fn decode_device(number: u32) -> (u32, u32) {
    (number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xf_ff00))
}

/// Prefixes of extended attributes' names, by the number that stands for them. A POSIX ACL's name
/// is the whole prefix.
pub(super) const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];
/// Header of the extended attributes behind an inode.
pub(super) const XATTR_HEADER: usize = 12;
/// Header of one extended attribute.
pub(super) const XATTR_ENTRY: usize = 4;

/// Length of a directory entry without its name.
pub(super) const DIRENT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_round_trip_and_are_bounded() {
        for (major, minor, number) in [
            (1, 3, Some(0x103)),
            (8, 0x123, Some(0x0010_0823)),
            (0xfff, 0xf_ffff, Some(0xffff_ffff)),
            (0x1000, 0, None),
            (0, 0x10_0000, None),
        ] {
            assert_eq!(encode_device(major, minor), number);
            if let Some(number) = number {
                assert_eq!(decode_device(number), (major, minor));
            }
        }
    }

    #[test]
    fn the_compact_form_is_taken_only_where_everything_fits() {
        let fits = InodeHead {
            layout: Layout::FlatInline,
            xattr_count: 0,
            mode: S_IFREG | 0o644,
            nlink: 1,
            size: 5,
            union: NULL_ADDR,
            ino: 7,
            uid: 65535,
            gid: 0,
            mtime: 1000,
        };
        assert_eq!(fits.encode(1000).len(), COMPACT_SIZE);
        for other in [
            InodeHead {
                uid: 65536,
                ..fits.clone()
            },
            InodeHead {
                gid: 65536,
                ..fits.clone()
            },
            InodeHead {
                nlink: 65536,
                ..fits.clone()
            },
            InodeHead {
                size: 1 << 32,
                ..fits.clone()
            },
            InodeHead {
                mtime: 1001,
                ..fits.clone()
            },
        ] {
            assert_eq!(other.encode(1000).len(), EXTENDED_SIZE, "{other:?}");
        }
    }
}
