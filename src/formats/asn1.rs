//! Writing DER: the few shapes that signatures and certificates are made of.
//!
//! Specification: ITU-T X.690.

use der::Encode as _;
use der::asn1::ObjectIdentifier;

pub use super::der::{BIT_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTF8_STRING};

/// `NULL`, whole.
pub const NULL: [u8; 2] = [0x05, 0x00];

/// The tag `[number]` of a context, constructed.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// An element: `tag`, the length of all `parts`, the parts.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeroes = digits.iter().take_while(|&&digit| digit == 0).count();
            bytes.push(0x80 | (digits.len() - zeroes) as u8);
            bytes.extend_from_slice(&digits[zeroes..]);
        }
    }
    bytes.reserve(length);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// `SEQUENCE` of whole elements.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

/// `SET OF` under `tag`: whole elements, in the order of their bytes as DER wants.
pub fn set_of(tag: u8, mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort();
    let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
    element(tag, &members)
}

/// `OBJECT IDENTIFIER`.
pub fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    element(OID, &[oid.as_bytes()])
}

/// A number that is not negative.
pub fn integer(value: u64) -> Vec<u8> {
    // The encoding of a machine number cannot fail.
    value.to_der().unwrap_or_default()
}

/// `INTEGER` of big-endian bytes, taken as a number that is not negative.
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeroes = bytes.iter().take_while(|&&byte| byte == 0).count();
    let digits = &bytes[zeroes..];
    let pad: &[u8] = match digits.first() {
        Some(0..0x80) => &[],
        _ => &[0],
    };
    element(INTEGER, &[pad, digits])
}

/// `BIT STRING` of whole bytes.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_der() {
        for (length, header) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (256, vec![4, 0x82, 1, 0]),
            (70000, vec![4, 0x83, 1, 0x11, 0x70]),
        ] {
            let bytes = element(OCTET_STRING, &[&vec![7; length]]);
            assert_eq!(bytes[..header.len()], header, "{length}");
            assert_eq!(bytes.len(), header.len() + length);
        }
        for (bytes, encoded) in [
            (&[0, 0][..], vec![2, 1, 0]),
            (&[0x7f], vec![2, 1, 0x7f]),
            (&[0, 0x80], vec![2, 2, 0, 0x80]),
            (&[1, 0], vec![2, 2, 1, 0]),
        ] {
            assert_eq!(unsigned(bytes), encoded);
        }
        assert_eq!(integer(0x80), [2, 2, 0, 0x80]);
        let members = vec![integer(3), integer(1)];
        assert_eq!(set_of(SET, members), [0x31, 6, 2, 1, 1, 2, 1, 3]);
    }
}
