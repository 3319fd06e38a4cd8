//! What keeps packages from being installed together, for people to read.

use std::fmt;

use super::dependency::Dependency;
use super::nearest::Nearest;
use super::providers::{Asker, Providers};
use super::rich::{Expression, Malformed};
use crate::formats::rpm::tag::sense;

/// Packages that a message names before it counts the rest.
const NAMED: usize = 4;

/// A reason why the packages of a set cannot be installed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A requirement that nothing in the set satisfies.
    Open(Open),
    /// `package` excludes `conflict`, which is there.
    Conflict {
        package: String,
        conflict: String,
        /// Packages that provide it.
        with: Vec<String>,
    },
    /// RPM would leave `package` out in favour of `by`.
    Obsoleted {
        package: String,
        by: String,
        obsoletes: String,
    },
    /// Packages of one name, for one class of machine.
    Duplicate { name: String, packages: Vec<String> },
    /// Packages for another machine than the set.
    Architecture {
        arch: String,
        packages: Vec<String>,
        set: String,
    },
    /// An exception for a requirement that is not open.
    Unneeded { requires: String },
}

/// A requirement that nothing in the set satisfies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As RPM writes it: `name >= 1:2.0-3`.
    pub requirement: String,
    /// In the order of the set; each package once.
    pub wanted_by: Vec<Wanter>,
    /// What else there is to say of it, if anything.
    pub note: Option<String>,
    /// What comes nearest, in sentences.
    pub nearest: Vec<String>,
}

/// A package that wants something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanter {
    /// NEVRA.
    pub package: String,
    /// The scriptlets that need it (`pre`, `post` …), if it is not needed at run time.
    pub moments: Vec<&'static str>,
}

impl Wanter {
    /// Takes another of the package's requirements for the same: at run time, if one of them is.
    pub(super) fn add(&mut self, moments: &[&'static str]) {
        if moments.is_empty() {
            self.moments.clear();
        } else if !self.moments.is_empty() {
            let new = moments.iter().filter(|moment| !self.moments.contains(moment));
            let new: Vec<_> = new.copied().collect();
            self.moments.extend(new);
        }
    }
}

impl Open {
    pub(super) fn new<'a>(
        providers: &Providers<'a>,
        nearest: &mut Nearest<'a>,
        wanted: &Dependency<'a>,
        wanted_by: Vec<Wanter>,
        malformed: Option<Malformed>,
    ) -> Self {
        let mut open = Self {
            requirement: wanted.to_string(),
            wanted_by,
            note: None,
            nearest: Vec::new(),
        };
        if let Some(malformed) = malformed {
            open.note = Some(format!("it cannot be read: {malformed}"));
        } else if wanted.has(sense::PRETRANS | sense::PREUNTRANS) {
            let note = "it is needed before the first package is installed, when a new image has nothing";
            open.note = Some(note.to_owned());
        } else if wanted.has(sense::RPMLIB) {
            open.note = Some("that is a feature of RPM which this program does not have".to_owned());
            open.nearest = nearest.to(wanted, providers);
        } else if wanted.is_rich() {
            let mut absent = Vec::new();
            if let Ok(expression) = Expression::parse(wanted) {
                expression.each(&mut |part| {
                    if !providers.provided(part, Asker::Requires) && !absent.contains(part) {
                        absent.push(*part);
                    }
                });
            }
            let names: Vec<_> = absent.iter().map(|part| format!("`{part}`")).collect();
            open.note = (!names.is_empty()).then(|| format!("the set lacks {}", names.join(", ")));
            if let [part] = absent[..] {
                open.nearest = nearest.to(&part, providers);
            }
        } else {
            open.nearest = nearest.to(wanted, providers);
        }
        open
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirement.starts_with('(') {
            write!(f, "`{}` does not hold", self.requirement)?;
        } else {
            write!(f, "nothing provides `{}`", self.requirement)?;
        }
        let wanters: Vec<_> = self.wanted_by.iter().map(Wanter::to_string).collect();
        match &wanters[..] {
            [] => {}
            [one] => write!(f, ", which {one} needs")?,
            many => write!(f, ", which {} need", enumerate(many))?,
        }
        if let Some(note) = &self.note {
            write!(f, "; {note}")?;
        }
        if !self.nearest.is_empty() {
            write!(f, "; {}", self.nearest.join(", "))?;
        }
        Ok(())
    }
}

/// `a, b, c, d and 7 others`.
fn enumerate(packages: &[String]) -> String {
    match packages {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] if packages.len() <= NAMED => format!("{} and {last}", init.join(", ")),
        _ => format!(
            "{} and {} others",
            packages[..NAMED].join(", "),
            packages.len() - NAMED
        ),
    }
}

impl fmt::Display for Wanter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.moments[..] {
            [] => f.write_str(&self.package),
            moments => write!(f, "{} (for {})", self.package, moments.join(", ")),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Conflict {
                package,
                conflict,
                with,
            } => {
                write!(f, "{package} conflicts with `{conflict}`")?;
                match &with[..] {
                    [] => Ok(()),
                    with => write!(f, ", which {} provides", enumerate(with)),
                }
            }
            Self::Obsoleted {
                package,
                by,
                obsoletes,
            } => write!(f, "{by} takes the place of {package}: it obsoletes `{obsoletes}`"),
            Self::Duplicate { name, packages } => {
                write!(
                    f,
                    "the set holds `{name}` more than once: {}",
                    enumerate(packages)
                )
            }
            Self::Architecture { arch, packages, set } => write!(
                f,
                "{} for {arch}, most packages of the set for {set}",
                match &packages[..] {
                    [one] => format!("{one} is"),
                    many => format!("{} are", enumerate(many)),
                }
            ),
            Self::Unneeded { requires } => {
                write!(
                    f,
                    "`{requires}` is excepted under `[[rpms.open]]`, and is not open"
                )
            }
        }
    }
}

impl std::error::Error for Problem {}

impl miette::Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        // What helps against an open requirement is said once, for all of them.
        let help = match self {
            Self::Open(_) => return None,
            Self::Conflict { .. } => {
                "leave one of them out: their makers know that they do not work together"
            }
            Self::Obsoleted { .. } => "leave the obsoleted package out, as dnf would",
            Self::Duplicate { .. } => "leave all but one out: an image holds one version of a package",
            Self::Architecture { .. } => "take the packages built for the machine that the image is for",
            Self::Unneeded { .. } => {
                "leave the exception out, or write the requirement as it stands in the package"
            }
        };
        Some(Box::new(help))
    }
}

/// A set that cannot be installed as it is.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the set is not closed: {}", summary(problems))]
#[diagnostic(help("{}", way_out(problems)))]
pub struct NotClosed {
    #[related]
    pub problems: Vec<Problem>,
}

/// `3 requirements are open, 1 conflict`.
fn summary(problems: &[Problem]) -> String {
    let count = |is: fn(&Problem) -> bool, one: &str, many: &str| match problems
        .iter()
        .filter(|problem| is(problem))
        .count()
    {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let parts = [
        count(
            |p| matches!(p, Problem::Open(_)),
            "requirement is open",
            "requirements are open",
        ),
        count(|p| matches!(p, Problem::Conflict { .. }), "conflict", "conflicts"),
        count(
            |p| matches!(p, Problem::Obsoleted { .. }),
            "package is obsoleted by another",
            "packages are obsoleted by others",
        ),
        count(
            |p| matches!(p, Problem::Duplicate { .. }),
            "name is there twice",
            "names are there twice",
        ),
        count(
            |p| matches!(p, Problem::Architecture { .. }),
            "foreign architecture",
            "foreign architectures",
        ),
        count(
            |p| matches!(p, Problem::Unneeded { .. }),
            "exception is not needed",
            "exceptions are not needed",
        ),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn way_out(problems: &[Problem]) -> &'static str {
    if problems.iter().any(|problem| matches!(problem, Problem::Open(_))) {
        "add packages that provide what is missing (`dnf5 download --resolve` fetches them); a requirement that may \
         stay open gets an entry `[[rpms.open]]` with `requires`, written as above, and a `reason`"
    } else {
        "take a set that a package manager has resolved, for instance by `dnf5 download --resolve`"
    }
}

/// A requirement that may stay open, by the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// As RPM writes it: `name >= 1:2.0-3`.
    pub requires: String,
    pub reason: String,
}

/// Takes `exceptions` from `problems`; gives the open requirements that are let pass, each with its reason.
///
/// # Errors
/// Where problems remain, or an exception is not needed.
pub fn except(problems: Vec<Problem>, exceptions: &[Exception]) -> Result<Vec<(Open, String)>, NotClosed> {
    let mut passed = Vec::new();
    let mut left = Vec::new();
    let written = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut needed = vec![false; exceptions.len()];
    for problem in problems {
        let Problem::Open(open) = problem else {
            left.push(problem);
            continue;
        };
        let excused = exceptions
            .iter()
            .position(|exception| written(&exception.requires) == written(&open.requirement));
        match excused {
            Some(index) => {
                needed[index] = true;
                passed.push((open, exceptions[index].reason.clone()));
            }
            None => left.push(Problem::Open(open)),
        }
    }
    let unneeded = exceptions.iter().zip(needed).filter(|(_, needed)| !needed);
    left.extend(unneeded.map(|(exception, _)| Problem::Unneeded {
        requires: exception.requires.clone(),
    }));
    if left.is_empty() {
        Ok(passed)
    } else {
        Err(NotClosed { problems: left })
    }
}
