//! The medium that a FAT volume is written to: metadata in memory, contents on the target.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::at::{ReadAt, WriteAt};

/// The target, with the volume's metadata held in memory until the end.
pub(super) struct Volume<'a, T> {
    target: &'a T,
    size: u64,
    head: RefCell<Vec<u8>>,
}

impl<'a, T: ReadAt + WriteAt> Volume<'a, T> {
    pub(super) fn new(target: &'a T, size: u64, data_start: u64) -> Self {
        Self {
            target,
            size,
            head: RefCell::new(vec![0; data_start as usize]),
        }
    }

    pub(super) fn device(&'a self) -> Device<'a, T> {
        Device {
            volume: self,
            at: Cell::new(0),
        }
    }

    /// Bytes up to the end of the metadata or of the volume, whichever comes first after `at`.
    fn piece(&self, count: usize, at: u64) -> usize {
        let head = self.head.borrow().len() as u64;
        let end = if at < head { head } else { self.size };
        count.min(usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX))
    }

    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let count = self.piece(buffer.len(), at);
        let head = self.head.borrow();
        match head.get(at as usize..) {
            Some(rest) if !rest.is_empty() => buffer[..count].copy_from_slice(&rest[..count]),
            _ => self.target.read_exact_at(&mut buffer[..count], at)?,
        }
        Ok(count)
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let count = self.piece(bytes.len(), at);
        let mut head = self.head.borrow_mut();
        match head.get_mut(at as usize..) {
            Some(rest) if !rest.is_empty() => rest[..count].copy_from_slice(&bytes[..count]),
            _ => self.write_data(&bytes[..count], at)?,
        }
        Ok(count)
    }

    fn write_data(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        // A cluster is used once (nothing is ever deleted), except that directories and mending
        // write over their own: only zeroes over zeroes can be left out.
        if bytes.iter().all(|&byte| byte == 0) {
            let mut old = vec![0; bytes.len()];
            self.target.read_exact_at(&mut old, at)?;
            if old == bytes {
                return Ok(());
            }
        }
        self.target.write_all_at(bytes, at)
    }

    /// Writes the metadata, page by page where it is not zero.
    pub(super) fn flush(&self) -> io::Result<()> {
        let head = self.head.borrow();
        for (index, page) in head.chunks(4096).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                self.target.write_all_at(page, index as u64 * 4096)?;
            }
        }
        Ok(())
    }
}

/// A [`Volume`] with a position, as `fatfs` wants its devices.
pub(super) struct Device<'a, T> {
    volume: &'a Volume<'a, T>,
    at: Cell<u64>,
}

impl<T: ReadAt + WriteAt> Read for Device<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.volume.read(buffer, self.at.get())?;
        self.at.set(self.at.get() + count as u64);
        Ok(count)
    }
}

impl<T: ReadAt + WriteAt> Write for Device<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.volume.write(bytes, self.at.get())?;
        self.at.set(self.at.get() + count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T> Seek for Device<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.get().checked_add_signed(by),
            SeekFrom::End(by) => self.volume.size.checked_add_signed(by),
        };
        self.at.set(at.ok_or(io::ErrorKind::InvalidInput)?);
        Ok(self.at.get())
    }
}
