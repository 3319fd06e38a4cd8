//! What can go wrong while files are fetched.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Url;
use crate::store::StoreError;

/// A file cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url}: the server answers {status}{}", meaning(*status))]
    Status { url: Url, status: u16 },
    #[error("{url}: {problem}{}", tried(*attempts))]
    Unreachable {
        url: Url,
        problem: String,
        attempts: u32,
    },
    #[error("{url}: no trusted connection: {problem}")]
    Tls { url: Url, problem: String },
    #[error("{url}: it has {found} bytes, and should have {expected}")]
    Size { url: Url, found: u64, expected: u64 },
    #[error("{url}: it is larger than {limit} bytes")]
    TooLarge { url: Url, limit: u64 },
    #[error("{url}: its digest is {found}, and should be {expected}")]
    Digest {
        url: Url,
        found: String,
        expected: String,
    },
    #[error("{url}: its name is not that of a file")]
    Name { url: Url },
    #[error("`{}` cannot be read: {source}", path.display())]
    Local { path: PathBuf, source: io::Error },
    #[error("`{}` holds no certificate to trust: {problem}", path.display())]
    Ca { path: PathBuf, problem: String },
    #[error("{} is wanted, and nothing may be fetched (`--offline`)", counted(urls))]
    Offline { urls: Vec<String> },
    #[error("the files to fetch take {size} bytes, and the store has room for {room}")]
    NoRoom { size: u64, room: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => " (not allowed)",
        404 | 410 => " (not there)",
        429 => " (too many requests)",
        500..=599 => " (trouble of its own)",
        _ => "",
    }
}

fn tried(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        _ => format!(" ({attempts} attempts)"),
    }
}

fn counted(urls: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = urls.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match urls.len() {
        count if count > SHOWN => format!("{shown} and {} more", count - SHOWN),
        _ => shown,
    }
}

impl miette::Diagnostic for FetchError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = match self {
            Self::Status {
                status: 404 | 410, ..
            } => "if the repository has moved on, lock its present packages; else correct the address",
            Self::Status { status: 407, .. } => "the proxy wants a name and password: correct `https_proxy`",
            Self::Status { .. } => "try again later, or name another mirror",
            Self::Unreachable { .. } => {
                "check the address, the network, and the proxy in `https_proxy` and `no_proxy`; what has come \
                 is kept, and the next run goes on from there"
            }
            Self::Tls { .. } => {
                "where the server has a certificate of your own authority, name that with `--ca FILE`"
            }
            Self::Size { .. } | Self::Digest { .. } => {
                "the repository's metadata and its files do not belong together: try again later or name \
                 another mirror; if that does not help, somebody has changed the file"
            }
            Self::TooLarge { .. } => "no sound repository has that: name another mirror",
            Self::Name { .. } => "correct the address",
            Self::Local { .. } => "check that it is there and may be read",
            Self::Ca { .. } => "name a file of PEM certificates (`-----BEGIN CERTIFICATE-----`)",
            Self::Offline { .. } => "run it once without `--offline`: what is fetched stays in the store",
            Self::NoRoom { .. } => "make room, or name another store with `--store DIR`",
            Self::Store(error) => return miette::Diagnostic::help(error),
        };
        Some(Box::new(help))
    }
}
