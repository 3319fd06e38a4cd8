//! Records: small values under the digest of everything that they depend on.
//!
//! `records/<2 digits>/<62 digits>`: the magic, the SHA-256 of key and value, the value.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Digest, Store, StoreError, temporary};

pub(super) const SHELF: &str = "records";
const MAGIC: &[u8; 8] = b"hwrec\0\0\x01";
const HEAD: usize = 8 + 32;
/// The longest value. Records name what is large; they do not hold it.
const MAX: usize = 64 << 20;

impl Store {
    /// The value under `key`. One that is damaged is dropped and counts as absent.
    ///
    /// # Errors
    /// Where it is there but cannot be read or dropped.
    pub fn record(&self, key: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.session.lookups.count(self.find_record(key)?))
    }

    pub(super) fn find_record(&self, key: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.entry_path(SHELF, key);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        temporary::touch(&file);
        match read(file, key).map_err(|error| self.failed(error))? {
            Some(value) => Ok(Some(value)),
            None => {
                self.drop_damaged("record", path, "its digest does not hold".to_owned())?;
                Ok(None)
            }
        }
    }

    /// Keeps `value` under `key`, in place of one that is there.
    ///
    /// # Errors
    /// Where the store cannot be written, or the value has more than 64 MiB.
    pub fn keep_record(&self, key: Digest, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > MAX {
            return Err(self.failed(io::Error::other("a record has at most 64 MiB")));
        }
        let mut file = self.temporary()?;
        let written = file
            .write_all(&[MAGIC.as_slice(), &digest(key, value).0].concat())
            .and_then(|()| file.write_all(value));
        written.map_err(|error| self.failed(error))?;
        self.publish(file, &self.entry_path(SHELF, key)).map(drop)
    }
}

/// Whether the record at `path` is what was kept under `key`.
pub(super) fn is_whole(path: &Path, key: Digest) -> io::Result<bool> {
    Ok(read(File::open(path)?, key)?.is_some())
}

fn read(file: File, key: Digest) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take((HEAD + MAX) as u64).read_to_end(&mut bytes)?;
    let Some((head, value)) = bytes.split_at_checked(HEAD) else {
        return Ok(None);
    };
    let (magic, stored) = head.split_at(MAGIC.len());
    if magic != MAGIC || *stored != digest(key, value).0 {
        return Ok(None);
    }
    Ok(Some(bytes.split_off(HEAD)))
}

fn digest(key: Digest, value: &[u8]) -> Digest {
    let mut hasher = Sha256::new_with_prefix(key.0);
    hasher.update(value);
    Digest::finish(hasher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_record_is_what_was_kept_or_absent() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let key = Digest::of(b"inputs");
        assert_eq!(store.record(key).unwrap(), None);
        store.keep_record(key, b"first").unwrap();
        store.keep_record(key, b"value").unwrap();
        assert_eq!(store.record(key).unwrap().as_deref(), Some(b"value".as_slice()));

        let path = store.entry_path(SHELF, key);
        let whole = fs::read(&path).unwrap();
        let flips = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        let cuts = (0..whole.len()).map(|cut| whole[..cut].to_vec());
        for rotten in flips.chain(cuts) {
            fs::write(&path, rotten).unwrap();
            assert_eq!(store.record(key).unwrap(), None);
            assert!(!path.exists());
            let damage = store.take_damage();
            assert_eq!(damage.len(), 1);
            assert_eq!((damage[0].kind.as_str(), &damage[0].path), ("record", &path));
        }
        // A whole record under another's name is none.
        let other = store.entry_path(SHELF, Digest::of(b"other"));
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(&other, whole).unwrap();
        assert_eq!(store.record(Digest::of(b"other")).unwrap(), None);
    }
}
