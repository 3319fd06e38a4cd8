//! A partition that the composer encrypts: LUKS2 with an ext4 inside, small, to be grown where it is used.

use uuid::Uuid;

use super::DiskError;
use super::guid::{derive, derive_uuid};
use crate::formats::at::WriteAt;
use crate::formats::ext4::{self, Inode};
use crate::formats::luks2::{self, Derived, Kdf, Limits, VolumeKey};

/// Bytes of the file system in a larger volume. The machine grows it at its first mount, in a moment; where it changes
/// the volume key before that, it encrypts these bytes again, not a whole disk.
pub const FILE_SYSTEM_SIZE: u64 = 256 << 20;

/// What a volume and the file system in it are called; public, and derived from what identifies the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct VolumeIds {
    /// UUID of the LUKS2 header.
    pub luks: Uuid,
    /// UUID of the file system.
    pub file_system: Uuid,
    /// What names are hashed with in its directories.
    #[serde(skip)]
    pub hash_seed: [u8; 16],
}

/// An encrypted file system to be made.
pub struct EncryptedVolume<'a> {
    /// What opens it: all bytes of the key file.
    pub secret: &'a [u8],
    /// How the keyslot's key, and the volume key, derive from that.
    pub kdf: Kdf,
    /// Label of the file system: at most 16 bytes.
    pub label: &'a str,
    /// What the file system holds.
    pub root: Inode<'a>,
}

impl VolumeIds {
    /// Those of the volume in the partition called `name`, of the image that `seed` stands for.
    pub(super) fn new(name: &str, seed: &[u8]) -> Self {
        Self {
            luks: derive_uuid(&format!("luks {name}"), seed),
            file_system: derive_uuid(&format!("file system {name}"), seed),
            hash_seed: derive(&format!("hash seed {name}"), seed),
        }
    }
}

impl EncryptedVolume<'_> {
    /// Writes it into `partition`, which is of `size` bytes and reads as zeroes, with all times `time`. Headers, the
    /// keyslot and the blocks of the file system that are read are written, nothing else.
    ///
    /// The volume key derives from the secret by the keyslot's own derivation: the same secret gives the same bytes, to
    /// guess the secret by way of the data costs what it costs by way of the keyslot, and nothing derives from public
    /// data alone.
    ///
    /// # Errors
    /// What LUKS2 or ext4 refuse, and I/O.
    pub(super) fn write(
        &self,
        partition: &impl WriteAt,
        size: u64,
        ids: &VolumeIds,
        time: i64,
    ) -> Result<(), DiskError> {
        let context = ids.luks.as_bytes();
        let key = VolumeKey::from_secret(self.secret, &self.kdf, context)?;
        let params = luks2::Params::new(ids.luks, self.secret, self.kdf);
        let header = luks2::format(partition, size, &key, &params, &mut Derived::new(&key, context))?;
        let volume = header.open(partition, &key, &Limits::default())?;
        let params = ext4::Params {
            size: volume.size().min(FILE_SYSTEM_SIZE),
            uuid: ids.file_system,
            hash_seed: ids.hash_seed,
            label: self.label,
            time,
        };
        ext4::write(&volume, &params, &self.root)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
