//! Who signed a package: OpenPGP signatures of RPM packages, held against listed keys.
//!
//! RPM signs the header (tags `RSA`, `DSA`; `OPENPGP` since RPM 6), whose digest of the payload covers
//! the rest, and in older packages header and payload together (`PGP`, `GPG`). Signatures are OpenPGP
//! packets of versions 3, 4 and 6 (RFC 9580 and its forerunners).
//!
//! No clock is asked: a key must have been valid when the signature says that it was made, so that what
//! holds today holds for ever.

mod certificate;
mod detached;
mod keyring;
mod trust;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

pub use certificate::Certificate;
pub use detached::verify_detached;
pub use keyring::{Keyring, SignatureError};
pub use trust::{Checked, Exception, Untrusted};
pub use verify::verify;

/// Which weak hashes (MD5, SHA-1, RIPEMD-160) are believed. By default none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Names of packages whose signature may be made over a weak hash.
    pub weak_packages: BTreeSet<String>,
    /// Fingerprints of certificates (upper-case hexadecimal) whose signatures may be.
    pub weak_keys: BTreeSet<String>,
}

/// Whoever made a signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Of the certificate (its primary key), upper-case hexadecimal.
    pub fingerprint: String,
    /// Of the key that signed, which may be a subkey; upper-case hexadecimal.
    pub key_fingerprint: String,
    pub user_id: String,
    /// When the signature says that it was made, in seconds since the epoch.
    pub created: u32,
}

/// What a package's signatures come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A listed key vouches for header and payload, and no listed key's signature is wrong.
    Signed {
        signer: Signer,
        /// Key ids of further signatures, of keys that are not listed; these were not checked.
        unknown: Vec<String>,
    },
    Unsigned,
    /// Every signature is by a key that is not listed.
    Unknown {
        key_ids: Vec<String>,
    },
    /// A listed key's signature holds, but it was made over a hash that can be forged.
    Weak {
        signer: Signer,
        hash: String,
    },
    /// A signature that names a listed key is wrong, or cannot be made sense of.
    Bad {
        /// `None` where the signature does not say.
        key_id: Option<String>,
        fault: Fault,
    },
}

/// What is wrong with a signature or with the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the signature in tag {tag} is malformed: {problem}")]
    Malformed { tag: &'static str, problem: String },
    #[error("it does not fit the package: one of the two was changed")]
    Forged,
    #[error("it cannot be checked: {0}")]
    Unsupported(String),
    #[error("it is of OpenPGP type 0x{0:02x}, not over a file")]
    Type(u8),
    #[error("it does not say when it was made")]
    Timeless,
    #[error("it covers the header only, and the header has no strong digest of the payload")]
    HeaderOnly,
    #[error("the key was revoked ({reason}) on {}", Day(*.at))]
    Revoked { reason: &'static str, at: u32 },
    #[error("the key expired on {}, before it signed", Day(*.at))]
    Expired { at: u32 },
    #[error("it was made before the key was, on {}", Day(*.at))]
    Early { at: u32 },
    #[error("the key is not meant to sign files")]
    NotForSigning,
    #[error("the subkey has no valid binding to its certificate")]
    Unbound,
    #[error("the subkey does not confirm that it belongs to its certificate (no back signature)")]
    Unconfirmed,
    #[error("the key has {0} bits, fewer than the 1024 that RPM still accepts")]
    Short(u16),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed { signer, unknown } => {
                write!(f, "signed by {} ({})", signer.fingerprint, signer.user_id)?;
                match unknown.as_slice() {
                    [] => Ok(()),
                    ids => write!(f, "; not checked: by key {}", ids.join(", ")),
                }
            }
            Self::Unsigned => write!(f, "it is not signed"),
            Self::Unknown { key_ids } => {
                write!(
                    f,
                    "it is signed by key {}, which is not listed",
                    key_ids.join(", ")
                )
            }
            Self::Weak { signer, hash } => {
                let Signer {
                    fingerprint, user_id, ..
                } = signer;
                write!(
                    f,
                    "its signature by {fingerprint} ({user_id}) is over {hash}, which can be forged"
                )
            }
            Self::Bad { key_id, fault } => match key_id {
                Some(key_id) => write!(f, "its signature by key {key_id} is bad: {fault}"),
                None => write!(f, "its signature is bad: {fault}"),
            },
        }
    }
}

/// A day of the Gregorian calendar, UTC, from seconds since the epoch.
struct Day(u32);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years begin in March, so that the leap day is a year's last.
        let days = self.0 / 86_400 + 719_468;
        let era = days / 146_097;
        let of_era = days % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + u32::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}
