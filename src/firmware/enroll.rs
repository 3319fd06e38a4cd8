//! Keys into OVMF's variable store.

use std::path::Path;

use super::read::read;
use super::{Database, Databases, FirmwareError};
use crate::formats::efi::variable::attribute;
use crate::formats::efi::{SignatureDatabase, Time, Variable, VariableStore, guid};

/// The SHA-256 of nothing.
const NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What is to be done with a store.
#[derive(Debug, Clone, Default)]
pub struct Enrolment {
    pub databases: Databases,
    /// Keep what the store has in `KEK`, `db` and `dbx`, and add to it.
    pub append: bool,
    /// The databases' time, in place of [`Databases::time`]. Firmware takes only updates that are signed for a later time.
    pub time: Option<Time>,
}

/// The variable store in the file `template` with `enrolment`'s keys and Secure Boot on; everything else in it stays. Where
/// nothing is revoked, `dbx` gets a digest that no image has, as OVMF's own tools do: the variable is then there, and is
/// measured as one.
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
    for database in Database::ALL {
        let mut lists = SignatureDatabase::default();
        let known = store.get(database.vendor(), database.name());
        if let Some(known) = known.filter(|_| enrolment.append && database != Database::Pk) {
            lists = SignatureDatabase::parse(&known.data).map_err(|source| FirmwareError::Lists {
                path: template.to_owned(),
                source,
            })?;
        }
        lists.add_all(enrolment.databases.get(database));
        if database == Database::Dbx && lists.is_empty() {
            lists.add_image(guid::OVMF_DEFAULT_KEYS, NOTHING);
        }
        let time = enrolment
            .time
            .unwrap_or_else(|| enrolment.databases.time(database));
        store.set(Variable {
            time,
            ..Variable::new(
                database.vendor(),
                database.name(),
                attribute::SECURE_BOOT,
                lists.to_bytes(),
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
