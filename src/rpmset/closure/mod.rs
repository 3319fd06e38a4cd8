//! Whether a set of packages is closed: everything that a package requires is there, and nothing excludes another.
//!
//! The verdicts are those of `rpm --install --test` in an empty root. Nothing is solved: the set is taken as it is.
//! What RPM does silently, leaving out a package that another one obsoletes, is a problem here. File dependencies are
//! held against the set's own links, as RPM does where the links are there already.

mod dependency;
mod files;
mod member;
mod nearest;
mod problem;
mod providers;
pub(crate) mod rich;
mod rpmlib;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

pub use dependency::{Dependency, List, ListError};
pub use problem::{Exception, NotClosed, Open, Problem, Wanter, except};

use self::member::Member;
use self::nearest::Nearest;
use self::providers::{Asker, Providers};
use self::rich::Expression;
use crate::formats::rpm::Header;
use crate::formats::rpm::tag::{self, sense};

/// How a set is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The packages are installed already, as in an rpmdb: what only their installation needed may be gone, and one
    /// package may be there in several versions.
    pub installed: bool,
    /// What packages mark as documentation is left out of the image.
    pub without_docs: bool,
}

/// A set cannot be checked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClosureError {
    #[error("{package}: {problem}")]
    #[diagnostic(help("the package is malformed: fetch it again, or have it rebuilt by its maker"))]
    Header {
        package: String,
        #[source]
        problem: ListError,
    },
    #[error(
        "its packages provide and require the same names in so many versions that comparing them has no end"
    )]
    #[diagnostic(help(
        "look for a package with hundreds of thousands of dependencies: no real one has them"
    ))]
    TooMany,
}

/// All that keeps the packages with `headers` from being installed together, in a stable order.
///
/// # Errors
/// Where lists of a header do not fit each other.
pub fn check(headers: &[&Header], options: Options) -> Result<Vec<Problem>, ClosureError> {
    let members = members(headers)?;
    let providers = index(&members, options.without_docs)?;
    let mut problems = Vec::new();
    architectures(&members, &mut problems);
    if !options.installed {
        duplicates(&members, &mut problems);
    }
    obsoletes(&providers, &mut problems);
    conflicts(&providers, options, &mut problems);
    requires(&providers, options, &mut problems);
    match providers.is_exhausted() {
        true => Err(ClosureError::TooMany),
        false => Ok(problems),
    }
}

/// What can be said of `wanted`, which is not rich, where no package with one of `headers` provides it; `None` where
/// one does.
///
/// # Errors
/// Where lists of a header do not fit each other.
pub fn lacking<'a>(headers: &[&'a Header], wanted: &Dependency<'a>) -> Result<Option<Open>, ClosureError> {
    let members = members(headers)?;
    let providers =
        Providers::new(&members, &[wanted.name], false).map_err(|error| named(&members, error))?;
    let there = providers.provided(wanted, Asker::Requires);
    Ok((!there).then(|| Open::new(&providers, &mut Nearest::default(), wanted, Vec::new(), None)))
}

fn members<'a>(headers: &[&'a Header]) -> Result<Vec<Member<'a>>, ClosureError> {
    let read = |header: &&'a Header| {
        Member::read(header).map_err(|problem| {
            let name = header.string(tag::NAME);
            let name = name.ok().flatten().unwrap_or(b"a package");
            ClosureError::Header {
                package: name.escape_ascii().to_string(),
                problem,
            }
        })
    };
    headers.iter().map(read).collect()
}

fn named(members: &[Member<'_>], (number, problem): (usize, ListError)) -> ClosureError {
    ClosureError::Header {
        package: members[number].nevra(),
        problem,
    }
}

/// The index of what `members` provide, with the files that any of them asks for.
fn index<'a>(members: &'a [Member<'a>], without_docs: bool) -> Result<Providers<'a>, ClosureError> {
    let mut paths: Vec<&[u8]> = Vec::new();
    for dependency in members
        .iter()
        .flat_map(|member| member.requires.iter().chain(&member.conflicts))
    {
        if dependency.is_file() {
            paths.push(dependency.name);
        } else if dependency.is_rich()
            && let Ok(expression) = Expression::parse(dependency)
        {
            expression.each(&mut |part| {
                if part.is_file() {
                    paths.push(part.name);
                }
            });
        }
    }
    Providers::new(members, &paths, without_docs).map_err(|error| named(members, error))
}

fn requires<'a>(providers: &Providers<'a>, options: Options, problems: &mut Vec<Problem>) {
    /// A requirement that is open.
    struct Wanted<'a> {
        dependency: Dependency<'a>,
        by: Vec<Wanter>,
        malformed: Option<rich::Malformed>,
    }
    // By name and range: when it is needed does not make it another requirement.
    let mut open: BTreeMap<Dependency<'a>, Wanted<'a>> = BTreeMap::new();
    let mut verdicts: HashMap<Dependency<'a>, Result<bool, rich::Malformed>> = HashMap::new();
    for member in providers.members {
        for wanted in &member.requires {
            let weak = wanted.has(sense::MISSINGOK) && !wanted.is_rich();
            if weak || (options.installed && wanted.is_transient() && !wanted.has(sense::RPMLIB)) {
                continue;
            }
            let verdict = verdicts
                .entry(*wanted)
                .or_insert_with(|| providers.satisfy(wanted, Asker::Requires));
            let malformed = match verdict {
                Ok(true) => continue,
                // RPM lets what is installed already be.
                Err(_) if options.installed => continue,
                Ok(false) => None,
                Err(malformed) => Some(*malformed),
            };
            let key = Dependency {
                flags: wanted.flags & sense::COMPARISON,
                ..*wanted
            };
            let entry = open.entry(key).or_insert_with(|| Wanted {
                dependency: *wanted,
                by: Vec::new(),
                malformed,
            });
            let (package, moments) = (member.nevra(), wanted.moments());
            match entry.by.last_mut() {
                Some(last) if last.package == package => last.add(&moments),
                _ => entry.by.push(Wanter { package, moments }),
            }
        }
    }
    let mut nearest = Nearest::default();
    for wanted in open.into_values() {
        let Wanted {
            dependency,
            by,
            malformed,
        } = wanted;
        let open = Open::new(providers, &mut nearest, &dependency, by, malformed);
        problems.push(Problem::Open(open));
    }
}

fn conflicts<'a>(providers: &Providers<'a>, options: Options, problems: &mut Vec<Problem>) {
    for (number, member) in providers.members.iter().enumerate() {
        for excluded in &member.conflicts {
            let with = match providers.satisfy(excluded, Asker::Conflicts(number)) {
                Ok(false) => continue,
                Err(_) if options.installed => continue,
                Ok(true) if !excluded.is_rich() => providers.of(excluded, Asker::Conflicts(number)),
                // Which packages make an expression true, it says itself. One that cannot be read is held to be true,
                // as RPM does.
                Ok(true) | Err(_) => Vec::new(),
            };
            let with = with.iter().map(|&other| providers.members[other].nevra());
            let problem = Problem::Conflict {
                package: member.nevra(),
                conflict: excluded.to_string(),
                with: with.collect(),
            };
            if problems.last() != Some(&problem) {
                problems.push(problem);
            }
        }
    }
}

fn obsoletes(providers: &Providers<'_>, problems: &mut Vec<Problem>) {
    for (number, member) in providers.members.iter().enumerate() {
        for obsolete in &member.obsoletes {
            for &other in providers.called(obsolete.name) {
                let obsoleted = &providers.members[other];
                let this = Dependency {
                    name: obsoleted.name,
                    evr: &obsoleted.evr,
                    flags: sense::EQUAL,
                };
                if other != number && providers.overlap(&this, obsolete) {
                    problems.push(Problem::Obsoleted {
                        package: obsoleted.nevra(),
                        by: member.nevra(),
                        obsoletes: obsolete.to_string(),
                    });
                }
            }
        }
    }
}

/// Packages of one name, unless they are for different classes of one machine (`i686` beside `x86_64`).
fn duplicates(members: &[Member<'_>], problems: &mut Vec<Problem>) {
    let mut named: BTreeMap<&[u8], Vec<&Member<'_>>> = BTreeMap::new();
    for member in members {
        named.entry(member.name).or_default().push(member);
    }
    for (name, packages) in named {
        // A public key is a package of its own in every version.
        if name == b"gpg-pubkey" {
            continue;
        }
        let mut classes: Vec<_> = packages.iter().map(|member| Class::of(member.arch)).collect();
        classes.sort();
        let exclude = classes
            .windows(2)
            .any(|pair| pair[0] == pair[1] || pair[0] == Class::None);
        if exclude {
            problems.push(Problem::Duplicate {
                name: name.escape_ascii().to_string(),
                packages: packages.iter().map(|member| member.nevra()).collect(),
            });
        }
    }
}

/// Bits of a machine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Of no architecture, hence beside none.
    None,
    Bits32,
    Bits64,
}

impl Class {
    fn of(arch: &[u8]) -> Self {
        match arch {
            b"" | b"noarch" => Self::None,
            b"i386" | b"i486" | b"i586" | b"i686" | b"athlon" => Self::Bits32,
            _ => Self::Bits64,
        }
    }
}

/// The architecture of machines that run packages for `arch`; itself where nothing else is known.
pub fn architecture(arch: &[u8]) -> &[u8] {
    match arch {
        b"x86_64" | b"amd64" | b"x86_64_v2" | b"x86_64_v3" | b"x86_64_v4" | b"i386" | b"i486" | b"i586"
        | b"i686" | b"athlon" => b"x86_64",
        _ => arch,
    }
}

/// Packages for another machine than most of the set are for.
fn architectures(members: &[Member<'_>], problems: &mut Vec<Problem>) {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for member in members {
        if !matches!(member.arch, b"" | b"noarch") {
            *counts.entry(architecture(member.arch)).or_insert(0) += 1;
        }
    }
    let most = counts.iter().max_by_key(|(_, count)| **count);
    let Some((&most, _)) = most else { return };
    for (&arch, _) in counts.iter().filter(|(arch, _)| **arch != most) {
        let foreign = members.iter().filter(|member| architecture(member.arch) == arch);
        problems.push(Problem::Architecture {
            arch: arch.escape_ascii().to_string(),
            packages: foreign.map(Member::nevra).collect(),
            set: most.escape_ascii().to_string(),
        });
    }
}
