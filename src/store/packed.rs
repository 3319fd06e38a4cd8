//! Files of a package in its pack: verified when they are first read, and the whole package unpacked
//! anew where one is damaged.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};

use super::{Digest, Pack, Store};

/// Bytes in memory at a time while a large file is verified.
const CHUNK: usize = 256 << 10;

/// Unpacks the package anew.
type Remake = Box<dyn FnOnce() -> io::Result<Pack> + Send>;

/// The file of a pack.
pub(super) struct PackFile {
    store: Store,
    path: PathBuf,
    file: File,
    remake: Mutex<Option<Remake>>,
    anew: OnceLock<Anew>,
}

/// A pack in place of a damaged one.
struct Anew {
    file: File,
    offsets: HashMap<Digest, u64>,
}

impl PackFile {
    pub(super) fn new(store: Store, path: PathBuf, file: File) -> Self {
        Self {
            store,
            path,
            file,
            remake: Mutex::new(None),
            anew: OnceLock::new(),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// How the package is unpacked anew.
    pub(super) fn set_remake(&self, remake: Remake) {
        *self.lock() = Some(remake);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Remake>> {
        self.remake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the pack, as `what` says, and makes it anew, unless another thread has done so.
    fn replace(&self, what: String) -> io::Result<&Anew> {
        let mut remake = self.lock();
        if let Some(anew) = self.anew.get() {
            return Ok(anew);
        }
        let dropped = self.store.drop_damaged("package", self.path.clone(), what);
        dropped.map_err(io::Error::other)?;
        let remake = remake.take().ok_or_else(|| {
            let shown = self.path.display();
            io::Error::other(format!("`{shown}` is damaged and cannot be made anew"))
        })?;
        let pack = remake()?;
        let file = pack.file.file().try_clone()?;
        let offsets = pack.entries().iter();
        let offsets = offsets.filter_map(|(_, blob)| Some((blob.sha256(), blob.packed()?.offset?)));
        let anew = Anew {
            file,
            offsets: offsets.collect(),
        };
        Ok(self.anew.get_or_init(|| anew))
    }
}

impl fmt::Debug for PackFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackFile({})", self.path.display())
    }
}

/// A file that is open for reading.
pub(super) enum Opened<'a> {
    Pack(&'a File),
    Object(File),
}

impl Deref for Opened<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Pack(file) => file,
            Self::Object(file) => file,
        }
    }
}

/// An entry of a pack.
pub(super) struct Packed {
    pack: Arc<PackFile>,
    /// In the pack; `None` for an object of its own.
    offset: Option<u64>,
    size: u64,
    sha256: Digest,
    /// Set once it is verified: where it lies in the pack that replaced a damaged one, if it had to be
    /// read from there.
    verified: OnceLock<Option<u64>>,
    /// Large files are read by several threads: one verifies, the others wait.
    verifying: Mutex<()>,
}

impl Packed {
    /// `verified`: whether this program has just written it.
    pub(super) fn new(
        pack: Arc<PackFile>,
        offset: Option<u64>,
        size: u64,
        sha256: Digest,
        verified: bool,
    ) -> Self {
        Self {
            pack,
            offset,
            size,
            sha256,
            verified: if verified {
                OnceLock::from(None)
            } else {
                OnceLock::new()
            },
            verifying: Mutex::new(()),
        }
    }

    pub(super) fn sha256(&self) -> Digest {
        self.sha256
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is an object of its own.
    pub(super) fn is_alone(&self) -> bool {
        self.offset.is_none()
    }

    /// Whether it is undamaged: it is read.
    pub(super) fn is_sound(&self) -> bool {
        let found = self.first_place();
        let found = found.and_then(|(file, offset)| self.hash(&file, offset));
        found.is_ok_and(|found| self.holds(found))
    }

    /// Fills `buffer` from byte `offset` of the entry on, which has so many.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.len() as u64 == self.size && self.verified.get().is_none() {
            // Whole, so that what is hashed need not be read once more.
            let place = self.first_place();
            let read = place.and_then(|(file, base)| file.read_exact_at(buffer, base));
            if read.is_ok() && self.holds(Digest::of(buffer)) {
                return Ok(());
            }
        }
        let (file, base) = self.place()?;
        file.read_exact_at(buffer, base + offset)
    }

    /// The file that holds the entry alone, verified; `None` where it lies among others.
    pub(super) fn own_file(&self) -> io::Result<Option<File>> {
        if !self.is_alone() {
            return Ok(None);
        }
        Ok(match self.place()? {
            (Opened::Object(file), _) => Some(file),
            (Opened::Pack(_), _) => None,
        })
    }

    /// The file that holds the entry, and where; verified.
    pub(super) fn place(&self) -> io::Result<(Opened<'_>, u64)> {
        if let Some(place) = self.known_place() {
            return place;
        }
        let _alone = self.verifying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = self.known_place() {
            return place;
        }
        let at = match self.offset {
            Some(offset) => format!("at byte {offset}"),
            None => format!("in `{}`", self.object().display()),
        };
        let found = self
            .first_place()
            .and_then(|(file, offset)| Ok((self.hash(&file, offset)?, file, offset)));
        let what = match found {
            Ok((found, file, offset)) if self.holds(found) => return Ok((file, offset)),
            Ok((found, ..)) => format!("what should have SHA-256 {} {at} has {found}", self.sha256),
            Err(error) => format!("what lies {at} cannot be read: {error}"),
        };
        let anew = self.pack.replace(what)?;
        let place = match self.offset {
            None => Some((Opened::Object(File::open(self.object())?), 0)),
            Some(_) => anew
                .offsets
                .get(&self.sha256)
                .map(|offset| (Opened::Pack(&anew.file), *offset)),
        };
        match place {
            Some((file, offset)) if self.hash(&file, offset)? == self.sha256 => {
                self.verified
                    .get_or_init(|| self.offset.is_some().then_some(offset));
                Ok((file, offset))
            }
            _ => Err(io::Error::other(format!(
                "`{}` is damaged again as soon as it is made",
                self.pack.path.display()
            ))),
        }
    }

    /// Where the entry lies unless it is damaged.
    fn first_place(&self) -> io::Result<(Opened<'_>, u64)> {
        Ok(match self.offset {
            Some(offset) => (Opened::Pack(&self.pack.file), offset),
            None => (Opened::Object(File::open(self.object())?), 0),
        })
    }

    /// Where the entry lies if it is an object.
    fn object(&self) -> PathBuf {
        self.pack.store.object_path(self.sha256)
    }

    /// Notes that the entry is undamaged where `found`, the digest of what lies there, is its own.
    fn holds(&self, found: Digest) -> bool {
        let holds = found == self.sha256;
        if holds {
            self.verified.get_or_init(|| None);
        }
        holds
    }

    fn known_place(&self) -> Option<io::Result<(Opened<'_>, u64)>> {
        Some(match *self.verified.get()? {
            None => self.first_place(),
            Some(offset) => match self.pack.anew.get() {
                Some(anew) => Ok((Opened::Pack(&anew.file), offset)),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        })
    }

    fn hash(&self, file: &File, mut offset: u64) -> io::Result<Digest> {
        let end = offset + self.size;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; usize::try_from(self.size).map_or(CHUNK, |size| size.min(CHUNK))];
        while offset < end {
            let count = usize::try_from(end - offset).map_or(CHUNK, |left| left.min(CHUNK));
            file.read_exact_at(&mut buffer[..count], offset)?;
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
        Ok(Digest::finish(hasher))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::Blob;

    const CONTENTS: [(u32, &[u8]); 3] = [(3, b"alpha"), (5, &[7; 600_000]), (9, b"gamma")];

    fn write(store: &Store, order: impl Iterator<Item = usize>) -> Pack {
        let mut writer = store.new_pack().unwrap();
        for at in order {
            let (number, content) = CONTENTS[at];
            writer.begin_file(content.len() as u64).unwrap();
            writer.write(content).unwrap();
            writer.end_file(number, Digest::of(content)).unwrap();
        }
        writer.finish(Digest::of(b"package")).unwrap()
    }

    fn damage(path: &std::path::Path, at: u64) {
        let file = OpenOptions::new().write(true).read(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    fn read(blob: &Blob, way: usize) -> io::Result<Vec<u8>> {
        match way {
            0 => blob.read_all(),
            1 => {
                let mut bytes = Vec::new();
                blob.reader().read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            _ => {
                let mut file = tempfile::tempfile()?;
                blob.copy_to(&mut file)?;
                let mut bytes = vec![0; blob.size() as usize];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(bytes)
            }
        }
    }

    #[test]
    fn damaged_files_are_made_anew_however_they_are_read() {
        // The large one is an object.
        for (damaged, at) in [(0, 2), (1, 300_000), (2, 6)] {
            for way in 0..3 {
                let place = tempfile::tempdir().unwrap();
                let store = Store::open(place.path()).unwrap();
                drop(write(&store, 0..3));
                let path = store.pack_path(Digest::of(b"package"));
                let object = store.object_path(Digest::of(CONTENTS[1].1));
                fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
                damage(if damaged == 1 { &object } else { &path }, at);
                let pack = store.pack(Digest::of(b"package")).unwrap().unwrap();
                let again = store.clone();
                // In another order, as another version of the program may write it.
                pack.remade_by(move || Ok(write(&again, (0..3).rev())));
                for (index, (_, blob)) in pack.entries().iter().enumerate() {
                    let read = read(blob, way).unwrap();
                    assert_eq!(read, CONTENTS[index].1);
                }
                let found = store.take_damage();
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((found[0].kind.as_str(), &found[0].path), ("package", &path));
                let sha256 = Digest::of(CONTENTS[damaged].1).to_string();
                assert!(found[0].what.contains(&sha256), "{}", found[0]);
                let pack = store.pack(Digest::of(b"package")).unwrap().unwrap();
                assert!(pack.entries().iter().all(|(_, blob)| blob.read_all().is_ok()));
                assert_eq!(store.take_damage(), []);
            }
        }
    }

    #[test]
    fn a_pack_is_whole_only_with_its_objects() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let key = Digest::of(b"package");
        let written = write(&store, 0..3);
        let own: Vec<_> = written
            .entries()
            .iter()
            .map(|(_, blob)| blob.own_file().unwrap())
            .collect();
        assert!(matches!(own.as_slice(), [None, Some(_), None]));
        let opened = store.pack(key).unwrap().unwrap();
        let again = store.clone();
        opened.remade_by(move || Ok(write(&again, 0..3)));
        fs::remove_file(store.object_path(Digest::of(CONTENTS[1].1))).unwrap();
        assert!(store.pack(key).unwrap().is_none());
        assert_eq!(store.take_damage(), []);
        // Whoever had it open goes on.
        assert_eq!(opened.entries()[1].1.read_all().unwrap(), CONTENTS[1].1);
        assert!(store.pack(key).unwrap().is_some());
    }

    #[test]
    fn damage_that_stays_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        drop(write(&store, 0..3));
        let path = store.pack_path(Digest::of(b"package"));
        damage(&path, 0);
        let pack = store.pack(Digest::of(b"package")).unwrap().unwrap();
        let [(_, first), (_, second), _] = pack.entries() else {
            panic!()
        };
        let error = first.read_all().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("`{}` is damaged and cannot be made anew", path.display())
        );
        assert!(!path.exists());
        assert_eq!(second.read_all().unwrap(), CONTENTS[1].1);
        fs::write(&path, b"").unwrap();
        assert!(store.pack(Digest::of(b"package")).unwrap().is_none());
    }
}
