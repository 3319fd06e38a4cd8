//! Why something cannot be signed.

use std::io;
use std::path::PathBuf;

use super::pkcs11::UriError;
use crate::formats::pem::PemError;
use crate::formats::x509::{Algorithm, X509Error};

/// A key or certificate is not usable, or signing failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SigningError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{} is there already, and keys are never overwritten", path.display())]
    #[diagnostic(help("name another directory, or move the old keys away: what they signed needs them"))]
    Exists { path: PathBuf },

    #[error(
        "`{name}` is no name for certificates: 1 to {longest} printable characters, without blanks around them"
    )]
    Name { name: String, longest: usize },

    #[error("{} has more than {limit} bytes, which no key or certificate needs", path.display())]
    TooLarge { path: PathBuf, limit: u64 },

    #[error("{} is damaged", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: PemError,
    },

    #[error("{} holds no private key: {found}", path.display())]
    #[diagnostic(help(
        "a private key in PEM begins with `-----BEGIN PRIVATE KEY-----` (PKCS #8), `RSA PRIVATE KEY` or `EC PRIVATE KEY`"
    ))]
    NoKey { path: PathBuf, found: String },

    #[error("{} holds no public key", path.display())]
    #[diagnostic(help(
        "a public key in PEM begins with `-----BEGIN PUBLIC KEY-----` (`openssl pkey -in KEY -pubout`)"
    ))]
    NoPublicKey { path: PathBuf },

    #[error("the public key in {} cannot be used", path.display())]
    PublicKey {
        path: PathBuf,
        #[source]
        source: X509Error,
    },

    #[error("{} holds more than one private key", path.display())]
    #[diagnostic(help("keep each key in a file of its own"))]
    ManyKeys { path: PathBuf },

    #[error("{}: the private key is encrypted, and a build asks for no passphrase", path.display())]
    #[diagnostic(help(
        "decrypt it for the time of the build into a place that goes away (`openssl pkey -in {} -out /run/user/…/key.pem`), \
         keep it on a token and name it by a `pkcs11:` URI, or sign elsewhere",
        path.display()
    ))]
    Encrypted { path: PathBuf },

    #[error("{}: the private key cannot be used: {why}", path.display())]
    #[diagnostic(help("RSA with 2048, 3072 or 4096 bits, ECDSA on P-256 or P-384, and Ed25519 are taken"))]
    UnusableKey { path: PathBuf, why: String },

    #[error("{} is no certificate", path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        source: X509Error,
    },

    #[error("{} holds no certificate", path.display())]
    #[diagnostic(help("a certificate in PEM begins with `-----BEGIN CERTIFICATE-----`; DER works too"))]
    NoCertificate { path: PathBuf },

    #[error(
        "the key {key} ({key_algorithm}) does not belong to the certificate `{subject}` ({certificate_algorithm})"
    )]
    #[diagnostic(help(
        "the certificate must hold the public half of the key: compare `openssl pkey -in KEY -pubout` with \
         `openssl x509 -in CERT -pubkey -noout`"
    ))]
    Mismatch {
        key: String,
        key_algorithm: Algorithm,
        subject: String,
        certificate_algorithm: Algorithm,
    },

    #[error(
        "the certificate `{subject}` is not the issuer of `{issued}`, which stands before it in the file"
    )]
    #[diagnostic(help("put the signer's certificate first, then each one's issuer"))]
    Chain { issued: String, subject: String },

    #[error("the certificate `{subject}` {why}")]
    #[diagnostic(help("{help}"))]
    Usage {
        subject: String,
        why: String,
        help: String,
    },

    #[error("the signature that came back does not belong to the key and what was to be signed")]
    #[diagnostic(help(
        "the key or the device that holds it is damaged; nothing was written with this signature"
    ))]
    WrongSignature,

    #[error("{} is no text", path.display())]
    NoText { path: PathBuf },

    #[error("the `pkcs11:` URI cannot be used")]
    #[diagnostic(help(
        "RFC 7512: `pkcs11:token=NAME;object=KEY?module-path=/usr/lib/…/library.so&pin-source=/path`"
    ))]
    Uri(#[source] UriError),

    #[error("{uri}: {why}")]
    #[diagnostic(help(
        "`pkcs11-tool --module LIBRARY --list-token-slots` and `--list-objects` show what there is"
    ))]
    Token { uri: String, why: String },

    /// The key is elsewhere, and the signature has not come back yet.
    #[error("{of}: its signature is made elsewhere and has not come back yet")]
    Awaited { of: String },

    #[error("the key cannot sign: {0}")]
    Refused(String),

    #[error("the system's random source cannot be read")]
    Random,
}
