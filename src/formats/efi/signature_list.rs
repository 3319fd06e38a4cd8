//! Signature databases: what `PK`, `KEK`, `db` and `dbx` consist of, and what `.esl` files hold.
//!
//! A database is a sequence of `EFI_SIGNATURE_LIST` (UEFI 2.10, 32.4.1): a header of 28 bytes (type, size of the list, of
//! the type's own header and of one signature), the type's header (empty for all types in use), then signatures of equal
//! size, each the GUID of its owner and the data. What is read is written back byte for byte.

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use uuid::Uuid;

use super::bytes::{array, guid_at, size_at};
use super::guid;
use super::time::Time;
use crate::formats::der;

/// Type, and three sizes.
const HEADER: usize = 28;
const GUID: usize = 16;

/// Bytes are no signature database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the signature database: {what}")]
pub struct SignatureListError {
    /// Where the list begins that is not understood.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// One signature of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who put it there.
    pub owner: Uuid,
    /// What it is follows from the list's type.
    pub data: Vec<u8>,
}

/// Signatures of one type and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureList {
    /// The signatures' type, see [`guid`].
    pub kind: Uuid,
    /// The type's own header.
    pub header: Vec<u8>,
    /// Length of each signature's data in bytes.
    pub size: usize,
    pub signatures: Vec<Signature>,
}

/// What a signature allows (in `db`) or forbids (in `dbx`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Whatever this certificate signed, in DER.
    Certificate(&'a [u8]),
    /// The image with this Authenticode digest.
    Image(&'a [u8; 32]),
    /// The certificate whose signed part has this digest (SHA-256, 384 or 512, told by its length), for signatures made
    /// after a time, or all where that is [`Time::ZERO`].
    CertificateDigest(&'a [u8], Time),
    /// Something else; its type and data.
    Other(Uuid, &'a [u8]),
}

/// A sequence of signature lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureDatabase {
    pub lists: Vec<SignatureList>,
}

impl SignatureDatabase {
    /// Reads the lists that `bytes` consist of; no bytes are an empty database.
    ///
    /// # Errors
    /// A list that is cut off or contradicts itself, or data that its type cannot have.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureListError> {
        let mut lists = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (list, size) = SignatureList::parse(rest).map_err(|what| SignatureListError { at, what })?;
            lists.push(list);
            at += size;
        }
        Ok(Self { lists })
    }

    /// The database's bytes: a variable's value, or an `.esl` file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lists.iter().flat_map(SignatureList::to_bytes).collect()
    }

    /// All signatures.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.lists.iter().flat_map(SignatureList::entries)
    }

    /// The certificates, in DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.entries().filter_map(|entry| match entry {
            Entry::Certificate(der) => Some(der),
            _ => None,
        })
    }

    /// The Authenticode digests of images.
    pub fn images(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.entries().filter_map(|entry| match entry {
            Entry::Image(digest) => Some(digest),
            _ => None,
        })
    }

    /// Whether an image with the Authenticode digest `sha256` is listed by that digest.
    pub fn lists_image(&self, sha256: &[u8; 32]) -> bool {
        self.images().any(|digest| digest == sha256)
    }

    /// Whether the certificate `der` is listed, as itself or by the digest of its signed part. Firmware refuses what it
    /// or a certificate below it signed where this is so in `dbx`. The time of a revocation does not count: a signature
    /// without a trusted time stamp, as all are that are made here, is taken as made after it.
    pub fn lists_certificate(&self, der: &[u8]) -> bool {
        let signed = signed_part(der);
        self.entries().any(|entry| match (entry, signed) {
            (Entry::Certificate(listed), _) => listed == der,
            (Entry::CertificateDigest(digest, _), Some(signed)) => match digest.len() {
                32 => Sha256::digest(signed)[..] == *digest,
                48 => Sha384::digest(signed)[..] == *digest,
                _ => Sha512::digest(signed)[..] == *digest,
            },
            _ => false,
        })
    }

    /// Adds a certificate, unless it is there. It gets a list of its own, as their lengths differ.
    pub fn add_certificate(&mut self, owner: Uuid, der: &[u8]) {
        if self.certificates().any(|known| known == der) {
            return;
        }
        self.lists.push(SignatureList {
            kind: guid::CERT_X509,
            header: Vec::new(),
            size: der.len(),
            signatures: vec![Signature {
                owner,
                data: der.to_vec(),
            }],
        });
    }

    /// Adds an image's Authenticode digest, unless it is there. All of these share a list.
    pub fn add_image(&mut self, owner: Uuid, sha256: [u8; 32]) {
        if self.lists_image(&sha256) {
            return;
        }
        let signature = Signature {
            owner,
            data: sha256.to_vec(),
        };
        let mut lists = self.lists.iter_mut();
        match lists.find(|list| list.kind == guid::CERT_SHA256) {
            Some(list) => list.signatures.push(signature),
            None => self.lists.push(SignatureList {
                kind: guid::CERT_SHA256,
                header: Vec::new(),
                size: 32,
                signatures: vec![signature],
            }),
        }
    }

    /// Adds every signature of `other` that is not there, whatever its type.
    pub fn add_all(&mut self, other: &Self) {
        for list in &other.lists {
            let mut new = list.clone();
            new.signatures.retain(|signature| {
                let mut same = self.lists.iter().filter(|known| known.kind == list.kind);
                !same.any(|known| known.signatures.iter().any(|known| known.data == signature.data))
            });
            if !new.signatures.is_empty() {
                self.lists.push(new);
            }
        }
    }

    /// Whether there is no signature.
    pub fn is_empty(&self) -> bool {
        self.lists.iter().all(|list| list.signatures.is_empty())
    }
}

impl SignatureList {
    /// The list at the start of `bytes`, and its length.
    fn parse(bytes: &[u8]) -> Result<(Self, usize), &'static str> {
        const CUT: &str = "the list is cut off";
        let kind = guid_at(bytes, 0).ok_or(CUT)?;
        let total = size_at(bytes, 16).ok_or(CUT)?;
        let header = size_at(bytes, 20).ok_or(CUT)?;
        let each = size_at(bytes, 24).ok_or(CUT)?;
        let content = bytes.get(HEADER..total).ok_or(CUT)?;
        let (header, content) = content
            .split_at_checked(header)
            .ok_or("the header of its type is longer than the list")?;
        let size = each
            .checked_sub(GUID)
            .ok_or("its signatures are shorter than an owner's GUID")?;
        if !content.len().is_multiple_of(each) {
            return Err("its length is not a whole number of signatures");
        }
        if data_size(kind).is_some_and(|expected| expected != size) {
            return Err("its signatures have not the length that their type has");
        }
        if data_size(kind).is_some() && !header.is_empty() {
            return Err("its type has no header, and it has one");
        }
        let signatures = content.chunks_exact(each).filter_map(|signature| {
            Some(Signature {
                owner: guid_at(signature, 0)?,
                data: signature.get(GUID..)?.to_vec(),
            })
        });
        let list = Self {
            kind,
            header: header.to_vec(),
            size,
            signatures: signatures.collect(),
        };
        Ok((list, total))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let each = GUID + self.size;
        let total = HEADER + self.header.len() + each * self.signatures.len();
        let mut bytes = Vec::with_capacity(total);
        bytes.extend(self.kind.to_bytes_le());
        for size in [total, self.header.len(), each] {
            // A certificate of 4 GiB fits into no firmware.
            bytes.extend(u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes.extend(&self.header);
        for signature in &self.signatures {
            bytes.extend(signature.owner.to_bytes_le());
            bytes.extend(&signature.data);
        }
        bytes
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let kind = self.kind;
        self.signatures
            .iter()
            .map(move |signature| entry(kind, &signature.data))
    }
}

/// How long the data of a signature of `kind` is, where that is fixed.
fn data_size(kind: Uuid) -> Option<usize> {
    match kind {
        guid::CERT_SHA256 => Some(32),
        guid::CERT_X509_SHA256 => Some(32 + 16),
        guid::CERT_X509_SHA384 => Some(48 + 16),
        guid::CERT_X509_SHA512 => Some(64 + 16),
        _ => None,
    }
}

fn entry(kind: Uuid, data: &[u8]) -> Entry<'_> {
    let other = Entry::Other(kind, data);
    match kind {
        guid::CERT_X509 => Entry::Certificate(data),
        guid::CERT_SHA256 => data.try_into().map_or(other, Entry::Image),
        guid::CERT_X509_SHA256 | guid::CERT_X509_SHA384 | guid::CERT_X509_SHA512 => {
            let split = data.len().checked_sub(16);
            let parts = split.and_then(|at| Some((data.get(..at)?, Time(array(data, at)?))));
            parts.map_or(other, |(digest, time)| Entry::CertificateDigest(digest, time))
        }
        _ => other,
    }
}

/// The part of a certificate that its issuer signed (`TBSCertificate`), as encoded.
fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let (signed, _) = der::next(der::only(der, der::SEQUENCE)?)?;
    Some(signed.whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

    /// SEQUENCE { SEQUENCE { INTEGER 1 }, SEQUENCE {}, BIT STRING }: no certificate but for its frame.
    const FRAME: &[u8] = &[0x30, 10, 0x30, 3, 2, 1, 1, 0x30, 0, 3, 1, 0];

    fn list(kind: Uuid, total: u32, header: u32, each: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_bytes_le().to_vec();
        for size in [total, header, each] {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(content);
        bytes
    }

    #[test]
    fn lists_stand_as_the_specification_says() {
        let mut database = SignatureDatabase::default();
        database.add_certificate(OWNER, FRAME);
        database.add_image(OWNER, [1; 32]);
        database.add_image(OWNER, [2; 32]);
        database.add_image(OWNER, [1; 32]);
        database.add_certificate(OWNER, FRAME);
        let owner = OWNER.to_bytes_le();
        assert_eq!(owner[..8], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        let mut expected = list(guid::CERT_X509, 28 + 28, 0, 28, &[&owner, FRAME].concat());
        expected.extend(list(
            guid::CERT_SHA256,
            28 + 96,
            0,
            48,
            &[&owner[..], &[1; 32], &owner, &[2; 32]].concat(),
        ));
        assert_eq!(database.to_bytes(), expected);
        let read = SignatureDatabase::parse(&expected).unwrap();
        assert_eq!(read, database);
        assert_eq!(read.certificates().collect::<Vec<_>>(), [FRAME]);
        assert_eq!(read.images().collect::<Vec<_>>(), [&[1; 32], &[2; 32]]);
        assert!(SignatureDatabase::parse(&[]).unwrap().is_empty() && !read.is_empty());
    }

    #[test]
    fn certificates_are_found_by_digest() {
        let signed = &FRAME[2..7];
        let cases: [(Uuid, Vec<u8>); 3] = [
            (guid::CERT_X509_SHA256, Sha256::digest(signed).to_vec()),
            (guid::CERT_X509_SHA384, Sha384::digest(signed).to_vec()),
            (guid::CERT_X509_SHA512, Sha512::digest(signed).to_vec()),
        ];
        let time = Time::from_unix(1_700_000_000);
        for (kind, digest) in cases {
            let content = [&OWNER.to_bytes_le()[..], &digest, &time.0].concat();
            let each = content.len() as u32;
            let database = SignatureDatabase::parse(&list(kind, 28 + each, 0, each, &content)).unwrap();
            assert!(database.lists_certificate(FRAME), "{kind}");
            let mut other = FRAME.to_vec();
            other[6] = 2;
            assert!(!database.lists_certificate(&other), "{kind}");
            // The issuer's signature is no part of the digest.
            other = FRAME.to_vec();
            other[11] = 2;
            assert!(database.lists_certificate(&other), "{kind}");
            let entries: Vec<_> = database.entries().collect();
            assert_eq!(entries, [Entry::CertificateDigest(&digest, time)]);
        }
        let mut database = SignatureDatabase::default();
        database.add_certificate(OWNER, FRAME);
        assert!(database.lists_certificate(FRAME) && !database.lists_certificate(&FRAME[1..]));
        assert!(!database.lists_certificate(b"") && !database.lists_image(&[0; 32]));
    }

    #[test]
    fn databases_are_joined_without_repetition() {
        let (mut one, mut two) = (SignatureDatabase::default(), SignatureDatabase::default());
        one.add_image(OWNER, [1; 32]);
        two.add_image(OWNER, [1; 32]);
        two.add_image(OWNER, [2; 32]);
        two.add_certificate(OWNER, FRAME);
        one.add_all(&two);
        one.add_all(&two);
        let expected = [
            Entry::Image(&[1; 32]),
            Entry::Image(&[2; 32]),
            Entry::Certificate(FRAME),
        ];
        assert_eq!(one.entries().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn broken_lists_are_refused() {
        let good = list(guid::CERT_SHA256, 76, 0, 48, &[7; 48]);
        let other = Uuid::from_u128(5);
        let table: &[(Vec<u8>, &str)] = &[
            (good[..75].to_vec(), "cut off"),
            (good[..27].to_vec(), "cut off"),
            (list(guid::CERT_SHA256, 27, 0, 48, &[]), "cut off"),
            (list(guid::CERT_SHA256, u32::MAX, 0, 48, &[7; 48]), "cut off"),
            (list(other, 76, 49, 48, &[7; 48]), "longer than the list"),
            (list(other, 76, 0, 15, &[7; 48]), "shorter than an owner"),
            (list(other, 76, 0, 0, &[7; 48]), "shorter than an owner"),
            (list(other, 76, 0, 47, &[7; 48]), "whole number"),
            (list(guid::CERT_SHA256, 75, 0, 47, &[7; 47]), "type has"),
            (list(guid::CERT_SHA256, 80, 4, 48, &[7; 52]), "no header"),
        ];
        for (bytes, part) in table {
            let error = SignatureDatabase::parse(bytes).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let second = [&good[..], &good[..40]].concat();
        assert_eq!(SignatureDatabase::parse(&second).unwrap_err().at, 76);
    }

    #[test]
    fn unknown_types_come_back_as_they_were() {
        let kind = Uuid::from_u128(5);
        let bytes = list(kind, 28 + 4 + 2 * 20, 4, 20, &[9; 44]);
        let database = SignatureDatabase::parse(&bytes).unwrap();
        assert_eq!(database.to_bytes(), bytes);
        assert_eq!(
            database.entries().collect::<Vec<_>>(),
            [Entry::Other(kind, &[9; 4]); 2]
        );
        let empty = list(guid::CERT_SHA256, 28, 0, 48, &[]);
        assert_eq!(SignatureDatabase::parse(&empty).unwrap().to_bytes(), empty);
    }
}
