//! The partition table, the partitions that it lists, and what lies between them.

use super::kernel::Parity;
use super::medium::Medium;
use super::{Notes, Place, Subject};
use crate::disk::{ALIGNMENT, Role};
use crate::formats::at::ReadAt as _;
use crate::formats::erofs::Image;
use crate::formats::fec;
use crate::formats::gpt::{self, Copy, Entry, GptError, SECTOR};
use crate::formats::verity::{Superblock, hash_device_size};

/// Discoverable Partitions Specification: read-only, "do not mount automatically", grow the file system.
const READ_ONLY: u64 = 1 << 60;
pub(super) const NO_AUTO: u64 = 1 << 63;
const GROW_FILE_SYSTEM: u64 = 1 << 59;
const EMPTY: &str = "_empty";

fn wrong(notes: &mut Notes, medium: &Medium, error: GptError) {
    match error {
        GptError::Wrong { what, at } => notes.fail(Place::file(&medium.name).at(at), what),
        GptError::Io(error) => notes.fail(
            Place::file(&medium.name),
            format!("the partition table cannot be read: {error}"),
        ),
    }
}

/// Check `gpt`.
pub fn gpt(subject: &Subject, notes: &mut Notes) {
    let Some(medium) = subject.medium() else {
        return notes.not_checked("there is no disk image that can be read");
    };
    if let Err(error) = gpt::check_protective(medium, medium.size) {
        wrong(notes, medium, error);
    }
    let mut tables = Vec::new();
    for copy in [Copy::Primary, Copy::Backup] {
        match gpt::read(medium, medium.size, copy) {
            Ok(table) => tables.push(table),
            Err(error) => wrong(notes, medium, error),
        }
    }
    let place = |entry: &Entry| {
        Place::file(&medium.name)
            .partition(entry.number)
            .at(entry.offset())
    };
    if let [primary, backup] = tables.as_slice() {
        let same = (primary.disk_uuid, primary.usable, &primary.entries)
            == (backup.disk_uuid, backup.usable, &backup.entries);
        if !same {
            let differs = |entry: &&Entry| !backup.entries.contains(entry);
            let at = primary
                .entries
                .iter()
                .find(differs)
                .map_or(backup.header * SECTOR, Entry::offset);
            notes.fail(
                Place::file(&medium.name).at(at),
                "the two copies of the partition table say different things",
            );
        }
    }
    let Some(table) = tables.first() else { return };
    let mut sorted: Vec<_> = table.entries.iter().collect();
    sorted.sort_by_key(|entry| entry.first);
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && b.first <= a.last
        {
            let what = format!("partition {} overlaps partition {}", b.number, a.number);
            notes.fail(place(b), what);
        }
    }
    for entry in &table.entries {
        if entry.first < table.usable.0 || entry.last > table.usable.1 {
            notes.fail(
                place(entry),
                "it lies outside what the table allows for partitions",
            );
        }
        if !entry.offset().is_multiple_of(ALIGNMENT) {
            notes.fail(place(entry), "it does not begin on a 1 MiB boundary");
        }
        let twin = |other: &&Entry| other.uuid == entry.uuid && other.number < entry.number;
        if let Some(twin) = table.entries.iter().find(twin) {
            notes.fail(
                place(entry),
                format!("it has the UUID of partition {}", twin.number),
            );
        }
    }
    notes.held(format!("{} partitions", table.entries.len()));
}

/// Why the partitions cannot be looked at.
pub const NO_TABLE: &str =
    "there is no disk image with a partition table that can be read (see checks `disk-images` and `gpt`)";

/// Check `partitions`.
pub fn partitions(subject: &Subject, notes: &mut Notes) {
    let Some((medium, entries)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let mut roles = Vec::new();
    for entry in entries {
        let place = Place::file(&medium.name)
            .partition(entry.number)
            .at(entry.offset());
        let Some(role) = subject.role(entry) else {
            notes.fail(
                place,
                format!(
                    "`{}` has a type that images do not have: {}",
                    entry.label, entry.type_uuid
                ),
            );
            continue;
        };
        if !fits(role, entry.attributes) {
            notes.fail(
                place.clone(),
                format!(
                    "`{}` has the attributes {:#x}, which a partition of type {} does not have",
                    entry.label,
                    entry.attributes,
                    role.name()
                ),
            );
        }
        if let Some(Ok(manifest)) = &subject.manifest {
            let stem = manifest.stem();
            let fits = match role {
                Role::Esp => entry.label == "esp",
                Role::Usr | Role::UsrVerity | Role::UsrVeritySig => {
                    entry.label == stem || entry.label == EMPTY
                }
                Role::Root => entry.label == "root",
                Role::Other => manifest
                    .partitions
                    .iter()
                    .any(|listed| listed.label == entry.label),
            };
            if !fits {
                notes.fail(
                    place,
                    format!(
                        "the partition of type {} is called `{}`",
                        role.name(),
                        entry.label
                    ),
                );
            }
        }
        roles.push(role);
    }
    for role in [Role::Esp, Role::Usr, Role::UsrVerity] {
        if !roles.contains(&role) {
            notes.fail(
                Place::file(&medium.name),
                format!("there is no partition of type {}", role.name()),
            );
        }
    }
    if roles.iter().filter(|role| **role == Role::Esp).count() > 1 {
        notes.fail(Place::file(&medium.name), "there are two EFI system partitions");
    }
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    notes.held(names.join(", "));
}

/// Whether a partition of `role` may have these attributes. Sealed ones are read-only, always.
fn fits(role: Role, attributes: u64) -> bool {
    let allowed = match role {
        Role::Root => NO_AUTO | GROW_FILE_SYSTEM,
        _ => NO_AUTO,
    };
    attributes & !allowed == if role.is_sealed() { READ_ONLY } else { 0 }
}

/// Check `empty-space`.
pub fn empty_space(subject: &Subject, notes: &mut Notes) {
    let (Some((medium, entries)), Some(table)) = (subject.partitions(), &subject.table) else {
        return notes.not_checked(NO_TABLE);
    };
    let disk_end = medium.size;
    let tables = if table.header == 1 {
        (table.entries_at, table.alternate)
    } else {
        // Read from the backup: the primary copy's entries follow its header.
        ((2, table.entries_at.1), table.header)
    };
    let ((first_entries, count), backup) = tables;
    let backup_start = backup.saturating_sub(count).saturating_mul(SECTOR);
    let mut taken = vec![
        (0, first_entries.saturating_add(count).saturating_mul(SECTOR)),
        (backup_start, disk_end),
    ];
    taken.extend(entries.iter().map(|entry| {
        (
            entry.offset(),
            entry.offset().saturating_add(used(subject, medium, entry)),
        )
    }));
    taken.sort_unstable();
    let (mut at, mut free) = (0, 0_u64);
    for (start, end) in taken {
        if start > at {
            free += start - at;
            match medium.first_filled(at, start) {
                Ok(None) => {}
                Ok(Some(byte)) => {
                    let place = Place::file(&medium.name).at(byte);
                    let inside = entries.iter().find(|entry| {
                        (entry.offset()..entry.offset().saturating_add(entry.size())).contains(&byte)
                    });
                    match inside {
                        Some(entry) => notes.fail(
                            place.partition(entry.number),
                            format!("something stands behind the content of `{}`", entry.label),
                        ),
                        None => notes.fail(place, "something stands outside the partitions"),
                    }
                }
                Err(error) => notes.fail(
                    Place::file(&medium.name).at(at),
                    format!("the disk cannot be read: {error}"),
                ),
            }
        }
        at = at.max(end);
    }
    notes.held(format!("{} MiB of zeroes", free >> 20));
}

/// Bytes from the start of a partition that something is to stand in.
fn used(subject: &Subject, medium: &Medium, entry: &Entry) -> u64 {
    let whole = entry.size();
    let part = medium.partition(entry);
    match subject.role(entry) {
        Some(Role::Usr | Role::UsrVerity | Role::UsrVeritySig) if entry.label == EMPTY => 0,
        Some(Role::Usr) => {
            let volume = Image::open(part).map(|image| image.volume());
            volume.map_or(whole, |volume| u64::from(volume.blocks) * 4096)
        }
        Some(Role::UsrVerity) => {
            let mut block = [0; 4096];
            let superblock = part
                .read_exact_at(&mut block, 0)
                .ok()
                .and_then(|()| Superblock::parse(&block).ok());
            let parity = parity(subject, entry);
            superblock.map_or(whole, |superblock| {
                let data = superblock.data_blocks.saturating_mul(4096);
                let tree = hash_device_size(data, superblock.params.algorithm);
                let parity = parity.map(|parity| fec::area_size(data, tree, parity.roots));
                tree.saturating_add(parity.unwrap_or(0))
            })
        }
        _ => whole,
    }
    .min(whole)
}

/// The parity that a kernel image expects in the hash partition `entry`.
fn parity(subject: &Subject, entry: &Entry) -> Option<Parity> {
    let mut kernels = subject.root_hashes().into_iter();
    let names = |root_hash: &[u8]| root_hash.ends_with(entry.uuid.as_bytes());
    let (kernel, _) = kernels.find(|(_, root_hash)| names(root_hash))?;
    kernel.facts.as_ref().ok()?.parity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_go_with_the_type() {
        let table = [
            (Role::Esp, 0, true),
            (Role::Esp, 1, false),
            (Role::Esp, 1 << 1, false),
            (Role::Usr, 1 << 60, true),
            (Role::Usr, 1 << 60 | 1 << 63, true),
            (Role::Usr, 0, false),
            (Role::UsrVerity, 1 << 60 | 1 << 59, false),
            (Role::Root, 0, true),
            (Role::Root, 1 << 59, true),
            (Role::Root, 1 << 60, false),
        ];
        for (role, attributes, expected) in table {
            assert_eq!(fits(role, attributes), expected, "{role:?} {attributes:#x}");
        }
    }
}
