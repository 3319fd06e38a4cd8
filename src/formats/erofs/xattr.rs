//! Extended attributes: those that many inodes have stand once in a shared area, the others behind
//! their inode.

use std::collections::BTreeMap;

use super::error::Fault;
use super::format::{Wrong, XATTR_ENTRY, XATTR_HEADER, XATTR_PREFIXES, get16, get32};

/// Extended attributes by full name.
pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// From how many inodes on an attribute is shared. A shared one costs four bytes an inode and a
/// look into another block.
const SHARED_FROM: u32 = 3;
/// `h_shared_count` has eight bits.
const SHARED_PER_INODE: usize = 255;
/// `i_xattr_icount` has sixteen bits.
const INLINE_MAX: usize = XATTR_HEADER + 4 * (u16::MAX as usize - 1);

/// The attributes that are stored once, with their place in the shared area.
#[derive(Debug, Default)]
pub(super) struct SharedXattrs {
    /// Offset in the shared area in units of four bytes, by the entry's bytes.
    places: BTreeMap<Box<[u8]>, u32>,
    /// The shared area.
    pub(super) area: Vec<u8>,
}

/// One attribute as on disk, filled up to a multiple of four bytes.
fn entry(name: &[u8], value: &[u8]) -> Result<Vec<u8>, Fault> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let (index, suffix) = XATTR_PREFIXES
        .iter()
        .find_map(|(index, prefix)| {
            let suffix = name.strip_prefix(*prefix)?;
            // Namespaces end in a dot and need a name behind it; POSIX ACLs are the whole name.
            (prefix.ends_with(b".") != suffix.is_empty()).then_some((*index, suffix))
        })
        .ok_or_else(|| Fault::XattrNamespace(shown()))?;
    let too_long = |_| Fault::XattrTooLong(shown());
    let name_length = u8::try_from(suffix.len()).map_err(too_long)?;
    let value_length = u16::try_from(value.len()).map_err(too_long)?;
    let mut bytes = Vec::with_capacity(XATTR_ENTRY + suffix.len() + value.len() + 3);
    bytes.extend([name_length, index]);
    bytes.extend(value_length.to_le_bytes());
    bytes.extend(suffix);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// Counts how many inodes have which attribute, then places those that many have.
#[derive(Debug, Default)]
pub(super) struct Counter(BTreeMap<Box<[u8]>, u32>);

impl Counter {
    /// Takes note of the attributes of one inode.
    pub(super) fn add(&mut self, xattrs: &Xattrs) -> Result<(), Fault> {
        for (name, value) in xattrs {
            *self.0.entry(entry(name, value)?.into()).or_default() += 1;
        }
        Ok(())
    }

    /// Places the attributes to be shared.
    pub(super) fn finish(self) -> SharedXattrs {
        let mut shared = SharedXattrs::default();
        for (bytes, count) in self.0 {
            // An offset is 32 bits of four bytes; what would lie beyond stays with its inodes.
            let Ok(place) = u32::try_from(shared.area.len() / 4) else {
                break;
            };
            if count >= SHARED_FROM {
                shared.area.extend(&bytes);
                shared.places.insert(bytes, place);
            }
        }
        shared
    }
}

impl SharedXattrs {
    /// What stands behind an inode with these attributes; a multiple of four bytes, empty where it
    /// has none.
    pub(super) fn body(&self, xattrs: &Xattrs) -> Result<Vec<u8>, Fault> {
        if xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let mut references = Vec::new();
        let mut inline = Vec::new();
        let mut shared_count = 0_u8;
        for (name, value) in xattrs {
            let bytes = entry(name, value)?;
            match self.places.get(bytes.as_slice()) {
                Some(place) if usize::from(shared_count) < SHARED_PER_INODE => {
                    references.extend(place.to_le_bytes());
                    shared_count += 1;
                }
                _ => inline.extend(bytes),
            }
        }
        let mut body = vec![0; XATTR_HEADER];
        body[4] = shared_count;
        body.extend(references);
        body.extend(inline);
        if body.len() > INLINE_MAX {
            return Err(Fault::XattrsTooLarge(body.len()));
        }
        Ok(body)
    }
}

/// `i_xattr_icount` for a body of so many bytes, as [`SharedXattrs::body`] makes them.
pub(super) fn count(body: usize) -> u16 {
    match body.checked_sub(XATTR_HEADER) {
        // `body` never exceeds `INLINE_MAX`.
        Some(behind) => u16::try_from(1 + behind / 4).unwrap_or(u16::MAX),
        None => 0,
    }
}

/// An attribute as read: name and value.
pub(super) type Found = (Box<[u8]>, Box<[u8]>);

/// Reads the attribute at the start of `bytes`. Returns it with its length on disk.
pub(super) fn parse_entry(bytes: &[u8]) -> Result<(Found, usize), Wrong> {
    const BAD: Wrong = "an extended attribute is malformed";
    let head = bytes.get(..XATTR_ENTRY).ok_or(BAD)?;
    let (_, prefix) = XATTR_PREFIXES
        .iter()
        .find(|(index, _)| *index == head[1])
        .ok_or("the namespace of an extended attribute is unknown")?;
    let name_end = XATTR_ENTRY + usize::from(head[0]);
    let value_end = name_end + usize::from(get16(head, 2));
    let suffix = bytes.get(XATTR_ENTRY..name_end).ok_or(BAD)?;
    let value = bytes.get(name_end..value_end).ok_or(BAD)?;
    let name = [prefix, suffix].concat();
    Ok(((name.into(), value.into()), value_end.next_multiple_of(4)))
}

/// Reads what stands behind an inode: the attributes there, and the places of the shared ones.
pub(super) fn parse_body(body: &[u8]) -> Result<(Vec<Found>, Vec<u32>), Wrong> {
    const BAD: Wrong = "the extended attributes behind an inode are malformed";
    if body.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let header = body.get(..XATTR_HEADER).ok_or(BAD)?;
    let end = XATTR_HEADER + 4 * usize::from(header[4]);
    let places = body.get(XATTR_HEADER..end).ok_or(BAD)?;
    let places = places.chunks_exact(4).map(|place| get32(place, 0)).collect();
    let mut rest = &body[end..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (entry, length) = parse_entry(rest)?;
        found.push(entry);
        rest = rest.get(length..).ok_or(BAD)?;
    }
    Ok((found, places))
}

/// Length of the body that `i_xattr_icount` speaks of; the inverse of [`count`].
pub(super) fn body_length(count: u16) -> usize {
    match usize::from(count).checked_sub(1) {
        Some(behind) => XATTR_HEADER + 4 * behind,
        None => 0,
    }
}
