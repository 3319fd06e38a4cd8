//! Files that a store shares with outputs by hard links: `linked/<kind>/<2 digits>/<62 digits><suffix>`.
//!
//! Whoever changes such a file in an output changes the store's. So it is linked again only while its
//! size, mode, extended attribute and time are as they were: its time is the epoch, which nobody
//! writes by accident. [`Store::verify`] reads contents too. As the time is taken, the last use is noted
//! as the time of access.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::{Digest, Store, StoreError, Values, temporary};

pub(super) const SHELF: &str = "linked";
/// Name 32 bytes, size u64, mode u32; numbers are little-endian.
const VALUE: usize = 32 + 8 + 4;

/// What a file is to be beside its content.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Name and value of the only extended attribute that matters.
    pub xattr: Option<(&'a str, &'a [u8])>,
}

/// The files of a kind, for one output; shared by threads.
#[derive(Debug)]
pub struct Linked {
    store: Store,
    directory: PathBuf,
    suffix: &'static str,
    /// What files are called, by what they are made of; `None` where that is their name.
    names: Option<Values>,
    /// Set once it shows that the file systems of store and output are two, or take no links.
    off: AtomicBool,
}

impl Store {
    /// The files of `kind`, whose names end in `suffix`; `names` is the kind of values that knows them.
    ///
    /// # Errors
    /// Where what is there cannot be read.
    pub fn linked(
        &self,
        kind: &'static str,
        names: &'static str,
        suffix: &'static str,
    ) -> Result<Linked, StoreError> {
        let names = Some(self.values(names)?);
        let kind = self.linked_by_name(kind, suffix);
        Ok(Linked { names, ..kind })
    }

    /// The files of `kind`, whose names are the digests of what they are made of and end in `suffix`.
    pub fn linked_by_name(&self, kind: &'static str, suffix: &'static str) -> Linked {
        Linked {
            store: self.clone(),
            directory: self.root.join(SHELF).join(kind),
            suffix,
            names: None,
            off: AtomicBool::new(false),
        }
    }
}

impl Linked {
    /// Looks for the file made of what `key` stands for. Where there is one, gives it the name that
    /// `path` says too, and returns its name in the store and its size; no size where that name has a
    /// file already.
    pub fn link(
        &self,
        key: &[u8; 32],
        attributes: &Attributes<'_>,
        path: impl FnOnce(&Digest) -> PathBuf,
    ) -> Option<(Digest, Option<u64>)> {
        if self.is_off() {
            return None;
        }
        let (name, size, mode) = decode(&self.names.as_ref()?.get(key)?)?;
        if mode != attributes.mode {
            return None;
        }
        let new = self.link_named(&name, size, attributes, &path(&name))?;
        Some((name, new.then_some(size)))
    }

    /// Looks for the file `name` of `size` bytes. Where there is one, gives it the name `path` too; whether nothing had
    /// that name.
    pub fn link_named(
        &self,
        name: &Digest,
        size: u64,
        attributes: &Attributes<'_>,
        path: &Path,
    ) -> Option<bool> {
        if self.is_off() {
            return None;
        }
        let kept = self.path(name);
        let metadata = fs::symlink_metadata(&kept).ok()?;
        if metadata.len() != size || !is_untouched(&kept, &metadata, attributes) {
            let what = "it has been changed, perhaps through an output that shares it";
            // That it cannot be dropped does no harm: it is not used.
            let _ = self.store.drop_damaged("linked file", kept, what.to_owned());
            return None;
        }
        let new = self.place(&kept, path)?;
        touch(&kept, &metadata);
        Some(new)
    }

    /// Keeps the file `path`, just written and of the time of the epoch, as `name` under `key`.
    /// Failing to is no error.
    pub fn keep(&self, key: &[u8; 32], name: &Digest, path: &Path) {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return;
        };
        if self.keep_named(name, path) {
            self.note(key, name, metadata.len(), metadata.mode() & 0o7777);
        }
    }

    /// As [`Linked::keep`], for files that are found by their names; whether it is kept.
    pub fn keep_named(&self, name: &Digest, path: &Path) -> bool {
        !self.is_off() && self.place(path, &self.path(name)).is_some()
    }

    fn note(&self, key: &[u8; 32], name: &Digest, size: u64, mode: u32) {
        if let Some(names) = &self.names {
            names.put(
                key,
                &[&name.0, &size.to_le_bytes()[..], &mode.to_le_bytes()].concat(),
            );
        }
    }

    /// Makes the file `name` under `key`, of what `content` gives and of the time of the epoch.
    ///
    /// # Errors
    /// Where `content` cannot be read, or the store not be written.
    pub fn add(
        &self,
        key: &[u8; 32],
        name: &Digest,
        attributes: &Attributes<'_>,
        content: &mut dyn io::Read,
    ) -> Result<(), StoreError> {
        let mut file = self.store.temporary()?;
        let mut write = || -> io::Result<u64> {
            let size = io::copy(content, &mut file)?;
            if let Some((name, value)) = attributes.xattr {
                rustix::fs::fsetxattr(file.as_file(), name, value, rustix::fs::XattrFlags::empty())?;
            }
            file.as_file().set_modified(SystemTime::UNIX_EPOCH)?;
            let mode = Permissions::from_mode(attributes.mode);
            file.as_file().set_permissions(mode)?;
            Ok(size)
        };
        let size = write().map_err(|error| self.store.failed(error))?;
        let path = self.path(name);
        if let Some(directory) = path.parent() {
            make_dirs(directory).map_err(|error| self.store.failed(error))?;
        }
        self.store.publish(file, &path)?;
        self.note(key, name, size, attributes.mode);
        Ok(())
    }

    /// The file made of what `key` stands for, where there is one: its name, and where it lies.
    pub fn find(&self, key: &[u8; 32]) -> Option<(Digest, PathBuf)> {
        let (name, size, _) = decode(&self.names.as_ref()?.get(key)?)?;
        let path = self.path(&name);
        let found = fs::symlink_metadata(&path).ok()?;
        (found.is_file() && found.len() == size).then_some((name, path))
    }

    /// Keeps what was noted of files.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn finish(self) -> Result<(), StoreError> {
        self.names.map_or(Ok(()), Values::keep)
    }

    fn path(&self, name: &Digest) -> PathBuf {
        let name = format!("{name}{}", self.suffix);
        let (fan, rest) = name.split_at(2);
        self.directory.join(fan).join(rest)
    }

    fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Gives `from` the name `to` too, unless there is a file, which is the same; whether it did so. `None`
    /// where it cannot.
    fn place(&self, from: &Path, to: &Path) -> Option<bool> {
        let link = || rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty());
        let outcome = match link() {
            Err(Errno::NOENT) => {
                let made = to.parent().map(make_dirs);
                made?.ok()?;
                link()
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Some(true),
            Err(Errno::EXIST) => Some(false),
            // The file has as many links as it can have.
            Err(Errno::MLINK | Errno::NOENT) => None,
            Err(_) => {
                self.off.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// Directories that anybody may look into, whatever the umask.
fn make_dirs(directory: &Path) -> io::Result<()> {
    let made = fs::create_dir_all(directory);
    made.and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
}

fn decode(value: &[u8]) -> Option<(Digest, u64, u32)> {
    let value: &[u8; VALUE] = value.try_into().ok()?;
    let (mut name, mut size, mut mode) = ([0; 32], [0; 8], [0; 4]);
    name.copy_from_slice(&value[..32]);
    size.copy_from_slice(&value[32..40]);
    mode.copy_from_slice(&value[40..]);
    Some((Digest(name), u64::from_le_bytes(size), u32::from_le_bytes(mode)))
}

fn is_untouched(path: &Path, metadata: &Metadata, attributes: &Attributes<'_>) -> bool {
    let since = (metadata.mtime(), metadata.mtime_nsec());
    let expected = metadata.is_file() && since == (0, 0) && metadata.mode() & 0o7777 == attributes.mode;
    expected
        && attributes.xattr.is_none_or(|(name, value)| {
            let mut found = vec![0; value.len() + 1];
            let length = rustix::fs::lgetxattr(path, name, found.as_mut_slice());
            length.is_ok_and(|length| &found[..length] == value)
        })
}

/// Notes that the file is used now, as its time of access.
fn touch(path: &Path, metadata: &Metadata) {
    if temporary::is_stale(metadata.accessed()) {
        let _ = File::open(path).map(|file| temporary::touch_accessed(&file));
    }
}

/// The name of the file at `path`, without its suffix.
pub(super) fn name_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let fan = path.parent()?.file_name()?.to_str()?;
    let (digits, _) = name.split_at_checked(62)?;
    format!("{fan}{digits}").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLAIN: Attributes<'_> = Attributes {
        mode: 0o644,
        xattr: None,
    };

    fn made(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn files_are_linked_until_somebody_changes_them() {
        let changes: [fn(&Path); 4] = [
            |path| fs::write(path, b"CONTENT").unwrap(),
            |path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap(),
            |path| fs::write(path, b"longer content").unwrap(),
            |path| {
                let file = File::open(path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(1))
                    .unwrap();
            },
        ];
        for change in changes {
            let place = tempfile::tempdir().unwrap();
            let store = Store::open(&place.path().join("store")).unwrap();
            let name = Digest::of(b"name");
            let path = place.path().join("output");
            let linked = || store.linked("kind", "kind-names", ".x").unwrap();
            made(&path, b"content");
            let first = linked();
            assert_eq!(first.link(&[1; 32], &PLAIN, |_| path.clone()), None);
            first.keep(&[1; 32], &name, &path);
            first.finish().unwrap();

            let second = place.path().join("deep/second");
            let place_of = |found: &Digest| {
                assert_eq!(*found, name);
                second.clone()
            };
            assert_eq!(linked().link(&[1; 32], &PLAIN, place_of), Some((name, Some(7))));
            assert_eq!(linked().link(&[1; 32], &PLAIN, place_of), Some((name, None)));
            assert_eq!(fs::read(&second).unwrap(), b"content");
            assert_eq!(fs::metadata(&second).unwrap().nlink(), 3);
            assert_eq!(linked().link(&[2; 32], &PLAIN, place_of), None);
            change(&second);
            assert_eq!(linked().link(&[1; 32], &PLAIN, place_of), None);
            let damage = store.take_damage();
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert!(!damage[0].path.exists() && second.exists());
        }
    }
}
