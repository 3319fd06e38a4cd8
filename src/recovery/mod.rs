//! Recovery keys of machines: how they lie on the ESP, and how the holder of the escrow key reads them.
//!
//! A machine that encrypts its root at the first boot draws a recovery key, wraps it to the escrow key of its image
//! (RSA-OAEP with SHA-256, MGF1 with SHA-256) and writes a file into `EFI/hullwright/recovery` of its ESP.

mod choose;
mod record;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use choose::choose;
pub use record::{Record, RecordError};

use crate::signing::{EscrowKey, SigningError};

/// What no record needs; a disk that was given in its place is larger.
pub const LARGEST: u64 = 64 << 10;
/// Where records lie on the ESP.
pub const DIRECTORY: &str = "EFI/hullwright/recovery";

/// Why there is no recovery key.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RecoveryError {
    #[error("`{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("name the file that was copied from EFI/hullwright/recovery of the machine's ESP"))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is no wrapped recovery key: it has more than {} KiB", path.display(), LARGEST >> 10)]
    #[diagnostic(help(
        "name a file of EFI/hullwright/recovery on the machine's ESP, or the machine's disk (.raw, .vhd, .qcow2)"
    ))]
    TooLarge { path: PathBuf },
    #[error("`{}` is no wrapped recovery key: {source}", path.display())]
    #[diagnostic(help("name a file of EFI/hullwright/recovery on the machine's ESP, unchanged"))]
    Record { path: PathBuf, source: RecordError },
    #[error("`{}` is wrapped to another escrow key: to {wanted}…, and this one is {given}…", path.display())]
    #[diagnostic(help(
        "these are SHA-256 of the public keys (`openssl pkey -pubin -in PEM -outform DER | sha256sum`)"
    ))]
    OtherKey {
        path: PathBuf,
        wanted: String,
        given: String,
    },
    #[error("`{}` does not open with this escrow key: {source}", path.display())]
    #[diagnostic(help("the file is damaged, or something else was wrapped"))]
    Wrapped { path: PathBuf, source: SigningError },
    #[error("`{}` has no recovery key to be taken: {why}", path.display())]
    #[diagnostic(help(
        "a machine puts it there at its first boot: name the disk of a machine, not an image that was never booted"
    ))]
    Image { path: PathBuf, why: String },
    #[error("`{}` has several recovery keys, and no encrypted volume tells which: {}", path.display(), found.join(", "))]
    #[diagnostic(help("say which with `--volume UUID`"))]
    Several { path: PathBuf, found: Vec<String> },
    #[error("`{}` opens, and holds no recovery key", path.display())]
    #[diagnostic(help("somebody wrapped something else to the escrow key: trust neither file nor disk"))]
    NoRecoveryKey { path: PathBuf },
}

/// A recovery key, as it is typed or written to a key file (without a line break).
pub struct Recovered {
    pub key: Zeroizing<String>,
    pub record: Record,
}

/// Reads the record in the file `path` and unwraps it with `escrow`.
///
/// # Errors
/// A file that is no record, is wrapped to another key, or holds no recovery key.
pub fn recover(path: &Path, escrow: &EscrowKey) -> Result<Recovered, RecoveryError> {
    unwrap(path, &read(path)?, escrow)
}

/// Unwraps the record in `bytes` with `escrow`; errors call it `path`.
///
/// # Errors
/// As [`recover`].
pub fn unwrap(path: &Path, bytes: &[u8], escrow: &EscrowKey) -> Result<Recovered, RecoveryError> {
    let record = Record::parse(bytes).map_err(|source| RecoveryError::Record {
        path: path.to_owned(),
        source,
    })?;
    let given = escrow.fingerprint();
    if record.escrow_key != given {
        let short = |digest: &str| digest.chars().take(16).collect();
        return Err(RecoveryError::OtherKey {
            path: path.to_owned(),
            wanted: short(&record.escrow_key),
            given: short(&given),
        });
    }
    let plain = escrow
        .unwrap(&record.wrapped)
        .map_err(|source| RecoveryError::Wrapped {
            path: path.to_owned(),
            source,
        })?;
    let key = std::str::from_utf8(&plain)
        .ok()
        .filter(|text| is_recovery_key(text))
        .ok_or_else(|| RecoveryError::NoRecoveryKey {
            path: path.to_owned(),
        })?;
    Ok(Recovered {
        key: Zeroizing::new(key.to_owned()),
        record,
    })
}

/// Whether `text` is a recovery key in systemd's spelling: eight groups of eight of the sixteen letters that every keyboard
/// has in the same place, with hyphens between them.
fn is_recovery_key(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let letters =
        |group: &&str| group.len() == 8 && group.bytes().all(|letter| b"cbdefghijklnrtuv".contains(&letter));
    groups.len() == 8 && groups.iter().all(letters)
}

fn read(path: &Path) -> Result<Vec<u8>, RecoveryError> {
    let failed = |source| RecoveryError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(RecoveryError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
