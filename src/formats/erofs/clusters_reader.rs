//! Reads compressed files: their cluster index, their clusters, and fragments in the packed file.

use std::io::{self, Write};
use std::sync::{Arc, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::format::{Algorithm, BLOCK, Layout, S_IFREG};
use super::index::{self, FULL_ENTRY, MAP_HEADER, Packs};
use super::index_reader::{self, Found, MapHeader, Tail};
use super::model::Content;
use super::read_error::ReadError;
use super::reader::{Image, StoredInode};
use crate::sys::lz4;

/// The kernel's bounds on a cluster: blocks on disk, bytes of its file.
const CLUSTER_BLOCKS_MAX: u16 = 256;
const EXTENT_MAX: u64 = 12 << 20;

/// What has last been unpacked of the packed file: small files that lie side by side share it.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// Where it begins in the packed file.
    start: u64,
    bytes: Arc<Vec<u8>>,
}

/// The cluster index of a file.
struct Map {
    /// Of a full index. `None`: a compact one.
    packs: Option<Packs>,
    bytes: Vec<u8>,
    tail: Tail,
    algorithm: u8,
    interlaced: bool,
    /// Where the index ends, in bytes from the start of the volume.
    behind: u64,
}

/// Where a compressed file lies.
enum Place {
    /// In the packed file, from this byte on.
    Fragment(u64),
    Clusters(Map),
}

impl<S: Content> Image<S> {
    fn place(&self, inode: &StoredInode) -> Result<Place, ReadError> {
        // At least two bytes a block; this keeps the numbers below from overflowing.
        if inode.head.size / BLOCK as u64 > self.length() {
            return Err("a cluster index lies beyond its end".into());
        }
        let full = inode.head.layout == Layout::CompressedFull;
        let packs = Packs::new(inode.length, inode.head.size);
        let at = inode.at + packs.header as u64;
        let header = self.bytes(at, MAP_HEADER as u64)?;
        let (tail, algorithm, interlaced) =
            match MapHeader::decode(&std::array::from_fn(|i| header[i]), full)? {
                MapHeader::Fragment(offset) => return Ok(Place::Fragment(offset)),
                MapHeader::Index {
                    tail,
                    algorithm,
                    interlaced,
                } => (tail, algorithm, interlaced),
            };
        let (packs, start, length) = match full {
            true => {
                let length = inode.head.size.div_ceil(BLOCK as u64) * FULL_ENTRY as u64;
                (None, index::full_start(inode.length), length)
            }
            false => (Some(packs), packs.header + MAP_HEADER, packs.length() as u64),
        };
        let start = inode.at + start as u64;
        Ok(Place::Clusters(Map {
            packs,
            bytes: self.bytes(start, length)?,
            tail,
            algorithm,
            interlaced,
            behind: start + length,
        }))
    }

    /// Gives the extents of a compressed file to `take`; none of one that is a fragment as a whole.
    pub(super) fn extents(
        &self,
        inode: &StoredInode,
        take: impl FnMut(Found) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        match self.place(inode)? {
            Place::Fragment(_) => Ok(()),
            Place::Clusters(map) => map.extents(inode.head.size, take),
        }
    }

    /// Where in the packed file a file's fragment begins, if it has one.
    pub(super) fn fragment_start(&self, inode: &StoredInode) -> Result<Option<u64>, ReadError> {
        let map = match self.place(inode)? {
            Place::Fragment(offset) => return Ok(Some(offset)),
            Place::Clusters(map) => map,
        };
        let Tail::Fragment(low) = map.tail else {
            return Ok(None);
        };
        let mut start = u64::from(low);
        map.extents(inode.head.size, |found| {
            if found.is_tail && map.packs.is_none() {
                start |= u64::from(found.block) << 32;
            }
            Ok::<_, ReadError>(())
        })?;
        Ok(Some(start))
    }

    /// Writes the content of a compressed file to `out`.
    pub(super) fn compressed(&self, inode: &StoredInode, out: &mut impl Write) -> Result<(), ReadError> {
        let size = inode.head.size;
        let map = match self.place(inode)? {
            Place::Fragment(offset) => return self.fragment(offset, size, out),
            Place::Clusters(map) => map,
        };
        let mut output = Vec::new();
        map.extents(size, |found| {
            if let (Tail::Fragment(low), true) = (map.tail, found.is_tail) {
                let high = match map.packs {
                    Some(_) => 0,
                    None => u64::from(found.block) << 32,
                };
                return self.fragment(high | u64::from(low), found.length, out);
            }
            self.extent(&map, found, &mut output)?;
            out.write_all(&output).map_err(ReadError::Write)
        })
    }

    /// Unpacks an extent that is no fragment to `output`, in place of what is there.
    fn extent(&self, map: &Map, found: Found, output: &mut Vec<u8>) -> Result<(), ReadError> {
        if found.blocks > CLUSTER_BLOCKS_MAX || found.length > EXTENT_MAX {
            return Err("a cluster is larger than the kernel allows".into());
        }
        let (at, length) = match map.tail {
            Tail::Behind(length) if found.is_tail => {
                let length = u64::from(length);
                if map.behind % BLOCK as u64 + length > BLOCK as u64 {
                    return Err("a cluster behind an inode crosses the end of a block".into());
                }
                (map.behind, length)
            }
            _ => (
                u64::from(found.block) * BLOCK as u64,
                u64::from(found.blocks) * BLOCK as u64,
            ),
        };
        let mut packed = self.bytes(at, length)?;
        // At most `EXTENT_MAX`.
        let length = found.length as usize;
        output.clear();
        if found.raw {
            if map.interlaced && packed.len() == BLOCK {
                packed.rotate_left((found.start % BLOCK as u64) as usize);
            }
            let bytes = packed.get(..length);
            output.extend(bytes.ok_or("a plain cluster is shorter than its extent")?);
            return Ok(());
        }
        output.resize(length, 0);
        unpack(map.algorithm, &packed, output, found.partial)
    }

    /// Writes `length` bytes of the packed file, from byte `offset` on, to `out`.
    fn fragment(&self, mut offset: u64, mut length: u64, out: &mut impl Write) -> Result<(), ReadError> {
        while length > 0 {
            let recent = self.unpacked(offset)?;
            // It holds `offset`, as has been checked.
            let from = (offset - recent.start) as usize;
            let bytes = &recent.bytes[from..];
            let taken = usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()));
            out.write_all(&bytes[..taken]).map_err(ReadError::Write)?;
            offset += taken as u64;
            length -= taken as u64;
        }
        Ok(())
    }

    /// The extent of the packed file that holds byte `offset`.
    fn unpacked(&self, offset: u64) -> Result<Recent, ReadError> {
        let holds = |recent: &Recent| {
            let end = recent.start + recent.bytes.len() as u64;
            (recent.start..end).contains(&offset)
        };
        let known = self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(recent) = known.filter(holds) {
            return Ok(recent);
        }
        let packed = match self.packed_nid() {
            0 => return Err("a fragment stands in no packed file".into()),
            nid => self.inode(nid)?,
        };
        let is_compressed = matches!(
            packed.head.layout,
            Layout::CompressedCompact | Layout::CompressedFull
        );
        let start;
        let mut bytes = Vec::new();
        if !packed.is(S_IFREG) || offset >= packed.head.size {
            return Err("a fragment lies beyond the end of the packed file".into());
        } else if is_compressed {
            let Place::Clusters(map) = self.place(&packed)? else {
                return Err("the packed file is a fragment".into());
            };
            let mut wanted = None;
            map.extents(packed.head.size, |found| {
                if (found.start..found.start + found.length).contains(&offset) {
                    wanted = Some(found);
                }
                Ok::<_, ReadError>(())
            })?;
            let found = wanted.ok_or("a fragment lies in no extent of the packed file")?;
            if matches!(map.tail, Tail::Fragment(_)) && found.is_tail {
                return Err("the packed file is a fragment".into());
            }
            start = found.start;
            self.extent(&map, found, &mut bytes)?;
        } else {
            start = offset;
            bytes = self.flat_piece(&packed, offset)?;
        }
        let recent = Recent {
            start,
            bytes: Arc::new(bytes),
        };
        if !holds(&recent) {
            return Err("a fragment lies beyond the end of the packed file".into());
        }
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(recent.clone());
        Ok(recent)
    }
}

impl Map {
    fn extents<E: From<super::format::Wrong>>(
        &self,
        size: u64,
        take: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let has_tail = self.tail != Tail::Blocks;
        match self.packs {
            Some(packs) => index_reader::decode(&self.bytes, packs, size, has_tail, take),
            None => index_reader::decode_full(&self.bytes, size, has_tail, take),
        }
    }
}

/// Decompresses a cluster, zeros before it skipped, which must fill `output`; or its beginning, where it holds more.
fn unpack(algorithm: u8, packed: &[u8], output: &mut [u8], partial: bool) -> Result<(), ReadError> {
    let start = packed.iter().position(|byte| *byte != 0).unwrap_or(packed.len());
    let packed = &packed[start..];
    let is_full = match algorithm {
        _ if algorithm == Algorithm::Lz4 as u8 => match partial {
            true => lz4::decompress_start(packed, output),
            false => lz4::decompress(packed, output),
        },
        _ if algorithm == Algorithm::Deflate as u8 => {
            let mut decompressor = Decompress::new(false);
            let flush = if partial {
                FlushDecompress::None
            } else {
                FlushDecompress::Finish
            };
            let end = decompressor.decompress(packed, output, flush);
            let is_end = end.is_ok_and(|status| partial || status == Status::StreamEnd);
            is_end && decompressor.total_out() == output.len() as u64
        }
        _ if algorithm == Algorithm::Zstd as u8 && partial => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed);
            decoder.is_ok_and(|mut decoder| io::Read::read_exact(&mut decoder, output).is_ok())
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
