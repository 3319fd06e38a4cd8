//! What a set can be locked from: directories, repositories, and files that name packages.

mod error;
mod list;
mod manifest;
mod obtain;
mod request;
mod resolve;
mod rpm_ostree;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use error::{Missing, SourceError};
pub use manifest::{Manifest, ManifestPackage, ManifestRepository};
pub(super) use obtain::LARGEST_PACKAGE;
pub use obtain::{LookError, Obtained};
pub use request::{RepositoryRequest, Requests};
pub use resolve::{Context, Place, ReadRepository, Resolved, Wanted};

use super::lock::SourceKind;
use super::repo::Base;
use super::{Lock, Nevra};
use crate::fetch::Url;
use crate::store::Checksum;
use list::ListProblem;
use manifest::ManifestProblem;

/// Largest file that names packages.
const LARGEST: u64 = 64 << 20;
const RPM_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// Something that a set can be locked from.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// Where it lies; `None`, where that is an address.
    pub path: Option<PathBuf>,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Directory,
    Repository(Base),
    Manifest(Manifest),
    RpmOstree(Vec<Wish>),
    List(Vec<Wish>),
}

/// A package that is to be looked up in repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub nevra: Nevra,
    /// The architecture in `nevra` means nothing.
    pub any_arch: bool,
    /// Of its file, where the source pins that.
    pub checksum: Option<Checksum>,
    /// The id of the one repository to look in.
    pub repository: Option<String>,
}

impl Source {
    pub fn kind(&self) -> SourceKind {
        match self.content {
            Content::Directory => SourceKind::Directory,
            Content::Repository(_) => SourceKind::Repository,
            Content::Manifest(_) => SourceKind::DnfManifest,
            Content::RpmOstree(_) => SourceKind::RpmOstreeLockfile,
            Content::List(_) => SourceKind::NevraList,
        }
    }

    /// Its address, where it is a repository that has one; empty otherwise.
    pub fn address(&self) -> String {
        match &self.content {
            Content::Repository(base) => base.to_string(),
            _ => String::new(),
        }
    }

    /// Recognises what `given`, an address or a path, is.
    ///
    /// # Errors
    /// Where it cannot be read, is of no known kind, or is malformed.
    pub fn recognise(given: &Path) -> Result<Self, SourceError> {
        let name = given.display().to_string();
        if let Some(text) = given.to_str().filter(|text| Url::is_url(text)) {
            return Ok(Self {
                name,
                path: None,
                content: Content::Repository(Base::url(text)?),
            });
        }
        let content = if given.is_dir() {
            match Base::directory(given) {
                Some(base) => Content::Repository(base),
                None => Content::Directory,
            }
        } else {
            content_of(given)?
        };
        let path = match &content {
            Content::Repository(Base::Directory(directory)) => directory.clone(),
            _ => given.to_owned(),
        };
        Ok(Self {
            name,
            path: Some(path),
            content,
        })
    }
}

fn content_of(path: &Path) -> Result<Content, SourceError> {
    let path_buf = || path.to_owned();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|source| SourceError::Io {
        path: path_buf(),
        source,
    })?;
    if bytes.starts_with(&RPM_MAGIC) {
        return Err(SourceError::OnePackage { path: path_buf() });
    }
    let unknown = |tried: &[&str]| SourceError::Unknown {
        path: path_buf(),
        tried: tried.iter().map(|&one| one.to_owned()).collect(),
    };
    if bytes.len() as u64 > LARGEST {
        return Err(unknown(&["it is larger than 64 MiB"]));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(unknown(&["it is no package, and no text either"]));
    };
    if manifest::is_manifest(text) {
        return match manifest::parse(text) {
            Ok(manifest) => Ok(Content::Manifest(manifest)),
            Err(ManifestProblem::Version(found)) => Err(SourceError::ManifestVersion {
                path: path_buf(),
                found,
            }),
            Err(ManifestProblem::Content(problem)) => Err(SourceError::Manifest {
                path: path_buf(),
                problem,
            }),
        };
    }
    if text.trim_start().starts_with('{') {
        let parsed = rpm_ostree::parse(text).map_err(|problem| SourceError::RpmOstree {
            path: path_buf(),
            problem,
        })?;
        return Ok(Content::RpmOstree(parsed));
    }
    if Lock::parse(text, path).is_ok() {
        return Err(SourceError::Locked { path: path_buf() });
    }
    match list::parse(text) {
        Ok(wishes) => Ok(Content::List(wishes)),
        Err(ListProblem::NoList(line)) => Err(SourceError::Unknown {
            path: path_buf(),
            tried: vec![
                "it does not say `document: rpm-package-manifest`, as manifests of dnf5 do".to_owned(),
                "it is no JSON object, as lockfiles of rpm-ostree are".to_owned(),
                line,
            ],
        }),
        Err(ListProblem::Line(line)) => Err(SourceError::Unknown {
            path: path_buf(),
            tried: vec![format!("it begins as a list of NEVRAs, but {line}")],
        }),
        Err(ListProblem::Twice { nevra, first, second }) => Err(SourceError::Twice {
            path: path_buf(),
            nevra,
            first,
            second,
        }),
    }
}
