//! What has changed since a lock file was written.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Lock;
use crate::rpmset::Nevra;
use crate::store::Digest;

/// A package as its source has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub nevra: Nevra,
    pub sha256: Digest,
    /// As a lock file would name it.
    pub location: String,
}

/// The differences between a lock file and its sources; all in the order of NEVRA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Locked and present NEVRA of packages whose version changed.
    pub updated: Vec<(String, String)>,
    /// Other bytes under the same NEVRA: rebuilt without a new release, signed anew, or tampered with.
    pub rebuilt: Vec<Rebuilt>,
    /// The same bytes at another place.
    pub moved: Vec<Moved>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rebuilt {
    pub nevra: String,
    pub locked: Digest,
    pub found: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moved {
    pub nevra: String,
    pub from: String,
    pub to: String,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Lock {
    /// Holds the lock file against what its sources have now.
    pub fn changes(&self, found: &[Found]) -> Changes {
        // A set has one package of a name for an architecture.
        let key = |nevra: &Nevra| (nevra.name.clone(), nevra.arch.clone());
        let mut present: BTreeMap<_, _> = found
            .iter()
            .map(|package| (key(&package.nevra), package))
            .collect();
        let mut changes = Changes::default();
        for entry in &self.packages {
            let nevra = Nevra::parse(&entry.nevra).ok();
            let now = nevra.as_ref().and_then(|nevra| present.remove(&key(nevra)));
            let (Some(nevra), Some(now)) = (nevra, now) else {
                changes.removed.push(entry.nevra.clone());
                continue;
            };
            let location = entry.location.to_string();
            if !nevra.same(&now.nevra) {
                changes.updated.push((entry.nevra.clone(), now.nevra.to_string()));
            } else if entry.sha256 != now.sha256 {
                changes.rebuilt.push(Rebuilt {
                    nevra: entry.nevra.clone(),
                    locked: entry.sha256,
                    found: now.sha256,
                });
            } else if location != now.location {
                changes.moved.push(Moved {
                    nevra: entry.nevra.clone(),
                    from: location,
                    to: now.location.clone(),
                });
            }
        }
        changes.added = present
            .values()
            .map(|package| package.nevra.to_string())
            .collect();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpmset::lock::{Location, LockEntry};

    fn entry(nevra: &str, bytes: &str) -> LockEntry {
        LockEntry {
            nevra: nevra.to_owned(),
            location: Location::Path(format!("{nevra}.rpm").into()),
            size: 1,
            sha256: Digest::of(bytes.as_bytes()),
            header_sha256: Digest::of(b""),
            payload_digest: None,
            signed_by: None,
            build_time: 1,
        }
    }

    fn found(nevra: &str, bytes: &str, location: &str) -> Found {
        Found {
            nevra: Nevra::parse(nevra).unwrap(),
            sha256: Digest::of(bytes.as_bytes()),
            location: location.to_owned(),
        }
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let lock = Lock {
            version: 2,
            arch: Vec::new(),
            sources: Vec::new(),
            repositories: Vec::new(),
            packages: vec![
                entry("gone-1-1.x86_64", "gone"),
                entry("lib-1-1.i686", "32"),
                entry("lib-1-1.x86_64", "64"),
                entry("moved-1-1.noarch", "moved"),
                entry("new-1-1.noarch", "new"),
                entry("rebuilt-1-1.noarch", "one"),
                entry("same-0:1-1.noarch", "same"),
            ],
        };
        let now = [
            found("added-1-1.noarch", "added", "a"),
            found("lib-1-1.i686", "32", "lib-1-1.i686.rpm"),
            found("lib-2-1.x86_64", "64", "b"),
            found("moved-1-1.noarch", "moved", "elsewhere"),
            found("new-1:1-1.noarch", "new", "c"),
            found("rebuilt-1-1.noarch", "two", "d"),
            found("same-1-1.noarch", "same", "same-0:1-1.noarch.rpm"),
        ];
        let changes = lock.changes(&now);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            changes,
            Changes {
                added: vec!["added-1-1.noarch".to_owned()],
                removed: vec!["gone-1-1.x86_64".to_owned()],
                updated: vec![
                    pair("lib-1-1.x86_64", "lib-2-1.x86_64"),
                    pair("new-1-1.noarch", "new-1:1-1.noarch")
                ],
                rebuilt: vec![Rebuilt {
                    nevra: "rebuilt-1-1.noarch".to_owned(),
                    locked: Digest::of(b"one"),
                    found: Digest::of(b"two"),
                }],
                moved: vec![Moved {
                    nevra: "moved-1-1.noarch".to_owned(),
                    from: "moved-1-1.noarch.rpm".to_owned(),
                    to: "elsewhere".to_owned(),
                }],
            }
        );
        assert!(!changes.is_empty());
        assert!(
            Lock {
                packages: Vec::new(),
                ..lock
            }
            .changes(&[])
            .is_empty()
        );
    }
}
