//! Files with holes: where their data lies, and copying no more than that.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::copy::copy_range;

/// The ranges of `file`, within its first `size` bytes, that are not holes. All of it where the
/// file system does not tell.
pub(super) fn data_ranges(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, at, Whence::SeekData) {
            Ok(start) => start.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(file, start, Whence::SeekHole) {
            Ok(end) => end.min(size),
            Err(Errno::ENXIO | Errno::EINVAL) => size,
            Err(errno) => return Err(errno.into()),
        };
        if start < end {
            ranges.push(start..end);
        }
        at = end.max(start + 1);
    }
    Ok(ranges)
}

fn seek(file: &File, at: u64, whence: Whence) -> Result<u64, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    let found = lseek(file, at, whence)?;
    u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
}

/// Copies the first `size` bytes of `from` to `to` at `offset`; holes are left out, so the target
/// must read as zeroes there.
pub(super) fn copy(from: &File, size: u64, to: &File, offset: u64) -> io::Result<()> {
    for range in data_ranges(from, size)? {
        copy_range(from, range, to, offset)?;
    }
    Ok(())
}

/// The parts of `range` that lie in none of `others`, which are in order.
pub(super) fn outside(range: Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut at = range.start;
    for other in others {
        parts.push(at..other.start.min(range.end));
        at = at.max(other.end);
    }
    parts.push(at..range.end);
    parts.retain(|part| part.start < part.end);
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_data_is_found_and_copied() {
        let from = tempfile::tempfile().unwrap();
        let size = (8 << 20) + 100;
        from.set_len(size).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 4 << 20).unwrap();
        from.write_all_at(b"end", size - 3).unwrap();
        let ranges = data_ranges(&from, size).unwrap();
        let covered: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!((14..1 << 20).contains(&covered), "{ranges:?}");
        assert!(ranges.is_sorted_by_key(|range| range.start));
        assert_eq!(ranges.last().unwrap().end, size);
        let to = tempfile::tempfile().unwrap();
        to.set_len(size + 10).unwrap();
        copy(&from, size, &to, 10).unwrap();
        let read = |file: &File, at: u64| {
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(read(&from, 0) == read(&to, 10));
        assert_eq!(data_ranges(&tempfile::tempfile().unwrap(), 0).unwrap(), []);
    }

    #[test]
    fn what_lies_outside_of_others() {
        let others = [10..20, 30..40];
        for (range, expected) in [
            (0..50, vec![(0, 10), (20, 30), (40, 50)]),
            (12..18, vec![]),
            (15..35, vec![(20, 30)]),
            (0..10, vec![(0, 10)]),
            (5..15, vec![(5, 10)]),
            (40..41, vec![(40, 41)]),
            (22..25, vec![(22, 25)]),
        ] {
            let parts = outside(range.clone(), &others).into_iter();
            let parts: Vec<_> = parts.map(|part| (part.start, part.end)).collect();
            assert_eq!(parts, expected, "{range:?}");
        }
        assert_eq!(outside(3..4, &[])[0], 3..4);
    }
}
