//! Copying ranges of files.
//!
//! Where a file system shares blocks, nothing is written. Where it has to copy, what is large goes past the page cache:
//! nobody reads a disk image so soon that it pays to take, fill and write back hundreds of MiB of pages for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, fstatfs};

/// A piece that is read and written at once.
const PIECE: usize = 1 << 20;
/// Less than this goes through the page cache.
const LARGE: u64 = 8 << 20;
/// Offsets, lengths and memory of what goes past the page cache are multiples of this.
const ALIGNMENT: u64 = 4096;
/// A disk that takes longer than this for a MiB is one to wait for: the page cache then is quicker.
const SLOW: Duration = Duration::from_micros(2500);
/// How many pieces it takes to tell.
const TRIAL: u32 = 16;

/// Copies `range` of `from` to `to`, `offset` bytes further on. Lets the kernel copy, or share, the bytes; reads and
/// writes them where it cannot, or where that is quicker.
pub(super) fn copy_range(from: &File, range: Range<u64>, to: &File, offset: u64) -> io::Result<()> {
    let start = match range.end - range.start >= LARGE && copies(to) {
        true => copy_direct(from, range.clone(), to, offset)?,
        false => range.start,
    };
    copy_in_kernel(from, start..range.end, to, offset)
}

/// Whether the file system of `file` is known to have no way to share blocks.
fn copies(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| found.filesystem_type() == EXT4_SUPER_MAGIC)
}

/// Copies past the page cache as much of the beginning of `range` as can go there quickly; where that ends.
fn copy_direct(from: &File, range: Range<u64>, to: &File, offset: u64) -> io::Result<u64> {
    let mut at = range.start;
    let flags = OFlag::O_DIRECT.bits();
    let path = format!("/proc/self/fd/{}", to.as_raw_fd());
    let Ok(direct) = OpenOptions::new().write(true).custom_flags(flags).open(path) else {
        return Ok(at);
    };
    if !(at + offset).is_multiple_of(ALIGNMENT) {
        return Ok(at);
    }
    let mut memory = vec![0; PIECE + ALIGNMENT as usize];
    let skipped = memory.as_ptr().align_offset(ALIGNMENT as usize);
    let Some(buffer) = memory.get_mut(skipped..skipped.saturating_add(PIECE)) else {
        return Ok(at);
    };
    let began = Instant::now();
    let mut pieces = 0;
    while range.end - at >= PIECE as u64 {
        from.read_exact_at(buffer, at)?;
        match direct.write_all_at(buffer, offset + at) {
            Ok(()) => at += PIECE as u64,
            // Not here. A piece of which a part was written is written again.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => break,
            Err(error) => return Err(error),
        }
        pieces += 1;
        if pieces >= TRIAL && began.elapsed() > SLOW * pieces {
            break;
        }
    }
    Ok(at)
}

fn copy_in_kernel(from: &File, range: Range<u64>, to: &File, offset: u64) -> io::Result<()> {
    let position = |at: u64| i64::try_from(at).map_err(io::Error::other);
    let mut at = range.start;
    while at < range.end {
        let (mut read_at, mut write_at) = (position(at)?, position(offset + at)?);
        let count = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), count) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => at += copied as u64,
            Err(Errno::EINTR) => {}
            Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM) => {
                return copy_by_hand(from, at..range.end, to, offset);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, range: Range<u64>, to: &File, offset: u64) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let count = usize::try_from(range.end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        from.read_exact_at(&mut buffer[..count], at)?;
        to.write_all_at(&buffer[..count], offset + at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes none of which tells the one `distance` further on.
    fn noise(count: u64) -> Vec<u8> {
        (0..count)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    }

    fn read(file: &File, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).unwrap();
        bytes
    }

    #[test]
    fn every_way_copies_the_same() {
        let size = LARGE + 3 * PIECE as u64 + 77;
        let bytes = noise(size);
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&bytes, 0).unwrap();
        type Copy = fn(&File, Range<u64>, &File, u64) -> io::Result<()>;
        let ways: [(&str, Copy); 4] = [
            ("whichever is best", copy_range),
            ("kernel", copy_in_kernel),
            ("by hand", copy_by_hand),
            ("past the page cache", |from, range, to, offset| {
                let end = copy_direct(from, range.clone(), to, offset)?;
                assert!(range.contains(&end), "{end}");
                copy_by_hand(from, end..range.end, to, offset)
            }),
        ];
        // What lies at a boundary of blocks, and what does not.
        for (start, offset) in [(0, 0), (0, 1 << 20), (4096, 8192), (5, 4091), (3, 10)] {
            for (name, copy) in ways {
                let to = tempfile::tempfile().unwrap();
                to.set_len(2 * size).unwrap();
                copy(&from, start..size, &to, offset).unwrap();
                assert!(
                    read(&to, start + offset..size + offset) == bytes[start as usize..],
                    "{name}: {start}, {offset}"
                );
                assert!(
                    read(&to, 0..start + offset).iter().all(|byte| *byte == 0),
                    "{name}"
                );
                assert!(
                    read(&to, size + offset..2 * size).iter().all(|byte| *byte == 0),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn what_is_large_goes_past_the_page_cache_where_blocks_are_not_shared() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&noise(LARGE), 0).unwrap();
        let to = tempfile::tempfile().unwrap();
        if copies(&to) {
            assert!(copy_direct(&from, 0..LARGE, &to, 0).unwrap() > 0);
            assert_eq!(copy_direct(&from, 0..LARGE, &to, 100).unwrap(), 0);
        }
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(b"short", 0).unwrap();
        let to = tempfile::tempfile().unwrap();
        assert!(copy_range(&from, 0..10, &to, 0).is_err());
        assert!(copy_range(&from, 0..2 * LARGE, &to, 0).is_err());
        assert!(copy_by_hand(&from, 0..10, &to, 0).is_err());
    }
}
