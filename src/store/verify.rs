//! Reading all of a store.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::entries::{Entry, Kind, is_gone};
use super::{Damage, Digest, Pack, Store, StoreError, linked, object, record};

/// What is wrong with a shared file, by kind, the directory of its kind, and name.
pub type LinkedCheck<'a> = dyn Fn(&str, &Path, &Digest) -> Option<String> + Sync + 'a;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    pub bytes: u64,
    /// What was damaged, and has been dropped.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Reads every entry, on all threads, and holds it against its digest; drops what is damaged.
    /// `linked` says of a kind of shared files, a directory of them and a name whether that is as it
    /// should be.
    ///
    /// # Errors
    /// Where the store cannot be read, or what is damaged not be dropped.
    pub fn verify(&self, linked: &LinkedCheck<'_>) -> Result<Verified, StoreError> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.kind != Kind::Part);
        // The largest first, so that none is left over for the end.
        entries.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
        let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        entries.par_iter().with_max_len(1).try_for_each(|entry| {
            match self.check(entry, linked) {
                // Another program has removed it.
                Err(StoreError::Io { source, .. }) if is_gone(&source) => return Ok(()),
                outcome => outcome?,
            }
            count.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(entry.bytes, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Verified {
            entries: count.into_inner(),
            bytes: bytes.into_inner(),
            damage: self.take_damage(),
        })
    }

    /// Reads an entry, and drops it where it is damaged.
    fn check(&self, entry: &Entry, check_linked: &LinkedCheck<'_>) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let path = &entry.path;
        let (what, wrong) = match &entry.kind {
            Kind::Part => return Ok(()),
            Kind::Values(_) => return self.check_values(path),
            Kind::Package => {
                let file = File::open(path).map_err(failed)?;
                let pack = Pack::open(self, path.clone(), file, false).map_err(failed)?;
                (
                    "package",
                    pack.map_or(Some("its index is damaged".to_owned()), |pack| pack.damage()),
                )
            }
            Kind::Record => {
                let whole = match fanned_name(entry) {
                    Some(key) => record::is_whole(path, key).map_err(failed)?,
                    None => false,
                };
                ("record", (!whole).then(|| "its digest does not hold".to_owned()))
            }
            Kind::Object => {
                let file = File::open(path).map_err(failed)?;
                ("object", wrong_content(&file, fanned_name(entry)))
            }
            Kind::Linked(kind) => {
                let directory = path.parent().and_then(Path::parent).unwrap_or(path);
                let wrong = match linked::name_of(path) {
                    Some(name) => check_linked(kind, directory, &name),
                    None => Some("its name is no digest".to_owned()),
                };
                ("linked file", wrong)
            }
            Kind::Downloaded(_) => {
                let name = path.file_name().unwrap_or_default().to_str();
                let digest = name.and_then(|name| name.parse().ok());
                let mut wrong = None;
                for file in fs::read_dir(path).map_err(failed)? {
                    let file = File::open(file.map_err(failed)?.path()).map_err(failed)?;
                    wrong = wrong.or_else(|| wrong_content(&file, digest));
                }
                ("downloaded file", wrong)
            }
        };
        let Some(wrong) = wrong else { return Ok(()) };
        self.remove(entry).map_err(failed)?;
        self.session.damage.note(Damage {
            kind: what.to_owned(),
            path: path.clone(),
            what: wrong,
        });
        Ok(())
    }
}

/// The digest that names an entry in one of 256 directories.
fn fanned_name(entry: &Entry) -> Option<Digest> {
    let name = entry.path.file_name()?.to_str()?;
    let fan = entry.path.parent()?.file_name()?.to_str()?;
    format!("{fan}{name}").parse().ok()
}

fn wrong_content(file: &File, digest: Option<Digest>) -> Option<String> {
    let Some(digest) = digest else {
        return Some("its name is no digest".to_owned());
    };
    let found: io::Result<Digest> = object::hash(file);
    match found {
        Ok(found) if found == digest => None,
        Ok(found) => Some(format!("its content has SHA-256 {found}")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}
