//! What can be wrong with a volume, or with what is asked of it.

use std::io;

/// A volume cannot be written, read or opened.
#[derive(Debug, thiserror::Error)]
pub enum Luks2Error {
    /// Neither copy of the header is intact.
    #[error("this is no LUKS2 volume: its first header {first}; its second header {second}")]
    NoHeader { first: String, second: String },
    /// The newest intact header says something that is not accepted.
    #[error("the LUKS2 header is refused: {place} {why}")]
    Metadata { place: String, why: String },
    /// What the caller asks for cannot be written, or could not be opened later.
    #[error("a LUKS2 volume cannot be made so: {0}")]
    Parameters(String),
    /// No keyslot gave the volume key.
    #[error("the passphrase or key file opens none of the volume's keyslots{}", untried(.skipped))]
    Locked {
        /// Keyslots that were not tried, since their costs are above the limits.
        skipped: Vec<u32>,
    },
    #[error("this volume key is not the one of the volume: the header's digest is of another")]
    VolumeKey,
    #[error("a key of {0} bytes does not fit AES-XTS, which takes 64 (AES-256) or 32 (AES-128)")]
    KeySize(usize),
    #[error("the two halves of a volume key must differ: with equal ones XTS is weaker than AES")]
    EqualHalves,
    #[error("the data to encrypt ends at byte {end}, behind the volume's end at {size}")]
    TooLarge { end: u64, size: u64 },
    #[error("memory of {0} KiB for argon2 cannot be had")]
    Memory(u32),
    #[error("reading or writing the LUKS2 volume")]
    Io(#[from] io::Error),
}

impl Luks2Error {
    pub(super) fn metadata(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Metadata {
            place: place.into(),
            why: why.into(),
        }
    }
}

fn untried(keyslots: &[u32]) -> String {
    if keyslots.is_empty() {
        return String::new();
    }
    let list: Vec<String> = keyslots.iter().map(u32::to_string).collect();
    format!(
        " (not tried, for the costs of their key derivation are above the limits: {})",
        list.join(", ")
    )
}
