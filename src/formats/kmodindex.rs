//! The index files of kernel modules (`modules.*.bin`): a radix tree from a key (a module's name,
//! an alias with wildcards, a symbol) to values with a priority. Version 2.1, big endian.
//!
//! Header: magic, version, offset of the root. A node's offset carries in its upper bits what the
//! node has, in this order: prefix (NUL-terminated), children (first and last byte, then an offset
//! a byte of that range, 0 for none), values (count; for each a priority and NUL-terminated text).

use std::collections::BTreeMap;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0fff_ffff;
/// Bounds the depth of the tree, and with it the recursion.
const MAX_KEY: usize = 4095;
/// Bytes of keys that reading may go through: some ten times what the largest real index takes.
const MAX_SPENT: usize = 128 << 20;

/// An index in memory.
#[derive(Debug, Default)]
pub struct Index {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    /// By priority; of one priority, the last one inserted first.
    values: Vec<(u32, Vec<u8>)>,
}

/// A key with one of its values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub key: Vec<u8>,
    /// Lesser ones come first: the module's place in `modules.order`.
    pub priority: u32,
    pub value: Vec<u8>,
}

/// An index cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("`{0}` cannot be indexed: only 7-bit ASCII without NUL can")]
    NotAscii(String),
    #[error("`{0}…` is longer than the 4095 bytes that readers take")]
    TooLong(String),
    #[error("the index would pass 256 MiB")]
    TooLarge,
    #[error("not a module index of version 2.1")]
    Magic,
    #[error("the module index is damaged at byte {0}")]
    Damaged(usize),
}

impl Index {
    /// Adds `value` for `key`.
    ///
    /// # Errors
    /// [`IndexError::NotAscii`], and [`IndexError::TooLong`] for the key.
    pub fn insert(&mut self, key: &[u8], value: &[u8], priority: u32) -> Result<(), IndexError> {
        for text in [key, value] {
            if text.iter().any(|b| !b.is_ascii() || *b == 0) {
                return Err(IndexError::NotAscii(text.escape_ascii().to_string()));
            }
        }
        if key.len() > MAX_KEY {
            return Err(IndexError::TooLong(key[..60].escape_ascii().to_string()));
        }
        let mut node = &mut self.root;
        let mut rest = key;
        loop {
            let common = node.prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < node.prefix.len() {
                node.split(common);
            }
            rest = &rest[common..];
            let Some((&first, after)) = rest.split_first() else {
                let at = node.values.partition_point(|(other, _)| *other < priority);
                node.values.insert(at, (priority, value.to_vec()));
                return Ok(());
            };
            rest = after;
            node = node.children.entry(first).or_insert_with(|| Node {
                prefix: after.to_vec(),
                ..Node::default()
            });
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        let mut out = Vec::new();
        let root = 12 | self.root.mask();
        for word in [MAGIC, VERSION, root] {
            out.extend(word.to_be_bytes());
        }
        self.root.write(&mut out)?;
        Ok(out)
    }

    /// All records of an index file, in the order of its tree.
    ///
    /// # Errors
    /// Where it is no index of this version, or damaged.
    pub fn parse(bytes: &[u8]) -> Result<Vec<Record>, IndexError> {
        let word = |at: usize| be32(bytes, at).ok_or(IndexError::Magic);
        if word(0)? != MAGIC || word(4)? != VERSION {
            return Err(IndexError::Magic);
        }
        let mut records = Vec::new();
        let mut spent = 0;
        let mut todo = vec![(word(8)?, Vec::new())];
        while let Some((node, mut key)) = todo.pop() {
            let mut at = (node & OFFSET) as usize;
            let damaged = IndexError::Damaged(at);
            if key.len() > MAX_KEY {
                return Err(damaged);
            }
            if node & HAS_PREFIX != 0 {
                key.extend(text(bytes, &mut at).ok_or(damaged.clone())?);
            }
            if node & HAS_CHILDREN != 0 {
                let (Some(&first), Some(&last)) = (bytes.get(at), bytes.get(at + 1)) else {
                    return Err(damaged);
                };
                at += 2;
                let start = todo.len();
                for byte in first..=last {
                    let child = be32(bytes, at).ok_or(damaged.clone())?;
                    at += 4;
                    if child != 0 {
                        // A tree is finite; a file whose nodes point back at others is not.
                        spent += key.len() + 32;
                        if spent > MAX_SPENT {
                            return Err(damaged);
                        }
                        let mut below = key.clone();
                        below.push(byte);
                        todo.push((child, below));
                    }
                }
                todo[start..].reverse();
            }
            if node & HAS_VALUES != 0 {
                let count = be32(bytes, at).ok_or(damaged.clone())?;
                at += 4;
                for _ in 0..count {
                    let priority = be32(bytes, at).ok_or(damaged.clone())?;
                    at += 4;
                    let value = text(bytes, &mut at).ok_or(damaged.clone())?.to_vec();
                    records.push(Record {
                        key: key.clone(),
                        priority,
                        value,
                    });
                }
            }
        }
        Ok(records)
    }
}

impl Node {
    /// Keeps the first `at` bytes of the prefix and moves everything else into a child.
    fn split(&mut self, at: usize) {
        let mut lower = std::mem::take(self);
        let rest = lower.prefix.split_off(at);
        self.prefix = std::mem::take(&mut lower.prefix);
        if let Some((&first, below)) = rest.split_first() {
            lower.prefix = below.to_vec();
            self.children.insert(first, lower);
        }
    }

    fn mask(&self) -> u32 {
        let bit = |has: bool, mask: u32| if has { mask } else { 0 };
        bit(!self.children.is_empty(), HAS_CHILDREN)
            | bit(!self.prefix.is_empty(), HAS_PREFIX)
            | bit(!self.values.is_empty(), HAS_VALUES)
    }

    /// Appends the node and everything below it.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), IndexError> {
        if !self.prefix.is_empty() {
            out.extend(&self.prefix);
            out.push(0);
        }
        let mut slots = None;
        if let (Some((&first, _)), Some((&last, _))) =
            (self.children.first_key_value(), self.children.last_key_value())
        {
            out.extend([first, last]);
            slots = Some((out.len(), first));
            out.resize(out.len() + 4 * (usize::from(last - first) + 1), 0);
        }
        if !self.values.is_empty() {
            let count = u32::try_from(self.values.len()).map_err(|_| IndexError::TooLarge)?;
            out.extend(count.to_be_bytes());
            for (priority, value) in &self.values {
                out.extend(priority.to_be_bytes());
                out.extend(value);
                out.push(0);
            }
        }
        let Some((slots, first)) = slots else {
            return Ok(());
        };
        for (&byte, child) in &self.children {
            let offset = u32::try_from(out.len()).ok().filter(|offset| *offset <= OFFSET);
            let offset = offset.ok_or(IndexError::TooLarge)? | child.mask();
            let slot = slots + 4 * usize::from(byte - first);
            out[slot..slot + 4].copy_from_slice(&offset.to_be_bytes());
            child.write(out)?;
        }
        Ok(())
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn text<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.iter().position(|&b| b == 0)?;
    *at += end + 1;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, priority: u32, value: &str) -> Record {
        Record {
            key: key.into(),
            priority,
            value: value.into(),
        }
    }

    #[test]
    fn what_is_inserted_is_read_back_in_key_order() {
        let records = [
            record("", 0, "root"),
            record("a", 1, "x"),
            record("abc", 2, "y"),
            record("abc", 5, "z"),
            record("abd", 0, ""),
            record("pci:v*d*", 3, "p"),
        ];
        let mut index = Index::default();
        for record in records.iter().rev() {
            index.insert(&record.key, &record.value, record.priority).unwrap();
        }
        let bytes = index.to_bytes().unwrap();
        assert_eq!(Index::parse(&bytes).unwrap(), records);
    }

    #[test]
    fn the_bytes_of_a_small_index_are_as_the_format_says() {
        let mut index = Index::default();
        index.insert(b"ab", b"v", 7).unwrap();
        let expected = [
            &b"\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0c"[..],
            b"aa\xc0\x00\x00\x12",
            b"b\0\x00\x00\x00\x01\x00\x00\x00\x07v\0",
        ];
        assert_eq!(index.to_bytes().unwrap(), expected.concat());
    }

    #[test]
    fn the_deepest_tree_is_written_and_read() {
        let mut index = Index::default();
        let key = [b'a'; MAX_KEY + 1];
        for length in 1..=MAX_KEY {
            index.insert(&key[..length], b"v", 0).unwrap();
        }
        assert_eq!(
            index.insert(&key, b"v", 0),
            Err(IndexError::TooLong("a".repeat(60)))
        );
        let records = Index::parse(&index.to_bytes().unwrap()).unwrap();
        assert_eq!(records.len(), MAX_KEY);
        assert_eq!(records[MAX_KEY - 1].key, &key[..MAX_KEY]);
    }

    proptest::proptest! {
        #[test]
        fn nonsense_never_panics(at in 8_usize..80, values in proptest::collection::vec(0_u8.., 1..8)) {
            let mut index = Index::default();
            for key in ["abc", "abd", "b", "bcd*", "x"] {
                index.insert(key.as_bytes(), b"value", 1).unwrap();
            }
            let mut bytes = index.to_bytes().unwrap();
            for (index, value) in values.iter().enumerate() {
                if let Some(byte) = bytes.get_mut(at + index) {
                    *byte = *value;
                }
            }
            let _ = Index::parse(&bytes);
        }
    }

    #[test]
    fn damage_and_loops_are_refused() {
        let mut index = Index::default();
        index.insert(b"abc", b"v", 7).unwrap();
        index.insert(b"abd", b"w", 7).unwrap();
        let bytes = index.to_bytes().unwrap();
        for cut in 0..bytes.len() {
            assert!(Index::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut looped = bytes.clone();
        looped[14..18].copy_from_slice(&(HAS_CHILDREN | 12).to_be_bytes());
        assert!(matches!(Index::parse(&looped), Err(IndexError::Damaged(12))));
        assert!(matches!(
            index.insert("ä".as_bytes(), b"", 0),
            Err(IndexError::NotAscii(_))
        ));
    }
}
