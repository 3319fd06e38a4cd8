//! What can be wrong with a volume that is read.

use std::io;

use super::format::Wrong;

/// The volume cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReadError {
    /// The volume contradicts the format or itself, or uses what is not supported here.
    #[error("the erofs volume cannot be read: {what}{}", At(*nid))]
    Volume {
        what: &'static str,
        /// The inode that it is about, where there is one.
        nid: Option<u64>,
    },
    /// The volume's bytes cannot be read.
    #[error("reading the erofs volume failed: {0}")]
    Read(#[source] io::Error),
    /// The content cannot be written to where it is to go.
    #[error("writing a file of the erofs volume failed: {0}")]
    Write(#[source] io::Error),
}

/// Names an inode in a message.
struct At(Option<u64>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(nid) => write!(f, " (inode {nid})"),
            None => Ok(()),
        }
    }
}

impl From<Wrong> for ReadError {
    fn from(what: Wrong) -> Self {
        Self::Volume { what, nid: None }
    }
}

impl ReadError {
    /// The same, said of inode `nid` unless it already speaks of one.
    pub(super) fn of(self, nid: u64) -> Self {
        match self {
            Self::Volume { what, nid: None } => Self::Volume { what, nid: Some(nid) },
            other => other,
        }
    }
}
