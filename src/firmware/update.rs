//! Signed updates: databases as `.auth` files, which firmware takes from anybody.

use super::{Database, Databases, FirmwareError, SignatureTemplate, uefi_settings};
use crate::formats::cms::{Hash, SignedData};
use crate::formats::efi::variable::attribute;
use crate::formats::efi::{AuthenticatedUpdate, SignatureDatabase, Time};
use crate::signing::Credential;

/// Who signs updates. In setup mode, as long as there is no platform key, firmware takes all but `PK` unsigned; boot loaders
/// and tools want the form all the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpdateSigners<'a> {
    /// The platform key: signs `PK` and `KEK`.
    pub pk: Option<&'a Credential>,
    /// One of `KEK`: signs `db` and `dbx`.
    pub kek: Option<&'a Credential>,
}

impl<'a> UpdateSigners<'a> {
    fn of(self, database: Database) -> Option<&'a Credential> {
        match database {
            Database::Pk | Database::Kek => self.pk,
            Database::Db | Database::Dbx => self.kek,
        }
    }
}

/// `lists` as the new value of `database`, signed by `signer`.
///
/// # Errors
/// The key refuses, or signs with another digest than SHA-256.
pub fn signed_update(
    database: Database,
    lists: &SignatureDatabase,
    time: Time,
    signer: &Credential,
) -> Result<AuthenticatedUpdate, FirmwareError> {
    if Hash::of(signer.scheme()) != Hash::Sha256 {
        return Err(FirmwareError::Digest {
            subject: signer.certificate().subject().to_owned(),
        });
    }
    let data = lists.to_bytes();
    let signed = AuthenticatedUpdate::signed_bytes(
        database.name(),
        database.vendor(),
        attribute::SECURE_BOOT,
        time,
        &data,
    );
    let mut message = SignedData::detached(&signed, signer.certificate());
    message.certificates = vec![signer.certificate()];
    let message = message.prepare();
    let signature = signer.sign(message.to_sign())?;
    Ok(AuthenticatedUpdate {
        time,
        signature: message.attach_bare(&signature),
        data,
    })
}

/// The databases as files, by name: `PK.esl` and so on for each that is not empty, `PK.auth` and so on where there is who signs
/// it, and `uefi-settings.json` for Azure. `time` is the updates', in place of [`Databases::time`].
///
/// # Errors
/// [`Databases::check`] fails; a signer whose certificate firmware would not look for; what Azure cannot be told.
pub fn key_files(
    databases: &Databases,
    signers: UpdateSigners<'_>,
    time: Option<Time>,
    template: SignatureTemplate,
) -> Result<Vec<(String, Vec<u8>)>, FirmwareError> {
    databases.check()?;
    for (signer, database) in [(signers.pk, Database::Pk), (signers.kek, Database::Kek)] {
        let Some(signer) = signer else { continue };
        let der = signer.certificate().der();
        if !databases.get(database).certificates().any(|known| known == der) {
            return Err(FirmwareError::ForeignSigner {
                subject: signer.certificate().subject().to_owned(),
                database: database.name(),
            });
        }
    }
    let mut files = Vec::new();
    for database in Database::ALL {
        let lists = databases.get(database);
        if lists.is_empty() {
            continue;
        }
        files.push((format!("{}.esl", database.name()), lists.to_bytes()));
        if let Some(signer) = signers.of(database) {
            let time = time.unwrap_or_else(|| databases.time(database));
            let update = signed_update(database, lists, time, signer)?;
            files.push((format!("{}.auth", database.name()), update.to_bytes()));
        }
    }
    let settings = uefi_settings(databases, template)?;
    files.push((
        "uefi-settings.json".to_owned(),
        format!("{settings:#}\n").into_bytes(),
    ));
    Ok(files)
}
