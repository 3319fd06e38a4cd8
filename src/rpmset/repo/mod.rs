//! Repositories of RPMs: `repodata/`, verified, and the packages that it lists.

mod primary;
mod repo_file;
mod repomd;
mod unpack;
mod xml;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

pub use primary::{Listed, ListedBase, parse as parse_primary};
pub use repo_file::{RepoFileError, RepoSection, Variables, parse_repo_file, substitute};
pub use repomd::{Primary, parse as parse_repomd};
pub use xml::XmlError;

pub(super) use unpack::digest as file_digest;

use super::signature::{Keyring, Signer, Verdict, verify_detached};
use crate::fetch::{Download, FetchError, Fetcher, Url, UrlError};
use crate::store::{Checksum, ChecksumError, Shelf, Store};

const LARGEST_REPOMD: u64 = 8 << 20;
const LARGEST_SIGNATURE: u64 = 1 << 20;
/// Most that a packed list of packages may take.
const LARGEST_PRIMARY: u64 = 1 << 30;
const REPOMD: &str = "repodata/repomd.xml";

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The directory that holds `repodata`.
    Directory(PathBuf),
    /// Mirrors of the same repository, the first to be asked first. Not empty.
    Urls(Vec<Url>),
}

impl Base {
    /// The repository at `path`: the directory that holds `repodata`, or `repodata` itself.
    pub fn directory(path: &Path) -> Option<Self> {
        if path.join(REPOMD).is_file() {
            return Some(Self::Directory(path.to_owned()));
        }
        let inner = path.join("repomd.xml").is_file();
        let real = path.canonicalize().ok().filter(|_| inner)?;
        match path.file_name() {
            Some(_) => path.parent().map(|parent| match parent.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => parent.to_owned(),
            }),
            None => real.parent().map(Path::to_owned),
        }
        .map(Self::Directory)
    }

    /// The repository at an address, whether that names it, its `repodata` or its `repomd.xml`.
    ///
    /// # Errors
    /// Where the address is not taken.
    pub fn url(text: &str) -> Result<Self, UrlError> {
        let text = text
            .strip_suffix("/repomd.xml")
            .unwrap_or(text)
            .trim_end_matches('/');
        let text = text.strip_suffix("/repodata").unwrap_or(text);
        Ok(Self::Urls(vec![Url::parse(text)?]))
    }

    /// Whether it lies on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::Urls(urls) => urls.iter().all(|url| url.local().is_some()),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Urls(urls) => urls.first().map_or(Ok(()), |url| write!(f, "{url}")),
        }
    }
}

/// What is known of a repository's signature, `repodata/repomd.xml.asc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// It holds.
    Signed(Signer),
    /// There is one, and no key to hold it against.
    Unchecked,
    Unsigned,
}

/// A repository's packages, as its verified metadata lists them.
#[derive(Debug, Clone)]
pub struct Repository {
    pub base: Base,
    pub trust: Trust,
    /// As they are listed, source packages included.
    pub packages: Vec<Listed>,
}

/// A repository cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("repository {base}: {problem}")]
pub struct RepoError {
    pub base: String,
    // No `source`: its words are in the message, and would be said twice.
    pub problem: Box<RepoProblem>,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepoProblem {
    #[error("it has no {REPOMD}")]
    Absent,
    #[error("it is not `{0}` metadata, but something else")]
    NotMetadata(&'static str),
    #[error("its metadata is malformed: {0}")]
    Xml(#[from] XmlError),
    #[error("its {REPOMD} names no list of packages (`primary`)")]
    NoPrimary,
    #[error("its {REPOMD} gives the list of packages no {0}")]
    Lacks(&'static str),
    #[error("its metadata is refused: {0}")]
    Path(#[from] UrlError),
    #[error("its {REPOMD} cannot be used: {0}")]
    Checksum(#[from] ChecksumError),
    #[error("its signature does not suffice: {0}")]
    Signature(Verdict),
    #[error("it has to be signed (`repo_gpgcheck`), and {0}")]
    Unsigned(&'static str),
    #[error("{what} has the {kind} {found}, and should have {expected}")]
    Differs {
        what: String,
        kind: &'static str,
        found: String,
        expected: String,
    },
    #[error("{what} is larger than {most} bytes")]
    TooLarge { what: String, most: u64 },
    #[error("{what} cannot be unpacked: {source}")]
    Unpack { what: String, source: io::Error },
    #[error("{} cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Fetch(#[from] FetchError),
}

impl miette::Diagnostic for RepoError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = match self.problem.as_ref() {
            RepoProblem::Absent => {
                "name the address or directory that has `repodata/` in it; `createrepo_c DIR` makes one of a \
                 directory of packages"
            }
            RepoProblem::NotMetadata(_) => {
                "check the address: some servers and proxies answer anything with a page of their own"
            }
            RepoProblem::Checksum(_) => {
                "its maker has to make it anew, with SHA-256: `createrepo_c --checksum sha256`"
            }
            RepoProblem::Signature(Verdict::Unknown { .. }) => {
                "name the file of that key with `--key`, once you know whose it is"
            }
            RepoProblem::Signature(_) => {
                "somebody has changed it, or the wrong key is named: do not use it before you know which"
            }
            RepoProblem::Unsigned(_) => "name the key with `--key FILE`, or another mirror",
            RepoProblem::Differs { .. } => {
                "the mirror may be about to be updated: try again in a while, or name another; a repository of \
                 your own: run `createrepo_c` again"
            }
            RepoProblem::Fetch(error) => return miette::Diagnostic::help(error),
            RepoProblem::Io { .. } => "check that it is there and may be read",
            _ => "its metadata is damaged or hostile: name another mirror, or have it made anew",
        };
        Some(Box::new(help))
    }
}

impl Repository {
    /// Reads the repository at `base`: `repomd.xml` with its signature, and the list of packages, which the store
    /// keeps where it came from a server. With `keys`, a signature that is there must hold; with `must_be_signed`,
    /// there must be one.
    ///
    /// # Errors
    /// Where it is absent, damaged, hostile, or not signed as it must be.
    pub fn read(
        base: &Base,
        keys: &Keyring,
        must_be_signed: bool,
        fetcher: &Fetcher,
        store: &Store,
    ) -> Result<Self, RepoError> {
        let read = || -> Result<Self, RepoProblem> {
            let (repomd, signature) = front(base, fetcher)?;
            let trust = trust(&repomd, signature.as_deref(), keys, must_be_signed)?;
            let primary = repomd::parse(&repomd)?;
            let (path, file) = fetch_primary(base, &primary, fetcher, store)?;
            let packages = read_primary(file, &primary);
            if packages.is_err() {
                drop_kept(store, &path);
            }
            Ok(Self {
                base: base.clone(),
                trust,
                packages: packages?,
            })
        };
        read().map_err(|problem| RepoError {
            base: base.to_string(),
            problem: Box::new(problem),
        })
    }
}

/// `repomd.xml` and its signature, from the first mirror that answers.
fn front(base: &Base, fetcher: &Fetcher) -> Result<(Vec<u8>, Option<Vec<u8>>), RepoProblem> {
    let signature = format!("{REPOMD}.asc");
    match base {
        Base::Directory(directory) => {
            let repomd = small(&directory.join(REPOMD), LARGEST_REPOMD)?.ok_or(RepoProblem::Absent)?;
            Ok((repomd, small(&directory.join(signature), LARGEST_SIGNATURE)?))
        }
        Base::Urls(urls) => {
            let mut first = None;
            for url in urls {
                let ask = || -> Result<_, RepoProblem> {
                    let repomd = fetcher.small(&url.join(REPOMD), LARGEST_REPOMD)?;
                    let signature = fetcher.small(&url.join(&signature), LARGEST_SIGNATURE)?;
                    Ok((repomd.ok_or(RepoProblem::Absent)?, signature))
                };
                match ask() {
                    Ok(found) => return Ok(found),
                    Err(problem) => first = first.or(Some(problem)),
                }
            }
            Err(first.unwrap_or(RepoProblem::Absent))
        }
    }
}

fn small(path: &Path, most: u64) -> Result<Option<Vec<u8>>, RepoProblem> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > most => Err(RepoProblem::TooLarge {
            what: path.display().to_string(),
            most,
        }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RepoProblem::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn trust(
    repomd: &[u8],
    signature: Option<&[u8]>,
    keys: &Keyring,
    must_be_signed: bool,
) -> Result<Trust, RepoProblem> {
    match signature {
        None if must_be_signed => Err(RepoProblem::Unsigned("it has no repodata/repomd.xml.asc")),
        None => Ok(Trust::Unsigned),
        Some(_) if keys.is_empty() && must_be_signed => Err(RepoProblem::Unsigned("no key is named")),
        Some(_) if keys.is_empty() => Ok(Trust::Unchecked),
        Some(signature) => match verify_detached(repomd, signature, keys) {
            Verdict::Signed { signer, .. } => Ok(Trust::Signed(signer)),
            verdict => Err(RepoProblem::Signature(verdict)),
        },
    }
}

/// The packed list of packages; its digest holds.
fn fetch_primary(
    base: &Base,
    primary: &Primary,
    fetcher: &Fetcher,
    store: &Store,
) -> Result<(PathBuf, File), RepoProblem> {
    let local = match base {
        Base::Directory(directory) => Some(directory.join(&primary.location)),
        Base::Urls(urls) => urls.iter().find_map(|url| url.join(&primary.location).local()),
    };
    let path = match (local, base) {
        (None, Base::Urls(urls)) => {
            let download = Download {
                urls: urls.iter().map(|url| url.join(&primary.location)).collect(),
                size: primary.size,
                limit: LARGEST_PRIMARY,
                checksum: primary.checksum,
                shelf: Shelf::Repodata,
            };
            let fetched = fetcher.all(&[download], store, &|_| {})?;
            fetched.into_iter().next().unwrap_or_default()
        }
        (local, _) => local.unwrap_or_default(),
    };
    let io = |source| RepoProblem::Io {
        path: path.clone(),
        source,
    };
    let mut file = File::open(&path).map_err(io)?;
    let (found, length) = unpack::digest(&mut file, &primary.checksum).map_err(io)?;
    let (kind, found, expected) = match primary.size {
        Some(size) if size != length => ("size", length.to_string(), size.to_string()),
        _ if found != primary.checksum => ("digest", found.to_string(), primary.checksum.to_string()),
        _ => return Ok((path, file)),
    };
    drop_kept(store, &path);
    Err(RepoProblem::Differs {
        what: primary.location.clone(),
        kind,
        found,
        expected,
    })
}

/// What is damaged in the store is fetched again next time.
fn drop_kept(store: &Store, path: &Path) {
    if store.owns(path) {
        // Where it cannot be removed, the next run says again that it is damaged.
        let _ = std::fs::remove_file(path);
    }
}

fn read_primary(file: File, primary: &Primary) -> Result<Vec<Listed>, RepoProblem> {
    let what = || primary.location.clone();
    let most = primary.open_size.unwrap_or(unpack::MOST).min(unpack::MOST);
    let unpack = |source| RepoProblem::Unpack { what: what(), source };
    let unpacked = unpack::open(file, most, primary.open_checksum.as_ref()).map_err(unpack)?;
    let reader = BufReader::with_capacity(128 << 10, unpacked);
    let (packages, reader) = match primary::parse(reader) {
        Ok(parsed) => parsed,
        Err(RepoProblem::Xml(XmlError::Io(source))) => {
            return Err(RepoProblem::Unpack { what: what(), source });
        }
        Err(problem) => return Err(problem),
    };
    // The reader has come to the end, so that nothing is left in its buffer.
    let (found, length) = reader.into_inner().finish().map_err(unpack)?;
    let differs = |kind, found: String, expected: String| RepoProblem::Differs {
        what: format!("{} unpacked", primary.location),
        kind,
        found,
        expected,
    };
    match (primary.open_size, primary.open_checksum) {
        (Some(size), _) if size != length => Err(differs("size", length.to_string(), size.to_string())),
        (_, Some(checksum)) if checksum != found => {
            Err(differs("digest", found.to_string(), checksum.to_string()))
        }
        _ => Ok(packages),
    }
}

impl Listed {
    /// Whether it is a source package.
    pub fn is_source(&self) -> bool {
        matches!(self.nevra.arch.as_str(), "src" | "nosrc")
    }

    /// The digest of the file.
    ///
    /// # Errors
    /// Where the repository gives none that can be trusted.
    pub fn checksum(&self) -> Result<Checksum, ChecksumError> {
        self.checksum.clone()
    }
}
