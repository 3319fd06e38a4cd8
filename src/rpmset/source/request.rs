//! The repositories to look packages up in, as the user names them.

use std::path::{Path, PathBuf};

use super::SourceError;
use crate::fetch::{Fetcher, Url};
use crate::rpmset::lock::LockRepository;
use crate::rpmset::repo::{self, Base, RepoSection, Variables};

const LARGEST_LIST: u64 = 1 << 20;
const MOST_MIRRORS: usize = 16;

/// A repository to look packages up in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRequest {
    /// The name that manifests and `.repo` files know it by.
    pub id: Option<String>,
    pub base: Base,
    /// Its metadata has to be signed.
    pub must_be_signed: bool,
}

/// All that was asked for.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    pub repositories: Vec<RepositoryRequest>,
    /// Files of keys that `.repo` files name and that are there.
    pub keys: Vec<PathBuf>,
}

impl Requests {
    /// Adds `[ID=]URL|DIR`.
    ///
    /// # Errors
    /// Where there is no repository of that form.
    pub fn add(&mut self, text: &str, variables: &Variables) -> Result<(), SourceError> {
        let word = |id: &str| {
            id.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        };
        let (id, place) = match text.split_once('=') {
            Some((id, place)) if !id.is_empty() && word(id) && !Url::is_url(id) => {
                (Some(id.to_owned()), place)
            }
            _ => (None, text),
        };
        let base = match Url::is_url(place) {
            true => {
                let place = repo::substitute(place, variables).map_err(|problem| SourceError::RepoFile {
                    path: PathBuf::from("--repo"),
                    problem,
                })?;
                Base::url(&place)?
            }
            false => Base::directory(Path::new(place)).ok_or_else(|| SourceError::Empty {
                path: PathBuf::from(place),
            })?,
        };
        self.repositories.push(RepositoryRequest {
            id,
            base,
            must_be_signed: false,
        });
        Ok(())
    }

    /// Adds the enabled repositories of a `.repo` file. `keys_named`: whether the user has named keys otherwise.
    ///
    /// # Errors
    /// Where the file cannot be used, or a repository's packages have to be signed and no key is at hand.
    pub fn add_file(
        &mut self,
        path: &Path,
        variables: &Variables,
        keys_named: bool,
        fetcher: &Fetcher,
    ) -> Result<(), SourceError> {
        let text = std::fs::read_to_string(path).map_err(|source| SourceError::Io {
            path: path.to_owned(),
            source,
        })?;
        let sections = repo::parse_repo_file(&text, variables).map_err(|problem| SourceError::RepoFile {
            path: path.to_owned(),
            problem,
        })?;
        for section in sections {
            let keys = local_keys(&section);
            if keys.is_empty() && !keys_named && (section.gpgcheck || section.repo_gpgcheck) {
                return Err(SourceError::RepoKeys {
                    path: path.to_owned(),
                    id: section.id,
                    problem: "it wants signatures (`gpgcheck`, `repo_gpgcheck`), and no file of `gpgkey` is on this \
                              machine"
                        .to_owned(),
                });
            }
            self.keys.extend(
                keys.into_iter()
                    .filter(|key| !self.keys.contains(key))
                    .collect::<Vec<_>>(),
            );
            let base = match &section.mirrorlist {
                Some(list) if section.baseurls.is_empty() => mirrors(list, fetcher)?,
                _ => base_of(&section.baseurls)?,
            };
            self.repositories.push(RepositoryRequest {
                id: Some(section.id),
                base,
                must_be_signed: section.repo_gpgcheck,
            });
        }
        Ok(())
    }

    /// Adds the repositories that a lock file in the directory `base` has recorded.
    ///
    /// # Errors
    /// Where one is no longer there.
    pub fn add_locked(&mut self, locked: &[LockRepository], base: &Path) -> Result<(), SourceError> {
        for repository in locked {
            let place = match Url::is_url(&repository.location) {
                true => {
                    let urls = std::iter::once(&repository.location).chain(&repository.mirrors);
                    Base::Urls(urls.map(|url| Url::parse(url)).collect::<Result<_, _>>()?)
                }
                false => {
                    let path = base.join(&repository.location);
                    Base::directory(&path).ok_or(SourceError::Empty { path })?
                }
            };
            self.repositories.push(RepositoryRequest {
                id: repository.id.clone(),
                base: place,
                must_be_signed: false,
            });
        }
        Ok(())
    }
}

/// The files of a repository's keys that are on this machine.
fn local_keys(section: &RepoSection) -> Vec<PathBuf> {
    let path = |text: &String| match Url::is_url(text) {
        true => Url::parse(text).ok()?.local(),
        false => Some(PathBuf::from(text)),
    };
    let paths = section.gpgkeys.iter().filter_map(path);
    paths
        .filter(|path| path.is_absolute() && path.is_file())
        .collect()
}

/// The repository at several addresses.
pub(super) fn base_of(addresses: &[String]) -> Result<Base, SourceError> {
    let urls = addresses.iter().map(|text| match text.starts_with('/') {
        // dnf takes paths for file addresses.
        true => Url::parse(&format!("file://{text}")),
        false => Url::parse(text),
    });
    Ok(Base::Urls(urls.collect::<Result<_, _>>()?))
}

/// The repository whose mirrors the list at `address` names, one a line.
pub(super) fn mirrors(address: &str, fetcher: &Fetcher) -> Result<Base, SourceError> {
    let problem = |problem: &str| SourceError::Mirrors {
        what: format!("list of mirrors {address}"),
        problem: problem.to_owned(),
    };
    let bytes = fetcher.small(&Url::with_query(address)?, LARGEST_LIST)?;
    let bytes = bytes.ok_or_else(|| problem("there is none"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| problem("it is no text"))?;
    if text.trim_start().starts_with('<') {
        return Err(problem("it is a metalink or a page, not a list of addresses"));
    }
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    // Mirrors by rsync or FTP are left to others; those of this machine are for no server to name.
    let urls: Vec<_> = lines
        .filter_map(|line| Url::parse(line).ok())
        .filter(|url| url.local().is_none())
        .take(MOST_MIRRORS)
        .collect();
    match urls.is_empty() {
        true => Err(problem("it names no http or https address")),
        false => Ok(Base::Urls(urls)),
    }
}
