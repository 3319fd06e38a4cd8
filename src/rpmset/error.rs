//! What can be wrong with a package.

use std::io;
use std::path::{Path, PathBuf};

use super::nevra::NevraError;
use crate::formats::rpm::payload::PayloadError;
use crate::formats::rpm::{HeaderError, PreambleError};
use crate::path::PathError;
use crate::store::StoreError;

/// A package of the set that is refused, by the file it was read from.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    pub path: PathBuf,
    // No `source`: its words are in the message, and would be said twice.
    pub problem: Problem,
}

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Preamble(#[from] PreambleError),
    #[error("its header is broken: {0}")]
    Header(#[from] HeaderError),
    #[error("its header lacks {0}")]
    Lacks(&'static str),
    #[error("its {0} is not UTF-8 text")]
    NotText(&'static str),
    #[error("its {what} `{text}` has characters that no package may have there")]
    Name { what: &'static str, text: String },
    #[error("{0}")]
    Nevra(#[from] NevraError),
    #[error("it is a source package")]
    Source,
    #[error("its file list is inconsistent: {found} values in {what}, {expected} files")]
    ListLength {
        what: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("its file list points at directory {0}, which it does not have")]
    DirIndex(u32),
    #[error("its file list has a path that is refused: {0}")]
    Path(#[from] PathError),
    #[error("its file list names `{0}` twice")]
    Duplicate(String),
    #[error("`{path}` has {what}")]
    File { path: String, what: String },
    #[error("its payload is compressed with `{0}`, which RPM does not know")]
    Compressor(String),
    #[error("its payload has the format `{0}`, not `cpio`")]
    Format(String),
    #[error("{0}")]
    Payload(#[from] PayloadError),
    #[error("its payload has `{0}`, which its header does not name")]
    Stray(String),
    #[error("its payload lacks `{0}`, which its header names")]
    Missing(String),
    #[error("its {what} is {found}, but {claims} says {expected}")]
    Digest {
        what: String,
        found: String,
        claims: &'static str,
        expected: String,
    },
    #[error("it has no digest that covers {0}")]
    NoDigest(&'static str),
    #[error("its files take {size} bytes unpacked, and the store has room for {room}")]
    NoRoom { size: u64, room: u64 },
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Problem {
    /// The way out.
    fn advice(&self) -> &'static str {
        match self {
            Self::Preamble(PreambleError::NotAnRpm(_)) => "remove the file from the set",
            Self::Source => "a set holds binary packages only: remove it, or fetch the built package",
            Self::Store(_) | Self::NoRoom { .. } => "make room, or name another store with `--store DIR`",
            Self::Io(_) => "check that the file is there and may be read",
            Self::NoDigest(_) => "it was built by an RPM too old to be verified: rebuild it",
            Self::Digest { .. } | Self::Payload(_) | Self::Preamble(_) => {
                "the file is damaged or was changed after it was built: fetch it again"
            }
            _ => "the package is malformed: fetch it again, or have it rebuilt by its maker",
        }
    }

    pub(super) fn at(self, path: &Path) -> Error {
        Error {
            path: path.to_owned(),
            problem: self,
        }
    }
}

impl miette::Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.problem.advice()))
    }
}
