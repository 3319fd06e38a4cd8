//! Many small values of a kind: `values/<kind>/<digest>`, one pack for what was new in a build.
//!
//! Packs never change. When there are many, small ones are put together to one; whoever has them
//! open goes on reading them.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::damage::Damage;
pub use super::value_pack::Key;
use super::value_pack::{Entry, ValuePack, ValuePackWriter};
use super::{Store, StoreError, temporary};

pub(super) const SHELF: &str = "values";
/// More packs than this are put together …
const MANY: usize = 12;
/// … all but this many of the largest, so that a value is copied a few times in its life at most.
const LEFT: usize = 6;
/// More packs than this are not opened: what only they hold is made again.
const MOST: usize = 256;

const NO_INDEX: &str = "its index is damaged";

/// The values of a kind that a store has, and those that are to come. Shared by threads. What is put
/// is found at once, and by later uses of the store after [`Values::keep`]; dropped before, nothing stays of it.
#[derive(Debug)]
pub struct Values {
    store: Store,
    directory: PathBuf,
    packs: Vec<Open>,
    new: Mutex<New>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    pack: ValuePack,
    used: AtomicBool,
    damaged: AtomicBool,
}

/// What was put.
#[derive(Debug)]
enum New {
    Nothing,
    Some(ValuePackWriter),
    Failed(StoreError),
}

impl Store {
    /// The values of `kind`, a word that names a directory.
    ///
    /// # Errors
    /// Where what is there cannot be read.
    pub fn values(&self, kind: &'static str) -> Result<Values, StoreError> {
        let directory = self.root.join(SHELF).join(kind);
        let packs = open_packs(self, &directory)?;
        Ok(Values {
            store: self.clone(),
            directory,
            packs,
            new: Mutex::new(New::Nothing),
        })
    }

    /// Reads all values of the pack at `path`. Those that are damaged are noted and dropped.
    pub(super) fn check_values(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let directory = path.parent().unwrap_or(path);
        let file = File::open(path).map_err(failed)?;
        let Some(open) = Open::new(path.to_owned(), file).map_err(failed)? else {
            return self.drop_damaged(&kind_of(directory), path.to_owned(), NO_INDEX.to_owned());
        };
        let (entries, whole) = open.pack.all().map_err(failed)?;
        if !whole {
            self.note_values(directory, path.to_owned(), NO_INDEX.to_owned());
        }
        for entry in &entries {
            open.value(self, directory, entry)?;
        }
        match whole && !open.is_damaged() {
            true => Ok(()),
            false => rewrite(self, directory, &[open]),
        }
    }

    fn note_values(&self, directory: &Path, path: PathBuf, what: String) {
        let kind = kind_of(directory);
        self.session.damage.note(Damage { kind, path, what });
    }
}

impl Values {
    /// The value of `key`. One that is damaged is noted and counts as absent, and so does one that
    /// cannot be read.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let found = self.packs.iter().find_map(|open| {
            let entry = open.pack.find(key).ok()??;
            let value = open.value(&self.store, &self.directory, &entry).ok()??;
            if !open.used.swap(true, Ordering::Relaxed) {
                temporary::touch(open.pack.file());
            }
            Some(value)
        });
        let found = found.or_else(|| match &mut *self.put_so_far() {
            New::Some(writer) => writer.get(key).ok()?,
            New::Nothing | New::Failed(_) => None,
        });
        self.store.session.lookups.count(found)
    }

    /// Whether there is a value of `key`. It is not read, and may prove to be damaged.
    pub fn has(&self, key: &Key) -> bool {
        let kept = self.packs.iter();
        let mut kept = kept.map(|open| matches!(open.pack.find(key), Ok(Some(_))));
        kept.any(|found| found) || matches!(&*self.put_so_far(), New::Some(writer) if writer.has(key))
    }

    /// Puts `value` under `key`. It goes to the disk at once; whether that failed [`Values::keep`] says.
    pub fn put(&self, key: &Key, value: &[u8]) {
        let mut new = self.put_so_far();
        if let New::Nothing = *new {
            *new = match self.store.temporary() {
                Ok(file) => New::Some(ValuePackWriter::new(file)),
                Err(error) => New::Failed(error),
            };
        }
        if let New::Some(writer) = &mut *new
            && let Err(error) = writer.put(key, value)
        {
            *new = New::Failed(self.store.failed(error));
        }
    }

    /// Keeps what was put, and puts packs together where there are many.
    ///
    /// # Errors
    /// Where the store cannot be written: then nothing of it stays.
    pub fn keep(mut self) -> Result<(), StoreError> {
        let new = std::mem::replace(&mut *self.put_so_far(), New::Nothing);
        let failed = |error| self.store.failed(error);
        match new {
            New::Nothing => {}
            New::Some(writer) => {
                let (file, name) = writer.finish().map_err(failed)?;
                let path = self.directory.join(name.to_string());
                let file = self.store.publish(file, &path)?;
                // Where all of a pack was damaged, the new one may have taken its name.
                self.packs.retain(|open| open.path != path);
                self.packs.extend(Open::new(path, file).map_err(failed)?);
            }
            New::Failed(error) => return Err(error),
        }
        let damaged = self.packs.iter().filter(|open| open.is_damaged()).count();
        if self.packs.len() <= MANY && damaged == 0 {
            return Ok(());
        }
        // The largest first, the damaged last.
        self.packs
            .sort_by_cached_key(|open| (open.is_damaged(), Reverse(open.size())));
        let sound = self.packs.len() - damaged;
        let left = if self.packs.len() > MANY {
            LEFT.min(sound)
        } else {
            sound
        };
        rewrite(&self.store, &self.directory, &self.packs[left..])
    }

    fn put_so_far(&self) -> MutexGuard<'_, New> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(path: PathBuf, file: File) -> io::Result<Option<Self>> {
        let pack = ValuePack::open(file)?;
        Ok(pack.map(|pack| Self {
            path,
            pack,
            used: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }))
    }

    fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn size(&self) -> u64 {
        self.pack.file().metadata().map_or(0, |metadata| metadata.len())
    }

    /// Reads a value; one that is damaged is noted.
    fn value(&self, store: &Store, directory: &Path, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.pack.read(entry).map_err(|error| store.failed(error))?;
        if value.is_none() {
            self.damaged.store(true, Ordering::Relaxed);
            let what = format!("the value under {} is damaged", super::hex(&entry.key));
            store.note_values(directory, self.path.clone(), what);
        }
        Ok(value)
    }
}

fn kind_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    format!("pack of {}", name.display())
}

/// The packs in `directory`, the largest first; those that are none are dropped.
fn open_packs(store: &Store, directory: &Path) -> Result<Vec<Open>, StoreError> {
    let failed = |error| store.failed(error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        match fs::metadata(&path) {
            Ok(metadata) => found.push((Reverse(metadata.len()), path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    found.sort();
    let mut packs = Vec::new();
    for (_, path) in found.into_iter().take(MOST) {
        let file = match File::open(&path) {
            Ok(file) => file,
            // Another build has put it together with others.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        match Open::new(path.clone(), file).map_err(failed)? {
            Some(open) => packs.push(open),
            None => store.drop_damaged(&kind_of(directory), path, NO_INDEX.to_owned())?,
        }
    }
    Ok(packs)
}

/// Writes what is undamaged of `packs` to one, and removes them.
fn rewrite(store: &Store, directory: &Path, packs: &[Open]) -> Result<(), StoreError> {
    let failed = |error| store.failed(error);
    let mut known = Vec::new();
    for (number, open) in packs.iter().enumerate() {
        let (entries, _) = open.pack.all().map_err(failed)?;
        known.extend(entries.into_iter().map(|entry| (entry.key, number, entry)));
    }
    // Of a key that is in several packs the first undamaged value stays.
    known.sort_by_key(|(key, number, _)| (*key, *number));
    let mut writer = ValuePackWriter::new(store.temporary()?);
    let mut last = None;
    for (key, number, entry) in known {
        if last == Some(key) {
            continue;
        }
        if let Some(value) = packs[number].value(store, directory, &entry)? {
            writer.put(&key, &value).map_err(failed)?;
            last = Some(key);
        }
    }
    let newest = packs
        .iter()
        .filter_map(|open| open.pack.file().metadata().ok()?.modified().ok())
        .max();
    let (file, name) = writer.finish().map_err(failed)?;
    if let Some(newest) = newest {
        file.as_file().set_modified(newest).map_err(failed)?;
    }
    let path = directory.join(name.to_string());
    let is_empty = last.is_none();
    if !is_empty {
        store.publish(file, &path)?;
    }
    for open in packs.iter().filter(|open| is_empty || open.path != path) {
        temporary::remove(&open.path).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::store::Digest;

    fn key(number: u32) -> Key {
        Digest::of(&number.to_le_bytes()).0
    }

    fn packs(place: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(place.join("values/test")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn value(number: u32) -> Vec<u8> {
        number.to_string().repeat(number as usize % 50).into_bytes()
    }

    #[test]
    fn values_stay_when_kept_and_packs_stay_few() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        store.values("test").unwrap().keep().unwrap();
        assert!(!place.path().join("values/test").exists(), "nothing was put");
        let dropped = store.values("test").unwrap();
        assert!(!dropped.has(&key(0)));
        dropped.put(&key(0), b"dropped");
        dropped.put(&key(1), b"too");
        assert!(dropped.has(&key(0)) && !dropped.has(&key(2)));
        assert_eq!(dropped.get(&key(0)).as_deref(), Some(b"dropped".as_slice()));
        dropped.put(&key(2), b"and more");
        assert_eq!(dropped.get(&key(1)).as_deref(), Some(b"too".as_slice()));
        assert_eq!(dropped.get(&key(2)).as_deref(), Some(b"and more".as_slice()));
        drop(dropped);
        assert_eq!(store.values("test").unwrap().get(&key(0)), None);
        assert_eq!(fs::read_dir(place.path().join("tmp")).unwrap().count(), 0);
        for round in 0..40 {
            let values = store.values("test").unwrap();
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let values = &values;
                    scope.spawn(move || {
                        for number in 0..round * 5 + 10 {
                            // Both put the same.
                            if values.get(&key(number)).is_none() {
                                values.put(&key(number), &value(number));
                            }
                            assert!(thread < 2);
                        }
                    });
                }
            });
            values.keep().unwrap();
            assert!(packs(place.path()).len() <= MANY, "round {round}");
        }
        let values = store.values("test").unwrap();
        for number in 0..205 {
            assert_eq!(values.get(&key(number)), Some(value(number)), "{number}");
            assert!(values.has(&key(number)));
        }
        assert_eq!(values.get(&key(205)), None);
        assert_eq!(store.take_damage(), []);
    }

    #[test]
    fn a_damaged_value_is_dropped_and_the_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let values = store.values("test").unwrap();
        values.put(&key(1), b"alpha");
        values.put(&key(2), b"beta");
        values.keep().unwrap();
        let [path] = packs(place.path()).try_into().unwrap();
        let whole = fs::read(&path).unwrap();
        let flip = |bit: usize| {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[whole[bit / 8] ^ 1 << (bit % 8)], bit as u64 / 8)
                .unwrap();
        };
        // The whole pack anew, under the same name.
        flip(11);
        flip(5 * 8 + 1);
        let values = store.values("test").unwrap();
        for (number, value) in [(1, b"alpha".as_slice()), (2, b"beta")] {
            assert_eq!(values.get(&key(number)), None);
            values.put(&key(number), value);
        }
        values.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(store.take_damage().len(), 2);
        // In `alpha`, which comes first.
        flip(11);
        let values = store.values("test").unwrap();
        assert_eq!(values.get(&key(1)), None);
        assert_eq!(values.get(&key(2)).as_deref(), Some(b"beta".as_slice()));
        values.put(&key(1), b"alpha");
        values.keep().unwrap();
        let damage = store.take_damage();
        assert_eq!(damage.len(), 1);
        assert_eq!(
            (damage[0].kind.as_str(), &damage[0].path),
            ("pack of test", &path)
        );
        assert!(!path.exists());
        let values = store.values("test").unwrap();
        assert_eq!(values.get(&key(1)).as_deref(), Some(b"alpha".as_slice()));
        assert_eq!(values.get(&key(2)).as_deref(), Some(b"beta".as_slice()));
        assert_eq!(store.take_damage(), []);
    }

    #[test]
    fn reading_all_finds_every_flipped_bit() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let values = store.values("test").unwrap();
        values.put(&key(1), b"alpha");
        values.put(&key(2), b"beta");
        values.keep().unwrap();
        let [path] = packs(place.path()).try_into().unwrap();
        let whole = fs::read(&path).unwrap();
        store.check_values(&path).unwrap();
        assert_eq!(store.take_damage(), []);
        for bit in 0..whole.len() * 8 {
            for other in packs(place.path()) {
                fs::remove_file(other).unwrap();
            }
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            store.check_values(&path).unwrap();
            let found = store.take_damage();
            assert!(found.iter().any(|damage| damage.path == path), "bit {bit}");
            for path in packs(place.path()) {
                store.check_values(&path).unwrap();
            }
            assert_eq!(store.take_damage(), [], "bit {bit}");
        }
    }
}
