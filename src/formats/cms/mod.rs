//! Signed messages: PKCS #7 `SignedData`, version 1, with one signer, in DER.
//!
//! Specifications: RFC 2315 (PKCS #7 1.5), RFC 5652 (CMS). Version 1 with issuer and serial number
//! is what firmware, Authenticode and the kernel take. Without attributes the signature covers the
//! content itself, as `openssl smime -sign -noattr -binary` makes it; with attributes it covers
//! them, and they hold the content's digest. No signing time is written: messages are the same in
//! every build.

mod read;
mod sign;

use der::asn1::ObjectIdentifier;

pub use read::{Message, Signer};
pub use sign::{Attribute, Content, Prepared, SignedData};

use super::x509::{Algorithm, Scheme};

/// `data`: bytes without a structure of their own.
pub const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");

/// Why a message is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    #[error("this is no PKCS #7 signed message in DER: {0}")]
    Malformed(der::Error),
    #[error("the message is of another kind than signed data ({0})")]
    Kind(ObjectIdentifier),
    #[error("the message holds no signature")]
    NoSigner,
    #[error("the digest algorithm {0} is not understood; SHA-256, SHA-384 and SHA-512 are")]
    Digest(ObjectIdentifier),
    #[error("the signature's algorithm does not fit the key of `{0}`")]
    Scheme(String),
    #[error("the message was signed for other content")]
    OtherContent,
    #[error("the signature does not belong to the key of `{0}`")]
    BadSignature(String),
    #[error("the signer's certificate is neither in the message nor among those trusted")]
    UnknownSigner,
    #[error("`{0}` is not trusted: no trusted certificate issued it")]
    Untrusted(String),
}

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [(Self, ObjectIdentifier); 3] = [
        (
            Self::Sha256,
            ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
        ),
        (
            Self::Sha384,
            ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
        ),
        (
            Self::Sha512,
            ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
        ),
    ];

    /// The one that `scheme` hashes with; Ed25519 is paired with SHA-512 (RFC 8419).
    pub fn of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::RsaPkcs1Sha256 | Scheme::EcdsaP256Sha256 => Self::Sha256,
            Scheme::RsaPkcs1Sha384 | Scheme::EcdsaP384Sha384 => Self::Sha384,
            Scheme::RsaPkcs1Sha512 | Scheme::Ed25519 => Self::Sha512,
        }
    }

    pub fn oid(self) -> ObjectIdentifier {
        Self::ALL[self as usize].1
    }

    /// # Errors
    /// Where `oid` names another algorithm.
    pub fn from_oid(oid: ObjectIdentifier) -> Result<Self, CmsError> {
        let found = Self::ALL.iter().find(|(_, known)| *known == oid);
        found.map(|(hash, _)| *hash).ok_or(CmsError::Digest(oid))
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        use sha2::Digest as _;
        match self {
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }

    /// How a key of `algorithm` signs with this digest, if it does.
    fn scheme(self, algorithm: Algorithm) -> Option<Scheme> {
        match (algorithm, self) {
            (Algorithm::Rsa(_), Self::Sha256) => Some(Scheme::RsaPkcs1Sha256),
            (Algorithm::Rsa(_), Self::Sha384) => Some(Scheme::RsaPkcs1Sha384),
            (Algorithm::Rsa(_), Self::Sha512) => Some(Scheme::RsaPkcs1Sha512),
            (Algorithm::P256, Self::Sha256) => Some(Scheme::EcdsaP256Sha256),
            (Algorithm::P384, Self::Sha384) => Some(Scheme::EcdsaP384Sha384),
            (Algorithm::Ed25519, Self::Sha512) => Some(Scheme::Ed25519),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
