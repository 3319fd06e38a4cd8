//! From sources and repositories to the packages that are wanted: which, and where each lies.

mod indexed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::request::{base_of, mirrors};
use super::{Content, Manifest, Missing, RepositoryRequest, Source, SourceError, Wish};
use crate::fetch::{Fetcher, Url, relative};
use crate::rpmset::repo::{Base, Listed, Repository, Trust, Variables, substitute};
use crate::rpmset::signature::Keyring;
use crate::rpmset::{Nevra, Package};
use crate::store::{Checksum, Store};
use indexed::{Indexed, nearest, place, vouched, wanted};

/// What resolving is done with.
pub struct Context<'a> {
    pub keys: &'a Keyring,
    pub fetcher: &'a Fetcher,
    pub store: &'a Store,
    pub variables: &'a Variables,
    /// Addresses or ids of repositories that are taken without any signature.
    pub unsigned: &'a [String],
    /// Architectures to take, beside `noarch`, from sources that may have several; empty: all.
    pub arch: &'a [String],
    /// Whether packages will be used: then a repository that nothing vouches for is refused.
    pub strict: bool,
}

impl Context<'_> {
    /// Whether packages of this architecture are taken.
    fn takes(&self, arch: &str) -> bool {
        self.arch.is_empty() || arch == "noarch" || self.arch.iter().any(|one| one == arch)
    }
}

/// Where a package lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    /// On this machine, and named by its address.
    Local(Url, PathBuf),
    /// The first is its own, the others are mirrors.
    Remote(Vec<Url>),
}

/// A package that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub nevra: Nevra,
    pub place: Place,
    /// Length of the file in bytes.
    pub size: Option<u64>,
    pub checksum: Checksum,
    /// By another algorithm, where another source or repository lists it so: both must hold.
    pub also: Option<Checksum>,
    /// What names it, for messages.
    pub from: String,
    /// The package, where it has been read already.
    pub package: Option<Package>,
}

/// A repository whose metadata was read.
#[derive(Debug, Clone)]
pub struct ReadRepository {
    pub id: Option<String>,
    pub base: Base,
    pub trust: Trust,
}

/// The packages of all sources.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// In the order of NEVRA; none is there twice.
    pub wanted: Vec<Wanted>,
    pub repositories: Vec<ReadRepository>,
    /// Source packages that were left out.
    pub source_packages: usize,
}

impl Resolved {
    /// Finds the packages of `sources`; those that are only named, in `requests`, in their order.
    ///
    /// # Errors
    /// Where a source or repository cannot be used, packages are nowhere to be found, or the set contradicts itself.
    pub fn new(
        sources: &[Source],
        requests: &[RepositoryRequest],
        context: &Context<'_>,
    ) -> Result<Self, SourceError> {
        let mut resolved = Self::default();
        let mut looked_up: Vec<Indexed> = Vec::new();
        let mut ids: Vec<RepositoryRequest> = requests.to_vec();
        let mut wishes = Vec::new();
        for source in sources {
            match &source.content {
                Content::Directory => resolved.directory(source)?,
                Content::Repository(base) => {
                    let request = RepositoryRequest {
                        id: None,
                        base: base.clone(),
                        must_be_signed: false,
                    };
                    resolved.whole(&request, context)?;
                }
                Content::Manifest(manifest) => {
                    wishes.extend(resolved.manifest(source, manifest, &mut ids, context)?);
                }
                Content::RpmOstree(named) | Content::List(named) => {
                    let taken = |wish: &&Wish| wish.any_arch || context.takes(&wish.nevra.arch);
                    let taken = named.iter().filter(taken);
                    wishes.extend(taken.map(|wish| (wish.clone(), source.name.clone())));
                }
            }
        }
        if let Some((_, name)) = wishes.first() {
            if ids.is_empty() {
                return Err(SourceError::NoRepositories { name: name.clone() });
            }
            for request in &ids {
                looked_up.push(resolved.read(request, context)?);
            }
            resolved.look_up(&wishes, &looked_up, context)?;
        }
        let known = |name: &String| {
            let name = name.trim_end_matches('/');
            let mut read = resolved.repositories.iter();
            read.any(|one| {
                one.id.as_deref() == Some(name) || one.base.to_string().trim_end_matches('/') == name
            })
        };
        if let Some(name) = context.unsigned.iter().find(|name| !known(name)) {
            return Err(SourceError::IdleException { name: name.clone() });
        }
        resolved.settle()?;
        Ok(resolved)
    }

    /// A plain directory of packages.
    fn directory(&mut self, source: &Source) -> Result<(), SourceError> {
        let directory = source.path.clone().unwrap_or_default();
        let paths = rpm_files(&directory)?;
        if paths.is_empty() {
            return Err(SourceError::Empty { path: directory });
        }
        let opened: Vec<_> = paths.par_iter().map(|path| Package::open(path)).collect();
        for (path, package) in paths.into_iter().zip(opened) {
            let package = package.map_err(Box::new)?;
            self.wanted.push(Wanted {
                nevra: package.nevra.clone(),
                place: Place::File(path),
                size: Some(package.size),
                checksum: Checksum::Sha256(package.sha256),
                also: None,
                from: source.name.clone(),
                package: Some(package),
            });
        }
        Ok(())
    }

    /// Every package of a repository, which has to be a resolved one.
    fn whole(&mut self, request: &RepositoryRequest, context: &Context<'_>) -> Result<(), SourceError> {
        let indexed = self.read(request, context)?;
        if let Base::Directory(directory) = &request.base {
            stale(directory, &indexed.repository.packages)?;
        }
        let takes = |listed: &&Listed| !listed.is_source() && context.takes(&listed.nevra.arch);
        let all = &indexed.repository.packages;
        self.source_packages += all.iter().filter(|listed| listed.is_source()).count();
        let mut versions: BTreeMap<(&str, &str), BTreeSet<&Nevra>> = BTreeMap::new();
        for listed in all.iter().filter(takes) {
            let key = (listed.nevra.name.as_str(), listed.nevra.arch.as_str());
            versions.entry(key).or_default().insert(&listed.nevra);
        }
        let several: Vec<_> = versions
            .iter()
            .filter(|(_, versions)| versions.len() > 1)
            .collect();
        if !several.is_empty() {
            let mut names: Vec<String> = several
                .iter()
                .take(5)
                .map(|((name, arch), versions)| {
                    let evrs: Vec<_> = versions.iter().map(|nevra| nevra.evr()).collect();
                    format!("{name}.{arch} ({})", evrs.join(", "))
                })
                .collect();
            if several.len() > names.len() {
                names.push(format!("{} more", several.len() - names.len()));
            }
            return Err(SourceError::Versions {
                repository: indexed.name,
                versions: names,
            });
        }
        if !all.iter().any(|listed| takes(&listed)) {
            return Err(SourceError::Empty {
                path: PathBuf::from(indexed.name),
            });
        }
        for listed in all.iter().filter(takes) {
            vouched(&indexed, context)?;
            self.wanted.push(wanted(&indexed, listed)?);
        }
        Ok(())
    }

    /// Packages of a manifest: those whose place it names are wanted; the others are given back, to be looked up.
    fn manifest(
        &mut self,
        source: &Source,
        manifest: &Manifest,
        ids: &mut Vec<RepositoryRequest>,
        context: &Context<'_>,
    ) -> Result<Vec<(Wish, String)>, SourceError> {
        let mut variables = context.variables.clone();
        let arches: BTreeSet<_> = manifest
            .packages
            .iter()
            .map(|package| package.nevra.arch.as_str())
            .filter(|arch| *arch != "noarch" && context.takes(arch))
            .collect();
        if let (1, Some(arch)) = (arches.len(), arches.first()) {
            for name in ["arch", "basearch"] {
                variables
                    .entry(name.to_owned())
                    .or_insert_with(|| (*arch).to_owned());
            }
        }
        let mut wishes = Vec::new();
        for package in &manifest.packages {
            if !context.takes(&package.nevra.arch) {
                continue;
            }
            let id = &package.repository;
            let base = match ids.iter().find(|request| request.id.as_ref() == Some(id)) {
                Some(request) => request.base.clone(),
                None => {
                    let base = manifest_base(source, manifest, id, &variables, context.fetcher)?;
                    ids.push(RepositoryRequest {
                        id: Some(id.clone()),
                        base: base.clone(),
                        must_be_signed: false,
                    });
                    base
                }
            };
            match &package.location {
                Some(location) => self.wanted.push(Wanted {
                    nevra: package.nevra.clone(),
                    place: place(&base, &relative(location)?),
                    size: Some(package.size),
                    checksum: package.checksum,
                    also: None,
                    from: source.name.clone(),
                    package: None,
                }),
                None => wishes.push((
                    Wish {
                        nevra: package.nevra.clone(),
                        any_arch: false,
                        checksum: Some(package.checksum),
                        repository: Some(id.clone()),
                    },
                    source.name.clone(),
                )),
            }
        }
        Ok(wishes)
    }

    /// Reads a repository, and notes it.
    fn read(&mut self, request: &RepositoryRequest, context: &Context<'_>) -> Result<Indexed, SourceError> {
        let Context {
            keys, fetcher, store, ..
        } = context;
        let repository = Repository::read(&request.base, keys, request.must_be_signed, fetcher, store)?;
        self.repositories.push(ReadRepository {
            id: request.id.clone(),
            base: request.base.clone(),
            trust: repository.trust.clone(),
        });
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, listed) in repository.packages.iter().enumerate() {
            if !listed.is_source() {
                by_name.entry(listed.nevra.name.clone()).or_default().push(number);
            }
        }
        Ok(Indexed {
            name: request.base.to_string(),
            id: request.id.clone(),
            repository,
            by_name,
        })
    }

    /// Finds each package that is only named.
    fn look_up(
        &mut self,
        wishes: &[(Wish, String)],
        repositories: &[Indexed],
        context: &Context<'_>,
    ) -> Result<(), SourceError> {
        let mut missing = Vec::new();
        for (wish, source_name) in wishes {
            let fits = |listed: &Listed| {
                let arch = match wish.any_arch {
                    true => listed.nevra.arch.clone(),
                    false => wish.nevra.arch.clone(),
                };
                let nevra = Nevra {
                    arch,
                    ..wish.nevra.clone()
                };
                context.takes(&nevra.arch) && listed.nevra.same(&nevra)
            };
            let mut found: Option<(&Indexed, Wanted)> = None;
            let here = |one: &&Indexed| wish.repository.is_none() || one.id == wish.repository;
            for indexed in repositories.iter().filter(here) {
                for listed in indexed.named(&wish.nevra.name).filter(|listed| fits(listed)) {
                    let Some((first, kept)) = &mut found else {
                        found = Some((indexed, wanted(indexed, listed)?));
                        continue;
                    };
                    if kept.nevra.arch != listed.nevra.arch {
                        return Err(SourceError::Architectures {
                            package: format!("{}-{}", wish.nevra.name, wish.nevra.evr()),
                            first: kept.nevra.arch.clone(),
                            second: listed.nevra.arch.clone(),
                        });
                    }
                    if !listed.checksum().is_ok_and(|checksum| kept.unite(checksum)) {
                        return Err(SourceError::Ambiguous {
                            nevra: kept.nevra.to_string(),
                            first: first.name.clone(),
                            second: indexed.name.clone(),
                        });
                    }
                }
            }
            let Some((indexed, mut wanted)) = found else {
                let nearest = nearest(&wish.nevra, repositories);
                missing.push(Missing::new(wish.nevra.to_string(), &nearest));
                continue;
            };
            match wish.checksum {
                Some(pinned) if !wanted.unite(pinned) => {
                    let found: Vec<_> = wanted.checksums().map(|one| one.to_string()).collect();
                    return Err(SourceError::Pinned {
                        nevra: wanted.nevra.to_string(),
                        found: found.join(" and the "),
                        pinned: pinned.to_string(),
                        source_name: source_name.clone(),
                    });
                }
                // Its bytes are what the user's own file says: the repository need not be trusted.
                Some(_) => {}
                None => vouched(indexed, context)?,
            }
            wanted.from.clone_from(&indexed.name);
            self.wanted.push(wanted);
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(SourceError::Missing { missing }),
        }
    }

    /// Sorts, takes what several sources have in common once, and refuses contradictions.
    fn settle(&mut self) -> Result<(), SourceError> {
        // Stable: of two that are the same, the one named first stays.
        self.wanted.sort_by(|a, b| a.nevra.cmp(&b.nevra));
        let mut kept: Vec<Wanted> = Vec::with_capacity(self.wanted.len());
        for wanted in self.wanted.drain(..) {
            let mut before = kept
                .iter_mut()
                .rev()
                .take_while(|one| one.nevra.name == wanted.nevra.name);
            let Some(first) = before.find(|one| one.nevra.arch == wanted.nevra.arch) else {
                kept.push(wanted);
                continue;
            };
            if !first.nevra.same(&wanted.nevra) {
                return Err(SourceError::TwoVersions {
                    name: format!("{}.{}", wanted.nevra.name, wanted.nevra.arch),
                    first: first.place.to_string(),
                    second: wanted.place.to_string(),
                });
            }
            if !wanted.checksums().all(|checksum| first.unite(checksum)) {
                return Err(SourceError::Ambiguous {
                    nevra: wanted.nevra.to_string(),
                    first: first.place.to_string(),
                    second: wanted.place.to_string(),
                });
            }
        }
        self.wanted = kept;
        Ok(())
    }
}

impl Wanted {
    /// What its file has to have.
    pub(super) fn checksums(&self) -> impl Iterator<Item = Checksum> + use<> {
        [Some(self.checksum), self.also].into_iter().flatten()
    }

    /// Takes note that its file has to have `checksum` too; `false` where it cannot.
    fn unite(&mut self, checksum: Checksum) -> bool {
        let mut known = self.checksums();
        if let Some(known) = known.find(|known| known.is_like(&checksum)) {
            return known == checksum;
        }
        self.also = Some(checksum);
        true
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Local(url, _) => write!(f, "{url}"),
            Self::Remote(urls) => urls.first().map_or(Ok(()), |url| write!(f, "{url}")),
        }
    }
}

fn manifest_base(
    source: &Source,
    manifest: &Manifest,
    id: &str,
    variables: &Variables,
    fetcher: &Fetcher,
) -> Result<Base, SourceError> {
    let path = source.path.clone().unwrap_or_default();
    let problem = |problem: String| SourceError::Manifest {
        path: path.clone(),
        problem,
    };
    let way_out = format!("name its address: `--repo {id}=https://…`");
    let found = manifest
        .repositories
        .iter()
        .find(|repository| repository.id == id);
    let repository =
        found.ok_or_else(|| problem(format!("it does not describe the repository `{id}`; {way_out}")))?;
    let replaced = |text: &str| substitute(text, variables).map_err(|error| problem(error.to_string()));
    match (&repository.baseurl, &repository.mirrorlist, &repository.metalink) {
        (Some(url), _, _) => base_of(&[replaced(url)?]),
        (None, Some(list), _) => mirrors(&replaced(list)?, fetcher),
        (None, None, Some(_)) => Err(problem(format!(
            "its repository `{id}` has only a metalink, which is not read; {way_out}"
        ))),
        (None, None, None) => Err(problem(format!(
            "its repository `{id}` has no address; {way_out}"
        ))),
    }
}

/// The `.rpm` files of a directory, sorted.
fn rpm_files(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let io = |source| SourceError::Io {
        path: directory.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Refuses repodata that does not list what lies beside it.
fn stale(directory: &Path, listed: &[Listed]) -> Result<(), SourceError> {
    let known: BTreeSet<&str> = listed.iter().map(|listed| listed.location.as_str()).collect();
    let unlisted: Vec<String> = rpm_files(directory)?
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    match unlisted.is_empty() {
        true => Ok(()),
        false => Err(SourceError::Stale {
            directory: directory.to_owned(),
            files: unlisted,
        }),
    }
}
