//! What a file system is made of.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::at::Content;

/// What a file system is made with, beside its tree.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    /// Bytes from the first to the last of the medium that the file system may use; it takes whole blocks of them, and
    /// leaves a last group out that would be too small for its own tables.
    pub size: u64,
    pub uuid: Uuid,
    /// What names are hashed with in indexes of directories; no secret.
    pub hash_seed: [u8; 16],
    /// At most 16 bytes; empty for none.
    pub label: &'a str,
    /// When it was made: seconds since the Unix epoch.
    pub time: i64,
}

/// A file, directory or link.
#[derive(Clone)]
pub struct Inode<'a> {
    /// Permission bits with set-uid, set-gid and sticky (07777).
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the Unix epoch; all of the inode's times.
    pub time: i64,
    /// By full name: `security.*`, `user.*`, `trusted.*`.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub kind: Kind<'a>,
}

/// What an inode is.
#[derive(Clone)]
pub enum Kind<'a> {
    Directory(BTreeMap<Box<[u8]>, Inode<'a>>),
    File(Content<'a>),
    /// The target, as written.
    Symlink(Box<[u8]>),
}

impl<'a> Inode<'a> {
    /// Owned by root, without extended attributes.
    pub fn root(mode: u16, time: i64, kind: Kind<'a>) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            time,
            xattrs: BTreeMap::new(),
            kind,
        }
    }
}
