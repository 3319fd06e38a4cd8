//! What a commit leads to, and which of an earlier commit's files a new one has come from.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Error;
use super::super::read::Repo;
use super::content::Content;
use crate::store::Digest;
use crate::tree::path::TreePath;

/// Files of one name that are looked at.
const MAX_CANDIDATES: usize = 8;

/// Objects of one kind with the first path that leads to each, in the order of the tree.
#[derive(Debug, Default)]
pub(super) struct Objects {
    list: Vec<(Digest, TreePath)>,
    known: BTreeSet<Digest>,
}

impl Objects {
    /// Whether it is new.
    fn add(&mut self, digest: Digest, path: &TreePath) -> bool {
        let new = self.known.insert(digest);
        if new {
            self.list.push((digest, path.clone()));
        }
        new
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Digest, TreePath)> {
        self.list.iter()
    }

    pub(super) fn digests(&self) -> &BTreeSet<Digest> {
        &self.known
    }
}

/// All objects that a commit leads to.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub dirtrees: Objects,
    pub dirmetas: Objects,
    pub contents: Objects,
}

impl Reached {
    /// Reads the directories of `commit`; one that lies at several places only once.
    pub(super) fn of(repo: &Repo, commit: &Digest) -> Result<Self, Error> {
        let commit = repo.commit(commit)?;
        let mut reached = Self::default();
        let mut todo = vec![(TreePath::root(), commit.root_dirtree, commit.root_dirmeta)];
        while let Some((path, dirtree, dirmeta)) = todo.pop() {
            reached.dirmetas.add(dirmeta, &path);
            if !reached.dirtrees.add(dirtree, &path) {
                continue;
            }
            let tree = repo.dirtree(&dirtree)?;
            let below = |name: &str| {
                path.join(name).map_err(|error| Error::Malformed {
                    name: format!("{dirtree}.dirtree"),
                    what: error.to_string(),
                })
            };
            for (name, file) in &tree.files {
                reached.contents.add(*file, &below(name)?);
            }
            for (name, tree, meta) in tree.dirs.iter().rev() {
                todo.push((below(name)?, *tree, *meta));
            }
        }
        Ok(reached)
    }
}

/// An earlier commit's files, by path, by path without numbers, and by name without numbers.
pub(super) struct Counterparts<'a> {
    by_path: BTreeMap<&'a TreePath, Digest>,
    by_kin: BTreeMap<Vec<u8>, Vec<Digest>>,
}

impl<'a> Counterparts<'a> {
    pub(super) fn of(old: &'a Reached) -> Self {
        let mut found = Self {
            by_path: BTreeMap::new(),
            by_kin: BTreeMap::new(),
        };
        for (digest, path) in old.contents.iter() {
            found.by_path.insert(path, *digest);
            for key in kin(path) {
                found.by_kin.entry(key).or_default().push(*digest);
            }
        }
        found
    }

    /// The file that the new one of `size` bytes at `path` is probably another version of.
    pub(super) fn find(&self, earlier: &Repo, path: &TreePath, size: u64) -> Result<Option<Digest>, Error> {
        let same = self.by_path.get(path).into_iter().collect();
        let kin = kin(path).map(|key| self.by_kin.get(&key));
        let groups = kin.into_iter().flatten();
        let groups = std::iter::once(same).chain(groups.map(|group| group.iter().collect::<Vec<_>>()));
        for group in groups {
            let mut best: Option<(u64, Digest)> = None;
            for digest in group.into_iter().take(MAX_CANDIDATES) {
                let content = Content::look(earlier, digest)?;
                let distance = content.size.abs_diff(size);
                let near = distance <= size.max(content.size) / 2;
                if content.is_source() && near && best.is_none_or(|(least, _)| distance < least) {
                    best = Some((distance, *digest));
                }
            }
            if let Some((_, digest)) = best {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }
}

/// The path, and the name, as other versions have it: `libz.so.1.2.13` is kin to `libz.so.1.3.1`. A name begins with no
/// slash, so that they are told apart.
fn kin(path: &TreePath) -> [Vec<u8>; 2] {
    let squash = |bytes: &[u8]| {
        let mut squashed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let number = byte.is_ascii_digit() || *byte == b'.';
            match (number, squashed.last()) {
                (true, Some(b'#')) => {}
                (true, _) => squashed.push(b'#'),
                (false, _) => squashed.push(*byte),
            }
        }
        squashed
    };
    [squash(path.as_bytes()), squash(path.name().unwrap_or_default())]
}
