//! What can be wrong with keys for firmware.

use std::io;
use std::path::PathBuf;

use crate::formats::efi::{AuthenticationError, SignatureListError, StoreError};
use crate::signing::SigningError;

/// Why keys cannot be enrolled.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum FirmwareError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{} is too large for what firmware takes: {size} bytes", path.display())]
    TooLarge { path: PathBuf, size: u64 },

    #[error("{} is neither a certificate nor an EFI signature list", path.display())]
    #[diagnostic(help("certificates in PEM or DER, .esl files and .auth files are taken"))]
    Lists {
        path: PathBuf,
        #[source]
        source: SignatureListError,
    },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Certificate(#[from] SigningError),

    #[error("no certificate for {database} is given")]
    #[diagnostic(help("{help}"))]
    Missing {
        database: &'static str,
        help: &'static str,
    },

    #[error("PK holds {count} entries, and firmware takes exactly one certificate as platform key")]
    PlatformKey { count: usize },

    #[error("{} holds no keys", path.display())]
    #[diagnostic(help(
        "a directory of keys has PK, KEK and db (dbx where something is revoked), each as .esl, .auth, .pem, .crt, .cer or .der"
    ))]
    NoKeys { path: PathBuf },

    #[error("{} and {} are both for {database}", first.display(), second.display())]
    #[diagnostic(help("leave one of them, or name the files by the options of their own"))]
    Ambiguous {
        first: PathBuf,
        second: PathBuf,
        database: &'static str,
    },

    #[error("{}", path.display())]
    #[diagnostic(help(
        "begin with an OVMF_VARS*.fd of the firmware that is to use it (for Secure Boot, beside OVMF_CODE*.secboot.fd); a qcow2 \
         image becomes one by `qemu-img convert -O raw`"
    ))]
    Store {
        path: PathBuf,
        #[source]
        source: StoreError,
    },

    #[error("{database} holds an entry that Azure's image versions cannot say: {what}")]
    #[diagnostic(help("Azure takes certificates and SHA-256 digests of images"))]
    Azure { database: &'static str, what: String },

    #[error(
        "the key of `{subject}` does not sign with SHA-256, which is the only digest that firmware takes for changes of its keys"
    )]
    #[diagnostic(help("use RSA, or ECDSA on P-256"))]
    Digest { subject: String },

    #[error(
        "the certificate `{subject}`, which is to sign, is not in {database}, so firmware would refuse what it signs"
    )]
    #[diagnostic(help(
        "sign PK and KEK with the platform key, db and dbx with a key whose certificate is in KEK"
    ))]
    ForeignSigner { subject: String, database: &'static str },

    #[error("{} cannot be enrolled", path.display())]
    #[diagnostic(help(
        "`hullwright keys enroll-ovmf --keys DIR --files OUT` makes PK.auth, KEK.auth and db.auth, where the private keys are"
    ))]
    Update {
        path: PathBuf,
        #[source]
        source: AuthenticationError,
    },

    #[error("{} lacks a key that the definition names for {database}", path.display())]
    #[diagnostic(help("make the updates anew of the certificates that the definition names"))]
    OtherKeys { path: PathBuf, database: &'static str },

    #[error("dbx revokes the certificate that the image is signed with")]
    #[diagnostic(help("sign with another key, or leave its certificate out of dbx"))]
    Revoked,
}
