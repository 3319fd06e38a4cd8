//! What can be wrong with a tree or its options.

use std::io;

use super::format::NAME_MAX;

/// The volume cannot be written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// One entry cannot be stored.
    #[error("`{path}` cannot be stored in an erofs volume: {fault}")]
    Entry { path: String, fault: Fault },
    /// Inodes that stand in no directory would be lost without a word.
    #[error("inode {index} of the tree for the erofs volume stands in no directory")]
    Unreachable { index: usize },
    /// An option is out of range.
    #[error("{0}")]
    Options(&'static str),
    /// The volume would have more than 2³² blocks.
    #[error("the erofs volume would exceed 16 TiB, the most that its block numbers can address")]
    TooLarge,
    /// The content of a file cannot be read.
    #[error("reading `{path}` for the erofs volume failed: {source}")]
    Read { path: String, source: io::Error },
    /// A compressor reported an error.
    #[error("compressing `{path}` for the erofs volume failed: {message}")]
    Compress { path: String, message: String },
    /// The volume cannot be written to its destination.
    #[error("writing the erofs volume failed: {0}")]
    Write(#[source] io::Error),
}

/// Why an entry cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the root is not a directory")]
    RootNotDirectory,
    #[error("it refers to inode {0}, which does not exist")]
    NoSuchInode(usize),
    #[error("it is a directory that stands in more than one place")]
    DirectoryLinkedTwice,
    #[error("its name has {0} bytes; at most {max} are allowed", max = NAME_MAX)]
    NameTooLong(usize),
    #[error("its name is empty, `.` or `..`, or contains `/` or a zero byte")]
    BadName,
    #[error("its entries take {0} bytes; a directory holds less than 4 GiB")]
    DirectoryTooLarge(u64),
    #[error("its mode {0:o} has bits outside of 07777")]
    BadMode(u16),
    #[error("the target of the symbolic link has {0} bytes; 1 to 4095, none of them zero, are allowed")]
    BadTarget(usize),
    #[error("device {0}:{1} is out of range (major below 4096, minor below 1048576)")]
    DeviceOutOfRange(u32, u32),
    #[error("the extended attribute `{0}` is not in the namespace user, trusted, security or posix_acl")]
    XattrNamespace(String),
    #[error(
        "the extended attribute `{0}` is too long (255 bytes of name behind the namespace, 65535 of value)"
    )]
    XattrTooLong(String),
    #[error("its extended attributes take {0} bytes; at most 262144 are allowed")]
    XattrsTooLarge(usize),
}
