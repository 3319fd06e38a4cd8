//! A pack of values: immutable, found by 32-byte keys.
//!
//! Layout: the values one after the other; then, sorted by key, the first 8 bytes of each key (as a
//! big-endian number); then in the same order 40 bytes a value: the other 24 bytes of the key, offset
//! u64, length u32, CRC-32C of key and value; then the footer: number of values u32, SHA-256 of the
//! first table, SHA-256 of the second, magic. Numbers are little-endian unless said otherwise. A
//! reader keeps only the first table in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;

use tempfile::NamedTempFile;

use super::Digest;

const MAGIC: &[u8; 8] = b"hwvals\0\x01";
const PREFIX: usize = 8;
const ENTRY: usize = 24 + 8 + 4 + 4;
const FOOTER: usize = 4 + 32 + 32 + 8;
/// Values are written in pieces of at least this size.
const BUFFER: usize = 256 << 10;

/// What values are found by: usually a SHA-256.
pub type Key = [u8; 32];

/// Where a value lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) offset: u64,
    pub(super) length: u32,
    crc: u32,
}

/// A pack, open for reading.
#[derive(Debug)]
pub(super) struct ValuePack {
    file: File,
    prefixes: Vec<u64>,
    /// Where the second table begins.
    entries: u64,
    entries_digest: Digest,
}

impl ValuePack {
    /// `None` where the file is not a whole pack.
    pub(super) fn open(file: File) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let Some(tables_end) = length.checked_sub(FOOTER as u64) else {
            return Ok(None);
        };
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, tables_end)?;
        let (count, rest) = footer.split_at(4);
        let (digests, magic) = rest.split_at(64);
        let count = u64::from(number(count));
        let Some(tables) = tables_end.checked_sub(count * (PREFIX + ENTRY) as u64) else {
            return Ok(None);
        };
        if magic != MAGIC {
            return Ok(None);
        }
        let entries = tables + count * PREFIX as u64;
        let mut bytes = vec![0; usize::try_from(entries - tables).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, tables)?;
        if Digest::of(&bytes).0 != digests[..32] {
            return Ok(None);
        }
        let prefixes = bytes.as_chunks::<PREFIX>().0;
        let mut digest = [0; 32];
        digest.copy_from_slice(&digests[32..]);
        Ok(Some(Self {
            file,
            prefixes: prefixes.iter().copied().map(u64::from_be_bytes).collect(),
            entries,
            entries_digest: Digest(digest),
        }))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where the value of `key` lies.
    pub(super) fn find(&self, key: &Key) -> io::Result<Option<Entry>> {
        let wanted = prefix(key);
        let start = self.prefixes.partition_point(|prefix| *prefix < wanted);
        for at in start..self.prefixes.len() {
            if self.prefixes[at] != wanted {
                break;
            }
            let mut bytes = [0; ENTRY];
            self.file
                .read_exact_at(&mut bytes, self.entries + (at * ENTRY) as u64)?;
            let entry = self.entry(at, &bytes);
            if entry.key == *key {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The value at `entry`; `None` where it is damaged.
    pub(super) fn read(&self, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
        let end = entry.offset.checked_add(u64::from(entry.length));
        let values_end = self.entries - (self.prefixes.len() * PREFIX) as u64;
        if end.is_none_or(|end| end > values_end) {
            return Ok(None);
        }
        let mut value = vec![0; entry.length as usize];
        self.file.read_exact_at(&mut value, entry.offset)?;
        Ok((checksum(&entry.key, &value) == entry.crc).then_some(value))
    }

    /// All entries, in the order of their keys, and whether their table is undamaged.
    pub(super) fn all(&self) -> io::Result<(Vec<Entry>, bool)> {
        let mut bytes = vec![0; self.prefixes.len() * ENTRY];
        self.file.read_exact_at(&mut bytes, self.entries)?;
        let whole = Digest::of(&bytes) == self.entries_digest;
        let entries = bytes.as_chunks::<ENTRY>().0.iter().enumerate();
        Ok((entries.map(|(at, bytes)| self.entry(at, bytes)).collect(), whole))
    }

    fn entry(&self, at: usize, bytes: &[u8; ENTRY]) -> Entry {
        let mut key = [0; 32];
        key[..PREFIX].copy_from_slice(&self.prefixes[at].to_be_bytes());
        key[PREFIX..].copy_from_slice(&bytes[..24]);
        let mut offset = [0; 8];
        offset.copy_from_slice(&bytes[24..32]);
        Entry {
            key,
            offset: u64::from_le_bytes(offset),
            length: number(&bytes[32..36]),
            crc: number(&bytes[36..]),
        }
    }
}

/// Writes a pack into a temporary file.
#[derive(Debug)]
pub(super) struct ValuePackWriter {
    out: BufWriter<NamedTempFile>,
    entries: Vec<Entry>,
    /// Places in `entries`.
    known: HashMap<Key, usize>,
    end: u64,
}

impl ValuePackWriter {
    pub(super) fn new(file: NamedTempFile) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, file),
            entries: Vec::new(),
            known: HashMap::new(),
            end: 0,
        }
    }

    /// Appends a value, unless its key has one. One of 4 GiB or more is left out.
    pub(super) fn put(&mut self, key: &Key, value: &[u8]) -> io::Result<()> {
        let Ok(length) = u32::try_from(value.len()) else {
            return Ok(());
        };
        if self.has(key) {
            return Ok(());
        }
        self.out.write_all(value)?;
        self.known.insert(*key, self.entries.len());
        self.entries.push(Entry {
            key: *key,
            offset: self.end,
            length,
            crc: checksum(key, value),
        });
        self.end += value.len() as u64;
        Ok(())
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// A value that was put before; `None` where there is none, or it is damaged.
    pub(super) fn get(&mut self, key: &Key) -> io::Result<Option<Vec<u8>>> {
        let Some(entry) = self.known.get(key).and_then(|at| self.entries.get(*at)) else {
            return Ok(None);
        };
        self.out.flush()?;
        let mut value = vec![0; entry.length as usize];
        let file = self.out.get_ref().as_file();
        file.read_exact_at(&mut value, entry.offset)?;
        Ok((checksum(key, &value) == entry.crc).then_some(value))
    }

    /// Writes the tables. Returns the file and a digest to name it by.
    pub(super) fn finish(mut self) -> io::Result<(NamedTempFile, Digest)> {
        self.entries.sort_by_key(|entry| entry.key);
        let count = u32::try_from(self.entries.len()).map_err(io::Error::other)?;
        let mut prefixes = Vec::with_capacity(self.entries.len() * PREFIX);
        let mut entries = Vec::with_capacity(self.entries.len() * ENTRY);
        for entry in &self.entries {
            let (prefix, rest) = entry.key.split_at(PREFIX);
            prefixes.extend(prefix);
            entries.extend(rest);
            entries.extend(entry.offset.to_le_bytes());
            entries.extend(entry.length.to_le_bytes());
            entries.extend(entry.crc.to_le_bytes());
        }
        let digests = [Digest::of(&prefixes).0, Digest::of(&entries).0].concat();
        for part in [
            &prefixes,
            &entries,
            count.to_le_bytes().as_slice(),
            &digests,
            MAGIC,
        ] {
            self.out.write_all(part)?;
        }
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, Digest::of(&digests)))
    }
}

fn checksum(key: &Key, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn prefix(key: &Key) -> u64 {
    let mut bytes = [0; PREFIX];
    bytes.copy_from_slice(&key[..PREFIX]);
    u64::from_be_bytes(bytes)
}

/// The first four bytes of `bytes`, which has them.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[(Key, Vec<u8>)]) -> File {
        let mut writer = ValuePackWriter::new(NamedTempFile::new().unwrap());
        for (key, value) in values {
            writer.put(key, value).unwrap();
        }
        writer.finish().unwrap().0.into_file()
    }

    fn get(pack: &ValuePack, key: &Key) -> Option<Vec<u8>> {
        pack.read(&pack.find(key).unwrap()?).unwrap()
    }

    #[test]
    fn values_are_found_by_their_whole_keys() {
        // Keys that share their first bytes, and many that do not.
        let mut values: Vec<(Key, Vec<u8>)> = (0..200_u32)
            .map(|n| (Digest::of(&n.to_le_bytes()).0, vec![n as u8; n as usize * 7]))
            .collect();
        for n in 0..5 {
            let mut key = [9; 32];
            key[31] = n;
            values.push((key, vec![n]));
        }
        let pack = ValuePack::open(written(&values)).unwrap().unwrap();
        for (key, value) in &values {
            assert_eq!(get(&pack, key).as_ref(), Some(value));
        }
        assert_eq!(get(&pack, &[9; 32]), None);
        assert_eq!(get(&pack, &[0xff; 32]), None);
        let (entries, whole) = pack.all().unwrap();
        assert!(whole && entries.len() == 205 && entries.is_sorted_by_key(|entry| entry.key));
        let empty = ValuePack::open(written(&[])).unwrap().unwrap();
        assert_eq!(get(&empty, &[9; 32]), None);
    }

    #[test]
    fn no_damage_goes_by() {
        let values = [([1; 32], b"one".to_vec()), ([2; 32], b"two".to_vec())];
        let file = written(&values);
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let mut whole = vec![0; length];
        file.read_exact_at(&mut whole, 0).unwrap();
        let open = |bytes: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            ValuePack::open(file).unwrap()
        };
        for cut in 0..length {
            assert!(open(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..length * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(pack) = open(&bytes) else { continue };
            let (entries, table) = pack.all().unwrap();
            let read = entries.iter().all(|entry| pack.read(entry).unwrap().is_some());
            assert!(!(table && read), "bit {bit}");
            for (key, value) in &values {
                let found = get(&pack, key);
                assert!(found.is_none() || found.as_ref() == Some(value), "bit {bit}");
            }
        }
    }
}
