//! X.509 certificates and public keys: what is needed to sign with them, and to check signatures.
//!
//! Specifications: RFC 5280, RFC 8017 (PKCS #1), RFC 5480, RFC 8410; everything is DER.

mod certificate;
mod key;
mod make;

pub use certificate::{Certificate, Usage, UsageFault};
pub use key::{Algorithm, PublicKey, Scheme};
pub use make::NewCertificate;

/// Bytes are no certificate or public key that is understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum X509Error {
    #[error("this is no X.509 certificate in DER: {0}")]
    Certificate(der::Error),
    #[error("this is no public key in DER: {0}")]
    PublicKey(der::Error),
    #[error("keys of the kind {0} are not understood; RSA, ECDSA on P-256 or P-384, and Ed25519 are")]
    Kind(String),
    #[error("an RSA key of {0} bits: 2048 to 8192 are taken")]
    Length(usize),
    #[error("the public key is malformed")]
    Malformed,
}

/// A signature does not belong to key and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this key and these bytes")]
pub struct BadSignature;
