//! The volume key, and where the other random bytes of a volume come from.

use std::fmt;
use std::io::{self, Read};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::Luks2Error;
use super::hash::Hash;
use super::kdf::Kdf;

pub(super) const EMPTY_SECRET: &str = "an empty passphrase or key file keeps nobody out";

/// The key that the data is encrypted with; wiped from memory when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeKey(Zeroizing<Vec<u8>>);

impl VolumeKey {
    /// A key of 64 bytes (AES-256-XTS), or of 32 (AES-128-XTS).
    ///
    /// # Errors
    /// Another length, or halves that are equal.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Luks2Error> {
        if !matches!(bytes.len(), 32 | 64) {
            return Err(Luks2Error::KeySize(bytes.len()));
        }
        let (data, tweak) = bytes.split_at(bytes.len() / 2);
        if data == tweak {
            return Err(Luks2Error::EqualHalves);
        }
        Ok(Self(bytes))
    }

    /// The key of 64 bytes that derives from `secret`, so that a given key file or passphrase always makes the same
    /// volume. `context` is public and should name the one volume that this is for.
    ///
    /// `kdf` is to be the one of the keyslot that `secret` opens: guessing the secret by way of the volume key then
    /// costs as much as by way of the keyslot.
    ///
    /// # Errors
    /// A derivation that would not be written into a keyslot either, an empty secret, or memory that cannot be had.
    pub fn from_secret(secret: &[u8], kdf: &Kdf, context: &[u8]) -> Result<Self, Luks2Error> {
        kdf.check()?;
        if secret.is_empty() {
            return Err(Luks2Error::Parameters(EMPTY_SECRET.to_owned()));
        }
        let salt = Hash::Sha256.digest(&[b"hullwright luks2 volume key ", context]);
        Self::new(kdf.derive(secret, &salt, 64)?)
    }

    /// Its bytes: the half for data, then the half for tweaks.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeKey({} bits)", self.0.len() * 8)
    }
}

/// What random bytes of a volume are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The salt of the header's first or second copy, 64 bytes; public.
    HeaderSalt { copy: u32 },
    /// The salt of a keyslot's key derivation, 32 bytes; public.
    KeyslotSalt { keyslot: u32 },
    /// The salt of the volume key's digest, 32 bytes; public.
    DigestSalt,
    /// All anti-forensic stripes of a keyslot but the last; whoever knows them and the last one knows the volume key.
    Stripes { keyslot: u32 },
}

/// A source of bytes that are random, or look so to all who do not know a secret.
pub trait Entropy {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// What the source gives.
    fn fill(&mut self, purpose: Purpose, bytes: &mut [u8]) -> io::Result<()>;
}

/// Random bytes as they come out of a reader, such as the system's generator. The volume differs each time.
#[derive(Debug)]
pub struct Fresh<R>(pub R);

impl<R: Read> Entropy for Fresh<R> {
    fn fill(&mut self, _: Purpose, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(bytes)
    }
}

/// Bytes that derive from the volume key by HKDF-SHA256 (RFC 5869), so that the same key and the same context give the
/// same volume, byte for byte.
///
/// Nothing secret comes from public data: without the key, stripes cannot be told from random ones, and with it they
/// are not needed. The context is public (the volume's UUID, the image and its version); it keeps salts apart where
/// one key is used for several volumes.
///
/// A key should be used for one volume only all the same: two volumes under one key show which sectors of theirs are
/// equal.
pub struct Derived(Hkdf<Sha256>);

impl Derived {
    pub fn new(key: &VolumeKey, context: &[u8]) -> Self {
        Self(Hkdf::new(Some(context), key.as_bytes()))
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Derived")
    }
}

/// The most that one expansion of HKDF gives.
const EXPANSION: usize = 255 * 32;

impl Entropy for Derived {
    fn fill(&mut self, purpose: Purpose, bytes: &mut [u8]) -> io::Result<()> {
        let (label, number) = match purpose {
            Purpose::HeaderSalt { copy } => ("header salt", copy),
            Purpose::KeyslotSalt { keyslot } => ("keyslot salt", keyslot),
            Purpose::DigestSalt => ("digest salt", 0),
            Purpose::Stripes { keyslot } => ("anti-forensic stripes", keyslot),
        };
        for (piece, bytes) in (0u32..).zip(bytes.chunks_mut(EXPANSION)) {
            let info: [&[u8]; 4] = [
                b"hullwright luks2 ",
                label.as_bytes(),
                &number.to_be_bytes(),
                &piece.to_be_bytes(),
            ];
            self.0
                .expand_multi_info(&info, bytes)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::formats::testing::noise;

    fn key(seed: u64) -> VolumeKey {
        VolumeKey::new(noise(seed, 64).into()).unwrap()
    }

    #[test]
    fn weak_or_odd_keys_are_refused_and_none_is_shown() {
        for (bytes, why) in [
            (noise(1, 63), "63 bytes"),
            (Vec::new(), "0 bytes"),
            (vec![7; 64], "halves"),
            (noise(1, 16).repeat(2), "halves"),
        ] {
            let error = VolumeKey::new(bytes.into()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(format!("{:?}", key(1)), "VolumeKey(512 bits)");
    }

    #[test]
    fn a_key_of_a_secret_depends_on_secret_derivation_and_context() {
        let make = |secret: &[u8], kdf, context: &[u8]| VolumeKey::from_secret(secret, &kdf, context);
        let sha256 = Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 1000,
        };
        let key = make(b"secret", Kdf::RANDOM_KEY, b"volume").unwrap();
        assert_eq!(key, make(b"secret", Kdf::RANDOM_KEY, b"volume").unwrap());
        for other in [
            make(b"secreT", Kdf::RANDOM_KEY, b"volume"),
            make(b"secret", sha256, b"volume"),
            make(b"secret", Kdf::RANDOM_KEY, b"other"),
        ] {
            assert_ne!(other.unwrap(), key);
        }
        assert!(make(b"", Kdf::RANDOM_KEY, b"volume").is_err());
        let weak = Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 1,
        };
        assert!(make(b"secret", weak, b"volume").is_err());
    }

    #[test]
    fn derived_bytes_depend_on_key_context_and_purpose_alone() {
        let fill = |key: &VolumeKey, context: &[u8], purpose| {
            let mut bytes = vec![0; 20_000];
            Derived::new(key, context).fill(purpose, &mut bytes).unwrap();
            bytes
        };
        let purposes = [
            Purpose::HeaderSalt { copy: 0 },
            Purpose::HeaderSalt { copy: 1 },
            Purpose::KeyslotSalt { keyslot: 0 },
            Purpose::KeyslotSalt { keyslot: 1 },
            Purpose::DigestSalt,
            Purpose::Stripes { keyslot: 0 },
            Purpose::Stripes { keyslot: 1 },
        ];
        let mut seen = BTreeSet::new();
        for purpose in purposes {
            assert_eq!(fill(&key(1), b"a", purpose), fill(&key(1), b"a", purpose));
            for (key, context) in [(key(1), b"a"), (key(1), b"b"), (key(2), b"a")] {
                // Pieces of one expansion do not repeat either.
                for block in fill(&key, context, purpose).chunks(32) {
                    assert!(seen.insert(block.to_vec()), "{purpose:?}");
                }
            }
        }
    }

    /// Pinned: a change would change every volume that was built from the same key.
    #[test]
    fn derived_bytes_stay_as_they_are() {
        let mut bytes = [0; 8];
        Derived::new(&key(1), b"context")
            .fill(Purpose::DigestSalt, &mut bytes)
            .unwrap();
        assert_eq!(u64::from_be_bytes(bytes), 12_581_826_207_607_842_556);
    }
}
