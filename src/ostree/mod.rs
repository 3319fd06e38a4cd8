//! The ostree commit and its repository: written, read and verified in process.
//!
//! No C library is linked: the bytes are this program's own decision, so they are the same on every
//! machine, and objects are hashed and compressed on all cores. The `ostree` program reads what is
//! written here, and gives the same tree the same commit checksum.
//!
//! Specification: <https://ostreedev.github.io/ostree/repo/>, and libostree's `ostree-core.h` for the
//! types of its objects.

mod checksum;
mod commit;
mod content;
mod delta;
mod detached;
mod error;
mod find;
mod kept;
mod layout;
mod object;
mod read;
mod record;
mod share;
mod summary;
mod walk;

pub use checksum::ContentChecksum;
pub use commit::{
    Commit, CommitOptions, CommitTree, Value, commit_object, publish_commit, write_commit, write_commit_from,
    write_tree,
};
pub use delta::{
    CheckedDelta, Delta, DeltaName, DeltaOptions, apply_part, check_delta, list_deltas, parse_superblock,
    write_delta,
};
pub use detached::{commit_bytes, read_signatures, write_signatures};
pub use error::Error;
pub use kept::check_kept;
pub use layout::RepoMode;
pub use object::CommitObject;
pub use read::{ContentReader, FileObject, Repo, Verified};
pub use record::{TreeRecord, restore_tree};
pub use share::Shared;
pub use summary::write_summary;
pub use walk::{Entry, EntryKind, Walk};
