//! Keeping a store small.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::entries::{Entry, Kind, is_gone};
use super::{Shelf, Store, StoreError, temporary, turn};

/// While somebody builds, what was used so lately stays: the last use is noted once an hour, and what
/// a build has looked up it soon needs.
const GRACE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is to stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Bytes that the entries may have together.
    pub max_size: Option<u64>,
    /// What has not been used for longer goes in any case.
    pub older_than: Option<Duration>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub entries: u64,
    /// Bytes of files, those of programs that were killed included.
    pub bytes: u64,
    /// Entries and bytes that stay.
    pub left: u64,
    pub left_bytes: u64,
    /// Entries that stay only because somebody uses the store and they were used lately.
    pub spared: u64,
}

impl Store {
    /// Removes what was used least lately until `limits` hold. An entry goes whole; what a running
    /// build has opened it can read to the end, and what it does not find it makes again.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub fn prune(&self, limits: &Limits) -> Result<Pruned, StoreError> {
        let failed = |error| self.failed(error);
        let now = SystemTime::now();
        let busy = !temporary::is_alone(&self.session.in_use).map_err(failed)?;
        let mut pruned = Pruned {
            bytes: temporary::sweep(&self.root.join("tmp")).map_err(failed)?,
            ..Pruned::default()
        };
        temporary::sweep(&self.root.join(turn::SHELF)).map_err(failed)?;
        let mut entries = self.entries()?;
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut names: HashMap<_, u32> = HashMap::new();
        let mut total = 0;
        for entry in &entries {
            let count = names.entry(entry.inode).or_default();
            *count += 1;
            total += if *count == 1 { entry.bytes } else { 0 };
        }
        for entry in &entries {
            // A use that lies in the future is one of now.
            let age = now.duration_since(entry.used).unwrap_or_default();
            let is_old = limits.older_than.is_some_and(|limit| age > limit);
            let is_too_much = limits.max_size.is_some_and(|limit| total > limit);
            let goes = is_old || is_too_much;
            if goes && !(busy && age < GRACE) && self.remove(entry).map_err(failed)? {
                pruned.entries += 1;
                let count = names.entry(entry.inode).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    // Somebody can have changed the length between two looks at a file of two names.
                    total = u64::saturating_sub(total, entry.bytes);
                    pruned.bytes += entry.bytes;
                }
            } else {
                pruned.left += 1;
                pruned.spared += u64::from(goes);
            }
        }
        pruned.left_bytes = total;
        for shelf in Shelf::ALL {
            remove_dangling(&self.root.join(shelf.directory())).map_err(failed)?;
        }
        Ok(pruned)
    }

    /// Removes an entry at one stroke; `false` where somebody is writing it.
    pub(super) fn remove(&self, entry: &Entry) -> io::Result<bool> {
        match entry.kind {
            Kind::Downloaded(_) => {
                let aside = tempfile::tempdir_in(self.root.join("tmp"))?;
                match fs::rename(&entry.path, aside.path().join("entry")) {
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => aside.close()?,
                }
            }
            Kind::Part => return temporary::remove_unheld(&entry.path).map(|freed| freed.is_some()),
            Kind::Package | Kind::Record | Kind::Object | Kind::Values(_) | Kind::Linked(_) => {
                temporary::remove(&entry.path)?;
            }
        }
        Ok(true)
    }
}

/// Removes links whose directories are gone.
fn remove_dangling(shelf: &Path) -> io::Result<()> {
    for entry in fs::read_dir(shelf)? {
        let path = entry?.path();
        if path.is_symlink() && !path.exists() {
            temporary::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::store::{Checksum, Digest};

    /// A store with an entry of every kind, each used an hour before the one before it.
    fn filled() -> (tempfile::TempDir, Store) {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let key = Digest::of(b"x");
        let mut part = store.part(&Checksum::Sha256(key)).unwrap();
        part.write(b"x").unwrap();
        part.keep(Shelf::Rpms, "x.rpm").unwrap();
        let mut part = store.part(&Checksum::Sha256(Digest::of(b"y"))).unwrap();
        part.write(b"?").unwrap();
        drop(part);
        let mut writer = store.new_pack().unwrap();
        writer.write(&[0; 10_000]).unwrap();
        writer.end_file(0, Digest::of(&[0; 10_000])).unwrap();
        writer.finish(key).unwrap();
        store.keep_record(key, &[0; 1000]).unwrap();
        let object = store.new_object().unwrap();
        object.as_file().set_len(5000).unwrap();
        object.keep(key).unwrap();
        let values = store.values("test").unwrap();
        values.put(&[7; 32], &[0; 3000]);
        values.keep().unwrap();
        for (hours, entry) in store.entries().unwrap().iter().enumerate() {
            let age = Duration::from_secs(hours as u64 * 3600 + 60);
            let file = File::open(&entry.path).unwrap();
            let used = SystemTime::now() - age;
            let times = std::fs::FileTimes::new().set_accessed(used);
            let times = match entry.kind {
                Kind::Object => times,
                _ => times.set_modified(used),
            };
            file.set_times(times).unwrap();
        }
        (place, store)
    }

    fn kinds(store: &Store) -> Vec<String> {
        let usage = store.usage().unwrap();
        usage.iter().map(|usage| usage.kind.name().to_owned()).collect()
    }

    #[test]
    fn what_there_is_is_counted() {
        let (_place, store) = filled();
        let usage: Vec<_> = store.usage().unwrap();
        let counted: Vec<_> = usage
            .iter()
            .map(|usage| (usage.kind.name(), usage.entries, usage.bytes))
            .collect();
        let expected = [
            ("rpms", 1, 1),
            ("parts", 1, 1),
            ("packs", 1, 10_000 + 52 + 44),
            ("records", 1, 1040),
            ("objects", 1, 5000),
            ("test", 1, 3000 + 48 + 76),
        ];
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_file_of_two_names_counts_once() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let key = Digest::of(b"content");
        let mut object = store.new_object().unwrap();
        io::Write::write_all(&mut object, b"content").unwrap();
        let object = object.keep(key).unwrap();
        let shared = place.path().join("linked/kind/00");
        fs::create_dir_all(&shared).unwrap();
        object.share(&shared.join(&key.to_string()[2..])).unwrap();
        let usage = store.usage().unwrap();
        let usage: Vec<_> = usage.iter().map(|usage| (usage.entries, usage.bytes)).collect();
        assert_eq!(usage, [(1, 7), (1, 0)]);
        let limits = |max_size| Limits {
            max_size: Some(max_size),
            older_than: None,
        };
        assert_eq!(store.prune(&limits(7)).unwrap().entries, 0);
        let pruned = store.prune(&limits(6)).unwrap();
        assert_eq!((pruned.entries, pruned.bytes, pruned.left_bytes), (2, 7, 0));
    }

    #[test]
    fn what_was_used_least_lately_goes_first_and_whole() {
        let (place, store) = filled();
        let all = 1 + 1 + 10_096 + 1040 + 5000 + 3124;
        let mut limits = Limits {
            max_size: Some(all),
            older_than: None,
        };
        assert_eq!(store.prune(&limits).unwrap().entries, 0);
        limits.max_size = Some(all - 1);
        let pruned = store.prune(&limits).unwrap();
        let expected = Pruned {
            entries: 1,
            bytes: 3124,
            left: 5,
            left_bytes: all - 3124,
            spared: 0,
        };
        assert_eq!(pruned, expected);
        assert_eq!(kinds(&store), ["rpms", "parts", "packs", "records", "objects"]);
        limits.older_than = Some(Duration::from_secs(2 * 3600));
        assert_eq!(store.prune(&limits).unwrap().entries, 3);
        assert_eq!(kinds(&store), ["rpms", "parts"]);
        limits.max_size = Some(0);
        assert_eq!(store.prune(&limits).unwrap().left, 0);
        for shelf in ["rpms", "parts", "packs", "tmp"] {
            assert_eq!(
                fs::read_dir(place.path().join(shelf)).unwrap().count(),
                0,
                "{shelf}"
            );
        }
    }

    #[test]
    fn what_others_use_stays() {
        let (place, store) = filled();
        let other = Store::open(place.path()).unwrap();
        let limits = Limits {
            max_size: Some(0),
            older_than: None,
        };
        let pruned = store.prune(&limits).unwrap();
        assert_eq!((pruned.entries, pruned.spared), (4, 2));
        assert_eq!(kinds(&store), ["rpms", "parts"]);
        drop(other);
        let part = store.part(&Checksum::Sha256(Digest::of(b"y"))).unwrap();
        assert_eq!(store.prune(&limits).unwrap().entries, 1);
        assert_eq!(kinds(&store), ["parts"], "it is being fetched");
        drop(part);
        assert_eq!(store.prune(&limits).unwrap().left, 0);
    }
}
