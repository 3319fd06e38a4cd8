//! What can be wrong with what is to be locked.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::fetch::{FetchError, UrlError};
use crate::rpmset::repo::{RepoError, RepoFileError};
use crate::rpmset::{Error, Nevra};
use crate::store::ChecksumError;

/// A set cannot be made of what was named.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("`{}` cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is one package, not a set of them", path.display())]
    OnePackage { path: PathBuf },
    #[error("`{}` is a lock file already", path.display())]
    Locked { path: PathBuf },
    #[error("`{}` holds no .rpm file and no repodata", path.display())]
    Empty { path: PathBuf },
    #[error("`{}` is nothing that can be locked: {}", path.display(), tried.join("; "))]
    Unknown { path: PathBuf, tried: Vec<String> },
    #[error("{0}")]
    Url(#[from] UrlError),
    #[error("manifest `{}`: {problem}", path.display())]
    Manifest { path: PathBuf, problem: String },
    #[error("manifest `{}` has version {found}; this program reads versions 0 and 1", path.display())]
    ManifestVersion { path: PathBuf, found: String },
    #[error("rpm-ostree lockfile `{}`: {problem}", path.display())]
    RpmOstree { path: PathBuf, problem: String },
    #[error("`{}` names {nevra} twice, in lines {first} and {second}", path.display())]
    Twice {
        path: PathBuf,
        nevra: String,
        first: usize,
        second: usize,
    },
    #[error("`{name}` only names packages, and no repository is named to look them up in")]
    NoRepositories { name: String },
    #[error("{} of the packages are in no repository", missing.len())]
    Missing { missing: Vec<Missing> },
    #[error("{nevra} is in {first} and in {second}, with different bytes")]
    Ambiguous {
        nevra: String,
        first: String,
        second: String,
    },
    #[error("{package} is there for {first} and for {second}")]
    Architectures {
        package: String,
        first: String,
        second: String,
    },
    #[error("{nevra} has the {found}, but {source_name} says {pinned}")]
    Pinned {
        nevra: String,
        found: String,
        pinned: String,
        source_name: String,
    },
    #[error("{} has several versions of {}", repository, versions.join(", of "))]
    Versions {
        repository: String,
        versions: Vec<String>,
    },
    #[error("`{}` has {}, which its repodata does not list", directory.display(), files.join(", "))]
    Stale { directory: PathBuf, files: Vec<String> },
    #[error("{nevra} in {repository}: {problem}")]
    Checksum {
        nevra: String,
        repository: String,
        problem: ChecksumError,
    },
    #[error("{repository} {why}, and no key is named that its packages could be held against")]
    Untrusted { repository: String, why: &'static str },
    #[error("`--unsigned-repository {name}` is about no repository that is read")]
    IdleException { name: String },
    #[error("`{}`: {problem}", path.display())]
    RepoFile { path: PathBuf, problem: RepoFileError },
    #[error("repository {id} in `{}`: {problem}", path.display())]
    RepoKeys {
        path: PathBuf,
        id: String,
        problem: String,
    },
    #[error("{what}: {problem}")]
    Mirrors { what: String, problem: String },
    #[error("the set would hold {name} twice: {first} and {second}")]
    TwoVersions {
        name: String,
        first: String,
        second: String,
    },
    #[error("{place} is not the package that {from} lists: its {what} is {found}, listed is {expected}")]
    Differs {
        place: String,
        from: String,
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error(transparent)]
    Package(#[from] Box<Error>),
    #[error(transparent)]
    Repository(#[from] RepoError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// A package that no repository has.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} is in no repository")]
pub struct Missing {
    pub wanted: String,
    /// Other builds of it, or names that are like its.
    pub nearest: Vec<String>,
}

impl Missing {
    pub(super) fn new(wanted: String, nearest: &[&Nevra]) -> Self {
        Self {
            wanted,
            nearest: nearest.iter().map(|nevra| nevra.to_string()).collect(),
        }
    }
}

impl miette::Diagnostic for Missing {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.nearest.is_empty()).then(|| Box::new(format!("there is {}", self.nearest.join(", "))) as _)
    }
}

impl miette::Diagnostic for SourceError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = match self {
            Self::Io { .. } => "correct its name, or make it readable",
            Self::OnePackage { .. } => "name the directory that it lies in",
            Self::Locked { .. } => "build from it with `--rpms`, or see what has changed with `lock --check`",
            Self::Empty { .. } => "name a directory of .rpm files, or one that has `repodata` in it",
            Self::Unknown { .. } => {
                "name a directory of .rpm files, a repository (its directory or address), a manifest of \
                 `dnf5 manifest`, an rpm-ostree lockfile, or a list of NEVRAs"
            }
            Self::Url(_) => "name the address of a repository: `https://host/path`",
            Self::Manifest { .. } => "make it again with `dnf5 manifest new`",
            Self::ManifestVersion { .. } => "make it again with a dnf5 that writes version 0 or 1",
            Self::RpmOstree { .. } => "make it again with `rpm-ostree compose tree --ex-write-lockfile-to`",
            Self::Twice { .. } => "remove one of the lines",
            Self::NoRepositories { .. } => "name them with `--repo URL|DIR` or `--repo-file FILE`",
            Self::Missing { .. } => {
                "correct the names, resolve the set anew, or name more repositories with `--repo`"
            }
            Self::Ambiguous { .. } => {
                "only one of the two can be the right one: find out which, and name only that repository"
            }
            Self::Architectures { .. } => "say which is meant with `--arch ARCH`",
            Self::Pinned { .. } => {
                "the package was built or signed anew, or changed: resolve the set again once you know which"
            }
            Self::Versions { .. } => {
                "a whole repository can be locked when it is a resolved set: `dnf5 download --resolve` into a \
                 directory, then `createrepo_c`; of a distribution's repository, lock a list: name its packages in a \
                 file, and the repository with `--repo`"
            }
            Self::Stale { .. } => "run `createrepo_c` on it again, or remove the files or its `repodata`",
            Self::Checksum { .. } => {
                "its maker has to make the repodata anew: `createrepo_c --checksum sha256`"
            }
            Self::Untrusted { .. } => {
                "name the keys of its packages with `--key FILE`; or take the repository as it is with \
                 `--unsigned-repository URL`"
            }
            Self::IdleException { .. } => "remove it, or correct the address",
            Self::RepoFile {
                problem: RepoFileError::Variable { .. },
                ..
            } => "say what it stands for: `--var NAME=VALUE`",
            Self::RepoFile {
                problem: RepoFileError::Metalink { .. },
                ..
            } => "give the section a `baseurl`",
            Self::RepoFile { .. } => "correct it; dnf.conf(5) describes the form",
            Self::RepoKeys { .. } => {
                "fetch the key, make sure whose it is, and name its file with `--key FILE`"
            }
            Self::Mirrors { .. } => "name a repository by its address with `--repo`",
            Self::TwoVersions { .. } => "remove one of the two: an image holds one version of a package",
            Self::Differs { .. } => {
                "the repository's metadata and files do not belong together: make its repodata anew, or name \
                 another mirror"
            }
            Self::Package(error) => return miette::Diagnostic::help(error.as_ref()),
            Self::Repository(error) => return miette::Diagnostic::help(error),
            Self::Fetch(error) => return miette::Diagnostic::help(error),
        };
        Some(Box::new(help))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        match self {
            Self::Missing { missing } => {
                Some(Box::new(missing.iter().map(|one| one as &dyn miette::Diagnostic)))
            }
            _ => None,
        }
    }
}
