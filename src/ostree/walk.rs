//! Going through the tree of a commit.

use super::object::{CommitObject, Ownership};
use super::{Error, Repo};
use crate::store::Digest;
use crate::tree::Xattrs;
use crate::tree::path::TreePath;

/// How many paths a commit may have. Directories may be shared, so that a few hostile objects could
/// stand for a tree without end.
const MAX_ENTRIES: u64 = 10_000_000;

/// One path of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: TreePath,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: Xattrs,
    pub kind: EntryKind,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    /// A regular file: give `checksum` to [`Repo::open_file`]. Hard links are the same object. Owner,
    /// mode, attributes and size are what the object claims until its content has been read.
    File {
        checksum: Digest,
        size: u64,
    },
    Symlink {
        checksum: Digest,
        target: Box<[u8]>,
    },
}

/// The entries of a commit: parents before children, names in byte order, as
/// [`crate::tree::Tree::walk`] gives them.
pub struct Walk<'a> {
    repo: &'a Repo,
    commit: Digest,
    stack: Vec<(TreePath, Next)>,
    seen: u64,
}

enum Next {
    /// `dirtree`, `dirmeta`.
    Directory(Digest, Digest),
    Content(Digest),
}

impl<'a> Walk<'a> {
    pub(super) fn new(repo: &'a Repo, checksum: Digest, commit: &CommitObject) -> Self {
        let root = Next::Directory(commit.root_dirtree, commit.root_dirmeta);
        Self {
            repo,
            commit: checksum,
            stack: vec![(TreePath::root(), root)],
            seen: 0,
        }
    }

    fn step(&mut self, path: TreePath, next: &Next) -> Result<Entry, Error> {
        self.seen += 1;
        if self.seen > MAX_ENTRIES {
            return Err(Error::TooManyEntries {
                commit: self.commit,
                limit: MAX_ENTRIES,
            });
        }
        match next {
            Next::Directory(dirtree, dirmeta) => {
                let Ownership {
                    uid,
                    gid,
                    mode,
                    xattrs,
                } = self.repo.dirmeta(dirmeta)?;
                self.push_children(&path, dirtree)?;
                Ok(Entry {
                    path,
                    mode,
                    uid,
                    gid,
                    xattrs,
                    kind: EntryKind::Directory,
                })
            }
            Next::Content(checksum) => {
                let file = self.repo.open_file(checksum)?;
                let kind = match file.target {
                    Some(target) => EntryKind::Symlink {
                        checksum: *checksum,
                        target,
                    },
                    None => EntryKind::File {
                        checksum: *checksum,
                        size: file.size,
                    },
                };
                Ok(Entry {
                    path,
                    mode: file.mode,
                    uid: file.uid,
                    gid: file.gid,
                    xattrs: file.xattrs,
                    kind,
                })
            }
        }
    }

    fn push_children(&mut self, path: &TreePath, dirtree: &Digest) -> Result<(), Error> {
        let tree = self.repo.dirtree(dirtree)?;
        let files = tree
            .files
            .into_iter()
            .map(|(name, file)| (name, Next::Content(file)));
        let dirs = tree.dirs.into_iter();
        let dirs = dirs.map(|(name, tree, meta)| (name, Next::Directory(tree, meta)));
        let mut children: Vec<(String, Next)> = files.chain(dirs).collect();
        children.sort_by(|a, b| b.0.cmp(&a.0));
        for (name, next) in children {
            // Refuses names and paths that are too long.
            let path = path.join(&name).map_err(|error| Error::Malformed {
                name: format!("{dirtree}.dirtree"),
                what: error.to_string(),
            })?;
            self.stack.push((path, next));
        }
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, next) = self.stack.pop()?;
        let entry = self.step(path, &next);
        if entry.is_err() {
            self.stack.clear();
        }
        Some(entry)
    }
}
