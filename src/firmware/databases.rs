//! The four databases.

use uuid::{Uuid, uuid};

use super::FirmwareError;
use crate::formats::authenticode::Trust;
use crate::formats::efi::{Entry, SignatureDatabase, Time, guid};
use crate::formats::x509::Certificate;

/// Whom firmware is told that entries belong to, where nothing else is said.
pub const OWNER: Uuid = uuid!("7c2f3f0e-6a0b-4f5e-9c58-3d1f5a0c9e42");

/// Where a build leaves what firmware is to trust, in its output directory: [`super::key_files`].
pub const SECURE_BOOT_DIRECTORY: &str = "secure-boot";

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

    /// A time for the database that depends on its content alone: when the newest of its certificates begins to be valid.
    pub fn time(&self, database: Database) -> Time {
        let certificates = self.get(database).certificates();
        // One that is not understood has no say; firmware may understand it all the same.
        let begins = certificates.filter_map(|der| Some(Certificate::from_der(der).ok()?.validity().0));
        Time::from_unix(begins.max().unwrap_or(NO_DATE))
    }
}
