//! The header structure: an index of typed tags over a store of values.

mod values;

use std::io::{self, Read};
use std::ops::Range;

use super::tag;

const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
const INTRO: usize = 16;
const ENTRY: usize = 16;

/// How much of a header is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of the index.
    pub entries: u32,
    /// Bytes of the store.
    pub store: u32,
    /// Whether an immutable region, where there is one, must span the whole header.
    pub whole_region: bool,
}

impl Limits {
    /// RPM's own bounds for the header of a package file.
    pub const PACKAGE: Self = Self {
        entries: 0xffff,
        store: 0x0fff_ffff,
        whole_region: true,
    };
    /// RPM's own bounds for a signature header.
    pub const SIGNATURE: Self = Self {
        entries: 32,
        store: 64 << 20,
        whole_region: false,
    };
    /// RPM's own bounds for a header of an rpmdb: what installation adds stands behind the region.
    pub const DATABASE: Self = Self {
        whole_region: false,
        ..Self::PACKAGE
    };
}

/// A parsed header with its bytes. Every entry has been checked against the store.
#[derive(Clone)]
pub struct Header {
    raw: Vec<u8>,
    entries: Vec<Entry>,
}

/// A value as a header stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// RPM's number of the type.
    pub kind: u32,
    /// Items; bytes of binary data.
    pub count: usize,
    /// Integers are big-endian, strings end in NUL.
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone)]
struct Entry {
    tag: u32,
    kind: u32,
    count: usize,
    /// Within `raw`.
    range: Range<usize>,
}

/// What is wrong with a header; offsets are in bytes from the header's first byte.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("no header magic, but {0:02x?}")]
    Magic([u8; 8]),
    #[error("it claims {what} of {found}, more than the {limit} that RPM accepts")]
    TooLarge {
        what: &'static str,
        found: u32,
        limit: u32,
    },
    #[error("the file ends inside it, {missing} bytes early")]
    Truncated { missing: u64 },
    #[error("it has no entries")]
    Empty,
    #[error("entry {index} (tag {tag}): {problem}")]
    Entry {
        index: usize,
        tag: u32,
        problem: &'static str,
    },
    #[error("its immutable region is malformed: {0}")]
    Region(&'static str),
    #[error("tag {tag} ({name}) has type {found}, not {wanted}")]
    Type {
        tag: u32,
        name: &'static str,
        found: u32,
        wanted: &'static str,
    },
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

impl Header {
    /// Reads one header, with its magic.
    ///
    /// # Errors
    /// Where it is not well formed or passes `limits`.
    pub fn read(reader: &mut impl Read, limits: &Limits) -> Result<Self, HeaderError> {
        let mut raw = vec![0; INTRO];
        reader.read_exact(&mut raw).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => HeaderError::Truncated {
                missing: INTRO as u64,
            },
            _ => error.into(),
        })?;
        let mut magic = [0; 8];
        magic.copy_from_slice(&raw[..8]);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let length = body_length(be32(&raw, 8), be32(&raw, 12), limits)?;
        // `take` grows with what is there, so that a false length costs no memory.
        let got = reader.take(length).read_to_end(&mut raw)? as u64;
        if got < length {
            return Err(HeaderError::Truncated {
                missing: length - got,
            });
        }
        Self::from_raw(raw, limits)
    }

    /// Takes a header as an rpmdb stores it: without the magic.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn from_database(blob: &[u8], limits: &Limits) -> Result<Self, HeaderError> {
        if blob.len() < 8 {
            return Err(HeaderError::Truncated {
                missing: 8 - blob.len() as u64,
            });
        }
        let length = body_length(be32(blob, 0), be32(blob, 4), limits)? + 8;
        if (blob.len() as u64) < length {
            return Err(HeaderError::Truncated {
                missing: length - blob.len() as u64,
            });
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        Self::from_raw([&MAGIC, &blob[..length]].concat(), limits)
    }

    fn from_raw(raw: Vec<u8>, limits: &Limits) -> Result<Self, HeaderError> {
        let count = be32(&raw, 8) as usize;
        let store = INTRO + count * ENTRY;
        if count == 0 {
            return Err(HeaderError::Empty);
        }
        let mut entries = Vec::with_capacity(count);
        let mut values = 0;
        for index in 0..count {
            let at = INTRO + index * ENTRY;
            let tag = be32(&raw, at);
            let broken = |problem| HeaderError::Entry { index, tag, problem };
            let kind = be32(&raw, at + 4);
            let offset =
                usize::try_from(be32(&raw, at + 8)).map_err(|_| broken("its offset is too large"))?;
            let items = usize::try_from(be32(&raw, at + 12)).map_err(|_| broken("its count is too large"))?;
            let length = value_length(&raw[store..], kind, offset, items).map_err(broken)?;
            values += length;
            // Also bounds the work: no string is looked through twice.
            if values > raw.len() - store {
                return Err(broken("its values overlap those of other entries"));
            }
            entries.push(Entry {
                tag,
                kind,
                count: items,
                range: store + offset..store + offset + length,
            });
        }
        let header = Self { raw, entries };
        header.check_region(store, limits.whole_region)?;
        Ok(header)
    }

    /// RPM signs and hashes an immutable region; its trailer says how many entries it spans.
    fn check_region(&self, store: usize, whole: bool) -> Result<(), HeaderError> {
        let first = &self.entries[0];
        if !matches!(
            first.tag,
            tag::HEADER_IMAGE | tag::HEADER_SIGNATURES | tag::HEADER_IMMUTABLE
        ) {
            return Ok(());
        }
        if first.kind != 7 || first.count != ENTRY {
            return Err(HeaderError::Region("its entry is not 16 bytes of binary"));
        }
        let trailer = &self.raw[first.range.clone()];
        let trailer_tag = be32(trailer, 0);
        let image_trailer = first.tag == tag::HEADER_SIGNATURES && trailer_tag == tag::HEADER_IMAGE;
        if trailer_tag != first.tag && !image_trailer {
            return Err(HeaderError::Region("its trailer has another tag"));
        }
        if be32(trailer, 4) != 7 || be32(trailer, 12) != ENTRY as u32 {
            return Err(HeaderError::Region("its trailer is not 16 bytes of binary"));
        }
        let span = be32(trailer, 8).wrapping_neg() as usize;
        if !span.is_multiple_of(ENTRY) || span / ENTRY > self.entries.len() || span == 0 {
            return Err(HeaderError::Region(
                "its trailer counts entries that do not exist",
            ));
        }
        if whole && (span / ENTRY != self.entries.len() || first.range.end != self.raw.len()) {
            return Err(HeaderError::Region(
                "it does not span the whole header (store at its end)",
            ));
        }
        debug_assert!(first.range.start >= store);
        Ok(())
    }

    /// The bytes as they stand in the package, with the magic.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether `tag` is there.
    pub fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// Every tag with its type and count, in index order.
    pub fn tags(&self) -> impl Iterator<Item = (u32, u32, usize)> {
        self.entries
            .iter()
            .map(|entry| (entry.tag, entry.kind, entry.count))
    }

    /// The value of `tag` as the store has it.
    pub fn value(&self, tag: u32) -> Option<Value<'_>> {
        self.entry(tag).map(|entry| Value {
            kind: entry.kind,
            count: entry.count,
            bytes: &self.raw[entry.range.clone()],
        })
    }

    /// Whether it starts with the immutable region, which is what packages sign.
    pub fn is_immutable(&self) -> bool {
        self.entries
            .first()
            .is_some_and(|entry| entry.tag == tag::HEADER_IMMUTABLE)
    }

    /// Index and store.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.raw[INTRO..].split_at(self.entries.len() * ENTRY)
    }

    fn entry(&self, tag: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Header({} entries, {} bytes)",
            self.entries.len(),
            self.raw.len()
        )
    }
}

fn body_length(entries: u32, store: u32, limits: &Limits) -> Result<u64, HeaderError> {
    let too_large = |what, found, limit| HeaderError::TooLarge { what, found, limit };
    if entries > limits.entries {
        return Err(too_large("an index", entries, limits.entries));
    }
    if store > limits.store {
        return Err(too_large("a store", store, limits.store));
    }
    Ok(u64::from(entries) * ENTRY as u64 + u64::from(store))
}

/// How many bytes of `store` the value takes; RPM's rules of type, count and alignment.
fn value_length(store: &[u8], kind: u32, offset: usize, count: usize) -> Result<usize, &'static str> {
    let rest = store.get(offset..).ok_or("its offset lies past the store")?;
    if count == 0 {
        return Err("its count is 0");
    }
    let width = match kind {
        1 | 2 | 7 => 1,
        3 => 2,
        4 => 4,
        5 => 8,
        6 if count != 1 => return Err("a string with a count other than 1"),
        6 | 8 | 9 => {
            let mut length = 0;
            for _ in 0..count {
                let text = rest.get(length..).unwrap_or_default();
                let end = text.iter().position(|&b| b == 0);
                length += end.ok_or("a string without its end in the store")? + 1;
            }
            return Ok(length);
        }
        _ => return Err("its type is unknown"),
    };
    if !offset.is_multiple_of(width) {
        return Err("its offset is not aligned to its type");
    }
    let length = count.checked_mul(width).ok_or("its count is too large")?;
    if length > rest.len() {
        return Err("its values pass the store's end");
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of `entries` (tag, type, offset, count) over `store`.
    fn header(entries: &[[u32; 4]], store: &[u8]) -> Vec<u8> {
        let mut raw = MAGIC.to_vec();
        raw.extend((entries.len() as u32).to_be_bytes());
        raw.extend((store.len() as u32).to_be_bytes());
        raw.extend(entries.iter().flatten().flat_map(|word| word.to_be_bytes()));
        raw.extend(store);
        raw
    }

    fn parse(entries: &[[u32; 4]], store: &[u8]) -> Result<Header, HeaderError> {
        Header::read(&mut header(entries, store).as_slice(), &Limits::PACKAGE)
    }

    #[test]
    fn values_of_every_type_are_read() {
        let store = b"bash\0\0\0\0\0\0\0\x07\0\x2aone\0two\0\xff";
        let entries = [
            [tag::NAME, 6, 0, 1],
            [tag::EPOCH, 4, 8, 1],
            [tag::FILEMODES, 3, 12, 1],
            [tag::BASENAMES, 8, 14, 2],
            [tag::PREFIXES, 7, 22, 1],
        ];
        let header = parse(&entries, store).unwrap();
        assert_eq!(header.string(tag::NAME).unwrap(), Some(&b"bash"[..]));
        assert_eq!(header.u32(tag::EPOCH).unwrap(), Some(7));
        assert_eq!(header.u16s(tag::FILEMODES).unwrap(), [42]);
        assert_eq!(header.strings(tag::BASENAMES).unwrap(), [b"one", b"two"]);
        assert_eq!(header.binary(tag::PREFIXES).unwrap(), Some(&[0xff][..]));
        assert_eq!(header.string(tag::VERSION).unwrap(), None);
        let error = header.u32(tag::NAME).unwrap_err().to_string();
        assert_eq!(error, "tag 1000 (NAME) has type 6, not 32-bit integers");
    }

    #[test]
    fn broken_indexes_are_refused() {
        type Case = (&'static [[u32; 4]], &'static [u8], &'static str);
        let cases: [Case; 8] = [
            (&[[1000, 6, 9, 1]], b"a\0", "its offset lies past the store"),
            (&[[1000, 6, 0, 1]], b"abc", "a string without its end"),
            (
                &[[1000, 6, 0, 2]],
                b"a\0b\0",
                "a string with a count other than 1",
            ),
            (
                &[[1000, 8, 0, 0xffff_ffff]],
                b"a\0b\0",
                "a string without its end",
            ),
            (&[[1000, 4, 1, 1]], b"abcdefgh", "not aligned"),
            (
                &[[1000, 5, 0, 0xffff_ffff]],
                b"abcdefgh",
                "its values pass the store's end",
            ),
            (&[[1000, 0, 0, 1]], b"a", "its type is unknown"),
            (&[[1000, 7, 0, 0]], b"a", "its count is 0"),
        ];
        for (entries, store, expected) in cases {
            let error = parse(entries, store).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
        let mut huge = header(&[], b"");
        huge[8..12].copy_from_slice(&[0xff; 4]);
        let error = Header::read(&mut huge.as_slice(), &Limits::PACKAGE).unwrap_err();
        assert!(matches!(error, HeaderError::TooLarge { .. }), "{error}");
        let whole = header(&[[1000, 6, 0, 1]], b"abc\0");
        for cut in 0..whole.len() {
            assert!(
                Header::read(&mut &whole[..cut], &Limits::PACKAGE).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_region_that_leaves_entries_unsigned_is_refused() {
        let trailer = |entries: u32| {
            let words = [tag::HEADER_IMMUTABLE, 7, (entries * 16).wrapping_neg(), 16];
            words
                .iter()
                .flat_map(|word| word.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let entries = [[tag::HEADER_IMMUTABLE, 7, 4, 16], [1000, 6, 0, 1]];
        let store = |count| [b"abc\0".to_vec(), trailer(count)].concat();
        assert!(parse(&entries, &store(2)).is_ok());
        assert!(matches!(parse(&entries, &store(1)), Err(HeaderError::Region(_))));
        assert!(matches!(parse(&entries, &store(3)), Err(HeaderError::Region(_))));
    }
}
