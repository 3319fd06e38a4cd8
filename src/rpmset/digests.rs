//! Running hashes, and what packages claim of them.

use std::io::{self, Read as _};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_256, Sha3_512};

use super::error::Problem;
use super::files::DigestAlgorithm;
use crate::formats::rpm::Preamble;
use crate::formats::rpm::tag::{self, signature};
use crate::store::{Blob, Digest, hex};

/// A running hash of any algorithm that RPM uses.
pub enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    Sha3_256(Sha3_256),
    Sha3_512(Sha3_512),
}

impl Hasher {
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        match algorithm {
            DigestAlgorithm::Md5 => Self::Md5(Md5::new()),
            DigestAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            DigestAlgorithm::Sha224 => Self::Sha224(Sha224::new()),
            DigestAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Sha384 => Self::Sha384(Sha384::new()),
            DigestAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
            DigestAlgorithm::Sha3_256 => Self::Sha3_256(Sha3_256::new()),
            DigestAlgorithm::Sha3_512 => Self::Sha3_512(Sha3_512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha224(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha3_256(hasher) => hasher.update(bytes),
            Self::Sha3_512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest, in lower-case hexadecimal.
    pub fn finish(self) -> String {
        match self {
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Sha224(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha384(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
            Self::Sha3_256(hasher) => hex(&hasher.finalize()),
            Self::Sha3_512(hasher) => hex(&hasher.finalize()),
        }
    }
}

fn compare(what: &str, found: &str, claims: &'static str, expected: &str) -> Result<(), Problem> {
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Problem::Digest {
        what: what.to_owned(),
        found: found.to_owned(),
        claims,
        expected: expected.to_owned(),
    })
}

/// Holds the header's bytes against the digests in the signature header.
pub fn check_header(preamble: &Preamble) -> Result<(), Problem> {
    let claims = "its signature header";
    let text = |number| -> Result<Option<String>, Problem> {
        let value = preamble.signature.string(number)?;
        Ok(value.map(|value| value.escape_ascii().to_string()))
    };
    let raw = preamble.header.raw();
    if let Some(expected) = text(signature::SHA3_256)? {
        compare(
            "header's SHA3-256",
            &hex(&Sha3_256::digest(raw)),
            claims,
            &expected,
        )?;
    }
    if let Some(expected) = text(signature::SHA256)? {
        compare("header's SHA-256", &hex(&Sha256::digest(raw)), claims, &expected)?;
    }
    if let Some(expected) = text(signature::SHA1)? {
        compare("header's SHA-1", &hex(&Sha1::digest(raw)), claims, &expected)?;
    }
    Ok(())
}

/// Hashes a compressed payload while it passes, for every digest that the package claims of it.
pub struct PayloadCheck {
    /// Of the payload as it stands in the file.
    payload: Vec<(Hasher, String)>,
    /// Of header and payload.
    md5: Option<(Md5, String)>,
    length: u64,
    expected_length: Option<u64>,
}

impl PayloadCheck {
    /// # Errors
    /// Where the package has no digest that covers its payload, or a malformed one.
    pub fn new(preamble: &Preamble) -> Result<Self, Problem> {
        let Preamble {
            header,
            signature: sig,
            ..
        } = preamble;
        let number = header.u32(tag::PAYLOADDIGESTALGO)?.unwrap_or(8);
        let claims = [
            (tag::PAYLOADDIGEST, number),
            (tag::PAYLOADSHA512, 10),
            (tag::PAYLOADSHA3_256, 12),
        ];
        let mut payload = Vec::new();
        for (tag, number) in claims {
            if let Some(expected) = header.string(tag)? {
                let algorithm = DigestAlgorithm::from_number(number);
                let algorithm = algorithm.ok_or(Problem::NoDigest("its payload (unknown algorithm)"))?;
                payload.push((Hasher::new(algorithm), expected.escape_ascii().to_string()));
            }
        }
        let md5 = sig
            .binary(signature::MD5)?
            .map(|expected| (Md5::new_with_prefix(header.raw()), hex(expected)));
        if payload.is_empty() && md5.is_none() {
            return Err(Problem::NoDigest("its payload"));
        }
        let size = sig.u32(signature::SIZE)?.map(u64::from);
        let size = size.or(sig.u64s(signature::LONGSIZE)?.first().copied());
        let expected_length = size.map(|size| size.saturating_sub(header.raw().len() as u64));
        Ok(Self {
            payload,
            md5,
            length: 0,
            expected_length,
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for (hasher, _) in &mut self.payload {
            hasher.update(bytes);
        }
        if let Some((hasher, _)) = &mut self.md5 {
            hasher.update(bytes);
        }
    }

    /// # Errors
    /// Where a claim does not hold.
    pub fn finish(self) -> Result<(), Problem> {
        let claims = "its signature header";
        if let Some(expected) = self.expected_length
            && expected != self.length
        {
            let (found, expected) = (self.length.to_string(), expected.to_string());
            return compare("payload's length in bytes", &found, claims, &expected);
        }
        for (hasher, expected) in self.payload {
            compare("payload's digest", &hasher.finish(), "its header", &expected)?;
        }
        if let Some((hasher, expected)) = self.md5 {
            compare(
                "header and payload's MD5",
                &hex(&hasher.finalize()),
                claims,
                &expected,
            )?;
        }
        Ok(())
    }
}

impl super::FileDigest {
    /// Whether it is the digest of `blob`.
    ///
    /// # Errors
    /// Where the contents cannot be read.
    pub fn is_of(&self, blob: &Blob) -> io::Result<bool> {
        if self.algorithm == DigestAlgorithm::Sha256 {
            return Ok(blob.sha256().to_string() == self.hex);
        }
        let mut hasher = Hasher::new(self.algorithm);
        let mut reader = blob.reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hasher.finish() == self.hex),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

/// Hashes one file: its SHA-256 always, and the digest that the header claims.
pub struct FileCheck<'a> {
    sha256: Sha256,
    other: Option<Hasher>,
    expected: Option<&'a super::FileDigest>,
}

impl<'a> FileCheck<'a> {
    pub fn new(expected: Option<&'a super::FileDigest>) -> Self {
        let other = expected.map(|digest| digest.algorithm);
        let other = other.filter(|algorithm| *algorithm != DigestAlgorithm::Sha256);
        Self {
            sha256: Sha256::new(),
            other: other.map(Hasher::new),
            expected,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(hasher) = &mut self.other {
            hasher.update(bytes);
        }
    }

    /// # Errors
    /// Where the claimed digest does not hold.
    pub fn finish(self, path: &crate::path::TreePath) -> Result<Digest, Problem> {
        let sha256 = Digest::finish(self.sha256);
        if let Some(expected) = self.expected {
            let found = self.other.map_or_else(|| sha256.to_string(), Hasher::finish);
            compare(
                &format!("file `{path}`'s digest"),
                &found,
                "its header",
                &expected.hex,
            )?;
        }
        Ok(sha256)
    }
}
