//! The lock file: which packages, exactly, are in a set.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RpmSet;
use crate::store::Digest;

const VERSION: u32 = 1;

/// A lock file, version 1 (TOML), its packages in the order of their NEVRA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Of this format.
    pub version: u32,
    #[serde(rename = "package", default)]
    pub packages: Vec<LockEntry>,
}

/// One package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockEntry {
    /// `name-[epoch:]version-release.arch`.
    pub nevra: String,
    /// Path of the file, relative to the lock file.
    pub location: PathBuf,
    /// Length of the file in bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
    /// Of the header, which signatures cover.
    pub header_sha256: Digest,
    /// Of the compressed payload, as the header claims it; absent in packages older than RPM 4.14.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_digest: Option<String>,
    /// Seconds since the epoch.
    pub build_time: u32,
}

/// A lock file cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LockError {
    #[error("lock file `{}`: {source}", path.display())]
    #[diagnostic(help("make it again with `hullwright lock`"))]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("lock file `{}` has version {found}; this program reads version {VERSION}", path.display())]
    #[diagnostic(help("make it again with `hullwright lock`"))]
    Version { path: PathBuf, found: u32 },
    #[error("lock file `{}`: `{location}` leaves the lock file's directory", path.display())]
    #[diagnostic(help("keep the packages below the lock file"))]
    Location { path: PathBuf, location: String },
    #[error("`{}` lies outside `{}`, the directory of the lock file", package.display(), base.display())]
    #[diagnostic(help("write the lock file into the directory of the packages, or into one above it"))]
    Outside { package: PathBuf, base: PathBuf },
}

impl Lock {
    /// Takes the text of the lock file at `path`.
    ///
    /// # Errors
    /// Where it is not a lock file of this version, or points outside its directory.
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
        if version != VERSION {
            return Err(LockError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let lock: Self = toml::from_str(text).map_err(syntax)?;
        let inside = |location: &Path| {
            let mut parts = location.components();
            parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match lock.packages.iter().find(|package| !inside(&package.location)) {
            Some(package) => Err(LockError::Location {
                path: path.to_owned(),
                location: package.location.display().to_string(),
            }),
            None => Ok(lock),
        }
    }

    /// Describes `set`, locations relative to `base`, the lock file's directory.
    ///
    /// # Errors
    /// Where a package lies outside `base`.
    pub fn describe(set: &RpmSet, base: &Path) -> Result<Self, LockError> {
        let real_base = if base.as_os_str().is_empty() {
            Path::new(".")
        } else {
            base
        };
        let real_base = real_base.canonicalize().unwrap_or_else(|_| base.to_owned());
        let location = |package: &super::Package| {
            let path = package
                .path
                .canonicalize()
                .unwrap_or_else(|_| package.path.clone());
            let relative = path.strip_prefix(&real_base).map(Path::to_owned);
            relative.map_err(|_| LockError::Outside {
                package: package.path.clone(),
                base: real_base.clone(),
            })
        };
        let entry = |package: &super::Package| {
            Ok(LockEntry {
                nevra: package.nevra.to_string(),
                location: location(package)?,
                size: package.size,
                sha256: package.sha256,
                header_sha256: Digest::of(package.preamble.header.raw()),
                payload_digest: package.claimed_payload_digest(),
                build_time: package.build_time,
            })
        };
        Ok(Self {
            version: VERSION,
            packages: set.packages().iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// The text of the lock file: the same for the same packages.
    pub fn to_text(&self) -> String {
        let mut text = format!("# Written by `hullwright lock`.\nversion = {}\n", self.version);
        for package in &self.packages {
            // A struct of strings and numbers always serialises.
            let body = toml::to_string(package).unwrap_or_default();
            text.push_str("\n[[package]]\n");
            text.push_str(&body);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        Lock {
            version: VERSION,
            packages: vec![LockEntry {
                nevra: "bash-0:5.2-1.x86_64".to_owned(),
                location: PathBuf::from("b/bash.rpm"),
                size: 7,
                sha256: Digest::of(b"file"),
                header_sha256: Digest::of(b"header"),
                payload_digest: None,
                build_time: 1,
            }],
        }
    }

    #[test]
    fn a_lock_round_trips() {
        let text = sample().to_text();
        assert_eq!(Lock::parse(&text, Path::new("x.lock.toml")).unwrap(), sample());
    }

    #[test]
    fn other_versions_and_other_directories_are_refused() {
        let path = Path::new("x.lock.toml");
        assert!(matches!(
            Lock::parse("version = 2\nnew = 1", path),
            Err(LockError::Version { found: 2, .. })
        ));
        for location in ["/etc/a.rpm", "../a.rpm"] {
            let mut lock = sample();
            lock.packages[0].location = PathBuf::from(location);
            let error = Lock::parse(&lock.to_text(), path).unwrap_err();
            assert!(matches!(error, LockError::Location { .. }), "{error}");
        }
    }
}
