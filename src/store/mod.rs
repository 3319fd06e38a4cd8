//! Contents on disk, addressed by digest.

mod blob;
mod checksum;
mod damage;
mod digest;
mod entries;
mod files;
mod linked;
mod lookups;
mod object;
mod pack;
mod packed;
mod prune;
mod record;
mod temporary;
pub mod turn;
mod value_pack;
mod values;
mod verify;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

pub use blob::{Blob, BlobReader};
pub use checksum::{Checksum, ChecksumError, Hasher};
pub use damage::Damage;
pub use digest::{Digest, ParseDigestError, hex, unhex};
pub use entries::{Kind, Usage};
pub use files::{Part, Shelf};
pub use linked::{Attributes, Linked};
pub use lookups::Lookups;
pub use object::{Object, ObjectWriter};
pub use pack::{Pack, PackWriter};
pub use prune::{Limits, Pruned};
pub use turn::Turn;
pub use values::{Key, Values};
pub use verify::Verified;

/// The file that whoever uses a store holds a shared lock on.
const IN_USE: &str = "in-use";

/// A directory that keeps what is costly to make again. Entries appear whole or not at all, so
/// that concurrent and killed builds do no harm; what is damaged counts as absent once it is read.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    session: Arc<Session>,
}

/// One use of a store by one program.
#[derive(Debug)]
struct Session {
    /// Tells whoever prunes that somebody builds; gone with the program, however it ends.
    in_use: File,
    damage: damage::Log,
    lookups: Arc<Lookups>,
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    #[error("the store `{}` cannot be used: {source}", root.display())]
    #[diagnostic(help("name another directory, on a file system with room, with `--store DIR`"))]
    Io { root: PathBuf, source: io::Error },
    #[error("there is no place for the store: neither XDG_CACHE_HOME nor HOME is set")]
    #[diagnostic(help("name a directory with `--store DIR`"))]
    NoPlace,
}

impl Store {
    /// Opens the store at `root`, making it where it is absent.
    ///
    /// # Errors
    /// Where its directories cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |error| failed(root, error);
        let shelves = Shelf::ALL.map(Shelf::directory);
        for directory in ["packs", "parts", "tmp", turn::SHELF].into_iter().chain(shelves) {
            fs::create_dir_all(root.join(directory)).map_err(failed)?;
        }
        let in_use = temporary::lock_shared(&root.join(IN_USE)).map_err(failed)?;
        temporary::sweep(&root.join("tmp")).map_err(failed)?;
        Ok(Self {
            root: root.to_owned(),
            session: Arc::new(Session {
                in_use,
                damage: damage::Log::default(),
                lookups: Arc::default(),
            }),
        })
    }

    /// Where the store lies unless told otherwise: `hullwright/store` in the user's cache directory.
    ///
    /// # Errors
    /// Where the environment names no such directory.
    pub fn default_root() -> Result<PathBuf, StoreError> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_CACHE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".cache")))
            .map(|cache| cache.join("hullwright/store"))
            .ok_or(StoreError::NoPlace)
    }

    /// How often this use of the store has looked for what, and found it.
    pub fn lookups(&self) -> Arc<Lookups> {
        self.session.lookups.clone()
    }

    /// The pack under `key`, where the store has it. Its contents are verified when they are read.
    ///
    /// # Errors
    /// Where it is there but cannot be read.
    pub fn pack(&self, key: Digest) -> Result<Option<Pack>, StoreError> {
        Ok(self.session.lookups.count(self.find_pack(key)?))
    }

    fn find_pack(&self, key: Digest) -> Result<Option<Pack>, StoreError> {
        let path = self.pack_path(key);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        temporary::touch(&file);
        let pack = Pack::open(self, path.clone(), file, false).map_err(|error| self.failed(error))?;
        let Some(pack) = pack else {
            self.drop_damaged("package", path, "its index is damaged".to_owned())?;
            return Ok(None);
        };
        // Objects can have been removed by themselves: then the package is unpacked again.
        let complete = pack.use_objects().map_err(|error| self.failed(error))?;
        Ok(complete.then_some(pack))
    }

    /// Begins a pack.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn new_pack(&self) -> Result<PackWriter<'_>, StoreError> {
        PackWriter::new(self)
    }

    /// Bytes that an ordinary user can still write.
    ///
    /// # Errors
    /// Where the file system does not say.
    pub fn room(&self) -> Result<u64, StoreError> {
        let status = nix::sys::statvfs::statvfs(&self.root).map_err(|error| self.failed(error.into()))?;
        Ok(status.blocks_available().saturating_mul(status.fragment_size()))
    }

    fn pack_path(&self, key: Digest) -> PathBuf {
        self.root.join("packs").join(key.to_string())
    }

    /// A file that is gone when it is dropped, and when the program is killed.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub(crate) fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        temporary::create(&self.root.join("tmp")).map_err(|error| self.failed(error))
    }

    /// Gives a finished temporary file its name.
    fn publish(&self, file: NamedTempFile, path: &Path) -> Result<File, StoreError> {
        temporary::publish(file, path).map_err(|error| self.failed(error))
    }

    fn keep_pack(&self, file: NamedTempFile, key: Digest) -> Result<Pack, StoreError> {
        let path = self.pack_path(key);
        let kept = self.publish(file, &path)?;
        let pack = Pack::open(self, path, kept, true).map_err(|error| self.failed(error))?;
        pack.ok_or_else(|| self.failed(io::Error::other("a pack just written cannot be read back")))
    }

    /// Where an entry of `shelf` lies: in one of 256 directories, by the first byte of its digest.
    fn entry_path(&self, shelf: &str, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let (fan, rest) = name.split_at(2);
        self.root.join(shelf).join(fan).join(rest)
    }

    fn failed(&self, source: io::Error) -> StoreError {
        failed(&self.root, source)
    }
}

fn failed(root: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        root: root.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_kept_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = Digest::of(b"package");
        let mut writer = store.new_pack().unwrap();
        writer.write(b"al").unwrap();
        writer.write(b"pha").unwrap();
        writer.end_file(3, Digest::of(b"alpha")).unwrap();
        writer.end_file(9, Digest::of(b"")).unwrap();
        drop(store.new_pack().unwrap());
        assert!(store.pack(key).unwrap().is_none());
        writer.finish(key).unwrap();

        let pack = store.pack(key).unwrap().unwrap();
        let read: Vec<_> = pack
            .entries()
            .iter()
            .map(|(n, blob)| (*n, blob.read_all().unwrap()))
            .collect();
        assert_eq!(read, [(3, b"alpha".to_vec()), (9, vec![])]);
        assert_eq!(pack.entries()[0].1.sha256(), Digest::of(b"alpha"));
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);

        let path = store.pack_path(key);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(store.pack(key).unwrap().is_none(), "cut at {cut}");
        }
        let mut rotten = whole;
        rotten[8] ^= 1;
        fs::write(&path, rotten).unwrap();
        assert!(store.pack(key).unwrap().is_none(), "a rotten index");
    }
}
