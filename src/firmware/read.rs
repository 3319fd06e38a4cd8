//! Keys from files.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Database, Databases, FirmwareError};
use crate::formats::efi::{AuthenticatedUpdate, SignatureDatabase};
use crate::formats::pem;
use crate::signing;

/// Far more than firmware can store.
const LARGEST: u64 = 4 << 20;
/// Endings of files with keys, the more complete ones first.
const ENDINGS: [&str; 6] = ["esl", "auth", "pem", "crt", "cer", "der"];
/// ASN.1's `SEQUENCE`, with which a certificate in DER begins.
const SEQUENCE: u8 = 0x30;

/// Adds what the file `path` holds to `database`: certificates (PEM or DER), which are put down as `owner`'s; a signature
/// list (`.esl`); or the list in a signed update (`.auth`), whose signature is not looked at.
///
/// # Errors
/// The file holds none of these, or cannot be read.
pub fn read_into(path: &Path, owner: Uuid, database: &mut SignatureDatabase) -> Result<(), FirmwareError> {
    let bytes = read(path)?;
    if let Ok(update) = AuthenticatedUpdate::parse(&bytes) {
        database.add_all(&lists(path, &update.data)?);
    } else if bytes.first() == Some(&SEQUENCE) || pem::is_pem(&bytes) {
        for certificate in signing::certificates(path)? {
            database.add_certificate(owner, certificate.der());
        }
    } else {
        database.add_all(&lists(path, &bytes)?);
    }
    Ok(())
}

/// The file `path`, a signed update (`.auth`), and the lists in it; the signature is not looked at.
///
/// # Errors
/// It is none, or cannot be read.
pub(super) fn read_update(path: &Path) -> Result<(Vec<u8>, SignatureDatabase), FirmwareError> {
    let bytes = read(path)?;
    let update = AuthenticatedUpdate::parse(&bytes).map_err(|source| FirmwareError::Update {
        path: path.to_owned(),
        source,
    })?;
    let lists = lists(path, &update.data)?;
    Ok((bytes, lists))
}

/// The databases in a directory: a file for each, `PK`, `KEK`, `db` and `dbx` in any case, with the ending of a signature list,
/// a signed update or a certificate. Of several endings the first in this order counts. Other files do not matter.
///
/// # Errors
/// There is none, two differ only in case, or one cannot be used.
pub fn read_directory(directory: &Path, owner: Uuid) -> Result<Databases, FirmwareError> {
    let failed = |source| FirmwareError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = fs::read_dir(directory).map_err(failed)?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(failed)?;
    files.sort();
    let mut databases = Databases::default();
    let mut any = false;
    for database in Database::ALL {
        if let Some(path) = file_of(database, &files)? {
            read_into(path, owner, databases.get_mut(database))?;
            any = true;
        }
    }
    if !any {
        return Err(FirmwareError::NoKeys {
            path: directory.to_owned(),
        });
    }
    Ok(databases)
}

fn file_of(database: Database, files: &[PathBuf]) -> Result<Option<&Path>, FirmwareError> {
    for ending in ENDINGS {
        let wanted = format!("{}.{ending}", database.name());
        let mut found = files.iter().filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.eq_ignore_ascii_case(&wanted))
        });
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => {
                return Err(FirmwareError::Ambiguous {
                    first: first.clone(),
                    second: second.clone(),
                    database: database.name(),
                });
            }
            (Some(path), None) => return Ok(Some(path)),
            (None, _) => {}
        }
    }
    Ok(None)
}

fn lists(path: &Path, bytes: &[u8]) -> Result<SignatureDatabase, FirmwareError> {
    SignatureDatabase::parse(bytes).map_err(|source| FirmwareError::Lists {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FirmwareError> {
    let failed = |source| FirmwareError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    let size = bytes.len() as u64;
    if size > LARGEST {
        return Err(FirmwareError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    Ok(bytes)
}
