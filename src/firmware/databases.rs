//! The four databases.

use uuid::{Uuid, uuid};

use super::FirmwareError;
use crate::formats::at::Content;
use crate::formats::authenticode::{self, Trust};
use crate::formats::efi::{Entry, SignatureDatabase, Time, guid};
use crate::formats::x509::Certificate;

/// Whom firmware is told that entries belong to, where nothing else is said.
pub const OWNER: Uuid = uuid!("7c2f3f0e-6a0b-4f5e-9c58-3d1f5a0c9e42");

/// Where a build leaves what firmware is to trust, in its output directory: [`super::key_files`].
pub const SECURE_BOOT_DIRECTORY: &str = "secure-boot";

/// The SHA-256 of nothing.
const NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Before any certificate in use: 2010-01-01, as OVMF's own tools date what has no date.
const NO_DATE: i64 = 1_262_304_000;

/// A signature database of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// The platform key.
    Pk,
    /// Keys that may change `db` and `dbx`.
    Kek,
    /// What may start.
    Db,
    /// What may not.
    Dbx,
}

impl Database {
    pub const ALL: [Self; 4] = [Self::Pk, Self::Kek, Self::Db, Self::Dbx];

    /// The variable's name, and the stem of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pk => "PK",
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }

    /// The variable's vendor.
    pub fn vendor(self) -> Uuid {
        match self {
            Self::Pk | Self::Kek => guid::GLOBAL_VARIABLE,
            Self::Db | Self::Dbx => guid::IMAGE_SECURITY_DATABASE,
        }
    }
}

/// What firmware is to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    pub pk: SignatureDatabase,
    pub kek: SignatureDatabase,
    pub db: SignatureDatabase,
    /// Empty where nothing is revoked.
    pub dbx: SignatureDatabase,
}

impl Databases {
    pub fn get(&self, database: Database) -> &SignatureDatabase {
        match database {
            Database::Pk => &self.pk,
            Database::Kek => &self.kek,
            Database::Db => &self.db,
            Database::Dbx => &self.dbx,
        }
    }

    pub fn get_mut(&mut self, database: Database) -> &mut SignatureDatabase {
        match database {
            Database::Pk => &mut self.pk,
            Database::Kek => &mut self.kek,
            Database::Db => &mut self.db,
            Database::Dbx => &mut self.dbx,
        }
    }

    /// Whether firmware would enforce something with them, and could be changed again.
    ///
    /// # Errors
    /// `PK` is not one certificate; `KEK` or `db` has none.
    pub fn check(&self) -> Result<(), FirmwareError> {
        let missing = |database, help| Err(FirmwareError::Missing { database, help });
        if self.pk.is_empty() {
            return missing("PK", "without a platform key firmware enforces nothing");
        }
        let count = self.pk.entries().count();
        if count != 1 || self.pk.certificates().count() != 1 {
            return Err(FirmwareError::PlatformKey { count });
        }
        if self.kek.certificates().next().is_none() {
            return missing("KEK", "without it neither db nor dbx could be changed later");
        }
        if self.db.is_empty() {
            return missing(
                "db",
                "without it nothing would boot: name the certificate that the UKI is signed with",
            );
        }
        Ok(())
    }

    /// What they let start, for checks of images. A `db` or `dbx` entry of a kind that is not understood allows nothing;
    /// certificates that are not understood neither allow nor forbid.
    pub fn trust(&self) -> Trust {
        let certificates = |lists: &SignatureDatabase| {
            let understood = lists
                .certificates()
                .filter_map(|der| Certificate::from_der(der).ok());
            understood.collect()
        };
        let hashes = self.dbx.entries().filter_map(|entry| match entry {
            Entry::CertificateDigest(digest, _) => digest.try_into().ok(),
            _ => None,
        });
        Trust {
            certificates: certificates(&self.db),
            images: self.db.images().copied().collect(),
            forbidden_certificates: certificates(&self.dbx),
            forbidden_images: self.dbx.images().copied().collect(),
            forbidden_hashes: hashes.collect(),
        }
    }

    /// As they are enrolled where a store is written: where nothing is revoked, `dbx` has a digest that no image has, as OVMF's own tools
    /// do it. The variable is then there, and is measured as one.
    pub fn enrolled(&self) -> Self {
        let mut all = Self::default();
        for database in Database::ALL {
            all.get_mut(database).add_all(self.get(database));
        }
        if all.dbx.is_empty() {
            all.dbx.add_image(guid::OVMF_DEFAULT_KEYS, NOTHING);
        }
        all
    }

    /// Contents of the four variables, in the order of [`Database::ALL`].
    pub fn contents(&self) -> [Vec<u8>; 4] {
        Database::ALL.map(|database| self.get(database).to_bytes())
    }

    /// The first entry of `db` (`EFI_SIGNATURE_DATA`: its owner, then the certificate) that lets firmware start `program` by its
    /// signature; `None` where none does, or the program is not signed.
    pub fn voucher(&self, program: &Content<'_>) -> Option<Vec<u8>> {
        self.entry(|der| {
            let Ok(certificate) = Certificate::from_der(der) else {
                return false;
            };
            let trust = Trust {
                certificates: vec![certificate],
                ..Trust::default()
            };
            authenticode::verify(program, program.size(), &trust).is_ok()
        })
    }

    /// The entries of `db` that vouch for `programs`, each once, in the order of first use. A program that is not signed yet is vouched
    /// for by the certificate `signer`, where that is given.
    pub fn vouchers(&self, programs: &[&Content<'_>], signer: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut vouchers = Vec::new();
        for program in programs {
            let entry = self.voucher(program);
            let entry = entry.or_else(|| self.entry_of(signer?));
            vouchers.extend(entry.filter(|entry| !vouchers.contains(entry)));
        }
        vouchers
    }

    /// The entry of `db` with the certificate `der`.
    pub fn entry_of(&self, der: &[u8]) -> Option<Vec<u8>> {
        self.entry(|known| known == der)
    }

    fn entry(&self, is_it: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let lists = self.db.lists.iter().filter(|list| list.kind == guid::CERT_X509);
        let found = lists
            .flat_map(|list| &list.signatures)
            .find(|signature| is_it(&signature.data))?;
        Some([found.owner.to_bytes_le().as_slice(), &found.data].concat())
    }

    /// A time for the database that depends on its content alone: when the newest of its certificates begins to be valid.
    pub fn time(&self, database: Database) -> Time {
        let certificates = self.get(database).certificates();
        // One that is not understood has no say; firmware may understand it all the same.
        let begins = certificates.filter_map(|der| Some(Certificate::from_der(der).ok()?.validity().0));
        Time::from_unix(begins.max().unwrap_or(NO_DATE))
    }
}
