//! The string store of systemd's databases (hwdb, journal catalog): NUL-terminated strings one after the other, each
//! held once, and one that ends another only as that other's tail.
//!
//! Follows `strbuf` of systemd, whose offsets depend on the order in which strings come: a string becomes the tail of
//! an earlier one, never the reverse.

/// Strings that may be held at most, in bytes.
const MAX_BYTES: usize = 1 << 30;

/// Strings, found again by their ends.
#[derive(Debug)]
pub struct Strbuf {
    bytes: Vec<u8>,
    nodes: Vec<Node>,
}

/// A stored string, at the end of a path of last bytes.
#[derive(Debug, Default)]
struct Node {
    offset: usize,
    len: usize,
    /// By the next byte towards the front, in order.
    children: Vec<(u8, usize)>,
}

/// The store is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the strings would pass 1 GiB")]
pub struct StrbufFull;

impl Default for Strbuf {
    fn default() -> Self {
        Self {
            // The empty string lies at offset 0.
            bytes: vec![0],
            nodes: vec![Node::default()],
        }
    }
}

impl Strbuf {
    /// The offset of `text`, which is added where it is not there yet. `text` must not hold a NUL.
    ///
    /// # Errors
    /// [`StrbufFull`].
    pub fn add(&mut self, text: &[u8]) -> Result<u64, StrbufFull> {
        if text.is_empty() {
            return Ok(0);
        }
        let mut node = 0;
        for &byte in text.iter().rev() {
            let at = &self.nodes[node];
            let tail = at.offset + at.len.saturating_sub(text.len());
            if at.len >= text.len() && &self.bytes[tail..tail + text.len()] == text {
                return Ok(tail as u64);
            }
            match at.children.binary_search_by_key(&byte, |child| child.0) {
                Ok(index) => node = at.children[index].1,
                Err(index) => return self.append(text, node, index, byte),
            }
        }
        // Every byte was found on the way: the node's string ends in `text`.
        let at = &self.nodes[node];
        Ok((at.offset + at.len - text.len()) as u64)
    }

    fn append(&mut self, text: &[u8], node: usize, index: usize, byte: u8) -> Result<u64, StrbufFull> {
        if self.bytes.len() + text.len() >= MAX_BYTES {
            return Err(StrbufFull);
        }
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        let new = self.nodes.len();
        self.nodes.push(Node {
            offset,
            len: text.len(),
            children: Vec::new(),
        });
        self.nodes[node].children.insert(index, (byte, new));
        Ok(offset as u64)
    }

    /// The string at `offset`, up to its NUL; empty where there is none.
    pub fn get(&self, offset: u64) -> &[u8] {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default();
        from.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// All strings, as they are written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_their_tails_are_held_once() {
        let mut store = Strbuf::default();
        let table: [(&[u8], u64); 7] = [
            (b"", 0),
            (b"modalias", 1),
            (b"alias", 4),
            (b"modalias", 1),
            (b"xalias", 10),
            (b"s", 8),
            // No tail of what is there, though it begins alike.
            (b"mod", 17),
        ];
        for (text, offset) in table {
            assert_eq!(store.add(text), Ok(offset), "{}", text.escape_ascii());
            assert_eq!(store.get(offset), text);
        }
        assert_eq!(store.as_bytes(), b"\0modalias\0xalias\0mod\0");
        assert_eq!(store.get(1000), b"");
    }
}
