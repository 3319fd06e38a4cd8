//! Why something cannot be measured, or a policy not be signed.

use std::path::PathBuf;

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
    #[error(transparent)]
    #[diagnostic(transparent)]
    Signing(#[from] SigningError),
}
