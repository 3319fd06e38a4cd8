//! The directories that the dynamic linker searches: `ld.so.conf` and the system's own.

use super::{LdconfigError, read};
use crate::formats::kmod::alias_matches;
use crate::tree::path::{PathError, TreePath};
use crate::tree::{Kind, Tree};

/// Architectures' names in Debian's directories.
const TRIPLETS: [&str; 5] = [
    "x86_64-linux-gnu",
    "aarch64-linux-gnu",
    "riscv64-linux-gnu",
    "i386-linux-gnu",
    "arm-linux-gnueabihf",
];
const MAX_CONF: u64 = 1 << 20;

/// A directory that the dynamic linker searches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryDir {
    /// As `ld.so.conf` names it.
    pub path: Vec<u8>,
    /// Where that leads.
    pub real: TreePath,
    /// The `glibc-hwcaps` subdirectory that it is.
    pub hwcaps: Option<Vec<u8>>,
}

/// The directories that the dynamic linker's cache covers, in its order: those of
/// `<etc>/ld.so.conf`, the system's own, and behind each its `glibc-hwcaps`.
///
/// # Errors
/// Where the configuration cannot be read or names a path outside the tree.
pub fn library_dirs(tree: &Tree, etc: &TreePath) -> Result<Vec<LibraryDir>, LdconfigError> {
    let mut dirs = Vec::new();
    let conf = etc.join_name(b"ld.so.conf");
    if tree.file(&conf).is_some() {
        read_conf(tree, etc, &conf, 0, &mut dirs)?;
    }
    for system in system_dirs(tree) {
        add_dir(tree, system.as_bytes(), None, &mut dirs).map_err(|source| LdconfigError::BadDirectory {
            conf: conf.clone(),
            line: 0,
            text: system,
            source: Some(source),
        })?;
    }
    Ok(dirs)
}

/// The architecture of a tree whose C library lies in Debian's multiarch directory.
pub(super) fn multiarch(tree: &Tree) -> Option<&'static str> {
    TRIPLETS.into_iter().find(|triplet| {
        let libc = TreePath::new(format!("/usr/lib/{triplet}/libc.so.6"));
        libc.is_ok_and(|path| tree.file(&path).is_some())
    })
}

/// The directories that the C library was built to search.
fn system_dirs(tree: &Tree) -> Vec<String> {
    match multiarch(tree) {
        Some(triplet) => ["/lib/", "/usr/lib/"]
            .iter()
            .map(|above| format!("{above}{triplet}"))
            .chain(["/lib".to_owned(), "/usr/lib".to_owned()])
            .collect(),
        None => [
            "/lib",
            "/lib64",
            "/libx32",
            "/usr/lib",
            "/usr/lib64",
            "/usr/libx32",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

/// Adds `path` where it leads to a directory that is not in the list yet.
fn add_dir(
    tree: &Tree,
    path: &[u8],
    hwcaps: Option<Vec<u8>>,
    dirs: &mut Vec<LibraryDir>,
) -> Result<(), PathError> {
    let Some(real) = tree.resolve(&TreePath::new(path)?) else {
        return Ok(());
    };
    if tree.get(&real).is_none_or(|node| node.children().is_none()) || dirs.iter().any(|dir| dir.real == real)
    {
        return Ok(());
    }
    let subdirs = match &hwcaps {
        None => tree.resolve(&real.join_name(b"glibc-hwcaps")),
        Some(_) => None,
    };
    dirs.push(LibraryDir {
        path: path.to_vec(),
        real,
        hwcaps,
    });
    let below = subdirs.and_then(|subdirs| tree.get(&subdirs)?.children());
    for (name, node) in below.into_iter().flatten() {
        if !name.starts_with(b".") && !name.contains(&b':') && !matches!(node.kind, Kind::File(_)) {
            let path = [path, b"/glibc-hwcaps/", name].concat();
            add_dir(tree, &path, Some(name.to_vec()), dirs)?;
        }
    }
    Ok(())
}

fn read_conf(
    tree: &Tree,
    etc: &TreePath,
    conf: &TreePath,
    depth: usize,
    dirs: &mut Vec<LibraryDir>,
) -> Result<(), LdconfigError> {
    let text = read(tree, conf, MAX_CONF, "a configuration of the dynamic linker")?;
    for (index, line) in text.split(|&b| b == b'\n').enumerate() {
        let number = index + 1;
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        let mut words = line
            .split(|b| matches!(b, b' ' | b'\t'))
            .filter(|word| !word.is_empty());
        let first = words.next();
        let bad = |text: &[u8], source| LdconfigError::BadDirectory {
            conf: conf.clone(),
            line: number,
            text: text.escape_ascii().to_string(),
            source,
        };
        match first {
            None => {}
            Some(b"include") => {
                if depth == 16 {
                    let conf = conf.clone();
                    return Err(LdconfigError::IncludeLoop { conf, line: number });
                }
                for pattern in words {
                    let pattern = match pattern.strip_prefix(b"/etc/") {
                        Some(below) => etc.join(below),
                        None if pattern.starts_with(b"/") => TreePath::new(pattern),
                        None => conf.parent().unwrap_or_else(TreePath::root).join(pattern),
                    };
                    let pattern = pattern.map_err(|source| bad(line, Some(source)))?;
                    for file in glob(tree, &pattern) {
                        read_conf(tree, etc, &file, depth + 1, dirs)?;
                    }
                }
            }
            Some(word) if word.eq_ignore_ascii_case(b"hwcap") => {}
            Some(_) => {
                let end = line.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
                if !line.starts_with(b"/") {
                    return Err(bad(line, None));
                }
                add_dir(tree, &line[..end], None, dirs).map_err(|source| bad(line, Some(source)))?;
            }
        }
    }
    Ok(())
}

/// The files that `pattern` (with `*`, `?`, `[…]` in any component) names, in byte order.
fn glob(tree: &Tree, pattern: &TreePath) -> Vec<TreePath> {
    let mut found = vec![TreePath::root()];
    for component in pattern.components() {
        let mut next = Vec::new();
        for path in &found {
            if !component.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
                next.push(path.join_name(component));
                continue;
            }
            let dir = tree.resolve(path).and_then(|real| tree.get(&real)?.children());
            let names = dir.into_iter().flat_map(|children| children.keys());
            let fits = names.filter(|name| !name.starts_with(b".") && alias_matches(component, name));
            next.extend(fits.map(|name| path.join_name(name)));
        }
        found = next;
    }
    found.retain(|path| tree.file(path).is_some());
    found
}
