//! erofs, the read-only file system of sealed volumes: a writer and a reader of our own.
//!
//! The writer takes a tree as plain values ([`FileSystem`]) and gives a volume, the same bytes for
//! the same tree. Blocks of 4096 bytes; compact and extended inodes; tails behind inodes; shared
//! extended attributes; LZ4, Deflate and Zstandard in clusters of fixed size with compact indexes. By choice small files
//! and ends of others compressed together, in a packed file; equal clusters, and chunks of uncompressed files, once.
//!
//! Specification: the kernel's `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`.
//! What the writer makes is read by kernels from 5.17 on, with chunks from 5.15, with fragments
//! and shared clusters from 6.1, with Deflate from 6.6 and with Zstandard from 6.10 on.

mod cache;
mod chunks;
mod cluster;
mod clusters_reader;
mod data;
mod directory;
mod dump;
mod error;
mod fit;
mod format;
mod fragments;
mod index;
mod index_reader;
mod lz4_cut;
mod metadata;
mod model;
mod ordered;
mod plan;
mod read_error;
mod reader;
mod space;
mod stored;
mod tree;
mod writer;
mod xattr;

#[cfg(test)]
mod tests;

pub use cache::ClusterCache;
pub use dump::dump;
pub use error::{Error, Fault};
pub use model::{Compression, Content, FileSystem, Inode, InodeIndex, InodeKind, Options, Stats};
pub use read_error::ReadError;
pub use reader::{Image, StoredInode, Volume};
pub use writer::{write, write_cached};
