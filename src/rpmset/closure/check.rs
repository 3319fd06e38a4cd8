//! Requires and Conflicts of a set, against what the set provides.

use std::collections::{BTreeSet, HashMap};

use super::{Dependency, Rich, parse};
use crate::formats::rpm::{Header, HeaderError, tag};

/// A dependency that does not hold, or a conflict that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// `name-version-release.arch` of the package that states it.
    pub wanted_by: String,
    pub dependency: String,
    /// What provides the same name in a version that does not fit.
    pub nearest: Option<String>,
}

/// What [`check`] finds; everything empty for a closed set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub open: Vec<Open>,
    pub conflicts: Vec<Open>,
}

struct Index<'a> {
    provides: HashMap<&'a [u8], Vec<(usize, Dependency<'a>)>>,
    files: HashMap<Vec<u8>, Vec<usize>>,
}

impl Index<'_> {
    fn plain(&self, wanted: &Dependency) -> BTreeSet<usize> {
        let fitting = self.provides.get(wanted.name).into_iter().flatten();
        let mut found: BTreeSet<usize> = fitting
            .filter(|(_, given)| given.overlaps(wanted))
            .map(|(at, _)| *at)
            .collect();
        if wanted.name.starts_with(b"/") {
            found.extend(self.files.get(wanted.name).into_iter().flatten());
        }
        found
    }

    /// The packages that satisfy `rich` as one (for `with` and `without`).
    fn packages(&self, rich: &Rich) -> BTreeSet<usize> {
        match rich {
            Rich::Plain(plain) => self.plain(plain),
            Rich::With(all) => {
                let mut sets = all.iter().map(|part| self.packages(part));
                let first = sets.next().unwrap_or_default();
                sets.fold(first, |found, set| &found & &set)
            }
            Rich::Without(pair) => &self.packages(&pair[0]) - &self.packages(&pair[1]),
            Rich::Or(all) => all.iter().flat_map(|part| self.packages(part)).collect(),
            _ => BTreeSet::new(),
        }
    }

    fn holds(&self, rich: &Rich) -> bool {
        match rich {
            Rich::Plain(plain) => !self.plain(plain).is_empty(),
            Rich::And(all) => all.iter().all(|part| self.holds(part)),
            Rich::Or(all) => all.iter().any(|part| self.holds(part)),
            Rich::With(_) | Rich::Without(_) => !self.packages(rich).is_empty(),
            Rich::If(pair, other) if self.holds(&pair[1]) => self.holds(&pair[0]),
            Rich::If(_, other) => other.as_ref().is_none_or(|other| self.holds(other)),
            Rich::Unless(pair, other) if self.holds(&pair[1]) => {
                other.as_ref().is_some_and(|other| self.holds(other))
            }
            Rich::Unless(pair, _) => self.holds(&pair[0]),
        }
    }
}

fn list(header: &Header, tags: [u32; 3]) -> Result<Vec<Dependency<'_>>, HeaderError> {
    let (flags, evrs) = (header.u32s(tags[1])?, header.strings(tags[2])?);
    let names = header.strings(tags[0])?.into_iter().enumerate();
    Ok(names
        .map(|(at, name)| Dependency {
            name,
            flags: flags.get(at).copied().unwrap_or(0),
            evr: evrs.get(at).copied().unwrap_or(b""),
        })
        .collect())
}

/// Checks the Requires and Conflicts of all `headers`. `rpmlib()` features are left to RPM.
///
/// # Errors
/// Where a dependency tag has a type that RPM does not give it.
pub fn check(headers: &[&Header]) -> Result<Report, HeaderError> {
    let mut index = Index {
        provides: HashMap::new(),
        files: HashMap::new(),
    };
    for (at, header) in headers.iter().enumerate() {
        for given in list(header, [tag::PROVIDENAME, tag::PROVIDEFLAGS, tag::PROVIDEVERSION])? {
            index.provides.entry(given.name).or_default().push((at, given));
        }
        let dirs = header.strings(tag::DIRNAMES)?;
        let names = header.strings(tag::BASENAMES)?;
        for (name, dir) in names.iter().zip(header.u32s(tag::DIRINDEXES)?) {
            if let Some(dir) = dirs.get(dir as usize) {
                index.files.entry([*dir, *name].concat()).or_default().push(at);
            }
        }
    }
    let mut report = Report::default();
    for (at, header) in headers.iter().enumerate() {
        let part = |tag| {
            header
                .string(tag)
                .map(|text| text.unwrap_or(b"?").escape_ascii().to_string())
        };
        let who = format!(
            "{}-{}-{}.{}",
            part(tag::NAME)?,
            part(tag::VERSION)?,
            part(tag::RELEASE)?,
            part(tag::ARCH)?
        );
        let open = |wanted: &Dependency| Open {
            wanted_by: who.clone(),
            dependency: wanted.text(),
            nearest: index
                .provides
                .get(wanted.name)
                .and_then(|all| all.first())
                .map(|(_, given)| given.text()),
        };
        for wanted in list(header, [tag::REQUIRENAME, tag::REQUIREFLAGS, tag::REQUIREVERSION])? {
            let holds = if wanted.name.starts_with(b"(") {
                parse(wanted.name).is_some_and(|rich| index.holds(&rich))
            } else {
                wanted.name.starts_with(b"rpmlib(") || !index.plain(&wanted).is_empty()
            };
            if !holds {
                report.open.push(open(&wanted));
            }
        }
        for wanted in list(
            header,
            [tag::CONFLICTNAME, tag::CONFLICTFLAGS, tag::CONFLICTVERSION],
        )? {
            let holds = if wanted.name.starts_with(b"(") {
                parse(wanted.name).is_none_or(|rich| index.holds(&rich))
            } else {
                index.plain(&wanted).iter().any(|&other| other != at)
            };
            if holds {
                report.conflicts.push(open(&wanted));
            }
        }
    }
    Ok(report)
}
