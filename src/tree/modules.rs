//! The modules of one kernel, and what loading some of them takes.

use std::collections::{BTreeMap, BTreeSet};

use super::path::TreePath;
use crate::formats::kmod;

/// A module file of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// With `_` for `-`.
    pub name: Vec<u8>,
    /// Its path relative to the kernel's directory, as `modules.dep` has it.
    pub relative: Vec<u8>,
    pub path: TreePath,
    /// Patterns of the devices and services that it is for.
    pub aliases: Vec<Vec<u8>>,
    /// As `.modinfo` has them: `pre: a b post: c`.
    pub softdeps: Vec<Vec<u8>>,
    /// Names of modules that it may ask for at run time.
    pub weakdeps: Vec<Vec<u8>>,
    /// Names of files below `/usr/lib/firmware`; may hold wildcards.
    pub firmware: Vec<Vec<u8>>,
    /// All that it needs, indirectly too, each before what it needs itself.
    deps: Vec<usize>,
}

/// The modules of one kernel, in the order of `modules.order`.
#[derive(Debug, Clone)]
pub struct ModuleSet {
    /// The kernel's version, as `uname -r` shows it.
    pub kver: String,
    /// The kernel's directory, `/usr/lib/modules/<kver>`.
    pub dir: TreePath,
    modules: Vec<Module>,
    by_name: BTreeMap<Vec<u8>, usize>,
    /// Names in the order of `modules.builtin`.
    builtin_lines: Vec<Vec<u8>>,
    builtin: BTreeSet<Vec<u8>>,
    /// Alias and module.
    builtin_aliases: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What loading a list of modules takes.
#[derive(Debug, Clone, Default)]
pub struct Closure<'a> {
    /// Every module file needed, in an order in which they can be loaded.
    pub modules: Vec<&'a Module>,
    /// What was asked for, or is a soft dependency, and is built into the kernel.
    pub builtin: BTreeSet<String>,
    /// Firmware that the modules name: patterns relative to `/usr/lib/firmware`.
    pub firmware: BTreeSet<String>,
    /// Soft and weak dependencies that this kernel does not have; nothing fails for them.
    pub absent: BTreeSet<String>,
}

/// A module that was asked for is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error(
    "kernel {kver} has no module `{name}`, neither as a file nor built in{}",
    hint(nearest)
)]
#[diagnostic(help("name a module or an alias of this kernel, or choose a kernel package that has it"))]
pub struct UnknownModule {
    pub kver: String,
    pub name: String,
    /// The most similar names, the best first.
    pub nearest: Vec<String>,
}

fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; nearest: `{}`", names.join("`, `")),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Module {
    pub(super) fn new(
        name: Vec<u8>,
        relative: Vec<u8>,
        path: TreePath,
        file: &kmod::Module,
        deps: Vec<usize>,
    ) -> Self {
        let values = |key| file.info(key).map(<[u8]>::to_vec).collect();
        Self {
            name,
            relative,
            path,
            aliases: values("alias"),
            softdeps: values("softdep"),
            weakdeps: values("weakdep"),
            firmware: values("firmware"),
            deps,
        }
    }

    /// The names of its soft dependencies: to be loaded before it, and after it.
    pub fn soft_dependencies(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut pre, mut post) = (Vec::new(), Vec::new());
        for value in &self.softdeps {
            let mut into: Option<&mut Vec<Vec<u8>>> = None;
            for word in value
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
            {
                match (word, &mut into) {
                    (b"pre:", _) => into = Some(&mut pre),
                    (b"post:", _) => into = Some(&mut post),
                    (name, Some(list)) => list.push(name.to_vec()),
                    (_, None) => {}
                }
            }
        }
        (pre, post)
    }
}

impl ModuleSet {
    /// `builtin` and `info` are the contents of `modules.builtin` and `modules.builtin.modinfo`.
    pub(super) fn new(kver: &str, dir: TreePath, modules: Vec<Module>, builtin: &[u8], info: &[u8]) -> Self {
        let by_name = modules.iter().enumerate();
        let lines = builtin.split(|&b| b == b'\n');
        let lines = lines.filter(|line| line.first().is_some_and(u8::is_ascii_alphabetic));
        let names =
            lines.map(|line| kmod::module_name(line.rsplit(|&b| b == b'/').next().unwrap_or_default()));
        let builtin_lines: Vec<Vec<u8>> = names.collect();
        let mut builtin_aliases = Vec::new();
        for entry in info.split(|&b| b == 0) {
            let Some(dot) = entry.iter().position(|&b| b == b'.') else {
                continue;
            };
            let (module, rest) = (&entry[..dot], &entry[dot + 1..]);
            let alias = rest.strip_prefix(b"alias=").filter(|alias| !alias.is_empty());
            if let Some(alias) = alias.and_then(kmod::normalize_alias)
                && !module.is_empty()
            {
                builtin_aliases.push((alias, module.to_vec()));
            }
        }
        Self {
            kver: kver.to_owned(),
            dir,
            by_name: by_name
                .map(|(index, module)| (module.name.clone(), index))
                .collect(),
            modules,
            builtin: builtin_lines.iter().cloned().collect(),
            builtin_lines,
            builtin_aliases,
        }
    }

    /// Every module file.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module file called `name` (`-` and `_` alike).
    pub fn get(&self, name: &str) -> Option<&Module> {
        let index = self.by_name.get(&kmod::module_name(name.as_bytes()))?;
        self.modules.get(*index)
    }

    /// Whether `name` is built into the kernel.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&kmod::module_name(name.as_bytes()))
    }

    /// The modules that `module` needs, indirectly too, each before what it needs itself.
    pub fn dependencies<'a>(&'a self, module: &'a Module) -> impl Iterator<Item = &'a Module> {
        module.deps.iter().filter_map(|&index| self.modules.get(index))
    }

    pub(super) fn builtin_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.builtin_lines.iter().map(Vec::as_slice)
    }

    pub(super) fn builtin_aliases(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.builtin_aliases
            .iter()
            .map(|(alias, name)| (&**alias, &**name))
    }

    /// What loading `names` takes: module names, or aliases as the kernel asks for them (such as
    /// `fs-erofs` or `pci:v0000…`). Dependencies are included, and soft and weak dependencies
    /// where the kernel has them.
    ///
    /// # Errors
    /// The first name that is neither a module, nor built in, nor fits an alias.
    pub fn closure(&self, names: &[&str]) -> Result<Closure<'_>, UnknownModule> {
        let mut work = Work {
            set: self,
            entered: BTreeSet::new(),
            closure: Closure::default(),
        };
        for name in names {
            if !work.add(name.as_bytes()) {
                return Err(self.unknown(name));
            }
        }
        Ok(work.closure)
    }

    /// The modules that `name` stands for, as places; the name of the built-in one otherwise.
    fn find(&self, name: &[u8]) -> Option<Result<Vec<usize>, Vec<u8>>> {
        let module = kmod::module_name(name);
        if !name.contains(&b':') {
            if let Some(&index) = self.by_name.get(&module) {
                return Some(Ok(vec![index]));
            }
            if self.builtin.contains(&module) {
                return Some(Err(module));
            }
        }
        let name = kmod::normalize_alias(name)?;
        let fits =
            |alias: &[u8]| kmod::normalize_alias(alias).is_some_and(|p| kmod::alias_matches(&p, &name));
        let modules = self.modules.iter().enumerate();
        let found: Vec<usize> = modules
            .filter(|(_, module)| module.aliases.iter().any(|alias| fits(alias)))
            .map(|(index, _)| index)
            .collect();
        if !found.is_empty() {
            return Some(Ok(found));
        }
        let mut builtin = self.builtin_aliases();
        let (_, module) = builtin.find(|(alias, _)| kmod::alias_matches(alias, &name))?;
        Some(Err(module.to_vec()))
    }

    fn unknown(&self, name: &str) -> UnknownModule {
        let wanted = text(&kmod::module_name(name.as_bytes()));
        let names = self.by_name.keys().chain(&self.builtin).map(|name| text(name));
        let mut ranked: Vec<(f64, String)> = names
            .map(|name| (strsim::jaro_winkler(&wanted, &name), name))
            .filter(|(similarity, _)| *similarity > 0.8)
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        UnknownModule {
            kver: self.kver.clone(),
            name: name.to_owned(),
            nearest: ranked.into_iter().take(3).map(|(_, name)| name).collect(),
        }
    }
}

/// A closure on its way.
struct Work<'a> {
    set: &'a ModuleSet,
    entered: BTreeSet<usize>,
    closure: Closure<'a>,
}

impl Work<'_> {
    /// Adds what `name` stands for; false where that is nothing.
    fn add(&mut self, name: &[u8]) -> bool {
        match self.set.find(name) {
            None => return false,
            Some(Err(builtin)) => {
                self.closure.builtin.insert(text(&builtin));
            }
            Some(Ok(modules)) => modules.into_iter().for_each(|index| self.enter(index)),
        }
        true
    }

    fn add_soft(&mut self, names: Vec<Vec<u8>>) {
        for name in names {
            if !self.add(&name) {
                self.closure.absent.insert(text(&name));
            }
        }
    }

    /// Dependencies first, then the module, then what is to follow it. A module entered before
    /// is passed by, which also ends circles of soft dependencies.
    fn enter(&mut self, index: usize) {
        let set = self.set;
        let Some(module) = set.modules.get(index) else {
            return;
        };
        if !self.entered.insert(index) {
            return;
        }
        for &dep in module.deps.iter().rev() {
            self.enter(dep);
        }
        let (pre, post) = module.soft_dependencies();
        self.add_soft(pre);
        self.closure.modules.push(module);
        let firmware = module.firmware.iter().map(|name| text(name));
        self.closure.firmware.extend(firmware);
        self.add_soft(post);
        let weak = module
            .weakdeps
            .iter()
            .flat_map(|value| value.split(u8::is_ascii_whitespace));
        self.add_soft(weak.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect());
    }
}
