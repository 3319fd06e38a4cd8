//! Which deltas a repository has, as clients learn it: the summary, and an index for each commit that deltas lead to.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::super::Error;
use super::super::read::Repo;
use super::MAX_SUPERBLOCK;
use super::name::DeltaName;
use crate::formats::gvariant::{self, Value};
use crate::store::Digest;

/// Key of both.
pub(in crate::ostree) const STATIC_DELTAS: &str = "ostree.static-deltas";

/// The deltas in the repository at `repo`, in order. What is not named like one is passed over.
///
/// # Errors
/// Directories that cannot be listed.
pub fn list_deltas(repo: &Path) -> Result<Vec<DeltaName>, Error> {
    let list = |directory: &Path| -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("list", directory))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .collect::<Result<_, _>>()
            .map_err(Error::io("list", directory))
    };
    let deltas = repo.join("deltas");
    let mut found = Vec::new();
    for fan in list(&deltas)? {
        for rest in list(&deltas.join(&fan))? {
            let name = DeltaName::from_path(&fan, &rest);
            let whole = |name: &DeltaName| repo.join(name.directory()).join("superblock").is_file();
            found.extend(name.filter(whole));
        }
    }
    found.sort();
    Ok(found)
}

/// Name and digest of the superblock of each delta: what the summary has of them.
pub(in crate::ostree) fn summary_entries(repo: &Path) -> Result<Vec<(String, Digest)>, Error> {
    let entries = list_deltas(repo)?.into_iter().map(|name| {
        let path = repo.join(name.directory()).join("superblock");
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_SUPERBLOCK as u64).read_to_end(&mut bytes))
            .map_err(Error::io("read", &path))?;
        Ok((name.to_string(), Digest::of(&bytes)))
    });
    entries.collect()
}

/// Writes the index of the deltas that lead to `to`.
pub(super) fn write_index(repo: &Repo, to: &Digest) -> Result<(), Error> {
    let suffix = to.to_string();
    let mut entries = summary_entries(&repo.layout.path)?;
    entries.retain(|(name, _)| name.ends_with(&suffix));
    let bytes = gvariant::serialise(&Value::vardict([(STATIC_DELTAS, dictionary(&entries))]));
    let path = DeltaName::index(to);
    if let Some(directory) = path.parent() {
        repo.layout.make_dirs(directory)?;
    }
    repo.layout.write_file(&path, &bytes)
}

/// `a{sv}` with a checksum for each name.
pub(in crate::ostree) fn dictionary(entries: &[(String, Digest)]) -> Value<'_> {
    let entries = entries.iter();
    Value::vardict(entries.map(|(name, digest)| (name.as_str(), Value::bytes(&digest.0))))
}
