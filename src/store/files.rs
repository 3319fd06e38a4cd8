//! Downloaded files: RPMs and the metadata of repositories, kept by digest under their own names.
//!
//! `rpms/<SHA-256>/<name>.rpm`; a file that a repository knows by SHA-512 is also found through a
//! symbolic link `rpms/sha512-<digest>` to its directory. What is being fetched grows in
//! `parts/<digest>` and is moved when it is whole and its digest holds; a part that a stopped
//! program leaves is taken up by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::{Checksum, Digest, Hasher, Store, StoreError, temporary};

/// Which of the store's directories a file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    Rpms,
    /// The lists of packages of repositories.
    Repodata,
}

impl Shelf {
    pub(super) const ALL: [Self; 2] = [Self::Rpms, Self::Repodata];

    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::Rpms => "rpms",
            Self::Repodata => "repodata",
        }
    }
}

impl Store {
    /// The kept file with the digest `checksum`. Its bytes are not read again.
    pub fn file(&self, shelf: Shelf, checksum: &Checksum) -> Option<PathBuf> {
        let directory = self.root.join(shelf.directory()).join(checksum.key());
        // The link of another digest leads to where the file lies.
        let directory = directory.canonicalize().ok()?;
        temporary::touch(&File::open(&directory).ok()?);
        let mut names: Vec<PathBuf> = fs::read_dir(directory)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        names.sort();
        names.into_iter().next()
    }

    /// Whether `path` is one of the store's files.
    pub fn owns(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real(path).starts_with(real(&self.root))
    }

    /// Opens the beginning of a file that is to have the digest `checksum`, alone: another program
    /// that fetches the same file is waited for.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub fn part(&self, checksum: &Checksum) -> Result<Part<'_>, StoreError> {
        let failed = |error| self.failed(error);
        let path = self.root.join("parts").join(checksum.key());
        let mut part = Part {
            store: self,
            file: lock_part(&path).map_err(failed)?,
            path,
            length: 0,
            hasher: Hasher::new(Some(checksum)),
            expected: *checksum,
        };
        part.take_up().map_err(failed)?;
        Ok(part)
    }
}

fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Locks the file that has the name `path` once the lock is had: whoever held it before may have
/// given the file its final name.
fn lock_part(path: &Path) -> io::Result<Flock<File>> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let locked = lock(file)?;
        let held = locked.metadata()?;
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(locked),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file that grows. Dropped, it stays for the next attempt.
pub struct Part<'a> {
    store: &'a Store,
    file: Flock<File>,
    path: PathBuf,
    length: u64,
    hasher: Hasher,
    expected: Checksum,
}

impl Part<'_> {
    fn take_up(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    self.hasher.update(&buffer[..count]);
                    self.length += count as u64;
                }
            }
        }
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends `piece`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(piece)
            .map_err(|error| self.store.failed(error))?;
        self.hasher.update(piece);
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Forgets all that is there.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let cut = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cut.map_err(|error| self.store.failed(error))?;
        self.hasher = Hasher::new(Some(&self.expected));
        self.length = 0;
        Ok(())
    }

    /// The SHA-256 of what is there, and the digest to hold against the one expected.
    pub fn digests(&self) -> (Digest, Checksum) {
        self.hasher.clone().finish()
    }

    /// Gives up, and leaves nothing behind.
    pub fn discard(self) {
        // Nobody is harmed by a part that stays.
        let _ = fs::remove_file(&self.path);
    }

    /// Puts the whole file onto `shelf` as `name`; gives its path.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep(self, shelf: Shelf, name: &str) -> Result<PathBuf, StoreError> {
        let (sha256, checksum) = self.digests();
        let shelf = self.store.root.join(shelf.directory());
        let place = || -> io::Result<PathBuf> {
            // On disk before it has its name, so that a machine that stops leaves no hollow file.
            self.file.sync_data()?;
            let directory = shelf.join(sha256.to_string());
            fs::create_dir_all(&directory)?;
            let path = directory.join(name);
            fs::rename(&self.path, &path)?;
            File::open(&directory)?.sync_all()?;
            if let Checksum::Sha512(_) = checksum {
                match symlink(sha256.to_string(), shelf.join(checksum.key())) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
            Ok(path)
        };
        place().map_err(|error| self.store.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha512(bytes: &[u8]) -> Checksum {
        let text = super::super::hex(&<sha2::Sha512 as sha2::Digest>::digest(bytes));
        Checksum::parse("sha512", &text).unwrap()
    }

    #[test]
    fn a_part_grows_over_two_programs_and_is_found_by_either_digest() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let checksum = sha512(b"package");
        let mut part = store.part(&checksum).unwrap();
        part.write(b"pack").unwrap();
        drop(part);
        assert_eq!(store.file(Shelf::Rpms, &checksum), None);
        let mut part = store.part(&checksum).unwrap();
        assert_eq!(part.length(), 4);
        part.write(b"age").unwrap();
        assert_eq!(part.digests(), (Digest::of(b"package"), checksum));
        let path = part.keep(Shelf::Rpms, "a-1-1.noarch.rpm").unwrap();
        assert!(path.ends_with(format!("rpms/{}/a-1-1.noarch.rpm", Digest::of(b"package"))));
        let found = store.file(Shelf::Rpms, &checksum).unwrap();
        assert_eq!(found, path.canonicalize().unwrap());
        assert_eq!(
            store.file(Shelf::Rpms, &Checksum::Sha256(Digest::of(b"package"))),
            Some(found.clone())
        );
        assert_eq!(store.file(Shelf::Repodata, &checksum), None);
        assert!(store.owns(&found) && !store.owns(Path::new("/etc/passwd")));
        assert_eq!(fs::read(found).unwrap(), b"package");
        assert_eq!(fs::read_dir(place.path().join("parts")).unwrap().count(), 0);
    }

    #[test]
    fn a_part_starts_anew_or_goes() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let checksum = Checksum::Sha256(Digest::of(b"right"));
        let mut part = store.part(&checksum).unwrap();
        part.write(b"wrong").unwrap();
        part.restart().unwrap();
        assert_eq!(part.length(), 0);
        part.write(b"right").unwrap();
        assert_eq!(part.digests().1, checksum);
        part.discard();
        assert_eq!(store.part(&checksum).unwrap().length(), 0);
    }

    #[test]
    fn whoever_waits_for_a_part_gets_a_file_of_that_name() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let checksum = Checksum::Sha256(Digest::of(b"x"));
        let mut first = store.part(&checksum).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| store.part(&checksum).unwrap().length());
            std::thread::sleep(std::time::Duration::from_millis(100));
            first.write(b"x").unwrap();
            first.keep(Shelf::Rpms, "x.rpm").unwrap();
            assert_eq!(second.join().unwrap(), 0, "the kept file is nobody's part");
        });
        let kept = store.file(Shelf::Rpms, &checksum).unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"x");
    }
}
