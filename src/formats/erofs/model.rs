//! What goes into a volume: plain values, without any notion of where they come from.

use std::collections::BTreeMap;
use std::io;

/// An index into [`FileSystem::inodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeIndex(pub usize);

/// The bytes of a regular file, or of a volume to be read. Readable from several threads at once.
pub trait Content: Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the content ends before `buffer` is full; whatever reading gives.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// SHA-256 of the content, where it is known: files with the same digest are stored once.
    fn digest(&self) -> Option<[u8; 32]> {
        None
    }
}

impl Content for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl<T: Content + ?Sized> Content for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn digest(&self) -> Option<[u8; 32]> {
        (**self).digest()
    }
}

/// What an inode is.
#[derive(Debug, Clone)]
pub enum InodeKind<C> {
    /// Entries by name; without `.` and `..`.
    Dir(BTreeMap<Box<[u8]>, InodeIndex>),
    File(C),
    /// The target, as written.
    Symlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// One inode. The number of links is counted from the directories.
#[derive(Debug, Clone)]
pub struct Inode<C> {
    /// Permission bits with set-uid, set-gid and sticky (07777); the type is in [`Inode::kind`].
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch; the nanoseconds are 0.
    pub mtime: i64,
    /// Extended attributes by full name (`security.capability`), values raw.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub kind: InodeKind<C>,
}

impl<C> Inode<C> {
    /// `st_mode`: type and permission bits.
    pub(super) fn st_mode(&self) -> u16 {
        use super::format::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK};
        let kind = match &self.kind {
            InodeKind::Dir(_) => S_IFDIR,
            InodeKind::File(_) => S_IFREG,
            InodeKind::Symlink(_) => S_IFLNK,
            InodeKind::CharDevice { .. } => S_IFCHR,
            InodeKind::BlockDevice { .. } => S_IFBLK,
            InodeKind::Fifo => S_IFIFO,
            InodeKind::Socket => S_IFSOCK,
        };
        kind | self.mode
    }
}

/// A tree of inodes. An index that stands in several directories is one inode with several links.
#[derive(Debug, Clone)]
pub struct FileSystem<C> {
    pub inodes: Vec<Inode<C>>,
    /// The root directory.
    pub root: InodeIndex,
}

/// How regular files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// LZ4 with its fast search. Every kernel reads it.
    Lz4,
    /// The same format with a thorough search; level 1 to 12.
    Lz4hc(u8),
    /// Deflate, level 1 to 9. Kernels from 6.6 on.
    Deflate(u8),
    /// Zstandard, level 1 to 22. Kernels from 6.10 on.
    Zstd(u8),
}

/// How a volume is written.
#[derive(Debug, Clone)]
pub struct Options {
    pub uuid: [u8; 16],
    /// At most 16 bytes.
    pub volume_name: Box<[u8]>,
    /// Seconds since the epoch. Inodes with this very time take half the space.
    pub build_time: i64,
    pub compression: Compression,
    /// The size that a compressed cluster may have: a multiple of 4096 up to 1 MiB. Larger ones
    /// compress better; a random read unpacks one whole.
    pub cluster_size: u32,
    /// Whether the last cluster of a compressed file may stand behind its inode, which saves about
    /// half a block a file. Kernels from 5.17 on.
    pub tail_packing: bool,
    /// Whether files of up to a cluster, and the ends of others, are compressed together, in a file that has no
    /// name. Instead of [`Options::tail_packing`]. Kernels from 6.1 on.
    pub fragments: bool,
    /// Whether compressed clusters that are equal are stored once, wherever they stand. Kernels from 6.1 on.
    pub dedupe: bool,
    /// Without compression: the size of chunks, a power of two from 4096 to 1 MiB, of which equal ones are stored once
    /// and those of zeros not at all. Kernels from 5.15 on.
    pub chunk_size: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uuid: [0; 16],
            volume_name: Box::default(),
            build_time: 0,
            compression: Compression::None,
            cluster_size: 64 << 10,
            tail_packing: true,
            fragments: false,
            dedupe: false,
            chunk_size: None,
        }
    }
}

/// What has been written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub inodes: u64,
    /// Length of the volume in blocks of 4096 bytes.
    pub blocks: u64,
    /// Of these, blocks of metadata: inodes, directories, extended attributes, packed tails.
    pub metadata_blocks: u64,
    /// Bytes of regular files before compression; hard links counted once.
    pub content_bytes: u64,
    /// Files that are stored compressed.
    pub compressed_files: u64,
    /// Files of which all or the end is a fragment.
    pub fragmented_files: u64,
    /// Files that share the blocks of another with the same content.
    pub shared_files: u64,
    /// Files in chunks, some of which are shared or holes.
    pub chunked_files: u64,
    /// Blocks that are not stored, as an equal cluster or chunk is, or as they are zeros.
    pub shared_blocks: u64,
}
