//! Keys into OVMF's variable store.

use std::path::Path;

use super::read::read;
use super::{Database, Databases, FirmwareError};
use crate::formats::efi::variable::attribute;
use crate::formats::efi::{SignatureDatabase, Time, Variable, VariableStore, guid};

/// What is to be done with a store.
#[derive(Debug, Clone, Default)]
pub struct Enrolment {
    pub databases: Databases,
    /// Keep what the store has in `KEK`, `db` and `dbx`, and add to it.
    pub append: bool,
    /// The databases' time, in place of [`Databases::time`]. Firmware takes only updates that are signed for a later time.
    pub time: Option<Time>,
}

/// The variable store in the file `template` with `enrolment`'s keys, as [`Databases::enrolled`] has them, and Secure Boot on;
/// everything else in it stays.
///
/// # Errors
/// [`Databases::check`] fails; the template is no variable store, or has no room.
pub fn enroll(template: &Path, enrolment: &Enrolment) -> Result<Vec<u8>, FirmwareError> {
    enrolment.databases.check()?;
    let failed = |source| FirmwareError::Store {
        path: template.to_owned(),
        source,
    };
    let mut store = VariableStore::parse(read(template)?).map_err(failed)?;
    let mut databases = Databases::default();
    for database in Database::ALL {
        let lists = databases.get_mut(database);
        let known = store.get(database.vendor(), database.name());
        if let Some(known) = known.filter(|_| enrolment.append && database != Database::Pk) {
            *lists = SignatureDatabase::parse(&known.data).map_err(|source| FirmwareError::Lists {
                path: template.to_owned(),
                source,
            })?;
        }
        lists.add_all(enrolment.databases.get(database));
    }
    let databases = databases.enrolled();
    for database in Database::ALL {
        let time = enrolment
            .time
            .unwrap_or_else(|| enrolment.databases.time(database));
        store.set(Variable {
            time,
            ..Variable::new(
                database.vendor(),
                database.name(),
                attribute::SECURE_BOOT,
                databases.get(database).to_bytes(),
            )
        });
    }
    let switch = attribute::NON_VOLATILE | attribute::BOOT_SERVICES;
    for (vendor, name, value) in [
        (guid::SECURE_BOOT_ENABLE, "SecureBootEnable", 1),
        // In custom mode firmware takes changes of its keys without a signature.
        (guid::CUSTOM_MODE, "CustomMode", 0),
    ] {
        store.set(Variable::new(vendor, name, switch, vec![value]));
    }
    store.to_bytes().map_err(failed)
}
