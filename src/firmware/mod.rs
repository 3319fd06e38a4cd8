//! The keys of Secure Boot: from files into the forms in which firmware, boot loader and Azure take them.
//!
//! Firmware trusts by four signature databases. The platform key (`PK`) says who owns the machine and signs changes of `KEK`;
//! keys in `KEK` sign changes of `db` and `dbx`; what a certificate in `db` signed may start, unless `dbx` forbids it.

mod azure;
mod databases;
mod enroll;
mod error;
mod image;
mod read;
mod update;

pub use azure::{SignatureTemplate, uefi_settings};
pub use databases::{Database, Databases, OWNER, SECURE_BOOT_DIRECTORY};
pub use enroll::{Enrolment, enroll};
pub use error::FirmwareError;
pub use image::{ImageFiles, ImageKeys};
pub use read::{read_directory, read_into};
pub use update::{UpdateSigners, key_files, signed_update};

#[cfg(test)]
mod tests;
