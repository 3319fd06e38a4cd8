//! The sealed `/usr`: root hash, hash tree and data, and the partitions that the root hash names.

use std::collections::BTreeSet;

use super::table::NO_TABLE;
use super::{Notes, Place, Subject};
use crate::disk::Role;
use crate::formats::erofs::Image;
use crate::formats::fec::{FecError, Protected};
use crate::formats::gpt::Entry;
use crate::formats::verity::VerityError;
use crate::formats::verity_check::{Broken, check};
use crate::store::hex;

/// The partitions of the `/usr` that `root_hash` seals: those that it names, or else the only ones there are.
fn volumes<'a>(subject: &'a Subject, root_hash: &[u8]) -> Option<[&'a Entry; 2]> {
    if let [Some(usr), Some(verity)] = subject.sealed(root_hash) {
        return Some([usr, verity]);
    }
    let (_, entries) = subject.partitions()?;
    let only = |role: Role| {
        let mut of_role = entries
            .iter()
            .filter(|entry| subject.role(entry) == Some(role) && entry.label != "_empty");
        of_role.next().filter(|_| of_role.next().is_none())
    };
    Some([only(Role::Usr)?, only(Role::UsrVerity)?])
}

/// Check `root-hash`.
pub fn root_hash(subject: &Subject, notes: &mut Notes) {
    let Some((medium, _)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let hashes = subject.root_hashes();
    if hashes.is_empty() {
        return notes
            .not_checked("no kernel image on the ESP names a root hash (see checks `esp` and `uki`)");
    }
    let mut seen = BTreeSet::new();
    for (kernel, root_hash) in hashes {
        if !seen.insert(root_hash) {
            continue;
        }
        let Some([usr, verity]) = volumes(subject, root_hash) else {
            let what = format!("`{}` seals a /usr that is not on the disk", kernel.path);
            notes.fail(Place::file(&medium.name), what);
            continue;
        };
        let place = |entry: &Entry, offset: u64| {
            let at = entry.offset().saturating_add(offset);
            Place::file(&medium.name).partition(entry.number).at(at)
        };
        let data = medium.partition(usr);
        let checked = match check(&data, &medium.partition(verity), root_hash) {
            Ok(checked) => checked,
            Err(error @ VerityError::Superblock(_)) => {
                notes.fail(place(verity, 0), error.to_string());
                continue;
            }
            Err(error) => {
                notes.fail(
                    place(verity, 0),
                    format!("the hash tree and its data cannot be read: {error}"),
                );
                continue;
            }
        };
        let parity = kernel.facts.as_ref().ok().and_then(|facts| facts.parity());
        let verity_part = medium.partition(verity);
        let parity = parity.filter(|parity| parity.offset <= verity_part.size);
        if let (Some(parity), true) = (parity, checked.broken.is_empty()) {
            let protected = Protected {
                data: &data,
                data_size: checked.data_size,
                hash: &verity_part,
                hash_size: parity.offset,
                roots: parity.roots,
            };
            match protected.check(&verity_part, parity.offset) {
                Ok(()) => notes.held(format!("parity of {} bytes for each 255", parity.roots)),
                Err(FecError::Wrong { at }) => notes.fail(
                    place(verity, parity.offset.saturating_add(at)),
                    "the parity, by which damaged blocks are mended, is not that of /usr and its hash tree",
                ),
                Err(error) => notes.fail(
                    place(verity, parity.offset),
                    format!("the parity of /usr: {error}"),
                ),
            }
        }
        for broken in &checked.broken {
            match broken {
                Broken::Hash { offset: 4096 } => notes.fail(
                    place(verity, 4096),
                    format!(
                        "the top of the hash tree does not have the root hash {} of `{}`",
                        hex(root_hash),
                        kernel.path
                    ),
                ),
                Broken::Hash { offset } => notes.fail(
                    place(verity, *offset),
                    "a block of the hash tree is not the one that was sealed",
                ),
                Broken::Data { offset } => notes.fail(
                    place(usr, *offset),
                    "a block of /usr is not the one that was sealed",
                ),
            }
        }
        match Image::open(data) {
            Err(error) => notes.fail(place(usr, 0), error.to_string()),
            Ok(image) if u64::from(image.volume().blocks) * 4096 > checked.data_size => {
                notes.fail(place(verity, 0), "the hash tree does not cover all of /usr");
            }
            Ok(_) => notes.held(format!(
                "{} MiB under {}…",
                checked.data_size >> 20,
                &hex(root_hash)[..12]
            )),
        }
    }
}

/// Check `partition-uuids`.
pub fn partition_uuids(subject: &Subject, notes: &mut Notes) {
    let Some((medium, entries)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let hashes = subject.root_hashes();
    if hashes.is_empty() {
        return notes
            .not_checked("no kernel image on the ESP names a root hash (see checks `esp` and `uki`)");
    }
    let mut named = Vec::new();
    for (kernel, root_hash) in hashes {
        let parts = [(Role::Usr, "first"), (Role::UsrVerity, "last")];
        for ((role, half), found) in parts.into_iter().zip(subject.sealed(root_hash)) {
            match found {
                Some(entry) => named.push(entry.number),
                None => notes.fail(
                    Place::file(&medium.name),
                    format!(
                        "no partition of type {} has the {half} half of {} for its UUID, which `{}` names",
                        role.name(),
                        hex(root_hash),
                        kernel.path
                    ),
                ),
            }
        }
    }
    for entry in entries {
        // A signature's partition is found by its type and label.
        let is_sealed = matches!(subject.role(entry), Some(Role::Usr | Role::UsrVerity));
        if is_sealed && entry.label != "_empty" && !named.contains(&entry.number) {
            notes.fail(
                Place::file(&medium.name)
                    .partition(entry.number)
                    .at(entry.offset()),
                format!(
                    "no kernel image names `{}` with the UUID {}",
                    entry.label, entry.uuid
                ),
            );
        }
    }
    notes.held(format!("{} partitions named by root hashes", named.len()));
}
