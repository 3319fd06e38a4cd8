//! GUID partition tables: reading, both copies.
//!
//! Specification: UEFI 2.10, chapter 5. Integers are little-endian, sectors have 512 bytes. Nothing is trusted: what
//! is held in memory is bounded, whatever a header says.

use std::io;

use flate2::Crc;
use uuid::Uuid;

use super::at::ReadAt;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_SIZE: usize = 92;
/// Entries of any table that tools write have 128 bytes, and there are 128 of them.
const ENTRY_SIZES: std::ops::RangeInclusive<usize> = 128..=4096;
const MAX_ENTRIES: usize = 1024;
const PROTECTIVE: u8 = 0xee;

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Header in sector 1.
    Primary,
    /// Header in the last sector.
    Backup,
}

/// A table that is as the specification wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub disk_uuid: Uuid,
    /// First and last sector that partitions may have.
    pub usable: (u64, u64),
    /// Where this copy's header lies, and where it says that the other one lies: sectors.
    pub header: u64,
    pub alternate: u64,
    /// The sectors of this copy's entries: first, and number.
    pub entries_at: (u64, u64),
    /// Used entries, in order.
    pub entries: Vec<Entry>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub number: u32,
    pub type_uuid: Uuid,
    pub uuid: Uuid,
    /// First and last sector.
    pub first: u64,
    pub last: u64,
    pub attributes: u64,
    pub label: String,
}

/// A table that cannot be used, and where that shows.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("{what}")]
    Wrong {
        what: String,
        /// Bytes from the start of the disk.
        at: u64,
    },
    #[error("the partition table cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Entry {
    /// Bytes from the start of the disk.
    pub fn offset(&self) -> u64 {
        self.first.saturating_mul(SECTOR)
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        (self.last - self.first).saturating_add(1).saturating_mul(SECTOR)
    }
}

impl Copy {
    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        }
    }

    fn sector(self, sectors: u64) -> u64 {
        match self {
            Self::Primary => 1,
            Self::Backup => sectors.saturating_sub(1),
        }
    }
}

/// Reads one copy of the table of a disk of `size` bytes. Of the entries it is checked that each ends where or after it
/// begins, inside the disk; how they lie to one another is not.
///
/// # Errors
/// Whatever is not as the specification wants it.
pub fn read(disk: &impl ReadAt, size: u64, copy: Copy) -> Result<Table, GptError> {
    let sectors = size / SECTOR;
    let at = copy.sector(sectors);
    let wrong = |what: String| GptError::Wrong {
        what: format!("the {} header {what}", copy.name()),
        at: at * SECTOR,
    };
    if sectors < 6 {
        return Err(wrong(
            "has no room: the disk is shorter than six sectors".to_owned(),
        ));
    }
    let mut header = [0; SECTOR as usize];
    disk.read_exact_at(&mut header, at * SECTOR)?;
    if header[..8] != *SIGNATURE {
        return Err(wrong("does not begin with `EFI PART`".to_owned()));
    }
    let length = u32_at(&header, 12) as usize;
    if u32_at(&header, 8) != REVISION || !(HEADER_SIZE..=SECTOR as usize).contains(&length) {
        return Err(wrong("is of an unknown revision or length".to_owned()));
    }
    let stored = u32_at(&header, 16);
    header[16..20].fill(0);
    let computed = crc(&header[..length]);
    if stored != computed {
        return Err(wrong(format!(
            "has the CRC {stored:08x}, and its bytes give {computed:08x}"
        )));
    }
    if u32_at(&header, 20) != 0 || header[length..].iter().any(|&byte| byte != 0) {
        return Err(wrong("has something in bytes that are reserved".to_owned()));
    }
    let table = Table {
        disk_uuid: uuid_at(&header, 56),
        usable: (u64_at(&header, 40), u64_at(&header, 48)),
        header: u64_at(&header, 24),
        alternate: u64_at(&header, 32),
        entries_at: (u64_at(&header, 72), 0),
        entries: Vec::new(),
    };
    if table.header != at {
        return Err(wrong(format!("says that it lies in sector {}", table.header)));
    }
    let other = match copy {
        Copy::Primary => Copy::Backup,
        Copy::Backup => Copy::Primary,
    };
    if table.alternate != other.sector(sectors) {
        return Err(wrong(format!(
            "says that the other copy lies in sector {}, not {}",
            table.alternate,
            other.sector(sectors)
        )));
    }
    let (count, each) = (u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
    if count > MAX_ENTRIES || !ENTRY_SIZES.contains(&each) || !each.is_power_of_two() {
        return Err(wrong(format!("wants {count} entries of {each} bytes")));
    }
    let length = (count * each) as u64;
    let start = table.entries_at.0;
    let entry_sectors = length.div_ceil(SECTOR);
    let inside = start.checked_add(entry_sectors).is_some_and(|end| end <= sectors);
    let (first, last) = table.usable;
    let clear = |at: u64, count: u64| at + count <= first || at > last;
    if !inside || first > last || last >= sectors || !clear(start, entry_sectors) || !clear(at, 1) {
        return Err(wrong(
            "puts its entries, or what partitions may use, where they cannot be".to_owned(),
        ));
    }
    let mut bytes = vec![0; length as usize];
    disk.read_exact_at(&mut bytes, start * SECTOR)?;
    let (stored, computed) = (u32_at(&header, 88), crc(&bytes));
    if stored != computed {
        return Err(GptError::Wrong {
            what: format!(
                "the entries of the {} table give the CRC {computed:08x}, and its header says {stored:08x}",
                copy.name()
            ),
            at: start * SECTOR,
        });
    }
    let mut entries = Vec::new();
    for (index, bytes) in bytes.chunks_exact(each).enumerate() {
        let at = start * SECTOR + (index * each) as u64;
        entries.extend(entry(index as u32 + 1, bytes, sectors, at)?);
    }
    Ok(Table {
        entries_at: (start, entry_sectors),
        entries,
        ..table
    })
}

fn entry(number: u32, bytes: &[u8], sectors: u64, at: u64) -> Result<Option<Entry>, GptError> {
    let wrong = |what: &str| {
        Err(GptError::Wrong {
            what: format!("the entry of partition {number} {what}"),
            at,
        })
    };
    if uuid_at(bytes, 0).is_nil() {
        return match bytes.iter().all(|&byte| byte == 0) {
            true => Ok(None),
            false => wrong("is unused, and not empty"),
        };
    }
    let (first, last) = (u64_at(bytes, 32), u64_at(bytes, 40));
    if first > last || last >= sectors {
        return wrong("ends before it begins, or beyond the disk");
    }
    let units: Vec<u16> = bytes[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let length = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    let Ok(label) = String::from_utf16(&units[..length]) else {
        return wrong("has a label that is not UTF-16 text");
    };
    Ok(Some(Entry {
        number,
        type_uuid: uuid_at(bytes, 0),
        uuid: uuid_at(bytes, 16),
        first,
        last,
        attributes: u64_at(bytes, 48),
        label,
    }))
}

/// Whether sector 0 says that the whole disk, as far as 32 bits reach, is a GPT's.
///
/// # Errors
/// What it says instead.
pub fn check_protective(disk: &impl ReadAt, size: u64) -> Result<(), GptError> {
    let wrong = |what: &str, at| {
        Err(GptError::Wrong {
            what: format!("the protective MBR {what}"),
            at,
        })
    };
    let mut sector = [0; SECTOR as usize];
    disk.read_exact_at(&mut sector, 0)?;
    if sector[510..] != [0x55, 0xaa] {
        return wrong("does not end with 55 AA", 510);
    }
    let expected = u32::try_from((size / SECTOR).saturating_sub(1)).unwrap_or(u32::MAX);
    let entry = &sector[446..462];
    if entry[4] != PROTECTIVE || u32_at(entry, 8) != 1 || u32_at(entry, 12) != expected {
        return wrong("has no partition of type EE over the whole disk", 446);
    }
    if sector[462..510].iter().any(|&byte| byte != 0) {
        return wrong("has other partitions beside", 462);
    }
    Ok(())
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

/// GUIDs have their first three fields little-endian.
fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    let mut raw = [0; 16];
    raw.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes_le(raw)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::formats::testing::{run, tool};

    const SIZE: u64 = 8 << 20;
    const SCRIPT: &str = "label: gpt\nlabel-id: 12345678-9ABC-4DEF-8123-456789ABCDEF\nfirst-lba: 34\n\
        start=2048, size=2048, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
        uuid=11111111-2222-4333-8444-555555555555, name=\"esp\"\n\
        start=4096, size=4096, type=8484680C-9521-48C6-9C11-B0720656F69E, \
        uuid=AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE, name=\"Größe_1\", attrs=\"GUID:60\"\n";

    /// A disk with two partitions, by sfdisk.
    fn disk() -> Option<Vec<u8>> {
        if !tool("sfdisk") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let [disk, script] =
            ["disk", "script"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
        fs::File::create(&disk).unwrap().set_len(SIZE).unwrap();
        fs::write(&script, SCRIPT).unwrap();
        run("sh", ["-c", &format!("sfdisk -q {disk} < {script}")]);
        Some(fs::read(disk).unwrap())
    }

    #[test]
    fn both_copies_of_sfdisks_table_are_read() {
        let Some(disk) = disk() else { return };
        check_protective(&disk, SIZE).unwrap();
        for (copy, header, entries) in [(Copy::Primary, 1, 2), (Copy::Backup, 16383, 16351)] {
            let table = read(&disk, SIZE, copy).unwrap();
            assert_eq!(
                table.disk_uuid.to_string(),
                "12345678-9abc-4def-8123-456789abcdef"
            );
            assert_eq!((table.header, table.entries_at), (header, (entries, 32)));
            assert_eq!(table.usable, (34, 16350));
            let [esp, usr] = table.entries.as_slice() else {
                panic!("{table:?}");
            };
            assert_eq!((esp.number, esp.offset(), esp.size()), (1, 1 << 20, 1 << 20));
            assert_eq!(esp.type_uuid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
            assert_eq!((usr.label.as_str(), usr.attributes), ("Größe_1", 1 << 60));
            assert_eq!(usr.uuid.to_string(), "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee");
        }
    }

    /// Writes the CRCs that the bytes give, so that what else is wrong is seen.
    fn mend(disk: &mut [u8]) {
        let sum = crc(&disk[1024..1024 + 128 * 128]).to_le_bytes();
        disk[512 + 88..][..4].copy_from_slice(&sum);
        disk[512 + 16..][..4].fill(0);
        let sum = crc(&disk[512..512 + 92]).to_le_bytes();
        disk[512 + 16..][..4].copy_from_slice(&sum);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let Some(good) = disk() else { return };
        type Change = fn(&mut Vec<u8>);
        let table: [(Change, &str, u64); 12] = [
            (
                |d| d[512] = 0,
                "the primary header does not begin with `EFI PART`",
                512,
            ),
            (|d| d[512 + 60] ^= 1, "the primary header has the CRC", 512),
            (
                |d| d[1024 + 40] ^= 1,
                "the entries of the primary table give the CRC",
                1024,
            ),
            (|d| d[512 + 200] = 1, "reserved", 512),
            (
                |d| {
                    d[512 + 24] = 2;
                    mend(d)
                },
                "says that it lies in sector 2",
                512,
            ),
            (
                |d| {
                    d[512 + 32] ^= 1;
                    mend(d)
                },
                "the other copy lies in sector 16382, not 16383",
                512,
            ),
            (
                |d| {
                    d[512 + 81] = 0x80;
                    mend(d)
                },
                "wants 32896 entries of 128 bytes",
                512,
            ),
            (
                |d| {
                    d[512 + 40] = 2;
                    mend(d)
                },
                "where they cannot be",
                512,
            ),
            (
                |d| {
                    d[1024 + 40 + 4] = 1;
                    mend(d)
                },
                "partition 1 ends before it begins, or beyond the disk",
                1024,
            ),
            (
                |d| {
                    d[1024 + 128 + 57] = 0xd8;
                    mend(d)
                },
                "partition 2 has a label that is not UTF-16",
                1152,
            ),
            (
                |d| {
                    d[1024 + 256 + 100] = 1;
                    mend(d)
                },
                "partition 3 is unused, and not empty",
                1280,
            ),
            (|d| d.truncate(2048), "shorter than six sectors", 512),
        ];
        for (change, expected, place) in table {
            let mut bad = good.clone();
            change(&mut bad);
            let error = read(&bad, bad.len() as u64, Copy::Primary).unwrap_err();
            let GptError::Wrong { what, at } = error else {
                panic!("{error}");
            };
            assert!(what.contains(expected), "{what}, not {expected}");
            assert_eq!(at, place, "{what}");
        }
        for (at, expected) in [(510, "55 AA"), (450, "type EE"), (470, "other partitions")] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let error = check_protective(&bad, SIZE).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_table() {
        let Some(good) = disk() else { return };
        let mut bad = good.clone();
        for at in (512..604).chain(1024..1280) {
            for value in [0, 1, 0x7f, 0xff] {
                bad[at] = value;
                mend(&mut bad);
                if let Ok(table) = read(&bad, SIZE, Copy::Primary) {
                    for entry in &table.entries {
                        let _ = (entry.offset(), entry.size());
                    }
                }
            }
            bad[512..2048].copy_from_slice(&good[512..2048]);
        }
    }
}
