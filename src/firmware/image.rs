//! What a build leaves about the keys of its image: files beside it, and signed updates on its ESP that the boot loader enrols.

use std::path::Path;

use super::read::read_update;
use super::{
    Database, Databases, FirmwareError, OWNER, SECURE_BOOT_DIRECTORY, SignatureTemplate, UpdateSigners,
    key_files, read_into,
};
use crate::signing::certificates;

/// Where systemd-boot looks, on the ESP, for keys that it may enrol unasked.
const ENROLLED_FROM: &str = "loader/keys/auto";

/// The files that a definition names.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageKeys<'a> {
    /// The certificate that boot loader and UKI are signed with; issuers may follow it, and are not enrolled.
    pub db: Option<&'a Path>,
    /// The certificate that root hashes are signed with, where the kernel is to check them: it believes firmware's `db`.
    pub verity: Option<&'a Path>,
    pub pk: Option<&'a Path>,
    pub kek: Option<&'a Path>,
    pub dbx: &'a [&'a Path],
    /// A directory with `PK.auth`, `KEK.auth`, `db.auth` and perhaps `dbx.auth`, made where the private keys are.
    pub auto_enroll: Option<&'a Path>,
}

/// Names and contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFiles {
    /// For the output directory, in [`SECURE_BOOT_DIRECTORY`]. Empty where there is no platform key or no key exchange key:
    /// then whoever enrols has to bring them.
    pub output: Vec<(String, Vec<u8>)>,
    /// For the ESP.
    pub esp: Vec<(String, Vec<u8>)>,
    /// What firmware will trust with [`ImageFiles::output`]; nothing where that is empty.
    pub databases: Databases,
    /// The certificate that boot loader and UKI are signed with; DER.
    pub signer: Vec<u8>,
}

impl ImageKeys<'_> {
    /// The files about these keys. Updates to be enrolled must hold the keys that are named besides, or a machine that took them
    /// would refuse the image, or be another's.
    ///
    /// # Errors
    /// A file that is missing or no key; updates of other keys, or that revoke what signs the image.
    pub fn files(&self) -> Result<ImageFiles, FirmwareError> {
        let mut files = ImageFiles::default();
        let mut databases = self.named()?;
        if let Some(der) = databases.db.certificates().next() {
            files.signer = der.to_vec();
        }
        if let Some(directory) = self.auto_enroll {
            databases = enrolled(directory, &databases, &mut files)?;
        }
        if databases
            .db
            .certificates()
            .any(|der| databases.dbx.lists_certificate(der))
        {
            return Err(FirmwareError::Revoked);
        }
        if databases.pk.is_empty() || databases.kek.is_empty() {
            return Ok(files);
        }
        let lists = key_files(
            &databases,
            UpdateSigners::default(),
            None,
            SignatureTemplate::None,
        )?;
        let placed = lists
            .into_iter()
            .map(|(name, bytes)| (format!("{SECURE_BOOT_DIRECTORY}/{name}"), bytes));
        files.output.extend(placed);
        files.output.sort();
        files.databases = databases;
        Ok(files)
    }

    fn named(&self) -> Result<Databases, FirmwareError> {
        let mut databases = Databases::default();
        for path in [self.db, self.verity].into_iter().flatten() {
            for certificate in certificates(path)?.iter().take(1) {
                databases.db.add_certificate(OWNER, certificate.der());
            }
        }
        let files = [
            (Database::Pk, self.pk.as_slice()),
            (Database::Kek, self.kek.as_slice()),
            (Database::Dbx, self.dbx),
        ];
        for (database, paths) in files {
            for path in paths {
                read_into(path, OWNER, databases.get_mut(database))?;
            }
        }
        Ok(databases)
    }
}

/// Takes the updates in `directory`; gives the databases that they make.
fn enrolled(directory: &Path, named: &Databases, files: &mut ImageFiles) -> Result<Databases, FirmwareError> {
    let mut enrolled = Databases::default();
    for database in Database::ALL {
        let file = format!("{}.auth", database.name());
        let path = directory.join(&file);
        if database == Database::Dbx && named.dbx.is_empty() && !path.exists() {
            continue;
        }
        let (bytes, lists) = read_update(&path)?;
        let wanted = named.get(database);
        if !wanted
            .entries()
            .all(|entry| lists.entries().any(|known| known == entry))
        {
            return Err(FirmwareError::OtherKeys {
                path,
                database: database.name(),
            });
        }
        *enrolled.get_mut(database) = lists;
        files.esp.push((format!("{ENROLLED_FROM}/{file}"), bytes.clone()));
        files
            .output
            .push((format!("{SECURE_BOOT_DIRECTORY}/{file}"), bytes));
    }
    Ok(enrolled)
}
