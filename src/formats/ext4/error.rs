//! Why a file system cannot be made.

use std::io;

use super::geometry::{MAX_SIZE, MIN_SIZE};

/// A file system that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    #[error(
        "an ext4 file system of {size} bytes cannot be made here: it has {} MiB to {} TiB",
        MIN_SIZE >> 20,
        MAX_SIZE >> 40
    )]
    Size { size: u64 },
    #[error("the label {label:?} has {} bytes; ext4 holds 16", label.len())]
    Label { label: String },
    #[error(
        "`{path}` cannot be a name in a directory of ext4: it is empty, has over 255 bytes, a slash or a NUL, or is `.` or `..`"
    )]
    Name { path: String },
    #[error("the root of a file system is a directory, and `/lost+found` is the file system's own")]
    Root,
    #[error("the link `{path}` has a target of {size} bytes; ext4 holds 1 to 4095")]
    Target { path: String, size: usize },
    #[error("`{path}`: the extended attribute `{name}` cannot be written: {why}")]
    Xattr {
        path: String,
        name: String,
        why: &'static str,
    },
    #[error("`{path}` has a time of {time} s since 1970, which ext4 cannot hold")]
    Time { path: String, time: i64 },
    #[error("the files take {needed} blocks of 4096 bytes; the file system has {free} left for them")]
    Full { needed: u64, free: u64 },
    #[error(
        "the tree has {count} files, directories and links; the first group of the file system has {room} inodes"
    )]
    Inodes { count: u64, room: u64 },
    #[error("writing the file system failed: {0}")]
    Io(#[from] io::Error),
}
