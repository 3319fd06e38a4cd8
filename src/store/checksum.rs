//! Digests that repositories give of files: SHA-256, SHA-512.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};

use super::{Digest, hex, unhex};

/// A digest that a file is expected to have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    Sha256(Digest),
    Sha512([u8; 64]),
}

/// A digest that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    #[error("the checksum is {0}, which can be forged")]
    Weak(String),
    #[error("the checksum is of an unknown kind, `{0}`")]
    Unknown(String),
    #[error("`{0}` is not a checksum in hexadecimal digits of the right number")]
    Malformed(String),
}

impl Checksum {
    /// Takes a digest by the name that RPM repositories give its algorithm, in either case.
    ///
    /// # Errors
    /// Where the algorithm is weak or unknown, or the digest not hexadecimal of its length.
    pub fn parse(algorithm: &str, digits: &str) -> Result<Self, ChecksumError> {
        let malformed = || ChecksumError::Malformed(digits.escape_debug().to_string());
        match algorithm.to_ascii_lowercase().as_str() {
            "sha256" => digits.parse().map(Self::Sha256).map_err(|_| malformed()),
            "sha512" => unhex(digits)
                .and_then(|bytes| bytes.try_into().ok())
                .map(Self::Sha512)
                .ok_or_else(malformed),
            weak @ ("md5" | "sha" | "sha1") => Err(ChecksumError::Weak(match weak {
                "md5" => "MD5".to_owned(),
                _ => "SHA-1".to_owned(),
            })),
            _ => Err(ChecksumError::Unknown(algorithm.escape_debug().to_string())),
        }
    }

    /// Whether both are of one algorithm: then the same file has the same.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// As it is named in a store: the algorithm's name before all but SHA-256.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Sha512(bytes) => format!("sha512-{}", hex(bytes)),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "SHA-256 {digest}"),
            Self::Sha512(bytes) => write!(f, "SHA-512 {}", hex(bytes)),
        }
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes what passes by: always SHA-256, and SHA-512 where that is expected.
#[derive(Debug, Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// For a file that should have the digest `expected`.
    pub fn new(expected: Option<&Checksum>) -> Self {
        Self {
            sha256: Sha256::new(),
            sha512: matches!(expected, Some(Checksum::Sha512(_))).then(Sha512::new),
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(piece);
        }
    }

    /// The SHA-256, and the digest to hold against the one expected.
    pub fn finish(self) -> (Digest, Checksum) {
        let sha256 = Digest::finish(self.sha256);
        let checksum = match self.sha512 {
            Some(sha512) => Checksum::Sha512(sha512.finalize().into()),
            None => Checksum::Sha256(sha256),
        };
        (sha256, checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strong_checksums_are_taken_and_weak_ones_named() {
        let digits = Digest::of(b"x").to_string();
        assert_eq!(
            Checksum::parse("SHA256", &digits),
            Ok(Checksum::Sha256(Digest::of(b"x")))
        );
        let long = hex(&Sha512::digest(b"x"));
        let parsed = Checksum::parse("sha512", &long).unwrap();
        let mut hasher = Hasher::new(Some(&parsed));
        hasher.update(b"x");
        assert_eq!(hasher.finish(), (Digest::of(b"x"), parsed));
        for (algorithm, digits, expected) in [
            ("sha", "00", ChecksumError::Weak("SHA-1".to_owned())),
            ("md5", "00", ChecksumError::Weak("MD5".to_owned())),
            ("crc32", "00", ChecksumError::Unknown("crc32".to_owned())),
            ("sha256", &long, ChecksumError::Malformed(long.clone())),
            ("sha512", "zz", ChecksumError::Malformed("zz".to_owned())),
        ] {
            assert_eq!(Checksum::parse(algorithm, digits), Err(expected), "{algorithm}");
        }
    }
}
