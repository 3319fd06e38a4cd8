//! Directories: blocks of fixed-size entries followed by the names, sorted by name within and
//! across blocks, so that a reader can search both by halves.

use std::collections::BTreeMap;

use super::format::{BLOCK, DIRENT, NAME_MAX, Wrong, get16, get64};
use super::model::InodeIndex;

/// An entry before inodes have their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Index of the inode.
    pub(super) inode: usize,
}

/// All entries of a directory in byte order, `.` and `..` at their place among them.
pub(super) fn entries(
    children: &BTreeMap<Box<[u8]>, InodeIndex>,
    own: usize,
    parent: usize,
) -> Vec<Entry<'_>> {
    let mut all: Vec<_> = children
        .iter()
        .map(|(name, inode)| Entry { name, inode: inode.0 })
        .collect();
    all.extend([
        Entry {
            name: b".",
            inode: own,
        },
        Entry {
            name: b"..",
            inode: parent,
        },
    ]);
    all.sort_unstable_by_key(|entry| entry.name);
    all
}

/// The runs of `entries` that fill a block each.
fn blocks<'e, 'a>(entries: &'e [Entry<'a>]) -> impl Iterator<Item = &'e [Entry<'a>]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut used = 0;
        let count = rest
            .iter()
            .take_while(|entry| {
                used += DIRENT + entry.name.len();
                used <= BLOCK
            })
            .count();
        let (block, behind) = rest.split_at(count);
        rest = behind;
        (count > 0).then_some(block)
    })
}

fn used(block: &[Entry<'_>]) -> usize {
    block.iter().map(|entry| DIRENT + entry.name.len()).sum()
}

/// The size of the directory in bytes: whole blocks and what the last one uses.
pub(super) fn size(entries: &[Entry<'_>]) -> usize {
    let mut last = 0;
    let mut count = 0;
    for block in blocks(entries) {
        last = used(block);
        count += 1;
    }
    (count - 1) * BLOCK + last
}

/// The directory's bytes, [`size`] of them. `number` gives nid and type of an inode.
pub(super) fn encode(entries: &[Entry<'_>], number: impl Fn(usize) -> (u64, u8)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks(entries) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut name_offset = DIRENT * block.len();
        for entry in block {
            let (nid, file_type) = number(entry.inode);
            bytes.extend(nid.to_le_bytes());
            // Below `BLOCK`, as the whole run fits a block.
            bytes.extend((name_offset as u16).to_le_bytes());
            bytes.extend([file_type, 0]);
            name_offset += entry.name.len();
        }
        for entry in block {
            bytes.extend(entry.name);
        }
    }
    bytes
}

/// An entry as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Box<[u8]>,
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Reads a whole directory. Names are unique and sorted, as the kernel searches them by halves, and
/// `.` and `..` are among them.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Found>, Wrong> {
    let mut all: Vec<Found> = Vec::new();
    for block in bytes.chunks(BLOCK) {
        for found in parse_block(block)? {
            if all.last().is_some_and(|last| last.name >= found.name) {
                return Err("the directory is not sorted by name");
            }
            all.push(found);
        }
    }
    let has = |name: &[u8]| all.iter().any(|found| *found.name == *name);
    match has(b".") && has(b"..") {
        true => Ok(all),
        false => Err("the directory has no `.` or `..`"),
    }
}

fn parse_block(block: &[u8]) -> Result<Vec<Found>, Wrong> {
    const BAD: Wrong = "a directory entry is malformed";
    let first = match block.len() >= DIRENT {
        true => usize::from(get16(block, 8)),
        false => return Err(BAD),
    };
    if first < DIRENT || !first.is_multiple_of(DIRENT) || first >= block.len() {
        return Err(BAD);
    }
    let (heads, _) = block.split_at(first);
    let heads: Vec<_> = heads.chunks_exact(DIRENT).collect();
    let mut found = Vec::with_capacity(heads.len());
    for (i, head) in heads.iter().enumerate() {
        let start = usize::from(get16(head, 8));
        let is_last = i + 1 == heads.len();
        let end = match is_last {
            true => block.len(),
            false => usize::from(get16(heads[i + 1], 8)),
        };
        let mut name = block.get(start..end).ok_or(BAD)?;
        if is_last {
            // The block may be filled up with zeros.
            let length = name.iter().position(|byte| *byte == 0);
            name = &name[..length.unwrap_or(name.len())];
        }
        let is_name = start >= first && (1..=NAME_MAX).contains(&name.len());
        if !is_name || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(BAD);
        }
        found.push(Found {
            name: name.into(),
            nid: get64(head, 0),
            file_type: head[10],
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_sorted_among_the_names() {
        let children = [&b"!bang"[..], b"+plus", b"..more", b".x", b"a"]
            .into_iter()
            .map(|name| (name.into(), InodeIndex(9)))
            .collect();
        let names: Vec<_> = entries(&children, 1, 0)
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(
            names,
            [&b"!bang"[..], b"+plus", b".", b"..", b"..more", b".x", b"a"]
        );
    }

    #[test]
    fn blocks_are_filled_to_the_last_byte_and_no_further() {
        // `.` and `..` take 27 bytes; 15 entries with names of 255 bytes take 4005; 64 bytes are left.
        let mut names: Vec<Vec<u8>> = (0..15).map(|i| vec![b'a' + i; 255]).collect();
        names.push(vec![b'z'; 64 - DIRENT]);
        let tree = |names: &[Vec<u8>]| -> BTreeMap<Box<[u8]>, InodeIndex> {
            names
                .iter()
                .map(|name| (name.clone().into(), InodeIndex(3)))
                .collect()
        };
        let full = tree(&names);
        assert_eq!(size(&entries(&full, 1, 0)), BLOCK);
        names[15].push(b'z');
        let over = tree(&names);
        let over = entries(&over, 1, 0);
        assert_eq!(size(&over), BLOCK + 65);
        let bytes = encode(&over, |inode| (inode as u64, 1));
        assert_eq!(bytes.len(), BLOCK + 65);
        assert_eq!(&bytes[BLOCK - 64..BLOCK], &[0; 64]);
        assert_eq!(&bytes[BLOCK + DIRENT..], &[b'z'; 53]);
    }
}
