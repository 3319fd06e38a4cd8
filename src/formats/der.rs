//! The distinguished encoding rules (X.690), as far as certificates use them: tags of one byte, definite lengths.

/// A value with its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The value at the start of `bytes`, and what follows it.
pub fn next(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let len = digits
            .iter()
            .fold(0u64, |len, &digit| len << 8 | u64::from(digit));
        (usize::try_from(len).ok()?, rest)
    };
    let (content, after) = rest.split_at_checked(len)?;
    let whole = &bytes[..bytes.len() - after.len()];
    Some((Tlv { tag, content, whole }, after))
}

/// The content of `bytes`, which are one value with `tag` and nothing else.
pub fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    match next(bytes)? {
        (value, []) if value.tag == tag => Some(value.content),
        _ => None,
    }
}

/// All values that `content` consists of.
pub fn elements(content: &[u8]) -> Option<Vec<Tlv<'_>>> {
    let mut rest = content;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (value, after) = next(rest)?;
        values.push(value);
        rest = after;
    }
    Some(values)
}

/// The value with `tag` and `content`.
pub fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = content.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let digits = len.to_be_bytes();
        let used = &digits[len.leading_zeros() as usize / 8..];
        out.push(0x80 | used.len() as u8);
        out.extend_from_slice(used);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        for len in [0, 1, 127, 128, 255, 256, 65536] {
            let content = vec![7; len];
            let mut bytes = encode(OCTET_STRING, &content);
            assert_eq!(only(&bytes, OCTET_STRING), Some(&content[..]), "{len}");
            assert_eq!(only(&bytes, SEQUENCE), None);
            bytes.push(5);
            assert_eq!(only(&bytes, OCTET_STRING), None);
            assert_eq!(next(&bytes).map(|(_, rest)| rest), Some(&[5][..]));
        }
    }

    #[test]
    fn broken_values_are_none() {
        let table: [&[u8]; 7] = [
            b"",
            b"\x30",
            b"\x30\x02\x01",
            b"\x30\x80\x00\x00",
            b"\x30\x85\x01\x01\x01\x01\x01\x00",
            b"\x3f\x20\x00",
            b"\x30\x84\xff\xff\xff\xff",
        ];
        for bytes in table {
            assert_eq!(next(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
