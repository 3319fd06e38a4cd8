//! Reads a volume. Nothing in it is trusted: every length and address is checked against the
//! volume's size before it is used, and what is held in memory is bounded by it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use super::chunks;
use super::clusters_reader::Recent;
use super::directory;
use super::format::{
    BLOCK, EXTENDED_SIZE, InodeHead, Layout, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, SLOT, Super,
};
use super::model::Content;
use super::read_error::ReadError;
use super::xattr::{self, Xattrs};

/// What is read at once of uncompressed data.
const PIECE: u64 = 1 << 20;

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
    pub(super) recent: Mutex<Option<Recent>>,
}

/// An inode of a volume.
#[derive(Debug, Clone)]
pub struct StoredInode {
    pub(super) nid: u64,
    pub(super) head: InodeHead,
    /// Where it lies, in bytes from the start of the volume.
    pub(super) at: u64,
    /// Length with its extended attributes.
    pub(super) length: usize,
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

    pub(super) fn is(&self, kind: u16) -> bool {
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
            recent: Mutex::new(None),
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

    /// The number of the packed file; 0 where there is none.
    pub(super) fn packed_nid(&self) -> u64 {
        self.superblock.packed_nid
    }

    /// Length of the volume in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `length` bytes at `at`, if the volume has them.
    pub(super) fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, ReadError> {
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

    /// Writes the content of a regular file to `out`. Memory: at most 13 MiB for a cluster, as much for the
    /// last one of the packed file, and the file's cluster index.
    ///
    /// # Errors
    /// Where it is not a regular file, does not decompress to its size, or `out` fails.
    pub fn read(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let result = match inode.head.layout {
            _ if !inode.is(S_IFREG) => Err("it is not a regular file".into()),
            Layout::CompressedCompact | Layout::CompressedFull => self.compressed(inode, out),
            Layout::Chunked => self.chunked(inode, out),
            Layout::FlatPlain | Layout::FlatInline => self.flat(inode, out),
        };
        result.map_err(|error| error.of(inode.nid))
    }

    /// Writes uncompressed data to `out`.
    fn flat(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let mut offset = 0;
        while offset < inode.head.size {
            let piece = self.flat_piece(inode, offset)?;
            out.write_all(&piece).map_err(ReadError::Write)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Some bytes of uncompressed data, from byte `offset` of the file on, which is before its end.
    pub(super) fn flat_piece(&self, inode: &StoredInode, offset: u64) -> Result<Vec<u8>, ReadError> {
        let size = inode.head.size;
        let tail = match inode.head.layout {
            Layout::FlatPlain => 0,
            Layout::FlatInline => size % BLOCK as u64,
            _ => return Err("only regular files can be compressed".into()),
        };
        if size > self.length {
            return Err("something is longer than the volume".into());
        }
        if let Some(before) = (size - tail).checked_sub(offset).filter(|before| *before > 0) {
            let start = u64::from(inode.head.union) * BLOCK as u64;
            return self.bytes(start + offset, before.min(PIECE));
        }
        let tail_at = inode.at + inode.length as u64;
        if tail_at % BLOCK as u64 + tail > BLOCK as u64 {
            return Err("a tail crosses the end of a block".into());
        }
        let skipped = offset - (size - tail);
        self.bytes(tail_at + skipped, tail - skipped)
    }

    /// Writes the content of a file in chunks to `out`.
    fn chunked(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let format = chunks::Format::decode(inode.head.union)?;
        let size = inode.head.size;
        let map = format.map_length(size).filter(|length| *length <= self.length);
        let map = map.ok_or("a map of chunks lies beyond its end")?;
        let at = (inode.at + inode.length as u64).next_multiple_of(format.entry() as u64);
        let map = self.bytes(at, map)?;
        let mut rest = size;
        for entry in map.chunks_exact(format.entry()) {
            let mut length = rest.min(format.chunk());
            rest -= length;
            let block = format.block(entry)?;
            let mut start = block.map(|block| block * BLOCK as u64);
            while length > 0 {
                let piece = length.min(PIECE);
                match &mut start {
                    Some(start) => {
                        out.write_all(&self.bytes(*start, piece)?)
                            .map_err(ReadError::Write)?;
                        *start += piece;
                    }
                    // A hole; at most `PIECE` bytes.
                    None => out
                        .write_all(&vec![0; piece as usize])
                        .map_err(ReadError::Write)?,
                }
                length -= piece;
            }
        }
        Ok(())
    }
}
