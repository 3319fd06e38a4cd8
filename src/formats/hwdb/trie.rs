//! The radix tree of a hardware database, in memory and as it is written.

use std::cmp::Ordering;

use super::super::strbuf::{Strbuf, StrbufFull};

const SIGNATURE: &[u8; 8] = b"KSLPHHRH";
const HEADER_SIZE: u64 = 80;
const NODE_SIZE: u64 = 24;
const CHILD_SIZE: u64 = 16;
const VALUE_SIZE: u64 = 32;

/// A property of a match, and where it is written.
#[derive(Debug, Clone, Copy)]
pub struct Property<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub file: &'a [u8],
    pub line: u32,
    /// The file's place among all files, from 1.
    pub rank: u16,
}

/// Matches by their bytes.
#[derive(Debug)]
pub struct Trie {
    strings: Strbuf,
    /// The root first.
    nodes: Vec<Node>,
    properties: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Of the bytes that all matches below share.
    prefix: u64,
    /// By the byte that follows the prefix, in order.
    children: Vec<(u8, usize)>,
    /// By key, in order.
    values: Vec<Value>,
}

/// A property by the offsets of its strings.
#[derive(Debug, Clone, Copy)]
struct Value {
    key: u64,
    value: u64,
    file: u64,
    line: u32,
    rank: u16,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            strings: Strbuf::default(),
            nodes: vec![Node::default()],
            properties: 0,
        }
    }
}

impl Trie {
    pub fn properties(&self) -> usize {
        self.properties
    }

    /// Adds `property` to the match `pattern`, in place of one with the same key.
    pub fn insert(&mut self, pattern: &[u8], property: &Property<'_>) -> Result<(), StrbufFull> {
        let (mut node, mut rest) = (0, pattern);
        loop {
            let prefix = self.strings.get(self.nodes[node].prefix);
            let common = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                self.split(node, common)?;
            }
            let Some((&byte, after)) = rest[common..].split_first() else {
                return self.add_value(node, property);
            };
            rest = after;
            let children = &self.nodes[node].children;
            match children.binary_search_by_key(&byte, |child| child.0) {
                Ok(index) => node = children[index].1,
                Err(index) => {
                    let prefix = self.strings.add(rest)?;
                    let new = self.nodes.len();
                    self.nodes.push(Node {
                        prefix,
                        ..Node::default()
                    });
                    self.nodes[node].children.insert(index, (byte, new));
                    return self.add_value(new, property);
                }
            }
        }
    }

    /// Leaves `common` bytes of the prefix to `node`, and gives what follows to a new child.
    fn split(&mut self, node: usize, common: usize) -> Result<(), StrbufFull> {
        let text = self.strings.get(self.nodes[node].prefix).to_vec();
        let prefix = self.strings.add(&text[..common])?;
        let new = self.nodes.len();
        let old = std::mem::take(&mut self.nodes[node]);
        self.nodes[node] = Node {
            prefix,
            children: vec![(text[common], new)],
            values: Vec::new(),
        };
        self.nodes.push(Node {
            prefix: old.prefix + common as u64 + 1,
            ..old
        });
        Ok(())
    }

    fn add_value(&mut self, node: usize, property: &Property<'_>) -> Result<(), StrbufFull> {
        // In this order: offsets depend on it.
        let value = Value {
            key: self.strings.add(property.key)?,
            value: self.strings.add(property.value)?,
            file: self.strings.add(property.file)?,
            line: property.line,
            rank: property.rank,
        };
        let strings = &self.strings;
        let values = &mut self.nodes[node].values;
        let found = values.binary_search_by(|there| {
            if there.key == value.key {
                Ordering::Equal
            } else {
                strings.get(there.key).cmp(property.key)
            }
        });
        match found {
            Ok(index) => {
                values[index] = Value {
                    key: values[index].key,
                    ..value
                }
            }
            Err(index) => {
                values.insert(index, value);
                self.properties += 1;
            }
        }
        Ok(())
    }

    /// The whole file. `version` is systemd's.
    pub fn to_bytes(&self, version: u64) -> Vec<u8> {
        let size = |node: &Node| {
            NODE_SIZE + CHILD_SIZE * node.children.len() as u64 + VALUE_SIZE * node.values.len() as u64
        };
        let nodes_len: u64 = self.nodes.iter().map(size).sum();
        let strings_at = HEADER_SIZE + nodes_len;
        let file_size = strings_at + self.strings.as_bytes().len() as u64;

        let mut out = vec![0; HEADER_SIZE as usize];
        out.reserve_exact((file_size - HEADER_SIZE) as usize);
        let mut offsets = vec![0u64; self.nodes.len()];
        // Children before parents, without recursion: a chain of matches may be long.
        let mut stack = vec![(0, 0)];
        while let Some((node, next)) = stack.pop() {
            if let Some(&(_, child)) = self.nodes[node].children.get(next) {
                stack.push((node, next + 1));
                stack.push((child, 0));
                continue;
            }
            offsets[node] = out.len() as u64;
            self.nodes[node].write(strings_at, &offsets, &mut out);
        }
        out.extend_from_slice(self.strings.as_bytes());

        let header = [
            u64::from_le_bytes(*SIGNATURE),
            version,
            file_size,
            HEADER_SIZE,
            NODE_SIZE,
            CHILD_SIZE,
            VALUE_SIZE,
            offsets[0],
            nodes_len,
            self.strings.as_bytes().len() as u64,
        ];
        for (place, field) in out.chunks_exact_mut(8).zip(header) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        out
    }
}

impl Node {
    fn write(&self, strings_at: u64, offsets: &[u64], out: &mut Vec<u8>) {
        let put = |out: &mut Vec<u8>, number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(out, strings_at + self.prefix);
        // One byte of count, seven of padding: a byte that is no NUL leads to each, so there are at most 255.
        put(out, self.children.len() as u64);
        put(out, self.values.len() as u64);
        for &(byte, child) in &self.children {
            put(out, byte.into());
            put(out, offsets[child]);
        }
        for value in &self.values {
            put(out, strings_at + value.key);
            put(out, strings_at + value.value);
            put(out, strings_at + value.file);
            put(out, u64::from(value.line) | u64::from(value.rank) << 32);
        }
    }
}
