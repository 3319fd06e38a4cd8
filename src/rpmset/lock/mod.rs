//! The lock file: which packages, exactly, are in a set, and where they come from.

mod changes;
mod describe;

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use changes::{Changes, Found, Moved, Rebuilt};
pub(super) use describe::location;

use crate::fetch::{Url, UrlError};
use crate::store::Digest;

const VERSION: u32 = 2;
/// Version 1 knew directories only: no sources, repositories, signers and addresses.
const OLDEST: u32 = 1;

/// A lock file (TOML), its packages in the order of their NEVRA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Of this format: 1 or 2.
    pub version: u32,
    /// Architectures that were taken from sources with several, beside `noarch`; empty: all.
    #[serde(default)]
    pub arch: Vec<String>,
    /// What was locked, in the order in which it was named.
    #[serde(rename = "source", default)]
    pub sources: Vec<LockSource>,
    /// Repositories whose metadata was read.
    #[serde(rename = "repository", default)]
    pub repositories: Vec<LockRepository>,
    #[serde(rename = "package", default)]
    pub packages: Vec<LockEntry>,
}

/// The kinds of what can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    Directory,
    Repository,
    /// A package manifest as `dnf5 manifest` writes it.
    DnfManifest,
    RpmOstreeLockfile,
    NevraList,
}

/// A source of the packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockSource {
    pub kind: SourceKind,
    /// An address, or a path relative to the lock file.
    pub location: String,
}

/// A repository, and what was known of its signature when its metadata was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockRepository {
    /// The name that manifests know it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// An address, or a path relative to the lock file.
    pub location: String,
    /// Further addresses of the same repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    pub signature: SignatureState,
    /// Fingerprint of the certificate whose signature holds; upper-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// Whether a repository's metadata is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureState {
    Good,
    /// It is signed, and no key was given to check that with.
    Unchecked,
    Absent,
}

/// One package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockEntry {
    /// `name-[epoch:]version-release.arch`.
    pub nevra: String,
    pub location: Location,
    /// Length of the file in bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
    /// Of the header, which signatures cover.
    pub header_sha256: Digest,
    /// Of the compressed payload, as the header claims it; absent in packages older than RPM 4.14.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_digest: Option<String>,
    /// Fingerprint of the certificate whose signature held when the set was locked; upper-case hexadecimal.
    /// Absent where no key was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Seconds since the epoch.
    pub build_time: u32,
}

/// Where a package lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Relative to the lock file, below its directory.
    Path(PathBuf),
    Url(Url),
}

impl Location {
    fn parse(text: &str) -> Result<Self, UrlError> {
        match Url::is_url(text) {
            true => Url::parse(text).map(Self::Url),
            false => Ok(Self::Path(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

impl Serialize for Location {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Path(path) => path.serialize(serializer),
            Self::Url(url) => url.as_str().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A lock file cannot be used or made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LockError {
    #[error("lock file `{}`: {source}", path.display())]
    #[diagnostic(help("make it again with `hullwright lock`"))]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("lock file `{}` has version {found}; this program reads versions {OLDEST} to {VERSION}", path.display())]
    #[diagnostic(help("make it again with `hullwright lock`"))]
    Version { path: PathBuf, found: u32 },
    #[error("lock file `{}`: `{location}` leaves the lock file's directory", path.display())]
    #[diagnostic(help("keep the packages below the lock file"))]
    Location { path: PathBuf, location: String },
    #[error("`{}` lies outside `{}`, the directory of the lock file", package.display(), base.display())]
    #[diagnostic(help(
        "write the lock file into the directory of the packages, or into one above it; or make a repository of that \
         directory (`createrepo_c DIR`) and lock it by its address, `file:///…`"
    ))]
    Outside { package: PathBuf, base: PathBuf },
    #[error("the path `{}` is not UTF-8 text and cannot be written into a lock file", path.display())]
    #[diagnostic(help("rename it"))]
    NotText { path: PathBuf },
}

impl Lock {
    /// Takes the text of the lock file at `path`.
    ///
    /// # Errors
    /// Where it is not a lock file of a known version, or points outside its directory.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let syntax = |source| LockError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        };
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        let OnlyVersion { version } = toml::from_str(text).map_err(syntax)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(LockError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let lock: Self = toml::from_str(text).map_err(syntax)?;
        let inside = |location: &Location| match location {
            Location::Path(path) => path.components().all(|part| matches!(part, Component::Normal(_))),
            Location::Url(_) => true,
        };
        match lock.packages.iter().find(|package| !inside(&package.location)) {
            Some(package) => Err(LockError::Location {
                path: path.to_owned(),
                location: package.location.to_string(),
            }),
            None => Ok(lock),
        }
    }

    /// Where the package at `url` may be fetched, that address first: the mirrors of its repository have it, too.
    pub fn mirrors(&self, url: &Url) -> Vec<Url> {
        let mut urls = vec![url.clone()];
        for repository in &self.repositories {
            let below = url
                .as_str()
                .strip_prefix(repository.location.trim_end_matches('/'));
            let Some(path) = below.and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            let mirrors = repository
                .mirrors
                .iter()
                .filter_map(|mirror| Url::parse(mirror).ok());
            urls.extend(mirrors.map(|mirror| mirror.join(path)));
        }
        urls
    }

    /// The text of the lock file: the same for the same packages.
    pub fn to_text(&self) -> String {
        let mut text = format!("# Written by `hullwright lock`.\nversion = {}\n", self.version);
        if !self.arch.is_empty() {
            text.push_str(&format!("arch = {:?}\n", self.arch));
        }
        add(&mut text, "source", &self.sources);
        add(&mut text, "repository", &self.repositories);
        add(&mut text, "package", &self.packages);
        text
    }
}

fn add<T: Serialize>(text: &mut String, name: &str, entries: &[T]) {
    for entry in entries {
        // A struct of strings and numbers always serialises.
        let body = toml::to_string(entry).unwrap_or_default();
        text.push_str(&format!("\n[[{name}]]\n{body}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let entry = LockEntry {
            nevra: "bash-0:5.2-1.x86_64".to_owned(),
            location: Location::Path("b/bash.rpm".into()),
            size: 7,
            sha256: Digest::of(b"file"),
            header_sha256: Digest::of(b"header"),
            payload_digest: None,
            signed_by: Some("AB12".to_owned()),
            build_time: 1,
        };
        let url = Url::parse("https://host/repo/z.rpm").unwrap();
        Lock {
            version: VERSION,
            arch: vec!["x86_64".to_owned()],
            sources: vec![LockSource {
                kind: SourceKind::NevraList,
                location: "packages.txt".to_owned(),
            }],
            repositories: vec![LockRepository {
                id: None,
                location: "https://host/repo".to_owned(),
                mirrors: vec!["https://other/r/".to_owned()],
                signature: SignatureState::Absent,
                signed_by: None,
            }],
            packages: vec![
                entry.clone(),
                LockEntry {
                    nevra: "z-1-1.noarch".to_owned(),
                    location: Location::Url(url),
                    signed_by: None,
                    ..entry
                },
            ],
        }
    }

    #[test]
    fn a_lock_round_trips() {
        let text = sample().to_text();
        assert_eq!(Lock::parse(&text, Path::new("x.lock.toml")).unwrap(), sample());
        let none = "0".repeat(64);
        let old = format!(
            "version = 1\n[[package]]\nnevra = \"a-1-1.x\"\nlocation = \"a.rpm\"\nsize = 1\nsha256 = \"{none}\"\n\
             header-sha256 = \"{none}\"\nbuild-time = 1\n"
        );
        let old = Lock::parse(&old, Path::new("x.lock.toml")).unwrap();
        assert_eq!(old.packages.len(), 1);
        assert!(old.sources.is_empty());
    }

    #[test]
    fn mirrors_are_asked_for_the_same_path() {
        let lock = sample();
        let texts = |text: &str| -> Vec<String> {
            let urls = lock.mirrors(&Url::parse(text).unwrap());
            urls.iter().map(Url::to_string).collect()
        };
        assert_eq!(
            texts("https://host/repo/p/z.rpm"),
            ["https://host/repo/p/z.rpm", "https://other/r/p/z.rpm"]
        );
        assert_eq!(texts("https://host/repository/z.rpm").len(), 1);
    }

    #[test]
    fn other_versions_and_other_directories_are_refused() {
        let path = Path::new("x.lock.toml");
        assert!(matches!(
            Lock::parse("version = 3\nnew = 1", path),
            Err(LockError::Version { found: 3, .. })
        ));
        for location in ["/etc/a.rpm", "../a.rpm"] {
            let mut lock = sample();
            lock.packages[0].location = Location::Path(location.into());
            let error = Lock::parse(&lock.to_text(), path).unwrap_err();
            assert!(matches!(error, LockError::Location { .. }), "{error}");
        }
        for location in ["ftp://host/a.rpm", "https://u:p@host/a.rpm"] {
            let text = sample().to_text().replace("b/bash.rpm", location);
            let error = Lock::parse(&text, path).unwrap_err();
            assert!(matches!(error, LockError::Syntax { .. }), "{error}");
        }
    }
}
