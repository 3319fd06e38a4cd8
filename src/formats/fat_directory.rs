//! Directories of a FAT volume: short entries with the long names before them.
//!
//! Specification: Microsoft, *FAT32 File System Specification* 1.03 (2000), "FAT Directory Structure" and "FAT Long
//! Directory Entries". Integers are little-endian.

/// Bytes of an entry.
const ENTRY: usize = 32;
const END: u8 = 0;
const DELETED: u8 = 0xe5;
const VOLUME_LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
/// The first long entry that is stored, the last of the name.
const LAST_LONG: u8 = 0x40;
/// Units of a name in one long entry, and where they lie.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// 20 entries hold 255 units.
const MAX_LONG: u8 = 20;

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Label(String),
    Directory { name: String, cluster: u32 },
    File { name: String, cluster: u32, size: u32 },
}

/// What is wrong, and at which byte of the directory.
pub(super) type Wrong = (&'static str, usize);

/// Reads the entries of a directory from all its bytes. `.` and `..` must stand first, except in the root directory, and
/// are left out.
pub(super) fn parse(bytes: &[u8], is_root: bool) -> Result<Vec<Item>, Wrong> {
    let mut items = Vec::new();
    let mut long = Long::default();
    for (index, entry) in bytes.chunks_exact(ENTRY).enumerate() {
        let at = index * ENTRY;
        if entry[0] == END {
            if bytes[at..].iter().any(|&byte| byte != 0) {
                return Err(("something stands behind a directory's end", at));
            }
            break;
        }
        if !is_root && index < 2 {
            let expected: &[u8; 11] = if index == 0 {
                b".          "
            } else {
                b"..         "
            };
            if entry[..11] != *expected || entry[11] & DIRECTORY == 0 {
                return Err(("a directory does not begin with `.` and `..`", at));
            }
            continue;
        }
        if entry[0] == DELETED {
            if long.units.is_some() {
                return Err(("a long name belongs to no file", at));
            }
            continue;
        }
        if entry[11] & 0x3f == LONG_NAME {
            long.take(entry).map_err(|what| (what, at))?;
            continue;
        }
        if entry[11] & VOLUME_LABEL != 0 {
            let label = ascii(&entry[..11]).ok_or(("a volume label is not ASCII text", at))?;
            items.push(Item::Label(label));
            continue;
        }
        let name = match long.finish(entry) {
            Some(name) => name.map_err(|what| (what, at))?,
            None => short_name(entry).ok_or(("a name is not ASCII text", at))?,
        };
        let forbidden = |c: char| c.is_control() || "\"*/:<>?\\|".contains(c);
        if name.is_empty() || name == "." || name == ".." || name.contains(forbidden) {
            return Err(("a name is none that a file can have", at));
        }
        let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
        let cluster = half(20) << 16 | half(26);
        let size = half(30) << 16 | half(28);
        items.push(match entry[11] & DIRECTORY {
            0 => Item::File { name, cluster, size },
            _ if size != 0 => return Err(("a directory has a size", at)),
            _ => Item::Directory { name, cluster },
        });
    }
    if !is_root && bytes.first() == Some(&END) {
        return Err(("a directory does not begin with `.` and `..`", 0));
    }
    match long.units {
        Some(_) => Err(("a long name belongs to no file", bytes.len())),
        None => Ok(items),
    }
}

/// A long name as far as it has been read, from its end to its beginning.
#[derive(Default)]
struct Long {
    /// By entries: the first of the name is the last here.
    units: Option<Vec<[u16; 13]>>,
    /// Number of the entry that must follow; 0 where the short entry must.
    next: u8,
    checksum: u8,
}

impl Long {
    fn take(&mut self, entry: &[u8]) -> Result<(), &'static str> {
        if entry[0] & LAST_LONG != 0 {
            let count = entry[0] & !LAST_LONG;
            if self.units.is_some() || count == 0 || count > MAX_LONG {
                return Err("a long name belongs to no file, or is longer than 255 characters");
            }
            (self.next, self.checksum) = (count, entry[13]);
            self.units = Some(Vec::new());
        }
        let units = self.units.as_mut().ok_or("a long name lacks its end")?;
        if entry[0] & !LAST_LONG != self.next || self.next == 0 || entry[13] != self.checksum {
            return Err("the parts of a long name do not belong together");
        }
        units.push(UNITS.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]])));
        self.next -= 1;
        Ok(())
    }

    /// The name, where there was one.
    fn finish(&mut self, short: &[u8]) -> Option<Result<String, &'static str>> {
        let parts = self.units.take()?;
        let sum = short[..11]
            .iter()
            .fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        if self.next != 0 || sum != self.checksum {
            return Some(Err("a long name belongs to another file"));
        }
        let units: Vec<u16> = parts.into_iter().rev().flatten().collect();
        let length = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
        let padding = units.get(length + 1..).unwrap_or_default();
        if padding.iter().any(|&unit| unit != 0xffff) || units.len() - length > 13 {
            return Some(Err("something stands behind a long name's end"));
        }
        Some(String::from_utf16(&units[..length]).map_err(|_| "a long name is not UTF-16 text"))
    }
}

/// `NAME.EXT`, in lower case where Windows' flags say so.
fn short_name(entry: &[u8]) -> Option<String> {
    let part = |range: std::ops::Range<usize>, flag: u8| {
        let text = ascii(&entry[range])?;
        Some(if entry[12] & flag == 0 {
            text
        } else {
            text.to_ascii_lowercase()
        })
    };
    let (stem, extension) = (part(0..8, 0x08)?, part(8..11, 0x10)?);
    Some(match extension.is_empty() {
        true => stem,
        false => format!("{stem}.{extension}"),
    })
}

/// Printable text, the blanks at its end taken off.
fn ascii(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let printable = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    printable.then(|| text.trim_end_matches(' ').to_owned())
}
