//! Whether a delta gives the commit that it leads to.

use std::collections::BTreeSet;
use std::io::Read as _;

use rayon::prelude::*;

use super::super::Error;
use super::super::layout::open_regular;
use super::super::object::Kind;
use super::super::read::Repo;
use super::apply::apply_part;
use super::content::Content;
use super::name::DeltaName;
use super::part::{Entry, number};
use super::reach::Reached;
use super::superblock::Superblock;
use super::{MAX_SUPERBLOCK, PART};
use crate::formats::bsdiff;
use crate::store::Digest;

/// Bytes of objects that a part may make.
const LARGEST: u64 = bsdiff::MAX_SIZE as u64 + PART;

/// What of a delta was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedDelta {
    pub parts: usize,
    /// Objects that it makes, and those of them that are made of contents which are not there, so were not made.
    pub objects: usize,
    pub unmade: usize,
    /// Objects that clients fetch by themselves.
    pub fallbacks: usize,
    /// Bytes of all its files.
    pub size: u64,
    /// Whether both commits are there, and it has been seen that nothing is missing between them.
    pub complete: bool,
}

/// Applies the delta `name` of `repo` in memory, with contents from there and from `earlier`: its parts are whole, each
/// object has its checksum and is one of the commit that it leads to.
///
/// # Errors
/// The first thing that is not so.
pub fn check_delta(repo: &Repo, name: &DeltaName, earlier: Option<&Repo>) -> Result<CheckedDelta, Error> {
    let directory = name.directory();
    let label = format!("`{}`", directory.join("superblock").display());
    let malformed = |what: String| Error::Malformed {
        name: label.clone(),
        what,
    };
    let bytes = read(repo, name, "superblock", MAX_SUPERBLOCK as u64)?;
    let (superblock, inline) = Superblock::parse(&bytes, &label)?;
    if superblock.name != *name {
        return Err(malformed(format!("it is delta {}", superblock.name)));
    }
    let found = Digest::of(&superblock.commit);
    if found != name.to {
        return Err(malformed(format!("its commit object is that of {found}")));
    }
    let reached = Reached::of(repo, &name.to)?;
    let kinds = [
        (Kind::DirTree, &reached.dirtrees),
        (Kind::DirMeta, &reached.dirmetas),
        (Kind::File, &reached.contents),
    ];
    let mut wanted: BTreeSet<(u8, Digest)> = BTreeSet::new();
    for (kind, objects) in kinds {
        wanted.extend(objects.iter().map(|(digest, _)| (number(kind), *digest)));
    }
    let fetched = superblock
        .fallbacks
        .iter()
        .map(|one| (number(Kind::File), one.object));
    let made = superblock.entries.iter().flat_map(|entry| &entry.objects);
    for object in fetched.chain(made.copied()) {
        if !wanted.remove(&object) {
            let text = "is not one of the commit's, or is there twice";
            return Err(malformed(format!("object {} {text}", object.1)));
        }
    }
    let before = name.from.as_ref().and_then(|from| {
        let repos = [Some(repo), earlier];
        repos
            .into_iter()
            .flatten()
            .find_map(|repo| Reached::of(repo, from).ok())
    });
    if let Some(before) = &before {
        let kinds = [&before.dirtrees, &before.dirmetas, &before.contents];
        let missing = wanted
            .iter()
            .find(|(_, digest)| !kinds.iter().any(|kind| kind.digests().contains(digest)));
        if let Some((_, digest)) = missing {
            return Err(malformed(format!(
                "object {digest} is in neither commit {} nor the delta",
                name.from.unwrap_or(name.to)
            )));
        }
    }

    let find = |digest: &Digest| {
        for repo in [Some(repo), earlier].into_iter().flatten() {
            match Content::read(repo, digest) {
                Ok((_, bytes)) => return Ok(Some(bytes)),
                Err(Error::NoSuchObject { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    };
    let check = |(index, entry): (usize, &Entry)| -> Result<usize, Error> {
        let path = directory.join(index.to_string());
        let label = format!("`{}`", path.display());
        let malformed = |what: &str| Error::Malformed {
            name: label.clone(),
            what: what.to_owned(),
        };
        let key = path.to_string_lossy();
        let bytes = match inline.iter().find(|(name, _)| *name == key) {
            Some((_, bytes)) => bytes.clone(),
            None => read(repo, name, &index.to_string(), entry.size)?,
        };
        if bytes.len() as u64 != entry.size || Digest::of(&bytes) != entry.checksum {
            return Err(malformed("it is not the part that the superblock lists"));
        }
        if entry.unpacked > LARGEST {
            return Err(malformed("its objects take more than clients have memory for"));
        }
        apply_part(&bytes, &entry.objects, entry.unpacked, &find, &label)
    };
    let unmade = superblock.entries.par_iter().enumerate().map(check);
    let unmade = unmade.try_reduce(|| 0, |one, other| Ok(one + other))?;
    let files = match inline.is_empty() {
        true => superblock.entries.iter().map(|entry| entry.size).sum(),
        false => 0,
    };
    Ok(CheckedDelta {
        parts: superblock.entries.len(),
        objects: superblock.entries.iter().map(|entry| entry.objects.len()).sum(),
        unmade,
        fallbacks: superblock.fallbacks.len(),
        size: bytes.len() as u64 + files,
        complete: before.is_some() && unmade == 0,
    })
}

/// A file of the delta; of a longer one, more than `most` bytes.
fn read(repo: &Repo, name: &DeltaName, file: &str, most: u64) -> Result<Vec<u8>, Error> {
    let path = repo.layout.path.join(name.directory()).join(file);
    let mut bytes = Vec::new();
    open_regular(&path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(Error::io("read", &path))?;
    Ok(bytes)
}
