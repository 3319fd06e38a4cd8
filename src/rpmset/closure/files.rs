//! Which package has the file that a dependency names.
//!
//! RPM compares directories by what they are, not by how they are written: where `/bin` is a link to `/usr/bin`, a
//! package with `/usr/bin/sh` satisfies `/bin/sh`. The links are those of the set, as they will be in the image.

use std::collections::{HashMap, HashSet};

use super::dependency::ListError;
use super::member::{File, Member};

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// Linux's `PATH_MAX`, in bytes.
const MAX_PATH: usize = 4096;

/// The files that dependencies name.
#[derive(Debug, Default)]
pub struct Files<'a> {
    /// Numbers of packages by path without links, ascending.
    owners: HashMap<Vec<u8>, Vec<usize>>,
    /// Packages and directories by the last component.
    named: HashMap<&'a [u8], Vec<(usize, &'a [u8])>>,
    links: Links<'a>,
}

/// Targets of symbolic links by their paths.
type Links<'a> = HashMap<Vec<u8>, &'a [u8]>;

impl<'a> Files<'a> {
    /// Looks for the files at `wanted` paths in `members`.
    ///
    /// # Errors
    /// Where a file list cannot be read; with the number of its package.
    pub fn find(
        members: &[Member<'a>],
        wanted: &[&'a [u8]],
        without_docs: bool,
    ) -> Result<Self, (usize, ListError)> {
        let names: HashSet<&[u8]> = wanted.iter().map(|path| split(path).1).collect();
        let mut files = Self::default();
        for (number, member) in members.iter().enumerate() {
            let visit = &mut |file: File<'a>| {
                if names.contains(file.name) {
                    let places = files.named.entry(file.name).or_default();
                    places.push((number, file.directory));
                }
                if let Some(target) = file.target {
                    files.links.insert([file.directory, file.name].concat(), target);
                }
            };
            member
                .each_file(without_docs, visit)
                .map_err(|error| (number, error))?;
        }
        let mut resolved: HashMap<&[u8], Vec<u8>> = HashMap::new();
        for (name, places) in &files.named {
            for (number, directory) in places {
                let directory = resolved
                    .entry(directory)
                    .or_insert_with(|| resolve(&files.links, directory));
                let path = [directory, b"/".as_slice(), name].concat();
                let owners = files.owners.entry(path).or_default();
                if owners.last() != Some(number) {
                    owners.push(*number);
                }
            }
        }
        Ok(files)
    }

    /// Numbers of the packages that have a file at `path`, ascending, each once. `path` must be one of those that were
    /// wanted.
    pub fn at(&self, path: &[u8]) -> &[usize] {
        let (directory, name) = split(path);
        let path = [resolve(&self.links, directory).as_slice(), b"/", name].concat();
        self.owners.get(&path).map_or(&[], Vec::as_slice)
    }

    /// Packages that have a file with the last component of `path`, wherever it is, with that place.
    pub fn elsewhere(&self, path: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let name = split(path).1.to_vec();
        let places = self.named.get(name.as_slice()).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(move |(number, directory)| (*number, [directory, name.as_slice()].concat()))
    }
}

/// The directory at `path` without links and without `/` at its end; as it is written, where links lead in a circle or to
/// paths that no system has.
fn resolve(links: &Links<'_>, path: &[u8]) -> Vec<u8> {
    let as_written = || path.strip_suffix(b"/").unwrap_or(path).to_vec();
    let mut found: Vec<u8> = Vec::with_capacity(path.len().min(MAX_PATH));
    let mut rest = reversed(path);
    let mut followed = 0;
    while let Some(component) = rest.pop() {
        match component {
            b"" | b"." => {}
            b".." => found.truncate(found.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            component => {
                let parent = found.len();
                found.push(b'/');
                found.extend(component);
                if found.len() > MAX_PATH {
                    return as_written();
                }
                let Some(target) = links.get(&found) else {
                    continue;
                };
                followed += 1;
                if followed > MAX_LINKS || target.len() > MAX_PATH {
                    return as_written();
                }
                found.truncate(if target.starts_with(b"/") { 0 } else { parent });
                rest.extend(reversed(target));
            }
        }
    }
    found
}

/// Components, the first at the end.
fn reversed(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').rev().collect()
}

/// Directory with its last `/`, and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    path.split_at(slash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_as_far_as_a_system_would() {
        let mut links = Links::new();
        for (path, target) in [
            (&b"/bin"[..], &b"usr/bin"[..]),
            (b"/usr/bin", b"/usr/./x/../real"),
            (b"/circle", b"circle"),
        ] {
            links.insert(path.to_vec(), target);
        }
        let long = [b"/bin".as_slice(), b"/aaaa".repeat(1000).as_slice()].concat();
        let short = [b"/bin".as_slice(), b"/aaaa".repeat(100).as_slice()].concat();
        for (path, expected) in [
            (&b"/bin/"[..], &b"/usr/real"[..]),
            (b"/../bin/y", b"/usr/real/y"),
            (b"/circle/y/", b"/circle/y"),
            (&long, &long),
            (&short, &[b"/usr/real".as_slice(), &short[4..]].concat()),
        ] {
            assert_eq!(resolve(&links, path), expected, "{}", path.escape_ascii());
        }
    }
}
