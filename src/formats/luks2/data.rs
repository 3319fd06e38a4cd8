//! The data of an opened volume: plain bytes outside, ciphertext inside.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::super::at::{ReadAt, WriteAt};
use super::entropy::VolumeKey;
use super::error::Luks2Error;
use super::header::Header;
use super::xts::{SectorSize, TWEAK_UNIT, Xts};

/// Bytes that one task encrypts at once; a multiple of every sector size.
const PIECE: u64 = 1 << 20;

/// The plain bytes of a volume in `T`; positions count from the start of its data.
///
/// Any range can be read. Writing takes whole sectors, and gives an error of kind `InvalidInput` for anything else.
pub struct Volume<T> {
    inner: T,
    cipher: Xts,
    sector: SectorSize,
    iv_tweak: u64,
    start: u64,
    size: u64,
}

impl<T> Volume<T> {
    /// `key` must have been checked.
    pub(super) fn new(header: &Header, inner: T, key: &VolumeKey) -> Result<Self, Luks2Error> {
        let segment = &header.metadata.segment;
        let behind = header.volume_size.saturating_sub(segment.offset);
        Ok(Self {
            inner,
            cipher: Xts::new(key.as_bytes())?,
            sector: segment.sector_size,
            iv_tweak: segment.iv_tweak,
            start: segment.offset,
            size: segment.size.unwrap_or(behind),
        })
    }

    /// Length of the plain data in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tweak of the sector at `offset`.
    fn tweak(&self, offset: u64) -> u64 {
        self.iv_tweak.wrapping_add(offset / TWEAK_UNIT)
    }

    /// Where `count` bytes at `offset` lie in `inner`.
    fn at(&self, offset: u64, count: usize) -> io::Result<u64> {
        let end = offset.checked_add(count as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.start + offset)
    }

    /// The whole sectors that hold `range`.
    fn sectors(&self, range: &Range<u64>) -> Range<u64> {
        let sector = self.sector.bytes();
        range.start / sector * sector..range.end.next_multiple_of(sector)
    }
}

impl<T: ReadAt> ReadAt for Volume<T> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.at(offset, buffer.len())?;
        let sector = self.sector.bytes();
        // A first or last sector of which only a part is wanted goes through a buffer; what is between does not.
        let (end, mut at, mut rest) = (offset + buffer.len() as u64, offset, buffer);
        while at < end {
            let within = at % sector;
            let whole = (end - at) / sector * sector;
            if within == 0 && whole > 0 {
                let (bytes, behind) = rest.split_at_mut(whole as usize);
                self.inner.read_exact_at(bytes, self.start + at)?;
                self.cipher.decrypt(self.tweak(at), self.sector, bytes);
                (at, rest) = (at + whole, behind);
            } else {
                let mut one = [0; SectorSize::MAX_BYTES];
                let one = &mut one[..sector as usize];
                self.inner.read_exact_at(one, self.start + at - within)?;
                self.cipher.decrypt(self.tweak(at - within), self.sector, one);
                let count = (sector - within).min(end - at) as usize;
                let (bytes, behind) = rest.split_at_mut(count);
                bytes.copy_from_slice(&one[within as usize..][..count]);
                (at, rest) = (at + count as u64, behind);
            }
        }
        Ok(())
    }
}

impl<T: WriteAt> WriteAt for Volume<T> {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.at(offset, bytes.len())?;
        let sector = self.sector.bytes();
        if !offset.is_multiple_of(sector) || !(bytes.len() as u64).is_multiple_of(sector) {
            let what = format!("an encrypted volume is written in whole sectors of {sector} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut at = offset;
        for piece in bytes.chunks(PIECE as usize) {
            self.write_encrypted(&mut piece.to_vec(), at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

impl<T: WriteAt> Volume<T> {
    /// Encrypts `sectors` in place and writes them.
    fn write_encrypted(&self, sectors: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.at(offset, sectors.len())?;
        self.cipher.encrypt(self.tweak(offset), self.sector, sectors);
        self.inner.write_all_at(sectors, at)
    }

    /// Encrypts `extents` of `source` (say, a file system) to the same places of the volume, on all cores; gives the
    /// number of bytes written. Extents are widened to whole sectors, and may touch or overlap.
    ///
    /// What lies in no extent is not written: where the medium is sparse it costs nothing. **It then reads as noise,
    /// not as zeros**, in the volume: dm-crypt decrypts whatever lies there. So an extent is every byte that a reader
    /// of the file system may look at, zeros included (inode tables, a journal, bitmaps); blocks that it has not
    /// allocated may be anything. Take extents from the file system's own structures, not from where a file happens to
    /// have holes: those depend on what made the file and on what it lies on.
    ///
    /// # Errors
    /// An extent ends behind the volume; `source` ends before an extent's last sector does; I/O.
    pub fn encrypt<S: ReadAt>(&self, source: &S, extents: &[Range<u64>]) -> Result<u64, Luks2Error> {
        let mut pieces = Vec::new();
        for extent in self.merged(extents)? {
            let mut start = extent.start;
            while start < extent.end {
                let end = (start / PIECE + 1) * PIECE;
                pieces.push(start..end.min(extent.end));
                start = end;
            }
        }
        pieces.par_iter().try_for_each_init(
            || vec![0; PIECE as usize],
            |buffer, piece| {
                let bytes = &mut buffer[..(piece.end - piece.start) as usize];
                source.read_exact_at(bytes, piece.start)?;
                self.write_encrypted(bytes, piece.start)
            },
        )?;
        Ok(pieces.iter().map(|piece| piece.end - piece.start).sum())
    }

    /// `extents` in whole sectors, rising and apart.
    fn merged(&self, extents: &[Range<u64>]) -> Result<Vec<Range<u64>>, Luks2Error> {
        let too_large = |end| Luks2Error::TooLarge { end, size: self.size };
        if let Some(extent) = extents.iter().find(|extent| extent.end > self.size) {
            return Err(too_large(extent.end));
        }
        let filled = extents.iter().filter(|extent| extent.start < extent.end);
        let mut sorted: Vec<Range<u64>> = filled.map(|extent| self.sectors(extent)).collect();
        sorted.sort_unstable_by_key(|extent| extent.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for extent in sorted {
            match merged.last_mut() {
                Some(last) if extent.start <= last.end => last.end = last.end.max(extent.end),
                _ => merged.push(extent),
            }
        }
        Ok(merged)
    }
}
