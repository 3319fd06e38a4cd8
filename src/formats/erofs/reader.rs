//! Reads a volume. Nothing in it is trusted: every length and address is checked against the
//! volume's size before it is used, and what is held in memory is bounded by it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Decompress, FlushDecompress, Status};

use super::directory;
use super::format::{
    Algorithm, BLOCK, EXTENDED_SIZE, InodeHead, Layout, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, SLOT, Super,
};
use super::index::{self, MAP_HEADER, MapHeader, Packs};
use super::model::Content;
use super::read_error::ReadError;
use super::xattr::{self, Xattrs};
use crate::sys::lz4;

/// The kernel's bounds on a cluster: blocks on disk, bytes of its file.
const CLUSTER_BLOCKS_MAX: u16 = 256;
const EXTENT_MAX: u64 = 12 << 20;

/// What the superblock says of the volume as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub uuid: [u8; 16],
    /// Without the zeros behind it.
    pub name: Box<[u8]>,
    /// Seconds since the epoch.
    pub build_time: i64,
    /// Length in blocks of 4096 bytes.
    pub blocks: u32,
    pub inodes: u64,
}

/// A volume that is being read.
pub struct Image<S> {
    source: S,
    superblock: Super,
    /// Length in bytes, as the superblock says and the source has.
    length: u64,
}

/// An inode of a volume.
#[derive(Debug, Clone)]
pub struct StoredInode {
    pub(super) nid: u64,
    pub(super) head: InodeHead,
    /// Where it lies, in bytes from the start of the volume.
    at: u64,
    /// Length with its extended attributes.
    length: usize,
}

impl StoredInode {
    /// The inode's number.
    pub fn nid(&self) -> u64 {
        self.nid
    }

    /// `st_mode`: type and permission bits.
    pub fn st_mode(&self) -> u16 {
        self.head.mode
    }

    /// `i_size` in bytes.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    pub fn uid(&self) -> u32 {
        self.head.uid
    }

    pub fn gid(&self) -> u32 {
        self.head.gid
    }

    /// Number of links, as stored.
    pub fn links(&self) -> u32 {
        self.head.nlink
    }

    fn is(&self, kind: u16) -> bool {
        self.head.mode & S_IFMT == kind
    }
}

impl<S: Content> Image<S> {
    /// Reads the superblock of the volume in `source`, which may be longer than the volume.
    ///
    /// # Errors
    /// Where there is no erofs, its checksum is wrong, or it uses what is not supported here.
    pub fn open(source: S) -> Result<Self, ReadError> {
        let mut block = [0; BLOCK];
        if source.size() < BLOCK as u64 {
            return Err("it is shorter than a block".into());
        }
        source.read_exact_at(&mut block, 0).map_err(ReadError::Read)?;
        let superblock = Super::decode(&block)?;
        let length = u64::from(superblock.blocks) * BLOCK as u64;
        if length > source.size() {
            return Err("it is cut off: the superblock says that it is longer".into());
        }
        Ok(Self {
            source,
            superblock,
            length,
        })
    }

    /// What the superblock says.
    pub fn volume(&self) -> Volume {
        let s = &self.superblock;
        let name = s.volume_name.iter().take_while(|byte| **byte != 0);
        Volume {
            uuid: s.uuid,
            name: name.copied().collect(),
            build_time: s.build_time,
            blocks: s.blocks,
            inodes: s.inodes,
        }
    }

    /// Length of the volume in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `length` bytes at `at`, if the volume has them.
    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err("something lies beyond its end".into());
        }
        let length = usize::try_from(length).map_err(|_| "it is too large for this machine")?;
        let mut bytes = vec![0; length];
        self.source
            .read_exact_at(&mut bytes, at)
            .map_err(ReadError::Read)?;
        Ok(bytes)
    }

    /// The root directory.
    ///
    /// # Errors
    /// As [`Image::inode`].
    pub fn root(&self) -> Result<StoredInode, ReadError> {
        self.inode(u64::from(self.superblock.root_nid))
    }

    /// The inode with number `nid`.
    ///
    /// # Errors
    /// Where it lies beyond the volume's end or is malformed.
    pub fn inode(&self, nid: u64) -> Result<StoredInode, ReadError> {
        let read = || {
            let start = u64::from(self.superblock.meta_block) * BLOCK as u64;
            let at = nid
                .checked_mul(SLOT as u64)
                .and_then(|offset| offset.checked_add(start))
                .filter(|at| *at < self.length)
                .ok_or("an inode lies beyond its end")?;
            let bytes = self.bytes(at, (self.length - at).min(EXTENDED_SIZE as u64))?;
            let (head, own) = InodeHead::decode(&bytes, self.superblock.build_time)?;
            let length = own + xattr::body_length(head.xattr_count);
            Ok(StoredInode {
                nid,
                head,
                at,
                length,
            })
        };
        read().map_err(|error: ReadError| error.of(nid))
    }

    /// The extended attributes of an inode.
    ///
    /// # Errors
    /// Where they are malformed or one stands twice.
    pub fn xattrs(&self, inode: &StoredInode) -> Result<Xattrs, ReadError> {
        let read = || {
            let body = xattr::body_length(inode.head.xattr_count);
            let start = inode.at + (inode.length - body) as u64;
            let body = self.bytes(start, body as u64)?;
            let (mut found, places) = xattr::parse_body(&body)?;
            for place in places {
                let at = u64::from(self.superblock.xattr_block) * BLOCK as u64 + 4 * u64::from(place);
                // The longest: header, name, value.
                let length = self.length.saturating_sub(at).min(4 + 255 + 65535);
                found.push(xattr::parse_entry(&self.bytes(at, length)?)?.0);
            }
            let count = found.len();
            let xattrs: Xattrs = found.into_iter().collect();
            match xattrs.len() == count {
                true => Ok(xattrs),
                false => Err("an inode has an extended attribute twice".into()),
            }
        };
        read().map_err(|error: ReadError| error.of(inode.nid))
    }

    /// The entries of a directory without `.` and `..`: names, numbers and types (as in `d_type` of
    /// the format).
    ///
    /// # Errors
    /// Where it is not a directory, malformed or not sorted.
    pub(super) fn entries(&self, inode: &StoredInode) -> Result<Vec<directory::Found>, ReadError> {
        let read = || {
            if !inode.is(S_IFDIR) {
                return Err("it is not a directory".into());
            }
            let mut bytes = Vec::new();
            self.flat(inode, &mut bytes)?;
            Ok(directory::parse(&bytes)?)
        };
        read().map_err(|error: ReadError| error.of(inode.nid))
    }

    /// The entries of a directory without `.` and `..`, by name.
    ///
    /// # Errors
    /// Where it is not a directory, malformed or not sorted.
    pub fn children(&self, inode: &StoredInode) -> Result<BTreeMap<Box<[u8]>, u64>, ReadError> {
        let entries = self.entries(inode)?.into_iter();
        Ok(entries
            .filter(|found| !matches!(&*found.name, b"." | b".."))
            .map(|found| (found.name, found.nid))
            .collect())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// Where it is none, or its target is longer than 4095 bytes.
    pub fn target(&self, inode: &StoredInode) -> Result<Box<[u8]>, ReadError> {
        let read = || {
            if !inode.is(S_IFLNK) || inode.head.size >= BLOCK as u64 {
                return Err("it is not a symbolic link, or its target is too long".into());
            }
            let mut bytes = Vec::new();
            self.flat(inode, &mut bytes)?;
            Ok(bytes.into())
        };
        read().map_err(|error: ReadError| error.of(inode.nid))
    }

    /// Writes the content of a regular file to `out`. Memory: at most 13 MiB for a cluster, and the
    /// file's cluster index.
    ///
    /// # Errors
    /// Where it is not a regular file, does not decompress to its size, or `out` fails.
    pub fn read(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let result = match inode.head.layout {
            _ if !inode.is(S_IFREG) => Err("it is not a regular file".into()),
            Layout::CompressedCompact => self.compressed(inode, out),
            Layout::FlatPlain | Layout::FlatInline => self.flat(inode, out),
        };
        result.map_err(|error| error.of(inode.nid))
    }

    /// Writes uncompressed data to `out`.
    fn flat(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        const PIECE: u64 = 1 << 20;
        let size = inode.head.size;
        let tail = match inode.head.layout {
            Layout::FlatPlain => 0,
            Layout::FlatInline => size % BLOCK as u64,
            Layout::CompressedCompact => return Err("only regular files can be compressed".into()),
        };
        if size > self.length {
            return Err("something is longer than the volume".into());
        }
        let start = u64::from(inode.head.union) * BLOCK as u64;
        let mut offset = 0;
        while offset < size - tail {
            let length = PIECE.min(size - tail - offset);
            let piece = self.bytes(start + offset, length)?;
            out.write_all(&piece).map_err(ReadError::Write)?;
            offset += length;
        }
        let tail_at = inode.at + inode.length as u64;
        if tail > 0 && tail_at % BLOCK as u64 + tail > BLOCK as u64 {
            return Err("a tail crosses the end of a block".into());
        }
        out.write_all(&self.bytes(tail_at, tail)?)
            .map_err(ReadError::Write)
    }

    /// Where the cluster index of an inode is, and the header before it.
    fn map(&self, inode: &StoredInode) -> Result<(MapHeader, Packs, Vec<u8>), ReadError> {
        // Two bytes a block; this keeps the numbers below from overflowing.
        if inode.head.size / BLOCK as u64 > self.length {
            return Err("a cluster index lies beyond its end".into());
        }
        let packs = Packs::new(inode.length, inode.head.size);
        let at = inode.at + packs.header as u64;
        let header = self.bytes(at, MAP_HEADER as u64)?;
        let header = MapHeader::decode(&std::array::from_fn(|i| header[i]))?;
        let index = self.bytes(at + MAP_HEADER as u64, packs.length() as u64)?;
        Ok((header, packs, index))
    }

    /// Gives the extents of a compressed file to `take`.
    pub(super) fn extents(
        &self,
        inode: &StoredInode,
        take: impl FnMut(index::Found) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let (header, packs, index) = self.map(inode)?;
        index::decode(&index, packs, inode.head.size, header.inline.is_some(), take)
    }

    fn compressed(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let (header, packs, index) = self.map(inode)?;
        let behind = inode.at + (packs.header + MAP_HEADER + packs.length()) as u64;
        let inline = header.inline.map(u64::from);
        if inline.is_some_and(|length| behind % BLOCK as u64 + length > BLOCK as u64) {
            return Err("a cluster behind an inode crosses the end of a block".into());
        }
        let mut output = Vec::new();
        index::decode(&index, packs, inode.head.size, inline.is_some(), |found| {
            if found.blocks > CLUSTER_BLOCKS_MAX || found.length > EXTENT_MAX {
                return Err("a cluster is larger than the kernel allows".into());
            }
            let (at, length) = match inline {
                Some(length) if found.inline => (behind, length),
                _ => (
                    u64::from(found.block) * BLOCK as u64,
                    u64::from(found.blocks) * BLOCK as u64,
                ),
            };
            let packed = self.bytes(at, length)?;
            // At most `EXTENT_MAX`.
            let length = found.length as usize;
            if found.raw {
                let bytes = packed
                    .get(..length)
                    .ok_or("a plain cluster is shorter than its extent")?;
                return out.write_all(bytes).map_err(ReadError::Write);
            }
            output.clear();
            output.resize(length, 0);
            unpack(header.algorithm, &packed, &mut output)?;
            out.write_all(&output).map_err(ReadError::Write)
        })
    }
}

/// Decompresses a cluster, zeros before it skipped, which must fill `output`.
fn unpack(algorithm: u8, packed: &[u8], output: &mut [u8]) -> Result<(), ReadError> {
    let start = packed.iter().position(|byte| *byte != 0).unwrap_or(packed.len());
    let packed = &packed[start..];
    let is_full = match algorithm {
        _ if algorithm == Algorithm::Lz4 as u8 => lz4::decompress(packed, output),
        _ if algorithm == Algorithm::Deflate as u8 => {
            let mut decompressor = Decompress::new(false);
            let end = decompressor.decompress(packed, output, FlushDecompress::Finish);
            let is_end = end.is_ok_and(|status| status == Status::StreamEnd);
            is_end && decompressor.total_out() == output.len() as u64
        }
        _ if algorithm == Algorithm::Zstd as u8 => {
            let room = output.len();
            let written: io::Result<usize> = zstd::bulk::decompress_to_buffer(packed, output);
            written.is_ok_and(|written| written == room)
        }
        _ => return Err("the algorithm of a file is not supported here".into()),
    };
    match is_full {
        true => Ok(()),
        false => Err("a cluster does not decompress to its length".into()),
    }
}
