//! What RPM does in a transaction that installs packages into an empty system, in its order: which scriptlets and triggers
//! run, when, with which arguments and input.
//!
//! Follows `rpmtsRun` and `rpmPackageInstall` of RPM. What differs between versions, the arguments of file triggers, is as
//! in RPM 4.20 and newer.

use std::collections::{HashMap, HashSet};

use super::collect::{Condition, Kind, Scriptlet};
use crate::rpmset::Package;
use crate::rpmset::closure::{Dependency, List};

/// One step of a transaction. Packages are indexes into the set, scriptlets into what
/// [`super::of_package`] found in the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Run(Event),
    /// The files of a package come to lie in the tree.
    Install(usize),
}

/// One run of a scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose scriptlet it is.
    pub package: usize,
    pub scriptlet: usize,
    /// `$1`, and `$2` of triggers: how many packages of the name there are.
    pub arguments: Vec<u32>,
    /// Of file triggers: the paths that set them off, as they come on standard input. Nothing for others.
    pub paths: Vec<Vec<u8>>,
}

/// From this priority on, a file trigger runs before `%post`.
const EARLY: u32 = 10_000;

/// All steps for `packages`, installed in `order`; `scriptlets` are those of each package.
pub fn steps(packages: &[Package], scriptlets: &[Vec<Scriptlet>], order: &[usize]) -> Vec<Step> {
    let mut transaction = Transaction {
        packages,
        scriptlets,
        installed: Vec::with_capacity(order.len()),
        placed: HashSet::new(),
        instances: HashMap::new(),
        steps: Vec::new(),
    };
    for &package in order {
        transaction.plain(package, Kind::Pretrans, 1);
    }
    for &package in order {
        transaction.install(package);
    }
    for &package in order {
        let count = transaction.count(package);
        transaction.plain(package, Kind::Posttrans, count);
    }
    for &package in order {
        let count = transaction.count(package);
        for scriptlet in transaction.by_priority(package, Kind::TransFileTriggerIn) {
            transaction.over_installed(package, scriptlet, &[count], true);
        }
    }
    transaction.steps
}

struct Transaction<'a> {
    packages: &'a [Package],
    scriptlets: &'a [Vec<Scriptlet>],
    /// In the order of their installation.
    installed: Vec<usize>,
    /// Files of installed packages, but the last: RPM does not place them again.
    placed: HashSet<&'a [u8]>,
    /// How many packages of a name are installed.
    instances: HashMap<&'a str, u32>,
    steps: Vec<Step>,
}

impl<'a> Transaction<'a> {
    fn name(&self, package: usize) -> &'a str {
        &self.packages[package].nevra.name
    }

    /// How many packages of that one's name are installed.
    fn count(&self, package: usize) -> u32 {
        self.instances.get(self.name(package)).copied().unwrap_or(0)
    }

    fn run(&mut self, package: usize, scriptlet: usize, arguments: &[u32], paths: Vec<Vec<u8>>) {
        self.steps.push(Step::Run(Event {
            package,
            scriptlet,
            arguments: arguments.to_vec(),
            paths,
        }));
    }

    fn plain(&mut self, package: usize, kind: Kind, count: u32) {
        let found = self.scriptlets[package]
            .iter()
            .position(|scriptlet| scriptlet.kind == kind);
        if let Some(scriptlet) = found {
            self.run(package, scriptlet, &[count], Vec::new());
        }
    }

    fn install(&mut self, package: usize) {
        let count = self.count(package) + 1;
        self.triggers_of_others(package, Kind::TriggerPrein);
        self.own_triggers(package, Kind::TriggerPrein);
        self.plain(package, Kind::Pre, count);
        self.steps.push(Step::Install(package));
        self.installed.push(package);
        *self.instances.entry(self.name(package)).or_insert(0) += 1;
        self.file_triggers(package, count, true);
        self.plain(package, Kind::Post, count);
        self.triggers_of_others(package, Kind::TriggerIn);
        self.own_triggers(package, Kind::TriggerIn);
        self.file_triggers(package, count, false);
        let files = self.packages[package].files.iter();
        self.placed.extend(files.map(|file| file.path.as_bytes()));
    }

    /// Triggers of installed packages that `package` sets off.
    fn triggers_of_others(&mut self, package: usize, kind: Kind) {
        for other in self.installed.clone() {
            if let Some(scriptlet) = self.matching(other, package, kind) {
                let arguments = [self.count(other), self.count(package)];
                self.run(other, scriptlet, &arguments, Vec::new());
            }
        }
    }

    /// Triggers of `package` that installed packages set off.
    fn own_triggers(&mut self, package: usize, kind: Kind) {
        let mut done = Vec::new();
        for (number, condition) in self.conditions(package) {
            if done.contains(&number) {
                continue;
            }
            let installed = self.installed.iter().copied();
            let sources: Vec<_> = installed
                .filter(|&source| self.name(source).as_bytes() == condition.name)
                .collect();
            for source in sources {
                if let Some(scriptlet) = self.matching(package, source, kind)
                    && !done.contains(&scriptlet)
                {
                    done.push(scriptlet);
                    let arguments = [self.count(package), self.count(source)];
                    self.run(package, scriptlet, &arguments, Vec::new());
                }
            }
        }
    }

    /// What the triggers of `package` wait for, in the order of its header, with the trigger's number.
    fn conditions(&self, package: usize) -> Vec<(usize, &'a Condition)> {
        let mut found = Vec::new();
        for (number, scriptlet) in self.scriptlets[package].iter().enumerate() {
            if is_plain_trigger(scriptlet.kind) {
                found.extend(scriptlet.conditions.iter().map(|condition| (number, condition)));
            }
        }
        found.sort_by_key(|(_, condition)| condition.position);
        found
    }

    /// The trigger of `owner` that `source` sets off: RPM runs one at the most.
    fn matching(&self, owner: usize, source: usize, kind: Kind) -> Option<usize> {
        let name = self.name(source).as_bytes();
        let conditions = self.conditions(owner).into_iter();
        let found = conditions
            .filter(|(number, condition)| {
                self.scriptlets[owner][*number].kind == kind && condition.name == name
            })
            .find(|(_, condition)| self.provides(source, condition));
        found.map(|(number, _)| number)
    }

    fn provides(&self, package: usize, condition: &Condition) -> bool {
        let wanted = Dependency {
            name: &condition.name,
            evr: &condition.version,
            flags: condition.flags,
        };
        let header = &self.packages[package].preamble.header;
        // A list that cannot be read has stopped the order of packages before.
        let provides = Dependency::list(header, List::Provides).unwrap_or_default();
        provides.iter().any(|provided| provided.overlaps(&wanted))
    }

    /// File triggers that `package` sets off, then its own, which files of the others set off.
    fn file_triggers(&mut self, package: usize, count: u32, early: bool) {
        let mut found = Vec::new();
        for (place, &owner) in self.installed.iter().enumerate() {
            for (number, scriptlet) in self.scriptlets[owner].iter().enumerate() {
                if scriptlet.kind == Kind::FileTriggerIn && (scriptlet.priority >= EARLY) == early {
                    let priority = std::cmp::Reverse(scriptlet.priority);
                    found.push((priority, place, scriptlet.index, owner, number));
                }
            }
        }
        found.sort_unstable();
        for (_, _, _, owner, number) in found {
            let conditions = &self.scriptlets[owner][number].conditions;
            let paths: Vec<_> = conditions
                .iter()
                .flat_map(|condition| self.files(package, &condition.name))
                .filter(|path| !self.placed.contains(path.as_slice()))
                .collect();
            if !paths.is_empty() {
                let arguments = [self.count(owner), count];
                self.run(owner, number, &arguments, paths);
            }
        }
        for scriptlet in self.by_priority(package, Kind::FileTriggerIn) {
            if (self.scriptlets[package][scriptlet].priority >= EARLY) == early {
                self.over_installed(package, scriptlet, &[count, 1], false);
            }
        }
    }

    fn by_priority(&self, package: usize, kind: Kind) -> Vec<usize> {
        let scriptlets = &self.scriptlets[package];
        let mut found: Vec<_> = (0..scriptlets.len())
            .filter(|&number| scriptlets[number].kind == kind)
            .collect();
        found.sort_by_key(|&number| std::cmp::Reverse(scriptlets[number].priority));
        found
    }

    /// Runs a file trigger of `package` over the files of all that is installed, its own too where `own`; not where there
    /// are none.
    fn over_installed(&mut self, package: usize, scriptlet: usize, arguments: &[u32], own: bool) {
        let mut paths = Vec::new();
        for condition in &self.scriptlets[package][scriptlet].conditions {
            for &other in self.installed.iter().filter(|&&other| own || other != package) {
                // RPM finds packages by their directories.
                let prefix = condition.name.as_slice();
                let header = &self.packages[other].preamble.header;
                let directories = header
                    .strings(crate::formats::rpm::tag::DIRNAMES)
                    .unwrap_or_default();
                if directories.iter().any(|directory| directory.starts_with(prefix)) {
                    paths.extend(self.files(other, prefix));
                }
            }
        }
        if !paths.is_empty() {
            self.run(package, scriptlet, arguments, paths);
        }
    }

    /// The files of `package` that start with `prefix`.
    fn files<'b>(&'b self, package: usize, prefix: &'b [u8]) -> impl Iterator<Item = Vec<u8>> + 'b {
        let paths = self.packages[package]
            .files
            .iter()
            .map(|file| file.path.as_bytes());
        paths.filter(|path| path.starts_with(prefix)).map(<[u8]>::to_vec)
    }
}

fn is_plain_trigger(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::TriggerPrein | Kind::TriggerIn | Kind::TriggerUn | Kind::TriggerPostun
    )
}

#[cfg(test)]
mod tests;
