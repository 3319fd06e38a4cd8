//! One entry of a tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::Blob;

/// Extended attributes by full name (`security.capability`), values raw.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The entries of a directory, in byte order.
pub type Children = BTreeMap<Box<[u8]>, Node>;

/// Files with the same identity are hard links of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What every inode has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky (07777); the type is in [`Kind`].
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// The owner by name, where `uid` is yet to be found from it.
    pub user: Option<Arc<str>>,
    /// The group by name, where `gid` is yet to be found from it.
    pub group: Option<Arc<str>>,
    /// Seconds since the epoch.
    pub mtime: i64,
    pub xattrs: Xattrs,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub enum Kind {
    Dir(Children),
    File(FileData),
    /// The target, as written.
    Symlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileData {
    pub blob: Blob,
    pub link: Option<LinkId>,
}

/// Who put a node into the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// These packages, as indexes into the RPM set.
    Packages(Vec<u32>),
    /// The image definition: which of its entries.
    Definition(Arc<str>),
    /// The composer itself, and for what reason.
    Composer(&'static str),
}

/// A node of a [`super::Tree`].
#[derive(Debug, Clone)]
pub struct Node {
    pub meta: Meta,
    pub kind: Kind,
    pub origin: Origin,
}

impl Meta {
    /// Owned by root, without extended attributes.
    pub fn root(mode: u16, mtime: i64) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime,
            xattrs: Xattrs::new(),
        }
    }
}

impl Kind {
    /// A regular file with `bytes`, linked once.
    pub fn file(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::File(FileData {
            blob: Blob::from_bytes(bytes),
            link: None,
        })
    }

    /// What it is, with its article, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Dir(_) => "a directory",
            Self::File(_) => "a regular file",
            Self::Symlink(_) => "a symbolic link",
            Self::CharDevice { .. } => "a character device",
            Self::BlockDevice { .. } => "a block device",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
        }
    }

    /// The `S_IFMT` bits of `st_mode`.
    pub fn format_bits(&self) -> u16 {
        match self {
            Self::Dir(_) => 0o040_000,
            Self::File(_) => 0o100_000,
            Self::Symlink(_) => 0o120_000,
            Self::CharDevice { .. } => 0o020_000,
            Self::BlockDevice { .. } => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }
}

impl Node {
    pub fn new(meta: Meta, kind: Kind, origin: Origin) -> Self {
        Self { meta, kind, origin }
    }

    /// The entries, where it is a directory.
    pub fn children(&self) -> Option<&Children> {
        match &self.kind {
            Kind::Dir(children) => Some(children),
            _ => None,
        }
    }

    /// As [`Node::children`], to be changed.
    pub fn children_mut(&mut self) -> Option<&mut Children> {
        match &mut self.kind {
            Kind::Dir(children) => Some(children),
            _ => None,
        }
    }

    /// `st_mode`: type and permission bits.
    pub fn st_mode(&self) -> u16 {
        self.kind.format_bits() | self.meta.mode
    }
}
