//! One dependency: a name, a relation and a version.

use std::cmp::Ordering;

use crate::formats::rpm::tag::sense;
use crate::rpmset::compare_versions;

const RELATION: u32 = sense::LESS | sense::GREATER | sense::EQUAL;

/// A dependency as a header states it. `evr` is `[epoch:]version[-release]`, empty for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency<'a> {
    pub name: &'a [u8],
    /// Bits of [`sense`].
    pub flags: u32,
    pub evr: &'a [u8],
}

impl Dependency<'_> {
    /// Whether the two ranges of versions share a version, by the rules of `rpmdsCompare`: a missing
    /// epoch is 0, and a release counts only where both sides have one. Names are not compared.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (f, g) = (self.flags & RELATION, other.flags & RELATION);
        if f == 0 || g == 0 || self.evr.is_empty() || other.evr.is_empty() {
            return true;
        }
        let ((e1, v1, r1), (e2, v2, r2)) = (split(self.evr), split(other.evr));
        let order = compare_versions(e1, e2).then_with(|| compare_versions(v1, v2));
        let order = match (order, r1, r2) {
            (Ordering::Equal, Some(a), Some(b)) => compare_versions(a, b),
            (Ordering::Equal, Some(_), None) if g & sense::EQUAL != 0 => return true,
            (Ordering::Equal, None, Some(_)) if f & sense::EQUAL != 0 => return true,
            (order, ..) => order,
        };
        match order {
            Ordering::Less => f & sense::GREATER != 0 || g & sense::LESS != 0,
            Ordering::Greater => f & sense::LESS != 0 || g & sense::GREATER != 0,
            Ordering::Equal => f & g != 0,
        }
    }

    /// As people write it: `name >= 1.0`.
    pub fn text(&self) -> String {
        let mut text = self.name.escape_ascii().to_string();
        if self.flags & RELATION != 0 && !self.evr.is_empty() {
            text.push(' ');
            for (bit, sign) in [(sense::LESS, '<'), (sense::GREATER, '>'), (sense::EQUAL, '=')] {
                if self.flags & bit != 0 {
                    text.push(sign);
                }
            }
            text.push(' ');
            text.push_str(&self.evr.escape_ascii().to_string());
        }
        text
    }
}

/// Epoch (`0` where there is none), version, release.
fn split(evr: &[u8]) -> (&[u8], &[u8], Option<&[u8]>) {
    let digits = evr.iter().take_while(|b| b.is_ascii_digit()).count();
    let (epoch, rest) = match evr.get(digits) {
        Some(b':') if digits > 0 => (&evr[..digits], &evr[digits + 1..]),
        Some(b':') => (&b"0"[..], &evr[1..]),
        _ => (&b"0"[..], evr),
    };
    match rest.iter().rposition(|&b| b == b'-') {
        Some(at) => (
            epoch,
            &rest[..at],
            Some(&rest[at + 1..]).filter(|r| !r.is_empty()),
        ),
        None => (epoch, rest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_as_rpm_says() {
        let (lt, gt, eq) = (sense::LESS, sense::GREATER, sense::EQUAL);
        for (f, a, g, b, wanted) in [
            (eq, "1.0-1", gt | eq, "1.0", true),
            (eq, "1.0-1", gt, "1.0", false),
            (eq, "1:1.0-1", lt, "2.0", false),
            (eq, "0:1.0-1", eq, "1.0-1", true),
            (eq, "1.0-1", eq, "1.0-2", false),
            (lt, "2", gt, "3", false),
            (lt, "2", lt, "2", true),
            (0, "", eq, "9", true),
        ] {
            let a = Dependency {
                name: b"a",
                flags: f,
                evr: a.as_bytes(),
            };
            let b = Dependency {
                name: b"a",
                flags: g,
                evr: b.as_bytes(),
            };
            assert_eq!(a.overlaps(&b), wanted, "{} / {}", a.text(), b.text());
            assert_eq!(b.overlaps(&a), wanted, "{} / {}", b.text(), a.text());
        }
    }
}
