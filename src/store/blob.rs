//! The bytes of a regular file, wherever they lie.
//!
//! What lies in a pack is verified before the first of its bytes is given out, once in a build.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Digest;
use super::packed::Packed;

/// Immutable bytes with a known size and SHA-256: in memory, or a range of a file in the store.
/// Cheap to clone; readable from several threads at once.
#[derive(Clone)]
pub struct Blob {
    sha256: Digest,
    size: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Memory(Arc<[u8]>),
    /// From the file's beginning.
    File(Arc<File>),
    Pack(Arc<Packed>),
}

impl Blob {
    /// A blob held in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        Self {
            sha256: Digest::of(&bytes),
            size: bytes.len() as u64,
            source: Source::Memory(bytes),
        }
    }

    /// The first `size` bytes of `file`, which nobody else writes to and whose digest is known to be
    /// `sha256`.
    pub fn from_file(file: Arc<File>, size: u64, sha256: Digest) -> Self {
        Self {
            sha256,
            size,
            source: Source::File(file),
        }
    }

    /// An entry of a pack.
    pub(super) fn from_pack(entry: Packed) -> Self {
        Self {
            sha256: entry.sha256(),
            size: entry.size(),
            source: Source::Pack(Arc::new(entry)),
        }
    }

    pub(super) fn packed(&self) -> Option<&Packed> {
        match &self.source {
            Source::Pack(entry) => Some(entry),
            Source::Memory(_) | Source::File(_) => None,
        }
    }

    /// SHA-256 of the content.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the blob ends before `buffer` is full; whatever the file gives.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Source::File(file) => file.read_exact_at(buffer, offset),
            Source::Pack(entry) => entry.read_exact_at(buffer, offset),
        }
    }

    /// The content, where it is in memory already.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(bytes) => Some(bytes),
            Source::File(_) | Source::Pack(_) => None,
        }
    }

    /// The whole content in memory: for files known to be small.
    ///
    /// # Errors
    /// Whatever reading the store gives.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes the whole content to `file`, where that stands; what file systems can share they share.
    ///
    /// # Errors
    /// Whatever reading or writing gives.
    pub fn copy_to(&self, file: &mut File) -> io::Result<()> {
        match &self.source {
            Source::Memory(bytes) => file.write_all(bytes),
            Source::File(from) => self.copy_range(from, 0, file),
            Source::Pack(entry) => {
                let (from, offset) = entry.place()?;
                self.copy_range(&from, offset, file)
            }
        }
    }

    /// Copies the content, which lies at `offset` of `from`.
    /// A file in the store that has this content and no other, verified, where there is one: an ostree repository can
    /// share it.
    ///
    /// # Errors
    /// Where the bytes cannot be read, or are damaged and cannot be made again.
    pub fn own_file(&self) -> io::Result<Option<File>> {
        match &self.source {
            Source::Memory(_) | Source::File(_) => Ok(None),
            Source::Pack(entry) => entry.own_file(),
        }
    }

    fn copy_range(&self, from: &File, offset: u64, file: &mut File) -> io::Result<()> {
        let (mut at, mut left) = (offset, self.size);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut at), &*file, None, most) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(copied) => left -= copied as u64,
                Err(rustix::io::Errno::INTR) => {}
                // File systems that cannot, or not between them.
                Err(_) => {
                    let mut rest = BlobReader {
                        blob: self,
                        at: self.size - left,
                    };
                    return io::copy(&mut rest, file).map(drop);
                }
            }
        }
        Ok(())
    }

    /// A reader from the first byte to the last.
    pub fn reader(&self) -> BlobReader<'_> {
        BlobReader { blob: self, at: 0 }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes, {})", self.size, self.sha256)
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.sha256 == other.sha256
    }
}

impl Eq for Blob {}

/// Reads a [`Blob`] in order.
pub struct BlobReader<'a> {
    blob: &'a Blob,
    at: u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size - self.at;
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.blob.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
