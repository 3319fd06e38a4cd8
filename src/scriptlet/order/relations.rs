//! Who must be installed before whom: every dependency of a set, resolved to the package that RPM would take for it.

use std::collections::HashMap;

use super::sort::Graph;
use crate::formats::rpm::tag::{self, sense};
use crate::formats::rpm::{Header, HeaderError};
use crate::rpmset::Package;
use crate::rpmset::closure::rich::{Expression, Operator};
use crate::rpmset::closure::{Dependency, List, ListError};

/// Dependencies that decide the order cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{package}: {problem}")]
#[diagnostic(help("the package is malformed: fetch it again, or have it rebuilt by its maker"))]
pub struct OrderError {
    package: String,
    problem: ListError,
}

/// What RPM prefers on both architectures (`_prefer_color`): 64-bit ELF.
pub(super) const PREFERRED: u32 = 2;

/// Wishes that RPM orders by, after Requires; the last are hints for the order alone. Of those marked, the package that
/// has them goes first.
const WISHES: [([u32; 3], bool, bool); 5] = [
    (
        [tag::RECOMMENDNAME, tag::RECOMMENDVERSION, tag::RECOMMENDFLAGS],
        false,
        true,
    ),
    (
        [tag::SUGGESTNAME, tag::SUGGESTVERSION, tag::SUGGESTFLAGS],
        false,
        true,
    ),
    (
        [tag::SUPPLEMENTNAME, tag::SUPPLEMENTVERSION, tag::SUPPLEMENTFLAGS],
        true,
        true,
    ),
    (
        [tag::ENHANCENAME, tag::ENHANCEVERSION, tag::ENHANCEFLAGS],
        true,
        true,
    ),
    ([tag::ORDERNAME, tag::ORDERVERSION, tag::ORDERFLAGS], false, false),
];

/// One dependency on its way to a relation.
#[derive(Clone, Copy)]
struct Wish {
    /// ELF classes of the files that need it.
    color: u32,
    /// The other way round: Supplements and Enhances.
    reversed: bool,
    weak: bool,
}

/// Packages by what they provide and by their files.
struct Available<'a> {
    provides: HashMap<&'a [u8], Vec<(usize, Dependency<'a>)>>,
    files: HashMap<&'a [u8], Vec<usize>>,
    colors: Vec<u32>,
}

/// The relations of `packages`, in the order in which RPM finds them.
pub(super) fn graph(packages: &[Package]) -> Result<Graph, OrderError> {
    let at = |package: &Package| {
        let package = package.nevra.to_string();
        move |problem| OrderError { package, problem }
    };
    let available = Available::of(packages).map_err(|(index, problem)| at(&packages[index])(problem))?;
    let mut graph = Graph::new(available.colors.clone());
    for (index, package) in packages.iter().enumerate() {
        let header = &package.preamble.header;
        let failed = at(package);
        let relate = || -> Result<(), ListError> {
            let colors = dependency_colors(header)?;
            for (number, dependency) in Dependency::list(header, List::Requires)?.iter().enumerate() {
                let wish = Wish {
                    color: colors.get(&number).copied().unwrap_or(0),
                    reversed: false,
                    weak: false,
                };
                add(&mut graph, &available, index, dependency, wish);
            }
            for (tags, reversed, weak) in WISHES {
                let wish = Wish {
                    color: 0,
                    reversed,
                    weak,
                };
                for dependency in list(header, tags)? {
                    add(&mut graph, &available, index, &dependency, wish);
                }
            }
            Ok(())
        };
        let mut relate = relate;
        relate().map_err(failed)?;
    }
    Ok(graph)
}

/// A list that RPM takes for empty where its parts differ in number.
fn list(header: &Header, [names, versions, flags]: [u32; 3]) -> Result<Vec<Dependency<'_>>, HeaderError> {
    let names = header.strings(names)?;
    let (versions, flags) = (header.strings(versions)?, header.u32s(flags)?);
    if versions.len() != names.len() || flags.len() != names.len() {
        return Ok(Vec::new());
    }
    let parts = names.into_iter().zip(versions).zip(flags);
    Ok(parts
        .map(|((name, evr), flags)| Dependency { name, evr, flags })
        .collect())
}

/// ELF classes by the number of a Requires: of all files that need it.
fn dependency_colors(header: &Header) -> Result<HashMap<usize, u32>, HeaderError> {
    let colors = header.u32s(tag::FILECOLORS)?;
    let (starts, counts) = (header.u32s(tag::FILEDEPENDSX)?, header.u32s(tag::FILEDEPENDSN)?);
    let dictionary = header.u32s(tag::DEPENDSDICT)?;
    let mut found = HashMap::new();
    for ((&color, &start), &count) in colors.iter().zip(&starts).zip(&counts) {
        if color == 0 {
            continue;
        }
        let entries = dictionary.iter().skip(start as usize).take(count as usize);
        for &entry in entries {
            // The kind of list in the upper byte.
            if entry >> 24 == u32::from(b'R') {
                *found.entry((entry & 0x00ff_ffff) as usize).or_insert(0) |= color;
            }
        }
    }
    Ok(found)
}

impl<'a> Available<'a> {
    fn of(packages: &'a [Package]) -> Result<Self, (usize, ListError)> {
        let mut available = Self {
            provides: HashMap::new(),
            files: HashMap::new(),
            colors: Vec::with_capacity(packages.len()),
        };
        for (index, package) in packages.iter().enumerate() {
            let header = &package.preamble.header;
            let provides = Dependency::list(header, List::Provides).map_err(|problem| (index, problem))?;
            for dependency in provides {
                let list = available.provides.entry(dependency.name).or_default();
                list.push((index, dependency));
            }
            let mut color = 0;
            for file in &package.files {
                color |= file.color;
                let list = available.files.entry(file.path.as_bytes()).or_default();
                list.push(index);
            }
            available.colors.push(color & 0x0f);
        }
        Ok(available)
    }

    /// The package that RPM takes to satisfy `dependency` of package `wanter`.
    fn provider(&self, wanter: usize, dependency: &Dependency<'_>, color: u32) -> Option<usize> {
        let mut found = Vec::new();
        if dependency.is_file() {
            found.extend(self.files.get(dependency.name).into_iter().flatten().copied());
        }
        if found.is_empty() {
            let list = self.provides.get(dependency.name)?;
            let fitting = list.iter().filter(|(_, provided)| provided.overlaps(dependency));
            found.extend(fitting.map(|(index, _)| *index));
        }
        let score = |&index: &usize| {
            let wanted = if color == 0 { PREFERRED } else { color };
            2 * usize::from(self.colors[index] == wanted) + usize::from(index == wanter)
        };
        // The first of the best.
        found.iter().copied().rev().max_by_key(score)
    }
}

fn add(
    graph: &mut Graph,
    available: &Available<'_>,
    package: usize,
    dependency: &Dependency<'_>,
    wish: Wish,
) {
    const UNORDERED: u32 = sense::RPMLIB
        | sense::CONFIG
        | sense::PRETRANS
        | sense::POSTTRANS
        | sense::SCRIPT_VERIFY
        | sense::META;
    const FORCED: u32 = sense::SCRIPT_PRE | sense::SCRIPT_POST | sense::SCRIPT_PREUN | sense::SCRIPT_POSTUN;
    if dependency.has(UNORDERED) && !dependency.has(FORCED) {
        return;
    }
    if dependency.is_rich() {
        // What RPM cannot read, it passes over.
        if let Ok(expression) = Expression::parse(dependency) {
            add_rich(graph, available, package, &expression, wish);
        }
        return;
    }
    if let Some(provider) = available.provider(package, dependency, wish.color)
        && provider != package
    {
        add_single(graph, package, provider, dependency.flags, wish);
    }
}

fn add_rich(
    graph: &mut Graph,
    available: &Available<'_>,
    package: usize,
    expression: &Expression<'_>,
    wish: Wish,
) {
    match expression {
        Expression::Single(dependency) => add(graph, available, package, dependency, wish),
        Expression::Chain(Operator::And | Operator::Or, operands) => {
            for operand in operands {
                add_rich(graph, available, package, operand, wish);
            }
        }
        // Of the others RPM heeds the first operand.
        Expression::Chain(_, operands) => {
            if let Some(first) = operands.first() {
                add_rich(graph, available, package, first, wish);
            }
        }
        Expression::Conditional { then, .. } => add_rich(graph, available, package, then, wish),
    }
}

fn add_single(graph: &mut Graph, package: usize, provider: usize, flags: u32, wish: Wish) {
    const INSTALL: u32 = sense::SCRIPT_PRE
        | sense::SCRIPT_POST
        | sense::RPMLIB
        | sense::KEYRING
        | sense::PRETRANS
        | sense::POSTTRANS;
    const ALL_REQUIRES: u32 = sense::INTERP
        | sense::SCRIPT_PRE
        | sense::SCRIPT_POST
        | sense::SCRIPT_PREUN
        | sense::SCRIPT_POSTUN
        | sense::SCRIPT_VERIFY
        | 1 << 14
        | 1 << 15
        | sense::RPMLIB
        | sense::KEYRING
        | sense::PRETRANS
        | sense::POSTTRANS
        | sense::PREREQ
        | sense::META
        | sense::MISSINGOK;
    let mut needed = flags & INSTALL;
    if flags & ALL_REQUIRES == sense::PREREQ {
        needed |= sense::SCRIPT_PRE;
    }
    if wish.weak {
        // A wish of a scriptlet orders; any other is left alone, lest it tangle loops.
        if needed == 0 {
            return;
        }
        needed = 0;
    }
    if wish.reversed {
        graph.relate(provider, package, needed != 0, true);
    } else {
        graph.relate(package, provider, needed != 0, false);
    }
}
