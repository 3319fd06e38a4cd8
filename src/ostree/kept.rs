//! Objects that the store keeps, and repositories share by hard links: contents, and the dirtrees, of which there are as
//! many as directories.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Error;
use super::content::{Content, Data, OSTREE_META, Written, bare_mode};
use super::layout::{Layout, RepoMode};
use super::object::Kind;
use super::read::Repo;
use crate::store::{Attributes, Digest, Linked, Store, StoreError};

/// Changes with every change of how objects are made.
const VERSION: &[u8] = b"hullwright ostree object 1";

const BARE_USER: &str = "ostree-bare-user";
const ARCHIVE: &str = "ostree-archive";
const DIRTREE: &str = "ostree-dirtree";
/// What metadata objects and those of archives are.
const PLAIN: Attributes<'static> = Attributes {
    mode: 0o644,
    xattr: None,
};

/// The content objects of one mode, and dirtrees.
pub(super) struct Kept {
    objects: Linked,
    dirtrees: Linked,
    mode: RepoMode,
}

impl Kept {
    pub(super) fn open(store: &Store, mode: RepoMode) -> Result<Self, StoreError> {
        let objects = match mode {
            RepoMode::BareUser => store.linked(BARE_USER, "ostree-bare-user-names", ".file"),
            RepoMode::Archive { .. } => store.linked(ARCHIVE, "ostree-archive-names", ".filez"),
        }?;
        let dirtrees = store.linked_by_name(DIRTREE, ".dirtree");
        Ok(Self {
            objects,
            dirtrees,
            mode,
        })
    }

    /// What the object of `content` is made of, all of it.
    pub(super) fn key(&self, content: &Content<'_>) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(VERSION);
        hasher.update(match self.mode {
            RepoMode::BareUser => [u8::MAX; 4],
            RepoMode::Archive { level } => level.to_le_bytes(),
        });
        match content.data {
            Data::File(blob) => hasher.update(blob.sha256().0),
            Data::Symlink(target) => hasher.update(Digest::of(target.as_bytes()).0),
        }
        hasher.update(content.owned.dirmeta());
        hasher.finalize().into()
    }

    /// Puts the object into the repository, where the store has it.
    pub(super) fn link(&self, key: &[u8; 32], content: &Content<'_>, layout: &Layout) -> Option<Written> {
        self.link_as(key, bare_mode(content), &content.owned.dirmeta(), layout)
    }

    /// As [`Kept::link`], of content that is known by the mode of its file, and by owner, mode and attributes in the form
    /// of a dirmeta.
    pub(super) fn link_as(&self, key: &[u8; 32], mode: u32, meta: &[u8], layout: &Layout) -> Option<Written> {
        let attributes = self.attributes(mode, meta);
        let path = |name: &Digest| layout.object_path(name, self.mode.content_kind());
        let (checksum, stored) = self.objects.link(key, &attributes, path)?;
        Some(Written { checksum, stored })
    }

    fn attributes<'a>(&self, mode: u32, meta: &'a [u8]) -> Attributes<'a> {
        match self.mode {
            RepoMode::BareUser => Attributes {
                mode,
                xattr: Some((OSTREE_META, meta)),
            },
            RepoMode::Archive { .. } => PLAIN,
        }
    }

    /// Checksum and file of the object under `key`, where the store has it.
    pub(super) fn find(&self, key: &[u8; 32]) -> Option<(Digest, PathBuf)> {
        self.objects.find(key)
    }

    /// Makes an object in the store; `mode` and `meta` as for [`Kept::link_as`], `content` the whole of its file.
    pub(super) fn add(
        &self,
        key: &[u8; 32],
        checksum: &Digest,
        mode: u32,
        meta: &[u8],
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        self.objects
            .add(key, checksum, &self.attributes(mode, meta), content)
    }

    /// Keeps an object that has just been written.
    pub(super) fn keep(&self, key: &[u8; 32], checksum: &Digest, path: &Path) {
        self.objects.keep(key, checksum, path);
    }

    /// Writes a metadata object, where the repository does not have it; from the store, where that has it. Its checksum,
    /// and whether it is new.
    pub(super) fn write_metadata(
        &self,
        kind: Kind,
        bytes: &[u8],
        layout: &Layout,
    ) -> Result<(Digest, bool), Error> {
        if kind != Kind::DirTree {
            return layout.write_metadata(kind, bytes);
        }
        let checksum = Digest::of(bytes);
        let path = layout.object_path(&checksum, kind);
        let linked = self
            .dirtrees
            .link_named(&checksum, bytes.len() as u64, &PLAIN, &path);
        if let Some(new) = linked {
            return Ok((checksum, new));
        }
        let written = layout.write_metadata(kind, bytes)?;
        self.dirtrees.keep_named(&checksum, &path);
        Ok(written)
    }

    pub(super) fn finish(self) -> Result<(), StoreError> {
        self.objects.finish()
    }
}

/// What is wrong with the object `name` that the store keeps in `directory` as `kind`: all of it is read.
pub fn check_kept(kind: &str, directory: &Path, name: &Digest) -> Option<String> {
    let mode = match kind {
        BARE_USER => RepoMode::BareUser,
        ARCHIVE => RepoMode::Archive {
            level: RepoMode::DEFAULT_LEVEL,
        },
        DIRTREE => RepoMode::BareUser,
        _ => return Some("this version knows nothing of its kind".to_owned()),
    };
    let layout = Layout {
        path: directory.to_owned(),
        objects: directory.to_owned(),
        mode,
    };
    let checked = match kind {
        DIRTREE => layout.read_metadata(name, Kind::DirTree).map(drop),
        _ => Repo { layout }.check_content(name),
    };
    checked.err().map(|error| error.to_string())
}
