//! Static deltas: what changed from one commit to another, in a few files that clients fetch instead of thousands.
//!
//! A delta lies in the repository of the commit that it leads to, as `deltas/XX/YYY-ZZZ/`: `superblock`, which has the
//! new commit object and a list of parts, and the parts `0`, `1` …: new contents, and programs of a few operations that
//! make objects of them and of contents that clients have.
//!
//! Specification: libostree's `ostree-repo-static-delta-private.h`, and
//! <https://ostreedev.github.io/ostree/formats/#static-deltas>.

mod apply;
mod check;
mod content;
mod index;
mod name;
mod part;
mod reach;
mod superblock;

use std::fs;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use super::object::{Kind, object_name};
use super::read::Repo;
use super::summary::write_summary;
use super::{Error, RepoMode, detached};
use crate::store::Digest;
use content::Content;
use part::{Item, Part};
use reach::{Counterparts, Reached};
use superblock::{Fallback, Superblock};

pub use apply::apply_part;
pub use check::{CheckedDelta, check_delta};
pub use index::list_deltas;
pub(super) use index::{STATIC_DELTAS, dictionary, summary_entries};
pub use name::DeltaName;
pub use superblock::parse_superblock;

/// Bytes of contents in a part, unless a single one is larger: parts are compressed in parallel, and clients hold each
/// in memory.
const PART: u64 = 8 << 20;
/// A longer superblock is read by no client.
const MAX_SUPERBLOCK: usize = 128 << 20;
/// Files above this of which clients have nothing similar are fetched by themselves, as `ostree static-delta generate`
/// leaves them, too: so they are kept once.
const FALLBACK: u64 = 4_000_000;

/// How a delta is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaOptions {
    /// All of it in one file, for `ostree static-delta apply-offline`: the parts lie in the superblock, and no file is left
    /// out.
    pub inline: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub name: DeltaName,
    pub parts: usize,
    /// Objects that it makes, and how many of them of contents that the client has.
    pub objects: usize,
    pub patched: usize,
    /// Objects that clients fetch by themselves.
    pub fallbacks: usize,
    /// Bytes of all its files.
    pub size: u64,
}

/// Writes the delta from commit `from` in repository `earlier` to commit `to` in the repository at `repo_dir`, and names it
/// in the index of deltas and in the summary. Its bytes depend on the two commits, on the mode of the repository and on
/// `options`.
///
/// # Errors
/// Where one of the commits is not there whole, or both are the same; a superblock that no client reads; I/O. Then no
/// delta is there.
pub fn write_delta(
    earlier: &Repo,
    from: &Digest,
    repo_dir: &Path,
    to: &Digest,
    options: DeltaOptions,
) -> Result<Delta, Error> {
    let repo = Repo::open(repo_dir)?;
    let name = DeltaName {
        from: Some(*from),
        to: *to,
    };
    if from == to {
        return Err(Error::SameCommit { commit: *to });
    }
    let commit_bytes = repo.layout.read_metadata(to, Kind::Commit)?;
    let commit = repo.commit(to)?;
    let old = Reached::of(earlier, from)?;
    let new = Reached::of(&repo, to)?;
    let counterparts = Counterparts::of(&old);
    let plan = Plan::new(earlier, &repo, &old, &new, &counterparts, options)?;

    let parts = plan
        .parts
        .par_iter()
        .map(|items| Part::build(earlier, &repo, items))
        .collect::<Result<Vec<_>, _>>()?;
    let entries = parts.iter().map(|part| part.entry.clone()).collect();
    let signatures = detached::read_raw(repo_dir, to)?;
    let superblock = Superblock {
        timestamp: commit.timestamp,
        name,
        commit: commit_bytes,
        entries,
        fallbacks: plan.fallbacks,
    };
    let inline: &[Part] = if options.inline { &parts } else { &[] };
    let bytes = superblock.serialise(inline, signatures.as_deref())?;
    if bytes.len() > MAX_SUPERBLOCK {
        return Err(Error::MetadataTooLarge {
            name: name.to_string(),
            size: bytes.len(),
            limit: MAX_SUPERBLOCK,
        });
    }

    let directory = name.directory();
    remove(&repo_dir.join(&directory))?;
    repo.layout.make_dirs(&directory)?;
    let mut size = bytes.len() as u64;
    if !options.inline {
        for (index, part) in parts.iter().enumerate() {
            size += part.bytes.len() as u64;
            repo.layout
                .write_file(&directory.join(index.to_string()), &part.bytes)?;
        }
    }
    // Last: whoever sees it finds the parts.
    repo.layout.write_file(&directory.join("superblock"), &bytes)?;
    index::write_index(&repo, to)?;
    write_summary(repo_dir)?;
    Ok(Delta {
        name,
        parts: parts.len(),
        objects: parts.iter().map(|part| part.entry.objects.len()).sum(),
        patched: parts.iter().map(|part| part.patched).sum(),
        fallbacks: superblock.fallbacks.len(),
        size,
    })
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", directory)(error)),
        _ => Ok(()),
    }
}

/// What goes where.
struct Plan {
    parts: Vec<Vec<Item>>,
    fallbacks: Vec<Fallback>,
}

impl Plan {
    fn new(
        earlier: &Repo,
        repo: &Repo,
        old: &Reached,
        new: &Reached,
        counterparts: &Counterparts<'_>,
        options: DeltaOptions,
    ) -> Result<Self, Error> {
        let kinds = [
            (Kind::DirTree, &new.dirtrees, old.dirtrees.digests()),
            (Kind::DirMeta, &new.dirmetas, old.dirmetas.digests()),
        ];
        let mut items = Vec::new();
        for (kind, found, known) in kinds {
            let fresh = found.iter().filter(|(digest, _)| !known.contains(digest));
            for (digest, _) in fresh {
                let path = repo.layout.object_path(digest, kind);
                let size = fs::metadata(&path).map_err(|_| Error::NoSuchObject {
                    path: repo.layout.path.clone(),
                    name: object_name(digest, kind),
                })?;
                items.push((Item::Metadata(kind, *digest), size.len()));
            }
        }
        let known = old.contents.digests();
        let fresh: Vec<_> = new
            .contents
            .iter()
            .filter(|(digest, _)| !known.contains(digest))
            .collect();
        let contents = fresh.par_iter().map(|(digest, path)| {
            let content = Content::look(repo, digest)?;
            let similar = match content.target {
                Some(_) => None,
                None => counterparts.find(earlier, path, content.size)?,
            };
            Ok((*digest, content.size, content.target.is_some(), similar))
        });
        let contents = contents.collect::<Result<Vec<_>, Error>>()?;
        let mut fallbacks = Vec::new();
        for (digest, size, link, similar) in contents {
            let leave = !options.inline && matches!(repo.mode(), RepoMode::Archive { .. });
            if leave && !link && similar.is_none() && size > FALLBACK {
                let path = repo.layout.object_path(&digest, Kind::FileZ);
                let packed = fs::metadata(&path).map_err(Error::io("look at", &path))?.len();
                fallbacks.push(Fallback {
                    object: digest,
                    packed,
                    size,
                });
            } else {
                items.push((Item::Content(digest, similar), size));
            }
        }
        let mut parts: Vec<Vec<Item>> = Vec::new();
        let mut filled = u64::MAX;
        for (item, size) in items {
            filled = filled.saturating_add(size);
            match parts.last_mut() {
                Some(part) if filled <= PART => part.push(item),
                _ => {
                    parts.push(vec![item]);
                    filled = size;
                }
            }
        }
        Ok(Self { parts, fallbacks })
    }
}
