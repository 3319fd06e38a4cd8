//! From a passphrase, a key file or a volume key to the volume's data.

use zeroize::Zeroizing;

use super::super::at::ReadAt;
use super::data::Volume;
use super::entropy::VolumeKey;
use super::error::Luks2Error;
use super::header::Header;
use super::kdf::{Kdf, Limits};
use super::metadata::{Digest, Keyslot, Priority};
use super::stripes;
use super::xts::{SectorSize, Xts};

/// A volume key, and the keyslot that gave it.
#[derive(Debug, Clone)]
pub struct Unlocked {
    pub keyslot: u32,
    pub key: VolumeKey,
}

impl Header {
    /// Tries `secret`, a passphrase or all bytes of a key file, on the keyslots of the volume key: those of priority
    /// `prefer` first, those to be ignored not at all, within each by number.
    ///
    /// Costs one key derivation a keyslot, each within `limits`.
    ///
    /// # Errors
    /// [`Luks2Error::Locked`] if no keyslot opens; keyslot areas that cannot be read.
    pub fn unlock(
        &self,
        volume: &impl ReadAt,
        secret: &[u8],
        limits: &Limits,
    ) -> Result<Unlocked, Luks2Error> {
        let digest = self.digest(limits)?;
        let mut skipped = Vec::new();
        for priority in [Priority::Prefer, Priority::Normal] {
            let keyslots = self.metadata.keyslots.iter();
            let now = keyslots
                .filter(|(number, slot)| slot.priority == priority && digest.keyslots.contains(number));
            for (&keyslot, slot) in now {
                if !slot.kdf.within(limits) {
                    skipped.push(keyslot);
                    continue;
                }
                if let Some(key) = slot.open(volume, secret)?.filter(|key| digest.fits(key)) {
                    return Ok(Unlocked { keyslot, key });
                }
            }
        }
        Err(Luks2Error::Locked { skipped })
    }

    /// The volume's data in `volume`, to be read or written with `key`.
    ///
    /// # Errors
    /// [`Luks2Error::VolumeKey`] if the key is not the volume's.
    pub fn open<T>(&self, volume: T, key: &VolumeKey, limits: &Limits) -> Result<Volume<T>, Luks2Error> {
        if !self.digest(limits)?.fits(key) {
            return Err(Luks2Error::VolumeKey);
        }
        Volume::new(self, volume, key)
    }

    /// The digest of the volume key, if checking it is affordable.
    fn digest(&self, limits: &Limits) -> Result<&Digest, Luks2Error> {
        let name = format!("segment {}", self.metadata.segment.number);
        let digest = self
            .metadata
            .segment_digest()
            .ok_or_else(|| Luks2Error::metadata(&name, "has no digest"))?;
        let cost = Kdf::Pbkdf2 {
            hash: digest.hash,
            iterations: digest.iterations,
        };
        if !cost.within(limits) {
            let why = format!(
                "has a digest of {} iterations, above the limit",
                digest.iterations
            );
            return Err(Luks2Error::metadata(name, why));
        }
        Ok(digest)
    }
}

impl Keyslot {
    /// What comes out of the keyslot with `secret`: noise if it is the wrong one, and so it may be no possible key.
    fn open(&self, volume: &impl ReadAt, secret: &[u8]) -> Result<Option<VolumeKey>, Luks2Error> {
        let area_key = self.kdf.derive(secret, &self.salt, self.area.key_size)?;
        let mut stripes = Zeroizing::new(vec![0; self.stripes_size()]);
        volume.read_exact_at(&mut stripes, self.area.offset)?;
        Xts::new(&area_key)?.decrypt(0, SectorSize::MIN, &mut stripes);
        Ok(VolumeKey::new(stripes::merge(self.af_hash, &stripes, self.key_size)).ok())
    }

    /// Splits and encrypts `key`; `stripes` holds the random ones.
    pub(super) fn seal(&self, key: &VolumeKey, secret: &[u8], stripes: &mut [u8]) -> Result<(), Luks2Error> {
        let area_key = self.kdf.derive(secret, &self.salt, self.area.key_size)?;
        stripes::split(self.af_hash, key.as_bytes(), stripes);
        Xts::new(&area_key)?.encrypt(0, SectorSize::MIN, stripes);
        Ok(())
    }
}
