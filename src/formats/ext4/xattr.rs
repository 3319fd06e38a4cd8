//! Extended attributes: behind the fields of an inode, or in a block of their own.

use std::collections::BTreeMap;

use super::checksum;
use super::format::{BLOCK, INODE_SIZE, XATTR_MAGIC, put16, put32};
use super::inode::XATTRS_AT;

/// Room in an inode, with the magic number before the entries.
const IN_INODE: usize = INODE_SIZE - XATTRS_AT;
const MAGIC: usize = 4;
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;
/// What stands for the beginning of a name.
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// An attribute, its name as it is stored.
struct Attribute<'a> {
    prefix: u8,
    name: &'a [u8],
    value: &'a [u8],
}

/// Where an inode's attributes come to lie.
pub(super) enum Place {
    /// From [`XATTRS_AT`] on; empty where there are none.
    Inode(Vec<u8>),
    /// All of them in a block, whose number its checksum needs.
    Block(Box<[u8; BLOCK]>),
}

/// Puts `xattrs` where they have room.
///
/// # Errors
/// The name, and why it cannot be written.
pub(super) fn place(xattrs: &BTreeMap<Box<[u8]>, Box<[u8]>>) -> Result<Place, (String, &'static str)> {
    let mut attributes = Vec::new();
    for (full, value) in xattrs {
        let refuse = |why| Err((String::from_utf8_lossy(full).into_owned(), why));
        let found = PREFIXES
            .iter()
            .find_map(|&(prefix, number)| Some((number, full.strip_prefix(prefix)?)));
        let Some((prefix, name)) = found else {
            return refuse("only user.*, trusted.* and security.* are");
        };
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return refuse("its name is empty, has over 255 bytes, or a NUL");
        }
        attributes.push(Attribute { prefix, name, value });
    }
    // The order in which Linux searches blocks.
    attributes.sort_by_key(|attribute| (attribute.prefix, attribute.name.len(), attribute.name));
    if attributes.is_empty() {
        return Ok(Place::Inode(Vec::new()));
    }
    let mut inode = vec![0; IN_INODE];
    put32(&mut inode, 0, XATTR_MAGIC);
    if fill(&mut inode[MAGIC..], 0, &attributes).is_some() {
        return Ok(Place::Inode(inode));
    }
    let mut block = Box::new([0; BLOCK]);
    let Some(hash) = fill(block.as_mut_slice(), BLOCK_HEADER, &attributes) else {
        let name = String::from_utf8_lossy(xattrs.keys().next().map_or(&[][..], |name| name)).into_owned();
        return Err((name, "with the file's other ones it takes more than a block"));
    };
    for (at, value) in [(0, XATTR_MAGIC), (4, 1), (8, 1), (12, hash)] {
        put32(block.as_mut_slice(), at, value);
    }
    Ok(Place::Block(block))
}

/// Puts the checksum into a block of attributes that becomes block `number`.
pub(super) fn seal(block: &mut [u8; BLOCK], number: u64, file_system: u32) {
    let sum = checksum::crc(file_system, &number.to_le_bytes());
    let sum = checksum::crc(sum, block);
    put32(block, 16, sum);
}

/// Writes entries from `at` on and their values from the end of `bytes`; positions of values count from the start of
/// `bytes`. Gives the hash over all; `None` where they do not fit.
fn fill(bytes: &mut [u8], at: usize, attributes: &[Attribute<'_>]) -> Option<u32> {
    let (mut at, mut end) = (at, bytes.len());
    let mut all: u32 = 0;
    for attribute in attributes {
        let entry = (ENTRY + attribute.name.len()).next_multiple_of(4);
        let room = attribute.value.len().checked_next_multiple_of(4)?;
        let start = end.checked_sub(room)?;
        // Four zero bytes end the entries.
        if at + entry + 4 > start {
            return None;
        }
        bytes[start..start + attribute.value.len()].copy_from_slice(attribute.value);
        let hash = hash(attribute.name, &bytes[start..end]);
        bytes[at] = attribute.name.len() as u8;
        bytes[at + 1] = attribute.prefix;
        if !attribute.value.is_empty() {
            put16(bytes, at + 2, start as u16);
        }
        put32(bytes, at + 8, attribute.value.len() as u32);
        put32(bytes, at + 12, hash);
        bytes[at + ENTRY..at + ENTRY + attribute.name.len()].copy_from_slice(attribute.name);
        all = all.rotate_left(16) ^ hash;
        (at, end) = (at + entry, start);
    }
    Some(all)
}

/// The hash of an entry: its name, and its value in whole words.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let hash = name
        .iter()
        .fold(0u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    let (words, _) = value.as_chunks::<4>();
    words.iter().fold(hash, |hash, word| {
        hash.rotate_left(16) ^ u32::from_le_bytes(*word)
    })
}
