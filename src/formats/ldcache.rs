//! The dynamic linker's cache, `/etc/ld.so.cache`, in glibc's new format (`glibc-ld.so.cache1.1`)
//! with the extension directory that ldconfig writes since glibc 2.33. Little endian.
//!
//! | at | what |
//! | --- | --- |
//! | 0 | 17 bytes magic, 3 bytes version |
//! | 20 | u32 count of entries, u32 size of strings, u8 flags (2: little endian), 3 bytes zero |
//! | 32 | u32 offset of the extension directory, 12 bytes zero |
//! | 48 | entries of 24 bytes: u32 flags, u32 key, u32 value, u32 zero, u64 hwcap |
//! | … | strings, padding to 4, extension directory, its sections |

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
/// The longest path, with its NUL.
const MAX_TEXT: usize = 4096;
const HEADER: usize = 48;
const ENTRY: usize = 24;
const LITTLE_ENDIAN: u8 = 2;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_GENERATOR: u32 = 0;
const TAG_HWCAPS: u32 = 1;
/// Set in an entry's hwcap word where the rest is an ISA level and an index of hwcaps names.
const HWCAP_EXTENSION: u64 = 1 << 62;

/// A library of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name by which it is asked for.
    pub soname: Vec<u8>,
    /// Where it lies.
    pub path: Vec<u8>,
    /// Kind and architecture, such as 0x0303 for x86-64.
    pub flags: u32,
    /// The `glibc-hwcaps` subdirectory that it lies in, and its ISA level.
    pub hwcaps: Option<(Vec<u8>, u32)>,
}

/// A cache: its libraries in the order of the file, and who wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    pub entries: Vec<Entry>,
    pub generator: Vec<u8>,
}

/// The bytes are not a cache of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("not a glibc-ld.so.cache1.1 file")]
    Magic,
    #[error("the cache is written in big endian, which no supported machine reads")]
    Endian,
    #[error("the cache is damaged: {0} lies outside the file")]
    Outside(&'static str),
    #[error("the cache would pass 4 GiB")]
    TooLarge,
}

/// The order of names in the cache: runs of digits by value, everything else by byte.
pub fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let order = take_number(&mut a).cmp(&take_number(&mut b));
                if order != Ordering::Equal {
                    return order;
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            (x, y) if x == y => {
                a = &a[1..];
                b = &b[1..];
            }
            // The linker compares as signed characters.
            (x, y) => {
                let signed = |byte: Option<&u8>| byte.copied().unwrap_or(0).cast_signed();
                return signed(x).cmp(&signed(y));
            }
        }
    }
}

fn take_number(text: &mut &[u8]) -> i32 {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    let add = |value: i32, digit: &u8| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
    number.iter().fold(0, add)
}

impl Cache {
    /// Puts the entries into the order that the linker's binary search needs; entries that
    /// compare equal keep their order (the directory searched first comes first).
    pub fn sort(&mut self) {
        self.entries.sort_by(|a, b| {
            compare_names(&b.soname, &a.soname)
                .then(b.flags.cmp(&a.flags))
                .then_with(|| match (&a.hwcaps, &b.hwcaps) {
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                    (None, None) => Ordering::Equal,
                })
        });
    }

    /// The file's bytes. `other_names` are hwcaps subdirectories that were seen and hold no
    /// library: ldconfig leaves their names in the string table.
    ///
    /// # Errors
    /// [`CacheError::TooLarge`].
    pub fn to_bytes(&self, other_names: &BTreeSet<Vec<u8>>) -> Result<Vec<u8>, CacheError> {
        let hwcaps: BTreeSet<&[u8]> = self
            .entries
            .iter()
            .filter_map(|e| Some(&*e.hwcaps.as_ref()?.0))
            .collect();
        let hwcaps: Vec<&[u8]> = hwcaps.into_iter().collect();
        let mut strings = BTreeSet::new();
        for entry in &self.entries {
            strings.extend([&*entry.soname, &*entry.path]);
        }
        strings.extend(&hwcaps);
        strings.extend(other_names.iter().map(Vec::as_slice));
        let base = HEADER + self.entries.len() * ENTRY;
        let (table, offsets) = string_table(&strings);
        let extensions = (base + table.len()).next_multiple_of(4);
        let u32_of = |value: usize| u32::try_from(value).map_err(|_| CacheError::TooLarge);
        let at = |text: &[u8]| u32_of(base + offsets.get(text).copied().unwrap_or(0));

        let mut out = Vec::with_capacity(extensions + 128);
        out.extend(MAGIC);
        out.extend(u32_of(self.entries.len())?.to_le_bytes());
        out.extend(u32_of(table.len())?.to_le_bytes());
        out.extend([LITTLE_ENDIAN, 0, 0, 0]);
        out.extend(u32_of(extensions)?.to_le_bytes());
        out.extend([0; 12]);
        for entry in &self.entries {
            let hwcap = match &entry.hwcaps {
                None => 0,
                Some((name, level)) => {
                    let index = hwcaps.binary_search(&name.as_slice()).unwrap_or(0);
                    HWCAP_EXTENSION | u64::from(level & 0x3ff) << 32 | index as u64
                }
            };
            out.extend(entry.flags.to_le_bytes());
            out.extend(at(&entry.soname)?.to_le_bytes());
            out.extend(at(&entry.path)?.to_le_bytes());
            out.extend([0; 4]);
            out.extend(hwcap.to_le_bytes());
        }
        out.extend(&table);
        out.resize(extensions, 0);

        let sections = if hwcaps.is_empty() { 1 } else { 2 };
        let content = extensions + 8 + 16 * sections;
        let generator_at = content + 4 * hwcaps.len();
        out.extend(EXTENSION_MAGIC.to_le_bytes());
        out.extend(u32_of(sections)?.to_le_bytes());
        let mut section = |tag: u32, offset: usize, size: usize| -> Result<(), CacheError> {
            for value in [tag, 0, u32_of(offset)?, u32_of(size)?] {
                out.extend(value.to_le_bytes());
            }
            Ok(())
        };
        section(TAG_GENERATOR, generator_at, self.generator.len())?;
        if !hwcaps.is_empty() {
            section(TAG_HWCAPS, content, 4 * hwcaps.len())?;
        }
        for name in &hwcaps {
            out.extend(at(name)?.to_le_bytes());
        }
        out.extend(&self.generator);
        Ok(out)
    }

    /// Reads a cache.
    ///
    /// # Errors
    /// Where it is another format, or a part of it lies outside the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheError> {
        if !bytes.starts_with(MAGIC) {
            return Err(CacheError::Magic);
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let outside = |what| move || CacheError::Outside(what);
        let text = |at: u32| {
            let rest = bytes.get(at as usize..)?;
            Some(rest[..rest.iter().take(MAX_TEXT).position(|&b| b == 0)?].to_vec())
        };
        if bytes.get(28) == Some(&3) {
            return Err(CacheError::Endian);
        }
        let count = word(20).ok_or_else(outside("the header"))? as usize;
        let extensions = word(32).ok_or_else(outside("the header"))? as usize;
        if count > bytes.len() / ENTRY {
            return Err(CacheError::Outside("the list of libraries"));
        }
        let mut cache = Self::default();
        let mut names = Vec::new();
        if extensions != 0 && word(extensions) == Some(EXTENSION_MAGIC) {
            let sections = word(extensions + 4).ok_or_else(outside("the extension directory"))?;
            for index in 0..sections.min(16) as usize {
                let at = extensions + 8 + index * 16;
                let (Some(tag), Some(offset), Some(size)) = (word(at), word(at + 8), word(at + 12)) else {
                    return Err(CacheError::Outside("the extension directory"));
                };
                let end = offset as usize + size as usize;
                let content = bytes
                    .get(offset as usize..end)
                    .ok_or_else(outside("an extension"))?;
                match tag {
                    TAG_GENERATOR => cache.generator = content.to_vec(),
                    TAG_HWCAPS => {
                        for name in content.as_chunks::<4>().0 {
                            let name = text(u32::from_le_bytes(*name));
                            names.push(name.ok_or_else(outside("a hwcaps name"))?);
                        }
                    }
                    _ => {}
                }
            }
        }
        for index in 0..count {
            let at = HEADER + index * ENTRY;
            let field = |below| word(at + below).ok_or_else(outside("the list of libraries"));
            let hwcap = u64::from(field(20)?) << 32 | u64::from(field(16)?);
            let hwcaps = if hwcap & HWCAP_EXTENSION == 0 {
                None
            } else {
                let name = names.get((hwcap & 0xffff_ffff) as usize);
                let name = name.ok_or_else(outside("a hwcaps name"))?.clone();
                Some((name, (hwcap >> 32) as u32 & 0x3ff))
            };
            cache.entries.push(Entry {
                soname: text(field(4)?).ok_or_else(outside("a library's name"))?,
                path: text(field(8)?).ok_or_else(outside("a library's path"))?,
                flags: field(0)?,
                hwcaps,
            });
        }
        Ok(cache)
    }
}

/// NUL-terminated strings, one that ends another sharing its bytes, and where each begins.
fn string_table<'a>(strings: &BTreeSet<&'a [u8]>) -> (Vec<u8>, BTreeMap<&'a [u8], usize>) {
    let mut order: Vec<&[u8]> = strings.iter().copied().collect();
    // From the last byte to the first, greater before lesser, longer before its own ending.
    order.sort_by(|a, b| b.iter().rev().cmp(a.iter().rev()));
    let mut table = Vec::new();
    let mut offsets = BTreeMap::new();
    let mut previous: (&[u8], usize) = (b"", 0);
    for text in order {
        let offset = if !table.is_empty() && previous.0.ends_with(text) {
            previous.1 + previous.0.len() - text.len()
        } else {
            let offset = table.len();
            table.extend(text);
            table.push(0);
            offset
        };
        offsets.insert(text, offset);
        previous = (text, offset);
    }
    (table, offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(soname: &str, path: &str, hwcaps: Option<(&str, u32)>) -> Entry {
        Entry {
            soname: soname.into(),
            path: path.into(),
            flags: 0x303,
            hwcaps: hwcaps.map(|(name, level)| (name.into(), level)),
        }
    }

    #[test]
    fn numbers_in_names_compare_by_value() {
        let table = [
            ("libc.so.6", "libc.so.6", Ordering::Equal),
            ("libx.so.10", "libx.so.9", Ordering::Greater),
            ("libx.so.1", "libx.so", Ordering::Greater),
            ("liba1", "libab", Ordering::Greater),
            ("libab", "liba1", Ordering::Less),
            ("liba", "libb", Ordering::Less),
        ];
        for (a, b, expected) in table {
            assert_eq!(compare_names(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_cache_reads_back_sorted_with_hwcaps_first() {
        let mut cache = Cache {
            entries: vec![
                entry("liba.so.9", "/usr/lib/liba.so.9", None),
                entry("liba.so.10", "/usr/lib/liba.so.10", None),
                entry(
                    "liba.so.10",
                    "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.10",
                    Some(("x86-64-v3", 2)),
                ),
            ],
            generator: b"test".to_vec(),
        };
        cache.sort();
        let bytes = cache.to_bytes(&BTreeSet::new()).unwrap();
        let back = Cache::parse(&bytes).unwrap();
        assert_eq!(back, cache);
        let paths: Vec<_> = back
            .entries
            .iter()
            .map(|e| String::from_utf8_lossy(&e.path))
            .collect();
        assert_eq!(
            paths,
            [
                "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.10",
                "/usr/lib/liba.so.10",
                "/usr/lib/liba.so.9"
            ]
        );
    }

    #[test]
    fn a_name_that_ends_a_path_is_stored_once() {
        let (table, offsets) = string_table(&BTreeSet::from([&b"/lib/libc.so.6"[..], b"libc.so.6"]));
        assert_eq!(table, b"/lib/libc.so.6\0");
        assert_eq!(offsets[&b"libc.so.6"[..]], 5);
    }

    proptest::proptest! {
        #[test]
        fn nonsense_never_panics(at in 20_usize..200, values in proptest::collection::vec(0_u8.., 1..8)) {
            let entries = vec![entry("a", "/a", None), entry("a", "/v/a", Some(("x86-64-v2", 1)))];
            let cache = Cache { entries, generator: b"g".to_vec() };
            let mut bytes = cache.to_bytes(&BTreeSet::new()).unwrap();
            for (index, value) in values.iter().enumerate() {
                if let Some(byte) = bytes.get_mut(at + index) {
                    *byte = *value;
                }
            }
            let _ = Cache::parse(&bytes);
        }
    }

    #[test]
    fn damaged_caches_are_refused() {
        let cache = Cache {
            entries: vec![entry("a", "/a", None)],
            generator: b"g".to_vec(),
        };
        let bytes = cache.to_bytes(&BTreeSet::new()).unwrap();
        assert_eq!(Cache::parse(b"ld.so-1.7.0"), Err(CacheError::Magic));
        for cut in 20..bytes.len() - 1 {
            assert!(
                Cache::parse(&bytes[..cut]).is_err() || cut > HEADER + ENTRY,
                "cut at {cut}"
            );
        }
        let mut wrong = bytes.clone();
        wrong[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Cache::parse(&wrong),
            Err(CacheError::Outside("the list of libraries"))
        );
    }
}
