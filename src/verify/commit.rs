//! The commit in `repo/`.

use super::{Notes, Place, Subject};
use crate::formats::gvariant::Value;
use crate::ostree::Repo;
use crate::store::{Digest, hex};

pub const REPO: &str = "repo";
/// What the commit's metadata says of the disk.
pub const ROOT_HASH: &str = "hullwright.usr-root-hash";

/// The repository and what its ref leads to: the manifest's ref, or the only one.
pub fn find<'a>(subject: &'a Subject, notes: &mut Notes) -> Option<(&'a Repo, Digest)> {
    let repo = match &subject.repo {
        Some(Ok(repo)) => repo,
        Some(Err(_)) => {
            notes.not_checked("the repository cannot be opened (see check `commit`)");
            return None;
        }
        None => {
            notes.not_checked("a disk image by itself has no commit: name the output directory");
            return None;
        }
    };
    let named = match &subject.manifest {
        Some(Ok(manifest)) => repo.resolve(&manifest.commit.reference).ok(),
        _ => None,
    };
    let only = || match repo.refs().ok()?.as_slice() {
        [(_, commit)] => Some(*commit),
        _ => None,
    };
    let commit = named.or_else(only);
    if commit.is_none() {
        notes.not_checked("no ref of the repository leads to the manifest's commit (see check `commit`)");
    }
    Some((repo, commit?))
}

/// Check `commit`.
pub fn commit(subject: &Subject, notes: &mut Notes) {
    let place = || Place::file(REPO);
    if let Some(Err(error)) = &subject.repo {
        return notes.fail(place(), error.to_string());
    }
    if let (Some(Ok(repo)), Some(Ok(manifest))) = (&subject.repo, &subject.manifest) {
        let reference = &manifest.commit.reference;
        match repo.resolve(reference) {
            Ok(found) if found == manifest.commit.checksum => {}
            Ok(found) => notes.fail(
                place().path(format!("refs/heads/{reference}")),
                format!(
                    "the ref leads to {found}; the manifest says {}",
                    manifest.commit.checksum
                ),
            ),
            Err(error) => notes.fail(place(), error.to_string()),
        }
    }
    let Some((repo, checksum)) = find(subject, notes) else {
        return;
    };
    let object = match repo.commit(&checksum) {
        Ok(object) => object,
        Err(error) => return notes.fail(place(), error.to_string()),
    };
    let text = |key: &str| {
        object
            .metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if let Some(Ok(manifest)) = &subject.manifest {
        let pairs = [
            (ROOT_HASH, &manifest.usr_root_hash),
            ("hullwright.image-id", &manifest.image),
            ("version", &manifest.version),
            ("ostree.linux", &manifest.kernel.release),
        ];
        for (key, expected) in pairs {
            if text(key) != expected {
                notes.fail(
                    place(),
                    format!(
                        "the commit's metadata says `{key}` is `{}`; the manifest says `{expected}`",
                        text(key).escape_debug()
                    ),
                );
            }
        }
    }
    let hashes = subject.root_hashes();
    if !hashes.is_empty() && !hashes.iter().any(|(_, hash)| hex(hash) == text(ROOT_HASH)) {
        notes.fail(
            place(),
            format!(
                "the commit's metadata names the root hash `{}`, and no kernel image has it",
                text(ROOT_HASH).escape_debug()
            ),
        );
    }
    match repo.verify(&checksum) {
        Ok(verified) => notes.held(format!(
            "{}…: {} directories, {} files, {} links",
            &checksum.to_string()[..12],
            verified.directories,
            verified.files,
            verified.symlinks
        )),
        Err(error) => notes.fail(place(), error.to_string()),
    }
}
