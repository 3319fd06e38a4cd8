//! What `fatfs` 0.3.6 leaves askew on a FAT32 volume, put right.
//!
//! It gives `.` and `..` long names, so that neither stands in its place at the head of its
//! directory; it lets `..` of a top-level directory point at the root's cluster, where 0 is meant.
//! And since its clock is shut out, the times of all entries are set here.

use std::io;

use super::at::{ReadAt, WriteAt};
use super::fat::{ENTRY, FatError, Geometry, RESERVED_SECTORS, SECTOR};
use super::fat_volume::Volume;

const ROOT: u32 = 2;
const LONG_NAME: u8 = 0x0f;
const DIRECTORY: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;
const DOT: &[u8; 11] = b".          ";
const DOT_DOT: &[u8; 11] = b"..         ";

/// A time as directory entries hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    date: u16,
    time: u16,
}

impl Timestamp {
    /// From seconds since the Unix epoch, in UTC, brought into the format's range.
    pub(super) fn new(seconds: i64) -> Self {
        // 1980-01-01T00:00:00Z to 2107-12-31T23:59:58Z.
        let seconds = seconds.clamp(315_532_800, 4_354_819_198);
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let bits = |value: i64| u16::try_from(value).unwrap_or(0);
        Self {
            date: bits((year - 1980) << 9 | month << 5 | day),
            time: bits((of_day / 3600) << 11 | (of_day / 60 % 60) << 5 | (of_day % 60 / 2)),
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian calendar), for days
/// after it. Years are counted from March, so that the leap day is the last.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Mends every directory of the volume.
pub(super) fn mend<T: ReadAt + WriteAt>(
    volume: &Volume<'_, T>,
    geometry: Geometry,
    time: Timestamp,
) -> Result<(), FatError> {
    let mut todo = vec![ROOT];
    while let Some(first) = todo.pop() {
        let chain = chain(volume, geometry, first)?;
        let mut bytes = vec![0; chain.len() * geometry.cluster_size as usize];
        let each = |bytes: &mut [u8], act: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>| {
            for (piece, &cluster) in bytes.chunks_mut(geometry.cluster_size as usize).zip(&chain) {
                let at = geometry.data_start + u64::from(cluster - ROOT) * geometry.cluster_size;
                if act(piece, at)? != piece.len() {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(())
        };
        each(&mut bytes, &mut |piece, at| volume.read(piece, at))?;
        let mut mended = mend_directory(&bytes, time, &mut todo);
        mended.resize(bytes.len(), 0);
        each(&mut mended, &mut |piece, at| volume.write(piece, at))?;
    }
    Ok(())
}

/// The entries of a directory as they should be; directories below are added to `todo`.
fn mend_directory(bytes: &[u8], time: Timestamp, todo: &mut Vec<u32>) -> Vec<u8> {
    let mut mended = Vec::with_capacity(bytes.len());
    // Long-name entries stand before the entry they belong to.
    let mut long = Vec::new();
    let entries = bytes.chunks_exact(ENTRY as usize);
    for entry in entries.take_while(|entry| entry[0] != 0) {
        let attributes = entry[11];
        if attributes == LONG_NAME {
            long.extend_from_slice(entry);
            continue;
        }
        let mut entry = entry.to_vec();
        let dots = entry[..11] == *DOT || entry[..11] == *DOT_DOT;
        let cluster = first_cluster(&entry);
        if dots {
            long.clear();
            if entry[1] == b'.' && cluster == ROOT {
                entry[20..22].fill(0);
                entry[26..28].fill(0);
            }
        } else if attributes & DIRECTORY != 0 {
            todo.push(cluster);
        }
        let (date, time) = (time.date.to_le_bytes(), time.time.to_le_bytes());
        if attributes & VOLUME_LABEL == 0 {
            entry[13] = 0;
            entry[14..16].copy_from_slice(&time);
            entry[16..18].copy_from_slice(&date);
            entry[18..20].copy_from_slice(&date);
        }
        entry[22..24].copy_from_slice(&time);
        entry[24..26].copy_from_slice(&date);
        mended.append(&mut long);
        mended.append(&mut entry);
    }
    mended
}

fn first_cluster(entry: &[u8]) -> u32 {
    u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]])
}

/// The clusters of a chain, in order.
fn chain<T: ReadAt + WriteAt>(
    volume: &Volume<'_, T>,
    geometry: Geometry,
    first: u32,
) -> Result<Vec<u32>, FatError> {
    let mut chain = Vec::new();
    let mut cluster = first;
    while (u64::from(ROOT)..geometry.clusters + u64::from(ROOT)).contains(&u64::from(cluster)) {
        if chain.len() as u64 > geometry.clusters {
            return Err(FatError::Mismatch("a directory's chain of clusters is endless"));
        }
        chain.push(cluster);
        let mut next = [0; 4];
        volume.read(&mut next, RESERVED_SECTORS * SECTOR + u64::from(cluster) * 4)?;
        cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_within_range() {
        let table = [
            (0, (1980, 1, 1, 0, 0, 0)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (1_763_683_199, (2025, 11, 20, 23, 59, 58)),
            (i64::MAX, (2107, 12, 31, 23, 59, 58)),
        ];
        for (seconds, (year, month, day, hour, minute, second)) in table {
            let expected = Timestamp {
                date: (year - 1980) << 9 | month << 5 | day,
                time: hour << 11 | minute << 5 | (second / 2),
            };
            assert_eq!(Timestamp::new(seconds), expected, "{seconds}");
        }
    }
}
