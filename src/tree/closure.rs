//! What programs need of a tree to run: interpreters, libraries, and every link on the way.
//!
//! Libraries are searched as the dynamic linker of glibc does: `DT_RPATH` (its own and those of
//! what asked for it) where there is no `DT_RUNPATH`, `DT_RUNPATH`, then the directories of
//! `ld.so.conf` and the system's own. Variants below `glibc-hwcaps` are left out: they are faster,
//! never needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::ldconfig::{self, LdconfigError, LibraryDir};
use super::path::TreePath;
use super::{Kind, Tree};
use crate::formats::elf::{Dlopen, DlopenPriority, Elf, ElfError};

#[cfg(test)]
mod tests;

const MAX_PROGRAM: u64 = 1 << 30;
/// As the kernel reads of a script's first line.
const MAX_SHEBANG: usize = 256;

/// How a closure is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosureOptions {
    /// Where `ld.so.conf` lies: `/etc` or `/usr/etc`.
    pub etc: TreePath,
    /// The least priority of libraries loaded by `dlopen` that are followed. Absent ones are
    /// an error where they are required, and passed by otherwise.
    pub dlopen: DlopenPriority,
    /// Features, as dlopen notes name them (`tpm`, `cryptsetup`), whose libraries are needed
    /// whatever their priority: absent ones are an error.
    pub features: BTreeSet<String>,
}

impl Default for ClosureOptions {
    fn default() -> Self {
        Self {
            etc: TreePath::literal("/etc"),
            dlopen: DlopenPriority::Recommended,
            features: BTreeSet::new(),
        }
    }
}

/// Why a closure cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClosureError {
    #[error("`{path}` is not in the tree{}", asked(wanted_by))]
    #[diagnostic(help("add the package that brings it, or take out what asks for it"))]
    Absent {
        path: String,
        wanted_by: Option<TreePath>,
    },
    #[error("library `{soname}` is not in the tree; `{wanted_by}` needs it ({machine})")]
    #[diagnostic(help(
        "add the package that brings it; it is searched in the program's RUNPATH, in ld.so.conf's and the system's directories"
    ))]
    NoLibrary {
        soname: String,
        wanted_by: TreePath,
        /// Class and machine that the library must have.
        machine: String,
    },
    #[error("`{path}` is a damaged ELF file: {source}")]
    Elf {
        path: TreePath,
        #[source]
        source: ElfError,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Search(#[from] LdconfigError),
}

fn asked(wanted_by: &Option<TreePath>) -> String {
    let ask = |path: &TreePath| format!("; `{path}` asks for it");
    wanted_by.as_ref().map(ask).unwrap_or_default()
}

/// Every path that the programs, libraries, scripts or other files `starts` need to work when
/// copied elsewhere: themselves, interpreters, libraries, and all directories and symbolic links
/// that lead to these. Sorted.
///
/// # Errors
/// A start, an interpreter or a library that is absent; a damaged ELF file.
pub fn elf_closure(
    tree: &Tree,
    starts: &[TreePath],
    options: &ClosureOptions,
) -> Result<BTreeSet<TreePath>, ClosureError> {
    let mut dirs = ldconfig::library_dirs(tree, &options.etc)?;
    dirs.retain(|dir| dir.hwcaps.is_none());
    let mut work = Work {
        tree,
        options,
        dirs,
        paths: BTreeSet::new(),
        read: BTreeMap::new(),
    };
    let mut done = BTreeSet::new();
    let mut todo: VecDeque<(TreePath, Option<TreePath>)> =
        starts.iter().map(|path| (path.clone(), None)).collect();
    while let Some((start, wanted_by)) = todo.pop_front() {
        if !done.insert(start.clone()) {
            continue;
        }
        let real = work.require(&start, wanted_by.as_ref())?;
        match work.object(&real)? {
            Some(_) => work.program(&start)?,
            None => {
                let commands = work.interpreters(&real)?;
                todo.extend(commands.into_iter().map(|path| (path, Some(start.clone()))));
            }
        }
    }
    Ok(work.paths)
}

/// What of an ELF file bears on its closure.
#[derive(Debug)]
struct Object {
    is_64: bool,
    machine: u16,
    soname: Option<Vec<u8>>,
    interpreter: Option<Vec<u8>>,
    needed: Vec<Vec<u8>>,
    rpath: Vec<Vec<u8>>,
    runpath: Option<Vec<Vec<u8>>>,
    dlopen: Vec<Dlopen>,
}

struct Work<'a> {
    tree: &'a Tree,
    options: &'a ClosureOptions,
    dirs: Vec<LibraryDir>,
    paths: BTreeSet<TreePath>,
    /// Files read so far; `None` where they are not ELF.
    read: BTreeMap<TreePath, Option<Rc<Object>>>,
}

/// A library of a program: how it was found, and the RPATHs of what asked for it.
struct Loaded {
    path: TreePath,
    object: Rc<Object>,
    rpath: Rc<Vec<TreePath>>,
}

impl Work<'_> {
    /// Puts `path` and all that leads to it into the closure, and says where it leads.
    fn require(&mut self, path: &TreePath, wanted_by: Option<&TreePath>) -> Result<TreePath, ClosureError> {
        self.follow(path).ok_or_else(|| ClosureError::Absent {
            path: path.to_string(),
            wanted_by: wanted_by.cloned(),
        })
    }

    /// As [`Tree::resolve`], keeping every directory, link and file on the way.
    fn follow(&mut self, path: &TreePath) -> Option<TreePath> {
        let mut hops = Vec::new();
        let mut links = 0;
        let mut at = TreePath::root();
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        while let Some(name) = todo.pop() {
            if name == b".." {
                at = at.parent().unwrap_or_else(TreePath::root);
                continue;
            }
            let next = at.join_name(&name);
            let node = self.tree.get(&next)?;
            hops.push(next.clone());
            let Kind::Symlink(target) = &node.kind else {
                at = next;
                continue;
            };
            links += 1;
            if links > 40 {
                return None;
            }
            if target.starts_with(b"/") {
                at = TreePath::root();
            }
            let parts = target.split(|&b| b == b'/').rev();
            todo.extend(
                parts
                    .filter(|part| !part.is_empty() && *part != b".")
                    .map(<[u8]>::to_vec),
            );
        }
        self.paths.extend(hops);
        Some(at)
    }

    /// The ELF file at `real`; `None` where it is something else.
    fn object(&mut self, real: &TreePath) -> Result<Option<Rc<Object>>, ClosureError> {
        if let Some(known) = self.read.get(real) {
            return Ok(known.clone());
        }
        let object = self.read_object(real)?.map(Rc::new);
        self.read.insert(real.clone(), object.clone());
        Ok(object)
    }

    fn read_object(&self, real: &TreePath) -> Result<Option<Object>, ClosureError> {
        let Some(file) = self.tree.file(real) else {
            return Ok(None);
        };
        let mut magic = [0; 4];
        if file.blob.read_exact_at(&mut magic, 0).is_err() || !Elf::has_magic(&magic) {
            return Ok(None);
        }
        let bytes = ldconfig::read(self.tree, real, MAX_PROGRAM, "a program")?;
        let failed = |source| ClosureError::Elf {
            path: real.clone(),
            source,
        };
        let elf = Elf::parse(&bytes).map_err(failed)?;
        let dynamic = elf.dynamic().map_err(failed)?.unwrap_or_default();
        let split = |paths: &[u8]| {
            let parts = paths.split(|&b| b == b':');
            parts
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        Ok(Some(Object {
            is_64: elf.is_64,
            machine: elf.machine,
            soname: dynamic.soname.map(<[u8]>::to_vec),
            interpreter: elf.interpreter().map(<[u8]>::to_vec),
            needed: dynamic.needed.iter().map(|name| name.to_vec()).collect(),
            rpath: dynamic.rpath.map(split).unwrap_or_default(),
            runpath: dynamic.runpath.map(split),
            dlopen: elf.dlopen().map_err(failed)?,
        }))
    }

    /// Adds what the program or library at `start` loads, breadth first as the linker does.
    fn program(&mut self, start: &TreePath) -> Result<(), ClosureError> {
        let mut seen = BTreeSet::new();
        let mut sonames: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut queue = VecDeque::new();
        let real = self.require(start, None)?;
        let Some(object) = self.object(&real)? else {
            return Ok(());
        };
        if let Some(interpreter) = &object.interpreter {
            let path = inside(interpreter).ok_or_else(|| ClosureError::Absent {
                path: interpreter.escape_ascii().to_string(),
                wanted_by: Some(start.clone()),
            })?;
            let linker = self.require(&path, Some(start))?;
            let linker = self.object(&linker)?;
            sonames.extend(linker.and_then(|linker| linker.soname.clone()));
        }
        seen.insert(real);
        queue.push_back(Loaded {
            path: start.clone(),
            object,
            rpath: Rc::default(),
        });
        while let Some(loaded) = queue.pop_front() {
            let rpath = Rc::new(self.rpath_of(&loaded));
            for (names, required) in self.wishes(&loaded.object) {
                if names.iter().any(|name| sonames.contains(name)) {
                    continue;
                }
                let mut found = None;
                for name in &names {
                    found = self.find(name, &loaded, &rpath)?;
                    if found.is_some() {
                        sonames.insert(name.clone());
                        break;
                    }
                }
                let Some(path) = found else {
                    if required {
                        return Err(no_library(&names, &loaded));
                    }
                    continue;
                };
                let real = self.require(&path, Some(&loaded.path))?;
                if let Some(object) = self.object(&real)?
                    && seen.insert(real)
                {
                    sonames.extend(object.soname.clone());
                    let rpath = rpath.clone();
                    queue.push_back(Loaded { path, object, rpath });
                }
            }
        }
        Ok(())
    }

    /// The libraries that an object asks for, each with the names that serve alike (the first
    /// present is taken), and whether it fails without.
    fn wishes(&self, object: &Object) -> Vec<(Vec<Vec<u8>>, bool)> {
        let needed = object.needed.iter().map(|name| (vec![name.clone()], true));
        let loaded = object.dlopen.iter().filter_map(|entry| {
            let wanted = self.options.features.contains(&entry.feature);
            let followed = wanted || entry.priority >= self.options.dlopen;
            let names = entry.soname.iter().map(|name| name.clone().into_bytes());
            let required = wanted || entry.priority == DlopenPriority::Required;
            followed.then(|| (names.collect(), required))
        });
        needed.chain(loaded).collect()
    }

    /// The RPATHs that count for what `loaded` asks for: its own, then those above it.
    fn rpath_of(&self, loaded: &Loaded) -> Vec<TreePath> {
        let own = match loaded.object.runpath {
            Some(_) => Vec::new(),
            None => self.expand(&loaded.object.rpath, loaded),
        };
        own.into_iter().chain(loaded.rpath.iter().cloned()).collect()
    }

    /// Directories with `$ORIGIN`, `$LIB` and `$PLATFORM` put in.
    fn expand(&self, dirs: &[Vec<u8>], loaded: &Loaded) -> Vec<TreePath> {
        let parent = |path: &TreePath| path.parent().unwrap_or_else(TreePath::root);
        let real = self
            .tree
            .resolve(&loaded.path)
            .unwrap_or_else(|| loaded.path.clone());
        let origins = BTreeSet::from([parent(&loaded.path), parent(&real)]);
        let libs: &[&str] = if loaded.object.is_64 {
            &["lib64", "lib"]
        } else {
            &["lib"]
        };
        let mut found = Vec::new();
        for dir in dirs {
            let dir = String::from_utf8_lossy(dir);
            for origin in &origins {
                for lib in libs {
                    let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
                    let text = dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
                    let text = text.replace("${LIB}", lib).replace("$LIB", lib);
                    if let Some(path) = inside(text.as_bytes())
                        && !found.contains(&path)
                    {
                        found.push(path);
                    }
                }
            }
        }
        found
    }

    /// Where the linker finds `soname` for `loaded`.
    fn find(
        &mut self,
        soname: &[u8],
        loaded: &Loaded,
        rpath: &[TreePath],
    ) -> Result<Option<TreePath>, ClosureError> {
        if soname.contains(&b'/') {
            return Ok(inside(soname).filter(|path| self.tree.file(path).is_some()));
        }
        if soname.is_empty() || soname.len() > 255 {
            return Ok(None);
        }
        let mut dirs = match &loaded.object.runpath {
            Some(runpath) => self.expand(runpath, loaded),
            None => rpath.to_vec(),
        };
        dirs.extend(self.dirs.iter().filter_map(|dir| inside(&dir.path)));
        for dir in dirs {
            let path = dir.join_name(soname);
            let Some(real) = self.tree.resolve(&path) else {
                continue;
            };
            let Some(object) = self.object(&real)? else {
                continue;
            };
            if object.is_64 == loaded.object.is_64 && object.machine == loaded.object.machine {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The programs that a script's first line names: the interpreter, and what `env` starts.
    fn interpreters(&self, real: &TreePath) -> Result<Vec<TreePath>, ClosureError> {
        let Some(file) = self.tree.file(real) else {
            return Ok(Vec::new());
        };
        let size = usize::try_from(file.blob.size()).unwrap_or(MAX_SHEBANG);
        let mut start = vec![0; size.min(MAX_SHEBANG)];
        let read = file.blob.read_exact_at(&mut start, 0);
        read.map_err(|source| LdconfigError::Read {
            path: real.clone(),
            source,
        })?;
        let Some(line) = start.strip_prefix(b"#!") else {
            return Ok(Vec::new());
        };
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let absent = |name: &[u8]| ClosureError::Absent {
            path: name.escape_ascii().to_string(),
            wanted_by: Some(real.clone()),
        };
        let Some(interpreter) = words.next() else {
            return Ok(Vec::new());
        };
        let interpreter = inside(interpreter).ok_or_else(|| absent(interpreter))?;
        let mut programs = vec![interpreter];
        if programs[0].name() == Some(b"env") {
            let command = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
            if let Some(command) = command {
                let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(TreePath::literal);
                let mut paths = places.iter().filter_map(|dir| dir.join(command).ok());
                let found = paths.find(|path| self.tree.file(path).is_some());
                programs.push(found.ok_or_else(|| absent(command))?);
            }
        }
        Ok(programs)
    }
}

fn no_library(names: &[Vec<u8>], loaded: &Loaded) -> ClosureError {
    let names: Vec<String> = names.iter().map(|name| name.escape_ascii().to_string()).collect();
    let class = if loaded.object.is_64 { 64 } else { 32 };
    ClosureError::NoLibrary {
        soname: names.join("` or `"),
        wanted_by: loaded.path.clone(),
        machine: format!("{class}-bit ELF, machine {}", loaded.object.machine),
    }
}

/// An absolute path with its `..` taken out by name, as RPATHs have them; `None` where it is
/// relative or no path. (`..` behind a link means elsewhere to the kernel; no known RPATH does it.)
fn inside(path: &[u8]) -> Option<TreePath> {
    if !path.starts_with(b"/") {
        return None;
    }
    let mut at = TreePath::root();
    for part in path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
    {
        at = match part {
            b".." => at.parent().unwrap_or_else(TreePath::root),
            name => TreePath::new(at.join_name(name).as_bytes()).ok()?,
        };
    }
    Some(at)
}
