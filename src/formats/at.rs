//! Reading and writing at positions: what the formats ask of the bytes they work on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any position, by several threads at once.
pub trait ReadAt: Sync {
    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the bytes end before `buffer` is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Bytes that can be written at any position, by several threads at once.
pub trait WriteAt: Sync {
    /// Writes all of `bytes` from byte `offset` on.
    ///
    /// # Errors
    /// Whatever the medium gives.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl WriteAt for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let bytes = range.and_then(|range| self.get(range));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl<T: WriteAt + ?Sized> WriteAt for &T {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_all_at(bytes, offset)
    }
}

/// A source of bytes together with its length.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    source: Source<'a>,
    start: u64,
    size: u64,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a [u8]),
    Elsewhere(&'a dyn ReadAt),
}

impl<'a> Content<'a> {
    /// The first `size` bytes of `source`.
    pub fn new(source: &'a dyn ReadAt, size: u64) -> Self {
        Self::range(source, 0, size)
    }

    /// `size` bytes of `source` from byte `start` on.
    pub fn range(source: &'a dyn ReadAt, start: u64, size: u64) -> Self {
        let source = Source::Elsewhere(source);
        Self { source, start, size }
    }

    /// Bytes in memory.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self {
            source: Source::Memory(bytes),
            start: 0,
            size: bytes.len() as u64,
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Calls `each` with the bytes in order, in pieces of at most `piece` bytes.
    ///
    /// # Errors
    /// Whatever reading, or `each`, gives.
    pub fn for_each_piece<E: From<io::Error>>(
        &self,
        piece: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; piece.min(usize::try_from(self.size).unwrap_or(piece))];
        let mut at = 0;
        while at < self.size {
            let count = buffer.len().min(usize::try_from(self.size - at).unwrap_or(piece));
            self.read_exact_at(&mut buffer[..count], at)?;
            each(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

impl ReadAt for Content<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = within(self.start, self.size, offset, buffer.len())?;
        match self.source {
            Source::Memory(bytes) => bytes.read_exact_at(buffer, at),
            Source::Elsewhere(source) => source.read_exact_at(buffer, at),
        }
    }
}

/// A range of something larger, such as a partition of a disk: positions count from its start,
/// and nothing outside is touched.
#[derive(Debug, Clone, Copy)]
pub struct Window<T> {
    inner: T,
    start: u64,
    size: u64,
}

impl<T> Window<T> {
    /// `size` bytes of `inner` from byte `start` on.
    pub fn new(inner: T, start: u64, size: u64) -> Self {
        Self { inner, start, size }
    }
}

impl<T: ReadAt> ReadAt for Window<T> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = within(self.start, self.size, offset, buffer.len())?;
        self.inner.read_exact_at(buffer, at)
    }
}

impl<T: WriteAt> WriteAt for Window<T> {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = within(self.start, self.size, offset, bytes.len())?;
        self.inner.write_all_at(bytes, at)
    }
}

/// Where `count` bytes at `offset` of a range of `size` bytes lie, if the range begins at `start`.
fn within(start: u64, size: u64, offset: u64, count: usize) -> io::Result<u64> {
    let end = offset.checked_add(count as u64);
    let at = start.checked_add(offset);
    match (end, at) {
        (Some(end), Some(at)) if end <= size => Ok(at),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_to_its_range() {
        let bytes: Vec<u8> = (0..10).collect();
        let window = Window::new(&bytes, 2, 4);
        let mut buffer = [0; 4];
        window.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, [2, 3, 4, 5]);
        assert!(window.read_exact_at(&mut buffer, 1).is_err());
        assert!(window.read_exact_at(&mut buffer, u64::MAX).is_err());
    }

    #[test]
    fn pieces_cover_the_content_and_no_more() {
        let bytes: Vec<u8> = (0..10).collect();
        let mut seen = Vec::new();
        let content = Content::new(&bytes, 9);
        content
            .for_each_piece::<io::Error>(4, |piece| {
                seen.push(piece.to_vec());
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]]);
        assert!(content.read_exact_at(&mut [0; 2], 8).is_err());
    }
}
