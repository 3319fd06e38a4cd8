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
pub mod repo;
pub mod rpmdb;
mod set;
mod set_source;
pub mod signature;
pub mod source;
mod state;

pub use error::{Error, Problem};
pub use evr::compare_versions;
pub use files::{DigestAlgorithm, FileDigest, FileEntry, HardLink};
pub use lock::{
    Changes, Found, Location, Lock, LockEntry, LockError, LockRepository, LockSource, Moved, Rebuilt,
    SignatureState, SourceKind,
};
pub use nevra::{Nevra, NevraError};
pub use package::Package;
pub use set::{Contents, RpmSet, SetError};
pub use set_source::SetSource;
pub use state::{FileState, Filter, States};
