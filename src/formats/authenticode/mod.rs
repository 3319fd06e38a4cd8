//! Authenticode: signatures of EFI programs, which firmware checks before it starts them.
//!
//! Specifications: Microsoft, *Windows Authenticode Portable Executable Signature Format*; UEFI,
//! *Secure Boot and Driver Signing*. Signatures hold no time: the same key and file give the same bytes.

mod image;
mod message;
mod trust;

pub use image::{Scanned, append, digest, scan, signatures};
pub use message::{Signature, prepare};
pub use trust::{Trust, TrustFault, verify};

use super::cms::CmsError;
use super::pe::PeError;

/// A file cannot be signed, or its signatures cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticodeError {
    #[error(transparent)]
    Pe(#[from] PeError),
    #[error("the PE image's header has no room for a certificate table")]
    NoDirectory,
    #[error(
        "{bytes} bytes at {at:#x} belong to no section of the PE image, and programs disagree over the digest of such a file"
    )]
    Gap { at: u64, bytes: u64 },
    #[error("the PE image's sections hold more bytes than the file")]
    Overlap,
    #[error("the PE image's certificate table lies outside the file, or not at its end")]
    Table,
    #[error("an entry of the PE image's certificate table is malformed")]
    Entry,
    #[error("a signature in the PE image cannot be read")]
    Message(#[from] CmsError),
    #[error("a signature in the PE image is no Authenticode signature: {0}")]
    NotAuthenticode(&'static str),
    #[error("reading or writing a PE image")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;
