//! The RPM set: packages, their headers, payloads and digests.

pub mod closure;
mod digests;
mod error;
mod evr;
mod files;
mod lock;
mod nevra;
mod package;
mod payload;
pub mod rpmdb;
mod set;
pub mod signature;

pub use error::{Error, Problem};
pub use evr::compare_versions;
pub use files::{DigestAlgorithm, FileDigest, FileEntry, HardLink};
pub use lock::{Lock, LockEntry, LockError};
pub use nevra::Nevra;
pub use package::Package;
pub use set::{Contents, RpmSet, SetError};
