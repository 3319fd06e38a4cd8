//! What a build takes its set from: a directory, or a lock file whose packages may lie on servers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::repo::file_digest;
use super::source::LARGEST_PACKAGE;
use super::{Location, Lock, LockEntry, RpmSet, SetError};
use crate::fetch::{Download, Fetcher, Url, Watch};
use crate::store::{Checksum, Shelf, Store};

/// A set that is named, before its packages are read.
#[derive(Debug, Clone)]
pub struct SetSource {
    /// The `.rpm` files of a directory, or those that a lock file names; empty while they are not here.
    paths: Vec<PathBuf>,
    lock: Option<Lock>,
    store: Option<Store>,
    /// By number in `paths`.
    absent: Vec<(usize, Download)>,
}

impl SetSource {
    /// Opens the set that `source` names: a directory of `.rpm` files (not its subdirectories), or a lock file. Locked
    /// packages are looked for in `store` first, by their digest, then where the lock file says.
    ///
    /// # Errors
    /// Where there is no such set.
    pub fn open(source: &Path, store: Option<&Store>) -> Result<Self, SetError> {
        let io = |source_error| SetError::Io {
            path: source.to_owned(),
            source: source_error,
        };
        let empty = || SetError::Empty {
            path: source.to_owned(),
        };
        if source.is_dir() {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(source).map_err(io)? {
                let path = entry.map_err(io)?.path();
                if path.extension().is_some_and(|extension| extension == "rpm") {
                    paths.push(path);
                }
            }
            return match paths.is_empty() {
                true => Err(empty()),
                false => Ok(Self {
                    paths,
                    lock: None,
                    store: None,
                    absent: Vec::new(),
                }),
            };
        }
        if source.extension().is_some_and(|extension| extension == "rpm") && source.is_file() {
            return Err(SetError::OnePackage {
                path: source.to_owned(),
            });
        }
        let lock = Lock::parse(&std::fs::read_to_string(source).map_err(io)?, source)?;
        if lock.packages.is_empty() {
            return Err(empty());
        }
        let base = source.parent().unwrap_or(Path::new(""));
        let mut paths = Vec::with_capacity(lock.packages.len());
        let mut absent = Vec::new();
        for (number, entry) in lock.packages.iter().enumerate() {
            match (kept(entry, store), &entry.location) {
                (Some(path), _) => paths.push(path),
                (None, Location::Path(path)) => paths.push(base.join(path)),
                (None, Location::Url(url)) => match url.local() {
                    Some(path) => paths.push(path),
                    None => {
                        absent.push((number, download(&lock, entry, url)));
                        paths.push(PathBuf::new());
                    }
                },
            }
        }
        Ok(Self {
            paths,
            lock: Some(lock),
            store: store.cloned(),
            absent,
        })
    }

    /// Number and bytes of the packages that have to be fetched.
    pub fn absent(&self) -> (usize, u64) {
        let sizes = self.absent.iter().filter_map(|(_, download)| download.size);
        (self.absent.len(), sizes.fold(0, u64::saturating_add))
    }

    /// Fetches what is not here into `store`.
    ///
    /// # Errors
    /// Where a package cannot be fetched as it was locked.
    pub fn fetch(&mut self, fetcher: &Fetcher, store: &Store, watch: Watch) -> Result<(), SetError> {
        let downloads: Vec<_> = self.absent.iter().map(|(_, download)| download.clone()).collect();
        let fetched = fetcher.all(&downloads, store, watch)?;
        for ((number, _), path) in self.absent.drain(..).zip(fetched) {
            self.paths[number] = path;
        }
        Ok(())
    }

    /// Reads the packages.
    ///
    /// # Errors
    /// Where one is absent, malformed, not the locked one, or there twice.
    pub fn load(self) -> Result<RpmSet, SetError> {
        if !self.absent.is_empty() {
            let urls = self
                .absent
                .into_iter()
                .flat_map(|(_, download)| download.urls.into_iter().next());
            return Err(SetError::NotHere { urls: urls.collect() });
        }
        let loaded = self.load_here();
        if loaded.is_err() {
            self.drop_damaged();
        }
        loaded
    }

    /// What is damaged in the store is fetched again next time.
    fn drop_damaged(&self) {
        let Some((lock, store)) = self.lock.as_ref().zip(self.store.as_ref()) else {
            return;
        };
        for (path, entry) in self.paths.iter().zip(&lock.packages) {
            let locked = Checksum::Sha256(entry.sha256);
            let found = || file_digest(&mut File::open(path)?, &locked);
            let whole = || found().is_ok_and(|(found, _)| found == locked);
            if store.owns(path) && !whole() {
                // Where it cannot be removed, the next run says again that it is damaged.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn load_here(&self) -> Result<RpmSet, SetError> {
        let set = RpmSet::open(&self.paths)?;
        let Some(lock) = &self.lock else {
            return Ok(set);
        };
        let locked: BTreeMap<_, _> = self.paths.iter().zip(&lock.packages).collect();
        for package in set.packages() {
            let Some(entry) = locked.get(&package.path) else {
                continue;
            };
            let pairs = [
                ("SHA-256", package.sha256.to_string(), entry.sha256.to_string()),
                ("NEVRA", package.nevra.to_string(), entry.nevra.clone()),
                ("size", package.size.to_string(), entry.size.to_string()),
            ];
            for (what, found, locked) in pairs {
                if found != locked {
                    return Err(SetError::Changed {
                        path: package.path.clone(),
                        what,
                        found,
                        locked,
                    });
                }
            }
        }
        Ok(set)
    }
}

/// The store's file of a locked package, where it has the locked length.
fn kept(entry: &LockEntry, store: Option<&Store>) -> Option<PathBuf> {
    let path = store?.file(Shelf::Rpms, &Checksum::Sha256(entry.sha256))?;
    let length = std::fs::metadata(&path).ok()?.len();
    (length == entry.size).then_some(path)
}

fn download(lock: &Lock, entry: &LockEntry, url: &Url) -> Download {
    Download {
        urls: lock.mirrors(url),
        size: Some(entry.size),
        limit: LARGEST_PACKAGE,
        checksum: Checksum::Sha256(entry.sha256),
        shelf: Shelf::Rpms,
    }
}
