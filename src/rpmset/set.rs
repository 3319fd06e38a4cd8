//! A whole set of packages.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::error::Error;
use super::signature::Untrusted;
use super::{LockError, Package, SetSource, payload};
use crate::fetch::{FetchError, Url};
use crate::formats::rpm::Header;
use crate::store::{Blob, Store};

/// Packages in the order of their NEVRA: the same set always comes in the same order.
#[derive(Debug, Clone)]
pub struct RpmSet {
    packages: Vec<Package>,
}

/// The contents of every regular file of a set: by package, then by number in its file list.
pub type Contents = Vec<Vec<Option<Blob>>>;

/// A set cannot be taken.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SetError {
    #[error("RPM set `{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("name a directory of .rpm files, or a lock file that `hullwright lock` wrote"))]
    Io { path: PathBuf, source: io::Error },
    #[error("RPM set `{}` holds no .rpm file", path.display())]
    #[diagnostic(help("name a directory of .rpm files, or a lock file that `hullwright lock` wrote"))]
    Empty { path: PathBuf },
    #[error("`{}` is one package, not a set of them", path.display())]
    #[diagnostic(help("name the directory that it lies in, or a lock file that `hullwright lock` wrote"))]
    OnePackage { path: PathBuf },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    #[error("{} of the packages cannot be used", problems.len())]
    Packages {
        #[related]
        problems: Vec<Error>,
    },
    #[error("no key is listed that packages may be signed by")]
    #[diagnostic(help(
        "name the files of the distribution's public keys as `keys = [\"…\"]` under `[rpms]`, or with `--key FILE`; \
         a package that may come unsigned gets an entry under `[[rpms.unsigned]]`"
    ))]
    NoKeys,
    #[error("the set is not to be trusted: its signatures do not suffice")]
    Untrusted {
        #[related]
        problems: Vec<Untrusted>,
    },
    #[error(
        "{} locked packages lie on servers and are not in the store: {}{}",
        urls.len(),
        urls.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(", "),
        if urls.len() > 5 { " …" } else { "" }
    )]
    #[diagnostic(help(
        "`hullwright build` without `--offline` fetches them; what is fetched stays in the store"
    ))]
    NotHere { urls: Vec<Url> },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] FetchError),
    #[error("`{}` is not the package that the lock file names: its {what} is {found}, locked is {locked}", path.display())]
    #[diagnostic(help("fetch the locked file again, or lock the set anew with `hullwright lock`"))]
    Changed {
        path: PathBuf,
        what: &'static str,
        found: String,
        locked: String,
    },
    #[error("the set holds `{name}` twice: `{}` and `{}`", first.display(), second.display())]
    #[diagnostic(help("remove one of the two files: an image holds one version of a package"))]
    Twice {
        name: String,
        first: PathBuf,
        second: PathBuf,
    },
}

impl RpmSet {
    /// Reads the set that `source` names: a directory of `.rpm` files (not its subdirectories), or
    /// a lock file, whose every line must hold and whose packages all lie here.
    ///
    /// # Errors
    /// Where a package is absent, malformed, not the locked one, or there twice.
    pub fn load(source: &Path) -> Result<Self, SetError> {
        SetSource::open(source, None)?.load()
    }

    /// Reads the packages at `paths`.
    ///
    /// # Errors
    /// Where one is absent, malformed or there twice; all that are malformed are named.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SetError> {
        let sizes = paths
            .iter()
            .map(|path| path.metadata().map_or(0, |data| data.len()));
        let sizes: Vec<_> = sizes.collect();
        let opened = largest_first(&sizes, |index| Package::open(&paths[index]));
        let mut packages = Vec::with_capacity(opened.len());
        let mut problems = Vec::new();
        for result in opened {
            match result {
                Ok(package) => packages.push(package),
                Err(error) => problems.push(error),
            }
        }
        if !problems.is_empty() {
            problems.sort_by(|a, b| a.path.cmp(&b.path));
            return Err(SetError::Packages { problems });
        }
        Self::from_packages(packages)
    }

    /// Holds every payload, as it stands in its file, against the digests that its package claims of it.
    ///
    /// # Errors
    /// Where some do not hold; all are named.
    pub fn check_payloads(&self) -> Result<(), SetError> {
        let sizes: Vec<_> = self.packages.iter().map(|package| package.size).collect();
        let checked = largest_first(&sizes, |index| self.packages[index].check_payload());
        let mut problems: Vec<_> = checked.into_iter().filter_map(Result::err).collect();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Err(SetError::Packages { problems })
    }

    /// A set of packages that have been read.
    ///
    /// # Errors
    /// Where one is there twice.
    pub fn from_packages(mut packages: Vec<Package>) -> Result<Self, SetError> {
        packages.sort_by(|a, b| a.nevra.cmp(&b.nevra).then_with(|| a.path.cmp(&b.path)));
        let twin = packages.windows(2).find(|pair| {
            let [a, b] = [&pair[0].nevra, &pair[1].nevra];
            a.name == b.name && a.arch == b.arch
        });
        match twin {
            // Kernels and keys may be installed beside each other; an image holds one of each.
            Some(pair) => Err(SetError::Twice {
                name: pair[0].nevra.name.clone(),
                first: pair[0].path.clone(),
                second: pair[1].path.clone(),
            }),
            None => Ok(Self { packages }),
        }
    }

    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The packages' headers, in their order.
    pub fn headers(&self) -> Vec<&Header> {
        let packages = self.packages.iter();
        packages.map(|package| &package.preamble.header).collect()
    }

    /// Unpacks every payload into `store`, or finds it there; all digests are checked.
    ///
    /// # Errors
    /// Where payloads are malformed or their digests do not hold: all such packages are named.
    pub fn contents(&self, store: &Store) -> Result<Contents, SetError> {
        let unpacked = |package: &Package| {
            package
                .files
                .iter()
                .map(|file| file.size)
                .fold(0, u64::saturating_add)
        };
        let sizes: Vec<_> = self.packages.iter().map(unpacked).collect();
        let unpacked = largest_first(&sizes, |index| payload::contents(&self.packages[index], store));
        let mut contents = Vec::with_capacity(unpacked.len());
        let mut problems = Vec::new();
        for result in unpacked {
            match result {
                Ok(blobs) => contents.push(blobs),
                Err(error) => problems.push(error),
            }
        }
        if problems.is_empty() {
            return Ok(contents);
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Err(SetError::Packages { problems })
    }

    /// The newest build time of its packages: the time of an image whose definition names none.
    pub fn newest_build_time(&self) -> u32 {
        self.packages
            .iter()
            .map(|package| package.build_time)
            .max()
            .unwrap_or(0)
    }
}

/// The results of `work` on every index of `sizes`, on all cores. The largest come first and in strict order, so that
/// no core is left with a long one at the end.
fn largest_first<T: Send>(sizes: &[u64], work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sizes[index]));
    let next = AtomicUsize::new(0);
    let done: Vec<Vec<(usize, T)>> = (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let mut done = Vec::new();
            while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((index, work(index)));
            }
            done
        })
        .collect();
    let mut done: Vec<_> = done.into_iter().flatten().collect();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_what_was_given() {
        let sizes: Vec<u64> = (0..100).map(|index| index * 37 % 11).collect();
        let results = largest_first(&sizes, |index| (index, sizes[index]));
        let expected: Vec<_> = sizes.iter().copied().enumerate().collect();
        assert_eq!(results, expected);
        assert!(largest_first(&[], |_| ()).is_empty());
    }
}
