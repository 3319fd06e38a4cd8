//! A lock file for a set.

use std::path::{Component, Path, PathBuf};

use super::{Location, Lock, LockEntry, LockError, LockRepository, LockSource, SignatureState, VERSION};
use crate::rpmset::Package;
use crate::rpmset::repo::{Base, Trust};
use crate::rpmset::signature::{Checked, Verdict};
use crate::rpmset::source::{Obtained, Place, ReadRepository, Source};
use crate::store::Digest;

impl Lock {
    /// Describes the packages of `obtained`, found in `sources` by way of `repositories`, for a lock file in the
    /// directory `base`. `checked` are the verdicts on the packages' signatures, where they were asked for.
    ///
    /// # Errors
    /// Where a package lies outside `base`, or a path is not text.
    pub fn describe(
        obtained: &Obtained,
        checked: Option<&[Checked]>,
        sources: &[Source],
        repositories: &[ReadRepository],
        arch: &[String],
        base: &Path,
    ) -> Result<Self, LockError> {
        let signer = |number: usize| match &checked?.get(number)?.verdict {
            Verdict::Signed { signer, .. } => Some(signer.fingerprint.clone()),
            _ => None,
        };
        let entry = |(number, (package, place)): (usize, (&Package, &Place))| {
            Ok(LockEntry {
                nevra: package.nevra.to_string(),
                location: location(place, base)?,
                size: package.size,
                sha256: package.sha256,
                header_sha256: Digest::of(package.preamble.header.raw()),
                payload_digest: package.claimed_payload_digest(),
                signed_by: signer(number),
                build_time: package.build_time,
            })
        };
        let packages = obtained.set.packages().iter().zip(&obtained.places).enumerate();
        Ok(Self {
            version: VERSION,
            arch: arch.to_vec(),
            packages: packages.map(entry).collect::<Result<_, LockError>>()?,
            sources: sources
                .iter()
                .map(|source| {
                    Ok(LockSource {
                        kind: source.kind(),
                        location: match &source.path {
                            Some(path) => from(base, path)?,
                            None => source.address(),
                        },
                    })
                })
                .collect::<Result<_, LockError>>()?,
            repositories: repositories
                .iter()
                .map(|repository| record(repository, base))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn record(repository: &ReadRepository, base: &Path) -> Result<LockRepository, LockError> {
    let (location, mirrors) = match &repository.base {
        Base::Directory(directory) => (from(base, directory)?, Vec::new()),
        Base::Urls(urls) => {
            let mut texts = urls.iter().map(ToString::to_string);
            (texts.next().unwrap_or_default(), texts.collect())
        }
    };
    let (signature, signed_by) = match &repository.trust {
        Trust::Signed(signer) => (SignatureState::Good, Some(signer.fingerprint.clone())),
        Trust::Unchecked => (SignatureState::Unchecked, None),
        Trust::Unsigned => (SignatureState::Absent, None),
    };
    Ok(LockRepository {
        id: repository.id.clone(),
        location,
        mirrors,
        signature,
        signed_by,
    })
}

/// The location of a package for a lock file in the directory `base`.
///
/// # Errors
/// Where it is a path outside `base`.
pub(in crate::rpmset) fn location(place: &Place, base: &Path) -> Result<Location, LockError> {
    let path = match place {
        Place::File(path) => path,
        Place::Local(url, _) => return Ok(Location::Url(url.clone())),
        Place::Remote(urls) => {
            let first = urls.first().cloned();
            return first
                .map(Location::Url)
                .ok_or_else(|| LockError::NotText { path: PathBuf::new() });
        }
    };
    let real_base = real(base);
    let inside = real(path).strip_prefix(&real_base).map(Path::to_owned);
    let inside = inside.map_err(|_| LockError::Outside {
        package: path.clone(),
        base: real_base,
    })?;
    text(&inside)?;
    Ok(Location::Path(inside))
}

fn real(path: &Path) -> PathBuf {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn text(path: &Path) -> Result<String, LockError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| LockError::NotText {
            path: path.to_owned(),
        })
}

/// The way from the directory `base` to `path`.
fn from(base: &Path, path: &Path) -> Result<String, LockError> {
    let (base, path) = (real(base), real(path));
    let common = base
        .components()
        .zip(path.components())
        .take_while(|(a, b)| a == b)
        .count();
    let mut way = PathBuf::new();
    for _ in base.components().skip(common) {
        way.push(Component::ParentDir);
    }
    path.components().skip(common).for_each(|part| way.push(part));
    match way.as_os_str().is_empty() {
        true => Ok(".".to_owned()),
        false => text(&way),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_relative() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join("c")).unwrap();
        for (base, path, expected) in [("a", "a/b", "b"), ("a", "a", "."), ("a/b", "c", "../../c")] {
            assert_eq!(from(&root.join(base), &root.join(path)).unwrap(), expected);
        }
        std::fs::write(root.join("c/x.rpm"), "").unwrap();
        let file = Place::File(root.join("c/x.rpm"));
        assert_eq!(location(&file, root).unwrap(), Location::Path("c/x.rpm".into()));
        assert!(matches!(
            location(&file, &root.join("a")),
            Err(LockError::Outside { .. })
        ));
    }
}
