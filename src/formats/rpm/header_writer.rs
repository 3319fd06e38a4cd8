//! Writing a header as an rpmdb stores it: that of a package, with what installation adds.

use super::Header;
use super::header::Value;

/// RPM's numbers of the types that are written.
pub mod kind {
    pub const CHAR: u32 = 1;
    pub const INT32: u32 = 4;
    pub const STRING: u32 = 6;
    pub const BINARY: u32 = 7;
    pub const STRING_ARRAY: u32 = 8;
}

/// An entry that is added to a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub tag: u32,
    kind: u32,
    count: usize,
    bytes: Vec<u8>,
}

impl Added {
    /// `value` of a header, under the name `tag`.
    pub fn copy(tag: u32, value: Value<'_>) -> Self {
        Self {
            tag,
            kind: value.kind,
            count: value.count,
            bytes: value.bytes.to_vec(),
        }
    }

    /// One 32-bit integer.
    pub fn number(tag: u32, value: u32) -> Self {
        Self {
            tag,
            kind: kind::INT32,
            count: 1,
            bytes: value.to_be_bytes().to_vec(),
        }
    }

    /// Single bytes, as RPM keeps the states of files.
    pub fn characters(tag: u32, bytes: Vec<u8>) -> Self {
        Self {
            tag,
            kind: kind::CHAR,
            count: bytes.len(),
            bytes,
        }
    }

    /// A string, which holds no NUL.
    pub fn string(tag: u32, text: &str) -> Self {
        Self {
            tag,
            kind: kind::STRING,
            count: 1,
            bytes: [text.as_bytes(), b"\0"].concat(),
        }
    }
}

/// A header would become larger than its 32-bit fields can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its header would pass 2 GiB")]
pub struct TooLarge;

/// `header` with `added` behind it, without the magic: a record of an rpmdb. The bytes of `header`'s index and store
/// stay, so that what its region signs still holds; RPM orders by tag what stands behind the region.
///
/// # Errors
/// Where the result would be too large.
pub fn append(header: &Header, mut added: Vec<Added>) -> Result<Vec<u8>, TooLarge> {
    added.sort_by_key(|entry| entry.tag);
    let (index, store) = header.parts();
    let mut index = index.to_vec();
    let mut store = store.to_vec();
    for entry in &added {
        let width = match entry.kind {
            3 => 2,
            kind::INT32 => 4,
            5 => 8,
            _ => 1,
        };
        store.resize(store.len().next_multiple_of(width), 0);
        let number = |value: usize| i32::try_from(value).map(i32::cast_unsigned).map_err(|_| TooLarge);
        for word in [entry.tag, entry.kind, number(store.len())?, number(entry.count)?] {
            index.extend(word.to_be_bytes());
        }
        store.extend(&entry.bytes);
    }
    let length = |value: usize| u32::try_from(value).map_err(|_| TooLarge);
    let intro = [length(index.len() / 16)?, length(store.len())?];
    let mut record = Vec::with_capacity(8 + index.len() + store.len());
    record.extend(intro.iter().flat_map(|word| word.to_be_bytes()));
    record.extend(index);
    record.extend(store);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::rpm::{Limits, tag};

    #[test]
    fn the_region_keeps_its_bytes_and_what_is_added_is_aligned_and_sorted() {
        let words = |words: &[u32]| {
            words
                .iter()
                .flat_map(|word| word.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let trailer = words(&[tag::HEADER_IMMUTABLE, 7, 32u32.wrapping_neg(), 16]);
        let index = words(&[tag::HEADER_IMMUTABLE, 7, 4, 16, tag::NAME, 6, 0, 1]);
        let store = [b"abc\0".to_vec(), trailer].concat();
        let package = [words(&[2, 20]), index.clone(), store.clone()].concat();
        let package = Header::from_database(&package, &Limits::PACKAGE).unwrap();
        assert!(package.is_immutable());
        let added = vec![
            Added::number(tag::INSTALLTIME, 7),
            Added::string(tag::SHA1HEADER, "x"),
            Added::characters(tag::FILESTATES, vec![0, 1]),
        ];
        let record = append(&package, added).unwrap();
        let expected = [
            words(&[5, 30]),
            index,
            words(&[tag::SHA1HEADER, 6, 20, 1]),
            words(&[tag::INSTALLTIME, 4, 24, 1]),
            words(&[tag::FILESTATES, 1, 28, 2]),
            store,
            b"x\0\0\0\0\0\0\x07\0\x01".to_vec(),
        ]
        .concat();
        assert_eq!(record, expected);
        assert!(Header::from_database(&record, &Limits::PACKAGE).is_err());
        let read = Header::from_database(&record, &Limits::DATABASE).unwrap();
        assert_eq!(read.u32(tag::INSTALLTIME).unwrap(), Some(7));
        assert_eq!(read.value(tag::FILESTATES).unwrap().bytes, [0, 1]);
        let copy = Added::copy(tag::SIGMD5, read.value(tag::NAME).unwrap());
        assert_eq!(
            copy,
            Added {
                tag: tag::SIGMD5,
                kind: 6,
                count: 1,
                bytes: b"abc\0".to_vec()
            }
        );
    }
}
