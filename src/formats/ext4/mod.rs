//! ext4: a fresh, small file system written without a kernel, to be grown where it is used.
//!
//! [`write`] makes what today's `mke2fs` makes by default (extents, 64-bit descriptors, checksums of metadata, flexible
//! groups, a journal, a resize inode), with a tree of directories, links and small files in it. Only blocks that a reader
//! may look at are written, each once and whole: the rest of the medium may hold anything. Groups without content are
//! marked so, and inode tables are left to the kernel, which clears them after the first mount (`lazy_itable_init`), as
//! is the journal behind its first block. So a file system costs what is in it, on a sparse file and inside an encrypted
//! volume as well, where what was not written reads as noise.
//!
//! The same arguments give the same bytes: identifiers and times are given, never drawn.
//!
//! Left out of `mke2fs`'s present defaults: `metadata_csum_seed` and `orphan_file`, which kernels before 5.15 or older boot
//! loaders do not know, and indexes of directories (a directory is read from its beginning; the kernel indexes those that
//! grow). Hard links and devices are not written.
//!
//! Specification: `Documentation/filesystems/ext4/` of Linux; the resize inode is described by e2fsprogs alone.

#![expect(clippy::single_range_in_vec_init, reason = "sets of runs of blocks")]

mod checksum;
mod content;
mod error;
mod format;
mod geometry;
mod inode;
mod journal;
mod model;
mod plan;
mod resize;
#[cfg(test)]
mod tests;
mod writer;
mod xattr;

pub use error::Ext4Error;
pub use format::BLOCK_SIZE;
pub use geometry::{MAX_SIZE, MIN_SIZE};
pub use model::{Inode, Kind, Params};
pub use writer::write;
