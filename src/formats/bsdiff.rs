//! Differences of binary files: the stream of libostree's `bspatch` operation.
//!
//! A stream is a run of records. Each begins with three numbers of eight bytes, little-endian, sign and magnitude: how
//! many bytes follow that are *added* to as many of the old file, how many follow that are *new*, and how far to go on
//! in the old file then. It has no header, does not say how long either file is, and is not compressed: most of its
//! bytes are zero, for whatever compresses it next.
//!
//! Format and way of finding differences: Colin Percival, <https://www.daemonology.net/bsdiff/>, in the variant of
//! <https://github.com/mendsley/bsdiff>. Equal strings are looked up by hash rather than in a suffix array: that takes
//! time and memory in proportion to the files, and seldom finds less.

/// Bytes that are hashed: shorter equal strings are not found.
const KEY: usize = 8;
/// Places of the old file that are known at the most: of larger files, every n-th. They take 8 bytes each.
const MAX_PLACES: usize = 4 << 20;
/// Places with one hash that are compared.
const MAX_CHAIN: usize = 24;
/// Where an equal string is long enough to be taken.
const LONG: usize = 512;
/// As long as files stay as they are in parallel, this much is taken without a look elsewhere.
const PARALLEL: usize = 32;
/// By how many bytes an equal string has to be better than going on in parallel.
const BETTER: usize = 8;
/// Bytes of a record's three numbers.
const RECORD: usize = 24;
/// The longest old or new file.
pub const MAX_SIZE: usize = 1 << 30;

/// Why a stream does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the differences end within a record")]
    Truncated,
    #[error("the differences lead beyond the end of the new file")]
    TooLong,
    #[error("the differences are over before the new file is complete")]
    TooShort,
}

/// The stream that makes `new` of `old`; `None` where either is longer than [`MAX_SIZE`].
pub fn diff(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    if old.len() > MAX_SIZE || new.len() > MAX_SIZE {
        return None;
    }
    let places = Places::of(old);
    let mut out = Vec::with_capacity(new.len() + (new.len() >> 5) + RECORD);
    // What is written so far ends there.
    let (mut done, mut old_done) = (0, 0);
    // Old place less new place, as long as files go in parallel.
    let mut shift = 0_isize;
    let parallel = |at: usize, shift: isize| at.checked_add_signed(shift).and_then(|place| old.get(place));
    let same = |at: usize, shift: isize| usize::from(parallel(at, shift) == new.get(at));
    let (mut scan, mut length, mut place) = (0, 0, 0);
    while scan < new.len() {
        // Bytes of the string found that going on in parallel has, too.
        let mut score = 0;
        scan += length;
        let mut scored = scan;
        while scan < new.len() {
            (length, place) = places.longest(new, scan, shift);
            while scored < scan + length {
                score += same(scored, shift);
                scored += 1;
            }
            if (length == score && length != 0) || length > score + BETTER {
                break;
            }
            score = score.saturating_sub(if scored > scan { same(scan, shift) } else { 0 });
            scan += 1;
            scored = scored.max(scan);
        }
        if length == score && scan < new.len() {
            continue;
        }
        let ahead = best_extension(
            (done..scan)
                .zip(old_done..old.len())
                .map(|(n, o)| new[n] == old[o]),
        );
        let back = match scan < new.len() {
            true => best_extension(
                (done..scan)
                    .rev()
                    .zip((0..place).rev())
                    .map(|(n, o)| new[n] == old[o]),
            ),
            false => 0,
        };
        let (ahead, back) = part(old, new, (done, old_done, ahead), (scan, place, back));
        let extra = scan - back - done - ahead;
        let next = place - back;
        for number in [
            ahead as i64,
            extra as i64,
            next as i64 - (old_done + ahead) as i64,
        ] {
            let sign = if number < 0 { 1 << 63 } else { 0 };
            out.extend_from_slice(&(number.unsigned_abs() | sign).to_le_bytes());
        }
        let added = new[done..done + ahead]
            .iter()
            .zip(&old[old_done..old_done + ahead]);
        out.extend(added.map(|(new, old)| new.wrapping_sub(*old)));
        out.extend_from_slice(&new[done + ahead..done + ahead + extra]);
        done = scan - back;
        old_done = next;
        shift = place as isize - scan as isize;
    }
    Some(out)
}

/// How far an extension is worth while: to where most bytes before are equal, by the widest margin.
fn best_extension(equal: impl Iterator<Item = bool>) -> usize {
    let (mut margin, mut best, mut longest) = (0_isize, 0, 0);
    for (index, equal) in equal.enumerate() {
        margin += if equal { 1 } else { -1 };
        if margin > best {
            (best, longest) = (margin, index + 1);
        }
    }
    longest
}

/// Where both extensions cover the same bytes, each gets those where it is the better.
fn part(
    old: &[u8],
    new: &[u8],
    (done, old_done, ahead): (usize, usize, usize),
    (scan, place, back): (usize, usize, usize),
) -> (usize, usize) {
    let Some(overlap) = (done + ahead).checked_sub(scan - back).filter(|&n| n > 0) else {
        return (ahead, back);
    };
    let (mut margin, mut best, mut cut) = (0_isize, 0, 0);
    for index in 0..overlap {
        let at = done + ahead - overlap + index;
        margin += isize::from(new[at] == old[old_done + ahead - overlap + index]);
        margin -= isize::from(new[at] == old[place - back + index]);
        if margin > best {
            (best, cut) = (margin, index + 1);
        }
    }
    debug_assert!(scan >= done);
    (ahead - overlap + cut, back - cut)
}

/// Places of the old file, by the hash of what stands there.
struct Places<'a> {
    old: &'a [u8],
    /// Every how many bytes one is known.
    step: usize,
    bits: u32,
    /// By hash, the first place; by place, the next with that hash: counted in steps, and from 1 on.
    first: Vec<u32>,
    next: Vec<u32>,
}

impl<'a> Places<'a> {
    fn of(old: &'a [u8]) -> Self {
        let step = old.len().div_ceil(MAX_PLACES).max(1);
        let count = old.len().saturating_sub(KEY - 1).div_ceil(step);
        let bits = count.next_power_of_two().trailing_zeros().max(1);
        let mut places = Self {
            old,
            step,
            bits,
            first: vec![0; 1 << bits],
            next: vec![0; count],
        };
        for index in (0..count).rev() {
            if let Some(hash) = places.hash(old, index * step) {
                places.next[index] = places.first[hash];
                places.first[hash] = u32::try_from(index + 1).unwrap_or(0);
            }
        }
        places
    }

    fn hash(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let key = bytes.get(at..at + KEY)?;
        let key = u64::from_le_bytes(key.try_into().ok()?);
        Some((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits)) as usize)
    }

    /// The longest string at `scan` of `new` that is known to stand in the old file, and where. In parallel is best.
    fn longest(&self, new: &[u8], scan: usize, shift: isize) -> (usize, usize) {
        let (mut length, mut best) = (0, 0);
        if let Some(place) = scan
            .checked_add_signed(shift)
            .filter(|place| *place < self.old.len())
        {
            (length, best) = (common(&self.old[place..], &new[scan..], LONG), place);
            if length >= PARALLEL.min(new.len() - scan) {
                return (length, best);
            }
        }
        let Some(hash) = self.hash(new, scan) else {
            return (length, best);
        };
        let mut index = self.first[hash];
        for _ in 0..MAX_CHAIN {
            let Some(entry) = (index as usize).checked_sub(1) else {
                break;
            };
            let place = entry * self.step;
            let found = common(&self.old[place..], &new[scan..], LONG);
            if found > length {
                (length, best) = (found, place);
                if length == LONG {
                    break;
                }
            }
            index = self.next[entry];
        }
        (length, best)
    }
}

/// How many bytes are the same, up to `most`.
fn common(one: &[u8], other: &[u8], most: usize) -> usize {
    let pairs = one.iter().zip(other).take(most);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Makes the new file, of `size` bytes, of `old` and the stream `patch`. What it allocates is in proportion to what
/// `patch` has; bytes of the old file that are not there count as zero, as they do for libostree.
///
/// # Errors
/// Where the stream does not make exactly `size` bytes. (What follows then is not looked at, as libostree does not.)
pub fn patch(old: &[u8], patch: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let mut new = Vec::with_capacity(size.min(patch.len()));
    let mut rest = patch;
    let mut place = 0_i64;
    while new.len() < size {
        let (record, after) = rest.split_at_checked(RECORD).ok_or(Error::TooShort)?;
        let mut numbers = [0_i64; 3];
        for (number, bytes) in numbers.iter_mut().zip(record.chunks_exact(8)) {
            let bits = bytes
                .iter()
                .rev()
                .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            let magnitude = (bits & !(1 << 63)).cast_signed();
            *number = if bits >> 63 == 1 { -magnitude } else { magnitude };
        }
        let [added, extra, skip] = numbers;
        let added = usize::try_from(added).map_err(|_| Error::TooLong)?;
        let extra = usize::try_from(extra).map_err(|_| Error::TooLong)?;
        if added > size - new.len() || extra > size - new.len() - added {
            return Err(Error::TooLong);
        }
        let (differences, after) = after.split_at_checked(added).ok_or(Error::Truncated)?;
        let (literal, after) = after.split_at_checked(extra).ok_or(Error::Truncated)?;
        new.extend(differences.iter().zip(place..).map(|(difference, place)| {
            let old = usize::try_from(place).ok().and_then(|place| old.get(place));
            difference.wrapping_add(*old.unwrap_or(&0))
        }));
        new.extend_from_slice(literal);
        // Wherever it leads: no place outside the old file is read.
        place = place.saturating_add(added as i64).saturating_add(skip);
        if !(i64::MIN / 2..=i64::MAX / 2).contains(&place) {
            return Err(Error::TooLong);
        }
        rest = after;
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that no compressor likes, the same each time.
    fn noise(count: usize, seed: u32) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761).max(1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn zeros(stream: &[u8]) -> usize {
        stream.iter().filter(|byte| **byte == 0).count()
    }

    #[test]
    fn a_stream_has_the_numbers_that_libostree_reads() {
        // All of it in parallel: one record.
        let old = noise(100, 1);
        let stream = diff(&old, &old).unwrap();
        let numbers = [100_u64, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(stream[..16], numbers[..16]);
        assert_eq!(stream[24..], [0; 100]);
        // Nothing in common: bytes follow as they are.
        let stream = diff(b"", b"new").unwrap();
        assert_eq!(stream[..16], [0_u64, 3].map(u64::to_le_bytes).concat());
        assert_eq!(&stream[24..], b"new");
        assert_eq!(diff(b"old", b"").unwrap(), b"");
    }

    #[test]
    fn what_stayed_or_moved_is_found_again() {
        let old = noise(200_000, 7);
        let mut changed = old.clone();
        for at in (0..changed.len()).step_by(1000) {
            changed[at] ^= 1;
        }
        let moved = [&old[100_000..], b"something between", &old[..100_000]].concat();
        let inserted = [&old[..77_777], &noise(500, 9)[..], &old[77_777..]].concat();
        for (new, most) in [(changed, 300), (moved, 300), (inserted, 800)] {
            let stream = diff(&old, &new).unwrap();
            assert_eq!(patch(&old, &stream, new.len()).as_deref(), Ok(&new[..]));
            assert!(
                stream.len() - zeros(&stream) < most,
                "{}",
                stream.len() - zeros(&stream)
            );
            assert!(stream.len() < new.len() + 200);
        }
    }

    #[test]
    fn of_large_files_a_part_of_the_places_suffices() {
        let old = noise(9 << 20, 3);
        let new = [&old[5 << 20..], &old[..5 << 20]].concat();
        let stream = diff(&old, &new).unwrap();
        assert_eq!(patch(&old, &stream, new.len()).as_deref(), Ok(&new[..]));
        assert!(stream.len() - zeros(&stream) < 100);
    }

    #[test]
    fn streams_that_do_not_fit_are_refused() {
        let stream = diff(b"one and two", b"one or two").unwrap();
        let cases = [
            (&stream[..stream.len() - 1], 10, Error::Truncated),
            (&stream[..20], 10, Error::TooShort),
            (&stream[..], 9, Error::TooLong),
            (&stream[..], 11, Error::TooShort),
        ];
        for (stream, size, expected) in cases {
            assert_eq!(patch(b"one and two", stream, size), Err(expected));
        }
        let negative = [1 << 63 | 1_u64, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(patch(b"x", &negative, 1), Err(Error::TooLong));
        let far = [1, 0, u64::MAX >> 1, 1, 0, 0].map(u64::to_le_bytes);
        let far = [&far[..3].concat()[..], b"a", &far[3..].concat()[..], b"b"].concat();
        assert_eq!(patch(b"", &far, 2), Err(Error::TooLong));
    }

    proptest! {
        #[test]
        fn patching_undoes_diffing(
            old in proptest::collection::vec(0_u8..3, 0..600),
            pieces in proptest::collection::vec((0_usize..600, 0_usize..200, any::<u8>()), 0..8),
        ) {
            let mut new = Vec::new();
            for (at, length, byte) in pieces {
                let from = at.min(old.len());
                new.extend_from_slice(&old[from..(from + length).min(old.len())]);
                new.push(byte);
            }
            let stream = diff(&old, &new).unwrap();
            prop_assert_eq!(patch(&old, &stream, new.len()), Ok(new));
        }

        #[test]
        fn no_stream_makes_it_panic(old in proptest::collection::vec(any::<u8>(), 0..50),
            stream in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200), size in 0_usize..300) {
            if let Ok(new) = patch(&old, &stream, size) {
                prop_assert_eq!(new.len(), size);
            }
        }
    }
}
