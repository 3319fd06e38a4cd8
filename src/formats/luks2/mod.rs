//! LUKS2: an encrypted volume, made and read without the device mapper.
//!
//! Two copies of a header (binary part and JSON), a space for keyslots, the data. [`format`] writes headers and
//! keyslots, [`Header::read`] reads them, [`Header::unlock`] gets the volume key out of a keyslot, and [`Header::open`]
//! gives the data as plain bytes ([`Volume`]). What is written is what `cryptsetup luksFormat` would write, with
//! AES-256-XTS in sectors of 4096 bytes; what is read is that cipher only, in any layout and with any key derivation of
//! cryptsetup's.
//!
//! Not supported, and refused: authenticated encryption (`integrity`), detached headers, volumes in the middle of
//! re-encryption, every other cipher (`cipher_null` foremost).
//!
//! Specification: *LUKS2 On-Disk Format Specification* 1.1; the anti-forensic splitter is that of LUKS1.

mod binary;
mod check;
mod data;
mod entropy;
mod error;
mod hash;
mod header;
mod json;
mod kdf;
mod metadata;
mod parse;
mod stripes;
#[cfg(test)]
mod tests;
mod unlock;
mod writer;
mod xts;

pub use binary::{BINARY_SIZE, HEADER_SIZES, MAX_LABEL};
pub use check::MAX_KEYSLOTS_SIZE;
pub use data::Volume;
pub use entropy::{Derived, Entropy, Fresh, Purpose, VolumeKey};
pub use error::Luks2Error;
pub use hash::Hash;
pub use header::{CopyState, Header};
pub use kdf::{Argon2Costs, Kdf, Limits, SALT_SIZE};
pub use metadata::{Area, CIPHER, Config, Digest, Keyslot, MAX_KEYSLOTS, Metadata, Priority, Segment, Token};
pub use stripes::STRIPES;
pub use unlock::Unlocked;
pub use writer::{Layout, NewKeyslot, Params, format};
pub use xts::{SectorSize, TWEAK_UNIT, Xts};
