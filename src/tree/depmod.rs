//! What depmod does, on a tree: the indexes of a kernel's modules.
//!
//! Writes what depmod of kmod 34 writes, byte for byte, but for `modules.symbols`, whose lines
//! depmod leaves in the order of a hash table: here they are sorted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use rayon::prelude::*;

use super::modules::{Module, ModuleSet};
use super::path::TreePath;
use super::{Kind, Meta, Node, Origin, Tree, TreeError};
use crate::formats::kmod::{self, KmodError};
use crate::formats::kmodindex::{Index, IndexError};
use crate::store::{Key, Values};

mod kept;
mod search;
#[cfg(test)]
mod tests;

pub use kept::KIND as KEPT;
use search::{Found, Search};

const MAX_TEXT: u64 = 64 << 20;

/// Why the indexes cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DepmodError {
    #[error("the tree has no modules for kernel {kver}: `/usr/lib/modules/{kver}` is absent")]
    #[diagnostic(help("the kernel package of that version must be in the RPM set"))]
    NoKernel { kver: String },
    #[error("`{0}` is not a kernel version")]
    BadVersion(String),
    #[error("`{path}` cannot be read: {source}")]
    Read {
        path: TreePath,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has {size} bytes: too large for a list of modules")]
    TooLarge { path: TreePath, size: u64 },
    #[error("`{path}` is not a usable kernel module: {source}")]
    Module {
        path: TreePath,
        #[source]
        source: KmodError,
    },
    #[error("{path}:{line}: `{text}` is not a line that this tool knows")]
    #[diagnostic(help(
        "`search`, `override` and `exclude` are known; `external` directories are not supported"
    ))]
    Conf {
        path: TreePath,
        line: usize,
        text: String,
    },
    #[error("`{0}` lies more than 40 directories deep")]
    TooDeep(TreePath),
    #[error("modules need each other in a circle: {}", .0.join(", "))]
    Cycle(Vec<String>),
    #[error("`{file}` of kernel {kver} cannot be written: {source}")]
    Index {
        file: &'static str,
        kver: String,
        #[source]
        source: IndexError,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Reads the modules of kernel `kver` and writes `modules.dep`, `.alias`, `.symbols`, `.softdep`,
/// `.weakdep`, `.devname` and the binary indexes beside them (mode 0644, time `mtime`). The
/// modules that come back are those of [`load`]. `known` knows modules of earlier builds ([`KEPT`]), and gets to know these.
///
/// # Errors
/// A kernel without directory, a damaged module, modules in a circle, a bad `depmod.d` line.
pub fn run(
    tree: &mut Tree,
    kver: &str,
    mtime: i64,
    known: Option<&Values>,
) -> Result<ModuleSet, DepmodError> {
    let (set, symbols) = read_modules(tree, kver, known)?;
    for (name, bytes) in outputs(tree, &set, &symbols)? {
        let node = Node::new(
            Meta::root(0o644, mtime),
            Kind::file(bytes),
            Origin::Composer("an index of kernel modules"),
        );
        tree.insert(&set.dir.join_name(name.as_bytes()), node)?;
    }
    Ok(set)
}

/// Reads the modules of kernel `kver` and their dependencies; writes nothing.
///
/// # Errors
/// As [`run`].
pub fn load(tree: &Tree, kver: &str) -> Result<ModuleSet, DepmodError> {
    Ok(read_modules(tree, kver, None)?.0)
}

/// The kernels of a tree: the names below `/usr/lib/modules` that have a `kernel` directory or
/// `modules.order`, in byte order.
pub fn kernels(tree: &Tree) -> Vec<String> {
    let modules = tree.resolve(&TreePath::literal("/usr/lib/modules"));
    let children = modules.and_then(|dir| tree.get(&dir)?.children());
    let has = |node: &Node, name: &[u8]| node.children().is_some_and(|below| below.contains_key(name));
    let kernels = children.into_iter().flatten();
    kernels
        .filter(|(_, node)| has(node, b"kernel") || has(node, b"modules.order"))
        .filter_map(|(name, _)| String::from_utf8(name.to_vec()).ok())
        .collect()
}

pub(super) fn read_text(tree: &Tree, path: &TreePath) -> Result<Vec<u8>, DepmodError> {
    let Some(file) = tree.file(path) else {
        return Ok(Vec::new());
    };
    let size = file.blob.size();
    if size > MAX_TEXT {
        let path = path.clone();
        return Err(DepmodError::TooLarge { path, size });
    }
    file.blob.read_all().map_err(|source| DepmodError::Read {
        path: path.clone(),
        source,
    })
}

/// The directory of the modules of kernel `kver`, and those that count, in the order of `modules.order`.
fn find(tree: &Tree, kver: &str) -> Result<(TreePath, Vec<Found>), DepmodError> {
    if kver.is_empty() || kver.starts_with('.') || kver.contains('/') {
        return Err(DepmodError::BadVersion(kver.to_owned()));
    }
    let dir = ["/usr/lib/modules", "/lib/modules"]
        .map(TreePath::literal)
        .into_iter()
        .find_map(|above| tree.resolve(&above.join_name(kver.as_bytes())))
        .filter(|dir| tree.get(dir).is_some_and(|node| node.children().is_some()))
        .ok_or_else(|| DepmodError::NoKernel {
            kver: kver.to_owned(),
        })?;
    let found = Search::read(tree, kver)?.find(tree, &dir)?;
    let found = in_order(found, &read_text(tree, &dir.join_name(b"modules.order"))?);
    Ok((dir, found))
}

/// What of the modules of kernel `kver` is kept in [`KEPT`]: each one's key, and the bytes of its file. Nothing where [`run`]
/// would fail.
pub fn outline(tree: &Tree, kver: &str) -> Vec<(Key, u64)> {
    let found = find(tree, kver).map(|(_, found)| found).unwrap_or_default();
    let files = found.iter().filter_map(|found| tree.file(&found.path));
    files
        .map(|file| (kept::key(&file.blob), file.blob.size()))
        .collect()
}

/// Exported symbols and which module (as its place in the set) offers each.
type Symbols = BTreeMap<Vec<u8>, usize>;

fn read_modules(
    tree: &Tree,
    kver: &str,
    known: Option<&Values>,
) -> Result<(ModuleSet, Symbols), DepmodError> {
    let (dir, found) = find(tree, kver)?;
    let files: Vec<kmod::Module> = found
        .par_iter()
        .map(|found| {
            let failed = |source| DepmodError::Module {
                path: found.path.clone(),
                source,
            };
            let Some(file) = tree.file(&found.path) else {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(failed(KmodError::Compression(source)));
            };
            kept::read(&file.blob, known).map_err(failed)
        })
        .collect::<Result<_, _>>()?;

    let mut symbols = Symbols::new();
    for (index, file) in files.iter().enumerate() {
        symbols.extend(file.exports.iter().map(|(name, _)| (name.clone(), index)));
    }
    let direct: Vec<Vec<usize>> = files.iter().map(|file| needed(file, &symbols)).collect();
    let order = sort(&found, &direct)?;
    let mut deps = vec![BTreeSet::new(); found.len()];
    // From the modules that nobody needs downwards, so that each is complete when it is used.
    let mut by_order: Vec<usize> = (0..found.len()).collect();
    by_order.sort_by_key(|&index| std::cmp::Reverse(order[index]));
    for index in by_order {
        let mut all = BTreeSet::new();
        for &dep in &direct[index] {
            all.insert((order[dep], dep));
            all.extend(&deps[dep]);
        }
        deps[index] = all;
    }
    let modules = found
        .into_iter()
        .zip(files)
        .zip(deps)
        .map(|((found, file), deps)| {
            let deps = deps.into_iter().map(|(_, dep)| dep).collect();
            Module::new(found.name, found.relative, found.path, &file, deps)
        })
        .collect();
    let builtin = read_text(tree, &dir.join_name(b"modules.builtin"))?;
    let info = read_text(tree, &dir.join_name(b"modules.builtin.modinfo"))?;
    Ok((ModuleSet::new(kver, dir, modules, &builtin, &info), symbols))
}

/// Modules of `modules.order` first, in its order; the others behind, as they were found.
fn in_order(found: Vec<Found>, order: &[u8]) -> Vec<Found> {
    let mut rank: HashMap<&[u8], usize> = HashMap::new();
    for (index, line) in order.split(|&b| b == b'\n').enumerate() {
        rank.entry(line).or_insert(index);
    }
    let mut ranked: Vec<(usize, Found)> = found
        .into_iter()
        .map(|found| {
            let end = found
                .relative
                .windows(4)
                .rposition(|part| part == b".ko." || part.ends_with(b".ko"));
            let plain = match end {
                Some(at) if found.relative[at..].starts_with(b".ko.") => &found.relative[..at + 3],
                _ => &found.relative[..],
            };
            (rank.get(plain).copied().unwrap_or(usize::MAX), found)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, found)| found).collect()
}

/// The modules that offer what `file` needs, each once, in the order of its symbols.
fn needed(file: &kmod::Module, symbols: &Symbols) -> Vec<usize> {
    let mut deps = Vec::new();
    for need in &file.needs {
        // On 64-bit PowerPC, `.name` is the code of `name`.
        let name = need.symbol.strip_prefix(b".").unwrap_or(&need.symbol);
        if let Some(&owner) = symbols.get(name)
            && name != b"__this_module"
            && !deps.contains(&owner)
        {
            deps.push(owner);
        }
    }
    deps
}

/// The place of each module in an order where it stands before those that it needs.
fn sort(found: &[Found], deps: &[Vec<usize>]) -> Result<Vec<usize>, DepmodError> {
    let mut users = vec![0_usize; deps.len()];
    for &dep in deps.iter().flatten() {
        users[dep] += 1;
    }
    let mut roots: Vec<usize> = (0..deps.len()).filter(|&index| users[index] == 0).collect();
    let mut order = vec![usize::MAX; deps.len()];
    let mut next = 0;
    while let Some(index) = roots.pop() {
        order[index] = next;
        next += 1;
        for &dep in &deps[index] {
            users[dep] -= 1;
            if users[dep] == 0 {
                roots.push(dep);
            }
        }
    }
    if next == deps.len() {
        return Ok(order);
    }
    let stuck = (0..deps.len()).filter(|&index| order[index] == usize::MAX);
    let names = stuck.map(|index| found[index].name.escape_ascii().to_string());
    Err(DepmodError::Cycle(names.collect()))
}

fn outputs(
    tree: &Tree,
    set: &ModuleSet,
    symbols: &Symbols,
) -> Result<Vec<(&'static str, Vec<u8>)>, DepmodError> {
    let mut dep = Vec::new();
    let mut alias = b"# Aliases extracted from modules themselves.\n".to_vec();
    let mut softdep = b"# Soft dependencies extracted from modules themselves.\n".to_vec();
    let mut weakdep = b"# Weak dependencies extracted from modules themselves.\n".to_vec();
    let mut symbol = b"# Aliases for symbols, used by symbol_request().\n".to_vec();
    let mut devname = Vec::new();
    let mut dep_bin = Binary::new("modules.dep.bin", set);
    let mut alias_bin = Binary::new("modules.alias.bin", set);
    let mut symbol_bin = Binary::new("modules.symbols.bin", set);
    for (index, module) in set.modules().iter().enumerate() {
        let mut line = [&module.relative, b":" as &[u8]].concat();
        for other in set.dependencies(module) {
            line.extend([b" ", &*other.relative].concat());
        }
        dep.extend([&line, b"\n" as &[u8]].concat());
        dep_bin.insert(&module.name, &line, index)?;
        for value in &module.aliases {
            alias.extend([b"alias ", &**value, b" ", &module.name, b"\n"].concat());
            if let Some(pattern) = kmod::normalize_alias(value) {
                alias_bin.insert(&pattern, &module.name, index)?;
            }
        }
        for value in &module.softdeps {
            softdep.extend([b"softdep ", &*module.name, b" ", value, b"\n"].concat());
        }
        for value in &module.weakdeps {
            weakdep.extend([b"weakdep ", &*module.name, b" ", value, b"\n"].concat());
        }
        if let Some(line) = device_node(module) {
            if devname.is_empty() {
                devname.extend(b"# Device nodes to trigger on-demand module loading.\n");
            }
            devname.extend(line);
        }
    }
    for (name, &owner) in symbols {
        let key = [b"symbol:", &**name].concat();
        let module = &set.modules()[owner].name;
        symbol.extend([b"alias ", &*key, b" ", module, b"\n"].concat());
        symbol_bin.insert(&key, module, owner)?;
    }
    let mut files = vec![
        ("modules.dep", dep),
        ("modules.dep.bin", dep_bin.finish()?),
        ("modules.alias", alias),
        ("modules.alias.bin", alias_bin.finish()?),
        ("modules.softdep", softdep),
        ("modules.weakdep", weakdep),
        ("modules.symbols", symbol),
        ("modules.symbols.bin", symbol_bin.finish()?),
        ("modules.devname", devname),
    ];
    files.extend(builtin_outputs(tree, set)?);
    Ok(files)
}

/// The indexes of what is built in. Where the kernel's build left no list, depmod leaves an
/// empty file.
fn builtin_outputs(tree: &Tree, set: &ModuleSet) -> Result<[(&'static str, Vec<u8>); 2], DepmodError> {
    let has = |name: &[u8]| tree.file(&set.dir.join_name(name)).is_some();
    let mut names = Binary::new("modules.builtin.bin", set);
    for name in set.builtin_lines() {
        names.insert(name, b"", 0)?;
    }
    let mut aliases = Binary::new("modules.builtin.alias.bin", set);
    for (alias, name) in set.builtin_aliases() {
        aliases.insert(alias, name, 0)?;
    }
    let kept = |present: bool, index: Binary| if present { index.finish() } else { Ok(Vec::new()) };
    Ok([
        ("modules.builtin.bin", kept(has(b"modules.builtin"), names)?),
        (
            "modules.builtin.alias.bin",
            kept(has(b"modules.builtin.modinfo"), aliases)?,
        ),
    ])
}

/// The line of `modules.devname`: a module that says both its device's name and its numbers.
fn device_node(module: &Module) -> Option<Vec<u8>> {
    let numbers = |value: &[u8], kind: &str| {
        let text = std::str::from_utf8(value.strip_prefix(kind.as_bytes())?).ok()?;
        let (major, minor) = text.split_once('-')?;
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        Some((major.parse::<u32>().ok()?, minor[..digits].parse::<u32>().ok()?))
    };
    let (mut name, mut device) = (None, None);
    for value in &module.aliases {
        if let Some(devname) = value.strip_prefix(b"devname:") {
            name = Some(devname);
        } else if let Some(found) = numbers(value, "char-major-") {
            device = Some(('c', found));
        } else if let Some(found) = numbers(value, "block-major-") {
            device = Some(('b', found));
        }
        if let (Some(name), Some((kind, (major, minor)))) = (name, device) {
            let numbers = format!(" {kind}{major}:{minor}\n");
            return Some([&module.name, b" " as &[u8], name, numbers.as_bytes()].concat());
        }
    }
    None
}

/// An index on the way to its file.
struct Binary<'a> {
    index: Index,
    file: &'static str,
    kver: &'a str,
}

impl<'a> Binary<'a> {
    fn new(file: &'static str, set: &'a ModuleSet) -> Self {
        Self {
            index: Index::default(),
            file,
            kver: &set.kver,
        }
    }

    fn failed(&self, source: IndexError) -> DepmodError {
        DepmodError::Index {
            file: self.file,
            kver: self.kver.to_owned(),
            source,
        }
    }

    fn insert(&mut self, key: &[u8], value: &[u8], priority: usize) -> Result<(), DepmodError> {
        let priority = u32::try_from(priority).map_err(|_| self.failed(IndexError::TooLarge))?;
        let inserted = self.index.insert(key, value, priority);
        inserted.map_err(|source| self.failed(source))
    }

    fn finish(self) -> Result<Vec<u8>, DepmodError> {
        self.index.to_bytes().map_err(|source| self.failed(source))
    }
}
