//! From the packages that are wanted to the packages themselves.

use std::fs::File;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Place, Resolved, SourceError, Wanted};
use crate::fetch::{Download, Fetcher, Watch};
use crate::rpmset::lock::Found;
use crate::rpmset::repo::file_digest;
use crate::rpmset::{LockError, Package, RpmSet, SetError, lock};
use crate::store::{Checksum, Shelf, Store};

/// Packages that are what was wanted.
#[derive(Debug, Clone)]
pub struct Obtained {
    pub set: RpmSet,
    /// Where each package of the set lies, in its order.
    pub places: Vec<Place>,
}

/// Largest package that is fetched.
pub(in crate::rpmset) const LARGEST_PACKAGE: u64 = 64 << 30;

impl Resolved {
    /// Number and bytes of the packages that lie on servers.
    pub fn remote(&self) -> (usize, u64) {
        let remote = self.wanted.iter().filter(|wanted| wanted.is_remote());
        remote.fold((0, 0), |(count, bytes), wanted| {
            (count + 1, bytes.saturating_add(wanted.size.unwrap_or(0)))
        })
    }

    /// Fetches what lies on servers, reads all packages, and holds each against what its source lists.
    ///
    /// # Errors
    /// Where a package cannot be fetched or read, or is not the listed one.
    pub fn obtain(self, fetcher: &Fetcher, store: &Store, watch: Watch) -> Result<Obtained, SourceError> {
        let downloads: Vec<Download> = self.wanted.iter().filter_map(Wanted::download).collect();
        let mut fetched = fetcher.all(&downloads, store, watch)?.into_iter();
        let mut todo: Vec<(Wanted, PathBuf)> = Vec::with_capacity(self.wanted.len());
        for wanted in self.wanted {
            let path = match &wanted.place {
                Place::File(path) | Place::Local(_, path) => path.clone(),
                Place::Remote(_) => fetched.next().unwrap_or_default(),
            };
            todo.push((wanted, path));
        }
        let opened: Vec<Result<(Package, Place), SourceError>> = todo
            .into_par_iter()
            .with_max_len(1)
            .map(|(wanted, path)| {
                let checked = wanted.open(&path);
                if checked.is_err() && store.owns(&path) {
                    // What is damaged in the store is fetched again next time.
                    let _ = std::fs::remove_file(&path);
                }
                checked
            })
            .collect();
        let (packages, places): (Vec<_>, Vec<_>) = opened
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .unzip();
        // `wanted` is in the order of NEVRA and without twins, and so is the set.
        let set = RpmSet::from_packages(packages).map_err(|error| twins(&error))?;
        Ok(Obtained { set, places })
    }

    /// What the sources have, with no more fetched than is needed to know the digests. Locations are as a lock file
    /// in the directory `base` would name them.
    ///
    /// # Errors
    /// As [`Resolved::obtain`]; or where a package lies outside `base`.
    pub fn look(
        self,
        base: &std::path::Path,
        fetcher: &Fetcher,
        store: &Store,
    ) -> Result<Vec<Found>, LookError> {
        let mut found = Vec::with_capacity(self.wanted.len());
        let mut open = Self::default();
        for wanted in self.wanted {
            match wanted.checksum {
                // What another algorithm says as well can only be seen from the file.
                Checksum::Sha256(sha256) if wanted.is_remote() && wanted.also.is_none() => {
                    found.push(Found {
                        location: lock::location(&wanted.place, base)?.to_string(),
                        nevra: wanted.nevra,
                        sha256,
                    })
                }
                _ => open.wanted.push(wanted),
            }
        }
        let Obtained { set, places } = open.obtain(fetcher, store, &|_| {})?;
        for (package, place) in set.packages().iter().zip(&places) {
            found.push(Found {
                nevra: package.nevra.clone(),
                sha256: package.sha256,
                location: lock::location(place, base)?.to_string(),
            });
        }
        Ok(found)
    }
}

/// What sources have cannot be found out.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LookError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
}

fn twins(error: &SetError) -> SourceError {
    let SetError::Twice { name, first, second } = error else {
        return SourceError::Mirrors {
            what: "the set".to_owned(),
            problem: error.to_string(),
        };
    };
    SourceError::TwoVersions {
        name: name.clone(),
        first: first.display().to_string(),
        second: second.display().to_string(),
    }
}

impl Wanted {
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote(_))
    }

    fn download(&self) -> Option<Download> {
        let Place::Remote(urls) = &self.place else {
            return None;
        };
        Some(Download {
            urls: urls.clone(),
            size: self.size,
            limit: LARGEST_PACKAGE,
            checksum: self.checksum,
            shelf: Shelf::Rpms,
        })
    }

    /// The package at `path`, which must be the one that is wanted.
    fn open(mut self, path: &std::path::Path) -> Result<(Package, Place), SourceError> {
        let package = match self.package.take() {
            Some(package) => package,
            None => Package::open(path).map_err(Box::new)?,
        };
        let differs = |what, found: String, expected: String| SourceError::Differs {
            place: self.place.to_string(),
            from: self.from.clone(),
            what,
            found,
            expected,
        };
        if let Some(size) = self.size.filter(|&size| size != package.size) {
            return Err(differs("size", package.size.to_string(), size.to_string()));
        }
        for expected in self.checksums() {
            let found = match expected {
                Checksum::Sha256(_) => Checksum::Sha256(package.sha256),
                Checksum::Sha512(_) => {
                    let digest = File::open(path).and_then(|mut file| file_digest(&mut file, &expected));
                    let (found, _) = digest.map_err(|source| SourceError::Io {
                        path: path.to_owned(),
                        source,
                    })?;
                    found
                }
            };
            if found != expected {
                return Err(differs("digest", found.to_string(), expected.to_string()));
            }
        }
        if !package.nevra.same(&self.nevra) {
            return Err(differs(
                "NEVRA",
                package.nevra.to_string(),
                self.nevra.to_string(),
            ));
        }
        Ok((package, self.place))
    }
}
