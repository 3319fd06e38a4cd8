//! Why something cannot be measured, or a policy not be signed.

use std::io;
use std::path::PathBuf;

use crate::formats::pe::PeError;
use crate::signing::{Algorithm, SigningError};

/// A prediction cannot be made, or a policy not be signed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum MeasureError {
    #[error("the key of PCR policies in {} is {algorithm}", path.display())]
    #[diagnostic(help(
        "systemd's policies are signed by RSA: make a key with `openssl genrsa -out pcr.key 2048`, the length that every TPM takes"
    ))]
    NotRsa { path: PathBuf, algorithm: Algorithm },
    #[error("{} is not the public half of the key of PCR policies in {}", public.display(), key.display())]
    #[diagnostic(help(
        "leave `measured-boot.public` and `measured-boot.cert` out: the public key is in the private one"
    ))]
    Mismatch { public: PathBuf, key: PathBuf },
    #[error("the {what} cannot be read as an EFI program")]
    Program {
        what: String,
        #[source]
        source: PeError,
    },
    #[error("the UKI has no section `{0}`")]
    NoSection(&'static str),
    #[error("section `{0}` is too long to be what it is meant to be")]
    LongSection(&'static str),
    #[error("section `{0}` is not UTF-8 text")]
    NotText(&'static str),
    #[error("reading what is measured")]
    Io(#[from] io::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Signing(#[from] SigningError),
}
