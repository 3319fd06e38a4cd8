//! Volumes as a whole: written and read back, held against cryptsetup, damaged, and made up.

mod against_cryptsetup;
mod damage;
mod data;
mod file_system;
mod made_by_cryptsetup;
mod refusals;
mod writing;

use std::fs::File;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::*;
use crate::formats::testing::noise;

const UUID: Uuid = Uuid::from_u128(0x1b2a_3344_5566_4788_9900_aabb_ccdd_eeff);
const PASSPHRASE: &[u8] = b"correct horse battery staple";
const MIB: u64 = 1 << 20;

/// Cheap, and still what cryptsetup accepts.
const QUICK: Kdf = Kdf::Pbkdf2 {
    hash: Hash::Sha256,
    iterations: 1000,
};
const QUICK_ARGON2: Kdf = Kdf::Argon2id(Argon2Costs {
    time: 4,
    memory: 64,
    lanes: 2,
});

fn volume_key(seed: u64) -> VolumeKey {
    VolumeKey::new(noise(seed, 64).into()).unwrap()
}

/// Headers of 16 KiB, room for three keyslots, data from 1 MiB on.
fn small() -> Layout {
    Layout::new(16 << 10, 768 << 10)
}

fn params(kdf: Kdf) -> Params<'static> {
    Params {
        layout: small(),
        ..Params::new(UUID, PASSPHRASE, kdf)
    }
}

/// A file in a directory of its own.
struct Image {
    directory: tempfile::TempDir,
    size: u64,
}

impl Image {
    fn empty(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = Self { directory, size };
        File::create(image.path()).unwrap().set_len(size).unwrap();
        image
    }

    /// A volume of `size` bytes as `params` has it, with the key of `seed`.
    fn made(size: u64, seed: u64, params: &Params<'_>) -> Self {
        let image = Self::empty(size);
        let key = volume_key(seed);
        format(
            &image.file(),
            size,
            &key,
            params,
            &mut Derived::new(&key, b"test"),
        )
        .unwrap();
        image
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// The path of another file beside it.
    fn beside(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path)
    }

    fn text(&self) -> String {
        text(&self.path())
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(self.path()).unwrap()
    }

    fn header(&self) -> Result<Header, Luks2Error> {
        Header::read(&self.file(), self.size)
    }

    fn unlock(&self, secret: &[u8]) -> Result<Unlocked, Luks2Error> {
        self.header()?.unlock(&self.file(), secret, &Limits::default())
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
