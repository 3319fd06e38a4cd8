//! Which packages satisfy a dependency.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

use super::dependency::{Dependency, ListError};
use super::files::Files;
use super::member::Member;
use super::rich::{Expression, Operator};
use super::rpmlib;
use crate::formats::rpm::tag::sense;

/// Comparisons of versions that a check may take. A set of ten thousand packages takes some hundred thousand; only
/// names that are provided and wanted in thousands of versions take more.
const MAX_COMPARISONS: u64 = 1 << 22;

/// Everything that the packages provide, by name.
#[derive(Debug)]
pub struct Providers<'a> {
    pub members: &'a [Member<'a>],
    /// Numbers of package and provide.
    provides: HashMap<&'a [u8], Vec<(usize, usize)>>,
    names: HashMap<&'a [u8], Vec<usize>>,
    pub files: Files<'a>,
    comparisons: Cell<u64>,
}

/// Who asks: RPM does not hold a package's conflict against itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Requires,
    /// The conflict of this package.
    Conflicts(usize),
}

impl<'a> Providers<'a> {
    /// Indexes what `members` provide. `wanted` are the paths that will be asked for.
    ///
    /// # Errors
    /// Where a file list cannot be read; with the number of its package.
    pub fn new(
        members: &'a [Member<'a>],
        wanted: &[&'a [u8]],
        without_docs: bool,
    ) -> Result<Self, (usize, ListError)> {
        let mut provides: HashMap<_, Vec<_>> = HashMap::new();
        let mut names: HashMap<_, Vec<_>> = HashMap::new();
        for (number, member) in members.iter().enumerate() {
            names.entry(member.name).or_default().push(number);
            for (index, provided) in member.provides.iter().enumerate() {
                provides.entry(provided.name).or_default().push((number, index));
            }
        }
        Ok(Self {
            members,
            provides,
            names,
            files: Files::find(members, wanted, without_docs)?,
            comparisons: Cell::new(0),
        })
    }

    /// Whether so much has been compared that verdicts are no longer given.
    pub fn is_exhausted(&self) -> bool {
        self.comparisons.get() > MAX_COMPARISONS
    }

    /// Whether the ranges of `a` and `b` overlap; no longer, once too much has been compared.
    pub fn overlap(&self, a: &Dependency<'_>, b: &Dependency<'_>) -> bool {
        self.comparisons.set(self.comparisons.get() + 1);
        !self.is_exhausted() && a.overlaps(b)
    }

    /// Numbers of the packages that provide `wanted`, which is not rich, ascending, each once.
    pub fn of(&self, wanted: &Dependency<'_>, asker: Asker) -> Vec<usize> {
        if self.is_exhausted() {
            return Vec::new();
        }
        let counts = |number: &usize| asker != Asker::Conflicts(*number);
        if wanted.is_file() {
            let mut found = self.files.at(wanted.name).to_vec();
            found.retain(counts);
            if !found.is_empty() {
                return found;
            }
        }
        let mut found: Vec<_> = self
            .named(wanted.name)
            .filter(|(number, provided)| counts(number) && self.overlap(provided, wanted))
            .map(|(number, _)| number)
            .collect();
        found.dedup();
        found
    }

    /// What packages provide under `name`, in whatever version.
    pub fn named(&self, name: &[u8]) -> impl Iterator<Item = (usize, &Dependency<'a>)> {
        let places = self.provides.get(name).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(|&(number, index)| (number, &self.members[number].provides[index]))
    }

    /// All names that are provided, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.provides.keys().copied()
    }

    /// Numbers of the packages called `name`, ascending.
    pub fn called(&self, name: &[u8]) -> &[usize] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether `wanted` holds.
    ///
    /// # Errors
    /// Where it is a rich dependency that cannot be read.
    pub fn satisfy(&self, wanted: &Dependency<'a>, asker: Asker) -> Result<bool, super::rich::Malformed> {
        if wanted.is_rich() && !wanted.has(sense::RPMLIB) {
            return Ok(self.holds(&Expression::parse(wanted)?));
        }
        Ok(self.provided(wanted, asker))
    }

    /// Whether `wanted`, which is not rich, is provided.
    pub fn provided(&self, wanted: &Dependency<'_>, asker: Asker) -> bool {
        if wanted.has(sense::RPMLIB) {
            return rpmlib::provides(wanted);
        }
        is_always_there(wanted) || (!is_before_all(wanted) && !self.of(wanted, asker).is_empty())
    }

    /// Whether `expression` is true. That a package's own capabilities are not meant is RPM's rule for simple conflicts
    /// only.
    fn holds(&self, expression: &Expression<'a>) -> bool {
        match expression {
            Expression::Single(wanted) => self.provided(wanted, Asker::Requires),
            Expression::Chain(operator, operands) => match operator {
                Operator::And => operands.iter().all(|operand| self.holds(operand)),
                Operator::Or => operands.iter().any(|operand| self.holds(operand)),
                Operator::With | Operator::Without => !self.select(expression).is_empty(),
                // Outside of a condition, RPM looks at its first operand.
                Operator::Else | Operator::If | Operator::Unless => {
                    operands.first().is_some_and(|operand| self.holds(operand))
                }
            },
            Expression::Conditional {
                operator,
                then,
                condition,
                otherwise,
            } => {
                let condition = self.holds(condition);
                let unless = *operator == Operator::Unless;
                match otherwise {
                    // `a unless b`: a and not b; with an `else`: a, or where b holds, that.
                    _ if condition != unless => self.holds(then),
                    Some(otherwise) => self.holds(otherwise),
                    None => !unless,
                }
            }
        }
    }

    /// Numbers of the packages that `expression` selects.
    fn select(&self, expression: &Expression<'a>) -> BTreeSet<usize> {
        match expression {
            Expression::Single(wanted) if wanted.has(sense::RPMLIB) || is_before_all(wanted) => {
                BTreeSet::new()
            }
            Expression::Single(wanted) => self.of(wanted, Asker::Requires).into_iter().collect(),
            Expression::Chain(operator, operands) => {
                let mut sets = operands.iter().map(|operand| self.select(operand));
                let first = sets.next().unwrap_or_default();
                match operator {
                    Operator::With => sets.fold(first, |all, set| &all & &set),
                    Operator::Without => sets.fold(first, |all, set| &all - &set),
                    Operator::Or => sets.fold(first, |all, set| &all | &set),
                    _ => BTreeSet::new(),
                }
            }
            Expression::Conditional { .. } => BTreeSet::new(),
        }
    }
}

/// What must be there before the transaction, where a new image has nothing.
fn is_before_all(wanted: &Dependency<'_>) -> bool {
    wanted.has(sense::PRETRANS | sense::PREUNTRANS)
}

/// As RPM 4.19 and later: there is always a root.
fn is_always_there(wanted: &Dependency<'_>) -> bool {
    matches!(wanted.name, b"user(root)" | b"group(root)")
}
