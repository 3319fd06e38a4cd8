//! Objects: whole files under the SHA-256 of their content, in `objects/<2 digits>/<62 digits>`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Digest, Store, StoreError, temporary};

pub(super) const SHELF: &str = "objects";
/// Bytes that are hashed while they are fresh in the processor's cache.
const PIECE: u64 = 256 << 10;

impl Store {
    /// The file whose content has the digest `digest`, opened and not yet read: see
    /// [`Object::check`]. It stays readable whatever others do to the store.
    ///
    /// # Errors
    /// Where it is there but cannot be opened.
    pub fn object(&self, digest: Digest) -> Result<Option<Object>, StoreError> {
        Ok(self.session.lookups.count(self.find_object(digest)?))
    }

    /// Notes that the object `digest` is used now; whether it is there, with `size` bytes.
    pub(super) fn uses_object(&self, digest: Digest, size: u64) -> io::Result<bool> {
        let path = self.object_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => {
                if temporary::is_stale(metadata.accessed()) {
                    temporary::touch_accessed(&File::open(&path)?);
                }
                Ok(metadata.is_file() && metadata.len() == size)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn object_path(&self, digest: Digest) -> PathBuf {
        self.entry_path(SHELF, digest)
    }

    fn find_object(&self, digest: Digest) -> Result<Option<Object>, StoreError> {
        let path = self.object_path(digest);
        let opened = match File::open(&path) {
            Ok(file) => file.metadata().map(|metadata| (file, metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        let (file, size) = opened.map_err(|error| self.failed(error))?;
        temporary::touch_accessed(&file);
        Ok(Some(Object {
            store: self.clone(),
            digest,
            file,
            size,
            path,
        }))
    }

    /// The whole content under `digest`, checked as it is read. One that is damaged is dropped, noted and counts as absent.
    ///
    /// # Errors
    /// Where it is there but cannot be read or dropped.
    pub fn content(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(object) = self.object(digest)? else {
            return Ok(None);
        };
        let (found, bytes) = read_all(&object).map_err(|error| self.failed(error))?;
        if found == digest {
            return Ok(Some(bytes));
        }
        object.drop_damaged(found)?;
        Ok(None)
    }

    /// Keeps `bytes` as an object, unless one of their digest and size is there.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep_content(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let known = self.find_object(digest)?;
        if known.is_none_or(|object| object.size != bytes.len() as u64) {
            let mut writer = self.new_object()?;
            writer.write_all(bytes).map_err(|error| self.failed(error))?;
            writer.keep(digest)?;
        }
        Ok(digest)
    }

    /// Keeps the file `path`, whose content has the digest `digest`: by a hard link where the file systems allow. Whoever
    /// changes it in place later changes the object, which [`Object::check`] finds.
    ///
    /// # Errors
    /// Where the file cannot be read, or the store not be written.
    pub fn adopt(&self, path: &Path, digest: Digest) -> Result<(), StoreError> {
        let kept = self.object_path(digest);
        let parent = kept.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(|error| self.failed(error))?;
        match fs::hard_link(path, &kept) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(_) => {}
        }
        let mut writer = self.new_object()?;
        let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut writer));
        copied.map_err(|error| self.failed(error))?;
        writer.keep(digest).map(drop)
    }

    /// Begins an object.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn new_object(&self) -> Result<ObjectWriter, StoreError> {
        Ok(ObjectWriter {
            store: self.clone(),
            file: self.temporary()?,
        })
    }
}

/// A whole file in the store, open for reading.
#[derive(Debug)]
pub struct Object {
    store: Store,
    digest: Digest,
    file: File,
    size: u64,
    path: PathBuf,
}

impl Object {
    pub fn file(&self) -> &File {
        &self.file
    }

    /// SHA-256 of the content, if that is undamaged.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it lies now; others may remove it from there at any time.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the name `path` too, or, where the file systems do not allow that, copies it there.
    ///
    /// # Errors
    /// Whatever linking and copying give; a file that is there already.
    pub fn share(&self, path: &Path) -> io::Result<()> {
        if fs::hard_link(&self.path, path).is_ok() {
            return Ok(());
        }
        let mut copy = File::options().write(true).create_new(true).open(path)?;
        io::copy(&mut &self.file, &mut copy).map(drop)
    }

    /// Reads the whole file; `None` where its digest does not hold: then it is dropped and noted
    /// ([`Store::take_damage`]).
    ///
    /// # Errors
    /// Where it cannot be read or dropped.
    pub fn check(self) -> Result<Option<Self>, StoreError> {
        let found = hash(&self.file).map_err(|error| self.store.failed(error))?;
        if found == self.digest {
            return Ok(Some(self));
        }
        self.drop_damaged(found)?;
        Ok(None)
    }

    fn drop_damaged(self, found: Digest) -> Result<(), StoreError> {
        self.store
            .drop_damaged("object", self.path, format!("its content has SHA-256 {found}"))
    }
}

/// SHA-256 of an object's content, and the content.
fn read_all(object: &Object) -> io::Result<(Digest, Vec<u8>)> {
    // What the file system says of the size only saves growing.
    let mut bytes = Vec::with_capacity(usize::try_from(object.size.min(1 << 30)).unwrap_or(0));
    let mut hasher = Sha256::new();
    loop {
        let start = bytes.len();
        if Read::by_ref(&mut &object.file)
            .take(PIECE)
            .read_to_end(&mut bytes)?
            == 0
        {
            return Ok((Digest::finish(hasher), bytes));
        }
        hasher.update(&bytes[start..]);
    }
}

/// SHA-256 of a file from its beginning, wherever it stands.
pub(super) fn hash(mut file: &File) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Digest::finish(hasher))
}

/// An object being written. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct ObjectWriter {
    store: Store,
    file: NamedTempFile,
}

impl ObjectWriter {
    /// The file, for whatever `io::Write` and `io::Seek` do not say: positional writes, reading back.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Completes the object: `digest` is the SHA-256 of the whole content, which is not read again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep(self, digest: Digest) -> Result<Object, StoreError> {
        let read_only = Permissions::from_mode(0o444);
        let set = self.file.as_file().set_permissions(read_only);
        set.map_err(|error| self.store.failed(error))?;
        let path = self.store.object_path(digest);
        self.store.publish(self.file, &path)?;
        let kept = self.store.find_object(digest)?;
        kept.ok_or_else(|| {
            self.store
                .failed(io::Error::other("an object just written is gone"))
        })
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for ObjectWriter {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.as_file_mut().seek(position)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_object_is_whole_or_absent() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let digest = Digest::of(b"volume");
        let mut writer = store.new_object().unwrap();
        writer.write_all(b"VOlume").unwrap();
        drop(store.new_object().unwrap());
        assert!(store.object(digest).unwrap().is_none());
        writer.seek(SeekFrom::Start(0)).unwrap();
        writer.write_all(b"vo").unwrap();
        let object = writer.keep(digest).unwrap();
        assert_eq!(fs::read_dir(place.path().join("tmp")).unwrap().count(), 0);
        assert_eq!((object.size(), object.digest()), (6, digest));
        let object = object.check().unwrap().unwrap();
        let mut text = String::new();
        object.file().read_to_string(&mut text).unwrap();
        assert_eq!(text, "volume");

        let path = object.path().to_owned();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"volumE").unwrap();
        assert_eq!(
            store.object(digest).unwrap().unwrap().check().unwrap().map(drop),
            None
        );
        assert!(!path.exists() && store.object(digest).unwrap().is_none());
        let damage = store.take_damage();
        let found = Digest::of(b"volumE");
        let text = format!("object `{}`: its content has SHA-256 {found}", path.display());
        assert_eq!(damage.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
        assert_eq!(store.take_damage(), []);
    }

    #[test]
    fn a_content_comes_back_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let large = vec![7; 2 * PIECE as usize + 5];
        for bytes in [&b""[..], b"short", &large] {
            let digest = Digest::of(bytes);
            assert_eq!(store.content(digest).unwrap(), None);
            assert_eq!(store.keep_content(bytes).unwrap(), digest);
            assert_eq!(store.content(digest).unwrap().as_deref(), Some(bytes));
            // One that is there is not written again, unless it has been cut off.
            let path = store.entry_path(SHELF, digest);
            let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
            let before = inode();
            store.keep_content(bytes).unwrap();
            assert_eq!(inode(), before);
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"rot").unwrap();
            store.keep_content(bytes).unwrap();
            assert_eq!(store.content(digest).unwrap().as_deref(), Some(bytes));
            fs::remove_file(&path).unwrap();
            fs::write(&path, [bytes, b"more"].concat()).unwrap();
            assert_eq!(store.content(digest).unwrap(), None);
            assert!(!path.exists());
            assert_eq!(store.take_damage().len(), 1);
        }
    }
}
