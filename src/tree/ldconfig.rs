//! What ldconfig does, on a tree: links from sonames to libraries, and `ld.so.cache`.
//!
//! Follows glibc 2.41's ldconfig (2.36 differs in directories of the legacy hwcaps scheme, and
//! takes files that RPM or dpkg is just writing), with Debian's changes where the tree is laid out
//! by Debian's multiarch. Nothing is taken from the host, no auxiliary cache is written, and stale
//! links are reported instead of removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rayon::prelude::*;

use super::path::{PathError, TreePath};
use super::{Kind, Meta, Node, Origin, Tree, TreeError};
use crate::formats::elf::{self, Elf, machine};
use crate::formats::ldcache::{Cache, CacheError, Entry, compare_names};

mod dirs;
#[cfg(test)]
mod tests;

pub use dirs::{LibraryDir, library_dirs};

/// Sonames of dynamic linkers: Debian's ldconfig leaves their links alone, since another
/// architecture's library directory may come first.
const LINKERS: [&[u8]; 7] = [
    b"ld-linux-aarch64.so.1",
    b"ld-linux-armhf.so.3",
    b"ld-linux-x32.so.2",
    b"ld-linux-x86-64.so.2",
    b"ld-linux.so.2",
    b"ld-linux.so.3",
    b"ld.so.1",
];
/// Libraries above this size are not read.
const MAX_LIBRARY: u64 = 1 << 30;

/// Why the cache cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LdconfigError {
    #[error("`{path}` cannot be read: {source}")]
    Read {
        path: TreePath,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has {size} bytes: too large to be {what}")]
    TooLarge {
        path: TreePath,
        size: u64,
        what: &'static str,
    },
    #[error("{conf}:{line}: `{text}` is not an absolute path inside the image")]
    #[diagnostic(help("name library directories from the root, without `..`"))]
    BadDirectory {
        conf: TreePath,
        line: usize,
        text: String,
        #[source]
        source: Option<PathError>,
    },
    #[error("{conf}:{line}: `include` goes deeper than 16 files")]
    #[diagnostic(help("a file probably includes itself"))]
    IncludeLoop { conf: TreePath, line: usize },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of the cache.
    pub libraries: usize,
    /// Links made or changed, with their targets.
    pub links: Vec<(TreePath, Vec<u8>)>,
    /// Links to libraries that lead nowhere.
    pub dangling: Vec<TreePath>,
    /// What else people should know, in plain words.
    pub remarks: Vec<String>,
}

/// Makes missing soname links and writes `<etc>/ld.so.cache` (mode 0644, time `mtime`), from
/// `<etc>/ld.so.conf`. `etc` is `/etc`, or `/usr/etc` in a tree laid out for ostree; paths
/// below `/etc` that the configuration names are looked for there.
///
/// The cache names as its generator the `ldconfig` of the tree itself, where it holds one: the
/// bytes are those that it would write.
///
/// # Errors
/// Where the configuration or a library cannot be read, or a link cannot be placed.
pub fn run(tree: &mut Tree, etc: &TreePath, mtime: i64) -> Result<Report, LdconfigError> {
    let dirs = library_dirs(tree, etc)?;
    let multiarch = dirs::multiarch(tree).is_some();
    let mut known = read_libraries(tree, &dirs)?;
    let mut report = Report::default();
    let mut cache = Cache {
        entries: Vec::new(),
        generator: generator(tree),
    };
    for dir in &dirs {
        let libraries = scan(tree, dir, &mut known, &mut report)?;
        for (soname, library) in &libraries {
            if dir.hwcaps.is_none() && !library.is_link {
                let keep = multiarch && LINKERS.contains(&soname.as_slice());
                link(tree, dir, soname, &library.name, keep, mtime, &mut report)?;
            }
            let file = if dir.hwcaps.is_some() {
                &library.name
            } else {
                soname
            };
            cache.entries.push(Entry {
                soname: soname.clone(),
                path: [&dir.path, b"/" as &[u8], file].concat(),
                flags: library.flags,
                hwcaps: dir.hwcaps.clone().map(|name| (name, library.isa_level)),
            });
        }
    }
    cache.sort();
    report.libraries = cache.entries.len();
    let names = dirs.iter().filter_map(|dir| dir.hwcaps.clone()).collect();
    let node = Node::new(
        Meta::root(0o644, mtime),
        Kind::file(cache.to_bytes(&names)?),
        Origin::Composer("the dynamic linker's cache"),
    );
    tree.insert(&etc.join_name(b"ld.so.cache"), node)?;
    Ok(report)
}

pub(super) fn read(
    tree: &Tree,
    path: &TreePath,
    limit: u64,
    what: &'static str,
) -> Result<Vec<u8>, LdconfigError> {
    let Some(file) = tree.file(path) else {
        let (path, source) = (path.clone(), io::ErrorKind::NotFound.into());
        return Err(LdconfigError::Read { path, source });
    };
    let size = file.blob.size();
    if size > limit {
        let path = path.clone();
        return Err(LdconfigError::TooLarge { path, size, what });
    }
    file.blob.read_all().map_err(|source| LdconfigError::Read {
        path: path.clone(),
        source,
    })
}

/// What the cache needs to know of a library; nothing where it is none.
type Library = Option<Info>;

#[derive(Debug, Clone)]
struct Info {
    soname: Option<Vec<u8>>,
    flags: u32,
    isa_level: u32,
}

/// Reads, in parallel, every file that any of `dirs` offers.
fn read_libraries(tree: &Tree, dirs: &[LibraryDir]) -> Result<BTreeMap<TreePath, Library>, LdconfigError> {
    let mut files = BTreeSet::new();
    for dir in dirs {
        let names = candidates(tree, dir);
        files.extend(
            names
                .iter()
                .filter_map(|(name, _)| tree.resolve(&dir.real.join_name(name))),
        );
    }
    files
        .into_par_iter()
        .map(|path| {
            let library = library(tree, &path)?;
            Ok((path, library))
        })
        .collect()
}

/// The names in `dir` that look like libraries, and whether they are links.
fn candidates(tree: &Tree, dir: &LibraryDir) -> Vec<(Box<[u8]>, bool)> {
    let children = tree.get(&dir.real).and_then(Node::children);
    let mut names = Vec::new();
    for (name, node) in children.into_iter().flatten() {
        let is_link = match node.kind {
            Kind::File(_) => false,
            Kind::Symlink(_) => true,
            _ => continue,
        };
        if (is_library_name(name) || is_link && dir.hwcaps.is_some()) && !is_temporary(name) {
            names.push((name.clone(), is_link));
        }
    }
    names
}

fn is_library_name(name: &[u8]) -> bool {
    let prefixed = name.starts_with(b"lib") || name.starts_with(b"ld-");
    prefixed && contains(name, b".so") || name.starts_with(b"ld.so.") || name.starts_with(b"ld64.so.")
}

/// Names of prelink, RPM and dpkg for files that are being written.
fn is_temporary(name: &[u8]) -> bool {
    let prelink = name
        .len()
        .checked_sub(17)
        .is_some_and(|at| name[at..].starts_with(b".#prelink#."));
    prelink
        || name.ends_with(b".#prelink#")
        || name.contains(&b';')
        || name.ends_with(b".dpkg-new")
        || name.ends_with(b".dpkg-tmp")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn library(tree: &Tree, path: &TreePath) -> Result<Library, LdconfigError> {
    let Some(Kind::File(file)) = tree.get(path).map(|node| &node.kind) else {
        return Ok(None);
    };
    let mut magic = [0; 4];
    if file.blob.read_exact_at(&mut magic, 0).is_err() || !Elf::has_magic(&magic) {
        return Ok(None);
    }
    let bytes = read(tree, path, MAX_LIBRARY, "a library")?;
    let Ok(elf) = Elf::parse(&bytes) else {
        return Ok(None);
    };
    let (Some(flags), elf::ET_DYN) = (cache_flags(&elf), elf.kind) else {
        return Ok(None);
    };
    Ok(match elf.dynamic() {
        Ok(Some(dynamic)) => Some(Info {
            soname: dynamic.soname.map(<[u8]>::to_vec),
            flags,
            isa_level: elf.x86_isa_level(),
        }),
        _ => None,
    })
}

/// The cache's word for kind and architecture; `None` for machines that it has no word for.
fn cache_flags(elf: &Elf<'_>) -> Option<u32> {
    const LIBC6: u32 = 3;
    let architecture = match (elf.machine, elf.is_64) {
        (machine::I386, false) => 0,
        (machine::X86_64, true) => 0x300,
        (machine::X86_64, false) => 0x800,
        (machine::AARCH64, true) => 0xa00,
        (machine::ARM, false) if elf.flags & 0x400 != 0 => 0x900,
        (machine::ARM, false) if elf.flags & 0x200 != 0 => 0xb00,
        (machine::ARM, false) => 0,
        (machine::RISCV, true) if elf.flags & 6 == 4 => 0x1000,
        (machine::RISCV, true) => 0xf00,
        _ => return None,
    };
    Some(architecture | LIBC6)
}

/// The library of a directory that a soname stands for.
struct Chosen {
    name: Vec<u8>,
    is_link: bool,
    flags: u32,
    isa_level: u32,
}

/// The libraries of one directory by soname: of several with one soname, files before links and
/// the greater version first.
fn scan(
    tree: &Tree,
    dir: &LibraryDir,
    known: &mut BTreeMap<TreePath, Library>,
    report: &mut Report,
) -> Result<BTreeMap<Vec<u8>, Chosen>, LdconfigError> {
    let mut chosen: BTreeMap<Vec<u8>, Chosen> = BTreeMap::new();
    for (name, mut is_link) in candidates(tree, dir) {
        let path = dir.real.join_name(&name);
        let Some(real) = tree.resolve(&path) else {
            report.dangling.push(path);
            continue;
        };
        if !known.contains_key(&real) {
            known.insert(real.clone(), library(tree, &real)?);
        }
        let Some(Some(info)) = known.get(&real) else {
            continue;
        };
        let mut soname = info.soname.clone().unwrap_or_else(|| name.to_vec());
        if soname.is_empty()
            || soname.len() > 255
            || soname.contains(&b'/')
            || soname == b"."
            || soname == b".."
        {
            let shown = soname.escape_ascii();
            report.remarks.push(format!(
                "`{path}` is left out: its soname `{shown}` is not a file name"
            ));
            continue;
        }
        // A link counts as one where it is the soname itself or the name for linking (`libx.so`);
        // any other is a library of its own.
        let for_linking = name.ends_with(b".so") && soname.starts_with(&name);
        is_link &= *name == *soname || for_linking;
        if is_link {
            soname = name.to_vec();
        }
        let new = Chosen {
            name: name.to_vec(),
            is_link,
            flags: info.flags,
            isa_level: info.isa_level,
        };
        match chosen.get_mut(&soname) {
            None => {
                chosen.insert(soname, new);
            }
            Some(old) => {
                let newer = old.is_link == is_link && compare_names(&old.name, &name).is_lt();
                if (!is_link && old.is_link) || newer {
                    let flags = old.flags;
                    *old = Chosen { flags, ..new };
                }
            }
        }
    }
    Ok(chosen)
}

/// Makes `soname` in `dir` lead to `name`, unless it does or is not a link.
fn link(
    tree: &mut Tree,
    dir: &LibraryDir,
    soname: &[u8],
    name: &[u8],
    keep: bool,
    mtime: i64,
    report: &mut Report,
) -> Result<(), LdconfigError> {
    let at = dir.real.join_name(soname);
    if let Some(there) = tree.resolve(&at) {
        let library = tree.resolve(&dir.real.join_name(name));
        let same = library.is_some_and(|library| library == there || linked(tree, &library, &there));
        if same || keep {
            return Ok(());
        }
    }
    match tree.get(&at).map(|node| &node.kind) {
        None | Some(Kind::Symlink(_)) => {
            let node = Node::new(
                Meta::root(0o777, mtime),
                Kind::Symlink(name.into()),
                Origin::Composer("a library's soname"),
            );
            tree.insert(&at, node)?;
            report.links.push((at, name.to_vec()));
        }
        Some(other) => {
            let (noun, name) = (other.noun(), name.escape_ascii());
            report
                .remarks
                .push(format!("`{at}` is {noun}, not a link to `{name}`: left as it is"));
        }
    }
    Ok(())
}

/// Whether two paths are hard links of one file.
fn linked(tree: &Tree, a: &TreePath, b: &TreePath) -> bool {
    let link = |path| tree.file(path).and_then(|file| file.link);
    link(a).is_some_and(|id| link(b) == Some(id))
}

/// How the tree's own `ldconfig` signs its caches: that text stands in the program.
fn generator(tree: &Tree) -> Vec<u8> {
    const PLACES: [&str; 3] = ["/usr/sbin/ldconfig", "/sbin/ldconfig", "/usr/bin/ldconfig"];
    for place in PLACES.map(TreePath::literal) {
        let Ok(program) = read(tree, &place, 64 << 20, "ldconfig") else {
            continue;
        };
        let mut texts = program.split(|&b| b == 0);
        if let Some(text) =
            texts.find(|text| text.starts_with(b"ldconfig ") && contains(text, b" release version "))
        {
            return text.to_vec();
        }
    }
    b"ldconfig".to_vec()
}
