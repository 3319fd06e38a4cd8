//! A repository whose packages are looked up by name.

use std::collections::BTreeMap;

use super::{Context, Place, Wanted};
use crate::rpmset::Nevra;
use crate::rpmset::repo::{Base, Listed, ListedBase, Repository, Trust};
use crate::rpmset::source::SourceError;

/// A repository with its packages by name.
pub(super) struct Indexed {
    /// Its address.
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) repository: Repository,
    pub(super) by_name: BTreeMap<String, Vec<usize>>,
}

impl Indexed {
    /// Its packages of that name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Listed> {
        let numbers = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        numbers.iter().map(|&number| &self.repository.packages[number])
    }
}

/// Whether something vouches for what the repository lists: its own signature, the keys that its packages will be
/// held against, the user, or that it lies on this machine.
pub(super) fn vouched(indexed: &Indexed, context: &Context<'_>) -> Result<(), SourceError> {
    let why = match &indexed.repository.trust {
        Trust::Signed(_) => return Ok(()),
        Trust::Unchecked => "is signed, but that was not checked",
        Trust::Unsigned => "is not signed",
    };
    let name = indexed.name.trim_end_matches('/');
    let named = |one: &String| one.trim_end_matches('/') == name || indexed.id.as_ref() == Some(one);
    let base = &indexed.repository.base;
    if !context.strict || !context.keys.is_empty() || base.is_local() || context.unsigned.iter().any(named) {
        return Ok(());
    }
    Err(SourceError::Untrusted {
        repository: indexed.name.clone(),
        why,
    })
}

/// The package `listed`, wanted from the repository.
pub(super) fn wanted(indexed: &Indexed, listed: &Listed) -> Result<Wanted, SourceError> {
    let base = &indexed.repository.base;
    let place = match &listed.base {
        None => place(base, &listed.location),
        Some(ListedBase::Url(url)) => Place::Remote(vec![url.join(&listed.location)]),
        Some(ListedBase::Path(path)) => place(base, &format!("{path}/{}", listed.location)),
    };
    let checksum = listed.checksum().map_err(|problem| SourceError::Checksum {
        nevra: listed.nevra.to_string(),
        repository: indexed.name.clone(),
        problem,
    })?;
    Ok(Wanted {
        nevra: listed.nevra.clone(),
        place,
        size: Some(listed.size),
        checksum,
        also: None,
        from: indexed.name.clone(),
        package: None,
    })
}

/// Where `path`, below `base`, lies.
pub(super) fn place(base: &Base, path: &str) -> Place {
    match base {
        Base::Directory(directory) => Place::File(directory.join(path)),
        Base::Urls(urls) => {
            let urls: Vec<_> = urls.iter().map(|url| url.join(path)).collect();
            let local = urls.first().and_then(|url| Some((url.clone(), url.local()?)));
            match local {
                Some((url, path)) => Place::Local(url, path),
                // What lies here is no mirror of what lies elsewhere.
                None => Place::Remote(urls.into_iter().filter(|url| url.local().is_none()).collect()),
            }
        }
    }
}

/// Other builds of what was not found, or packages whose names are most like its.
pub(super) fn nearest<'a>(wanted: &Nevra, repositories: &'a [Indexed]) -> Vec<&'a Nevra> {
    const SHOWN: usize = 3;
    let mut builds: Vec<&Nevra> = repositories
        .iter()
        .flat_map(|one| one.named(&wanted.name))
        .map(|listed| &listed.nevra)
        .collect();
    builds.sort();
    builds.dedup();
    if !builds.is_empty() {
        return builds.into_iter().rev().take(SHOWN).collect();
    }
    let mut names: Vec<(usize, &str, &Indexed)> = Vec::new();
    for one in repositories {
        for name in one.by_name.keys() {
            let distance = strsim::damerau_levenshtein(name, &wanted.name);
            if distance * 3 <= wanted.name.len() {
                names.push((distance, name, one));
            }
        }
    }
    names.sort_by_key(|(distance, name, _)| (*distance, *name));
    let newest =
        |(_, name, one): &(usize, &str, &'a Indexed)| one.named(name).map(|listed| &listed.nevra).max();
    names.iter().take(SHOWN).filter_map(newest).collect()
}
