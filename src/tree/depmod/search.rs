//! Which module files depmod considers: `depmod.d`, the directories, and who wins of two files
//! for one module.

use std::collections::BTreeMap;

use regex::bytes::Regex;

use super::DepmodError;
use crate::formats::kmod;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Tree};

/// `depmod.d` as far as it bears on the search.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// In the order of the files: the first directory has the highest rank.
    dirs: Vec<Dir>,
    /// `subdirectory/module`, the last line first.
    overrides: Vec<Vec<u8>>,
    excludes: Vec<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Dir {
    BuiltIn,
    Path(Vec<u8>),
}

/// A module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub name: Vec<u8>,
    /// Relative to the kernel's directory.
    pub relative: Vec<u8>,
    pub path: TreePath,
}

/// Directories of configuration, the strongest first; `/usr/etc` is `/etc` in ostree's layout.
const CONF_DIRS: [&str; 5] = [
    "/etc/depmod.d",
    "/usr/etc/depmod.d",
    "/usr/local/lib/depmod.d",
    "/usr/lib/depmod.d",
    "/lib/depmod.d",
];

impl Search {
    /// Reads the tree's configuration for kernel `kver`. Of files with one name, the first
    /// directory's counts.
    pub(super) fn read(tree: &Tree, kver: &str) -> Result<Self, DepmodError> {
        let mut files: BTreeMap<Vec<u8>, TreePath> = BTreeMap::new();
        for dir in CONF_DIRS.map(TreePath::literal) {
            let children = tree.resolve(&dir).and_then(|real| tree.get(&real)?.children());
            for name in children.into_iter().flat_map(|children| children.keys()) {
                let path = dir.join_name(name);
                if !name.starts_with(b".") && name.ends_with(b".conf") && tree.file(&path).is_some() {
                    files.entry(name.to_vec()).or_insert(path);
                }
            }
        }
        let mut search = Self::default();
        for path in files.values() {
            let text = super::read_text(tree, path)?;
            search.read_file(path, &text, kver)?;
        }
        if search.dirs.is_empty() {
            search.dirs.push(Dir::Path(b"updates".to_vec()));
        }
        Ok(search)
    }

    fn read_file(&mut self, path: &TreePath, text: &[u8], kver: &str) -> Result<(), DepmodError> {
        let mut joined = Vec::new();
        for (index, raw) in text.split(|&b| b == b'\n').enumerate() {
            if let Some(part) = raw.strip_suffix(b"\\") {
                joined.extend(part);
                continue;
            }
            joined.extend(raw);
            let line = std::mem::take(&mut joined);
            let mut words = line
                .split(|b| matches!(b, b' ' | b'\t'))
                .filter(|word| !word.is_empty());
            let Some(command) = words.next().filter(|word| !word.starts_with(b"#")) else {
                continue;
            };
            let words: Vec<&[u8]> = words.collect();
            match (command, words.as_slice()) {
                (b"search", dirs) => self.dirs.extend(dirs.iter().map(|dir| match *dir {
                    b"built-in" => Dir::BuiltIn,
                    path => Dir::Path(path.to_vec()),
                })),
                (b"override", [module, kernel, subdir, ..]) => {
                    if kernel_matches(kernel, kver) {
                        self.overrides.insert(0, [subdir, b"/" as &[u8], module].concat());
                    }
                }
                (b"exclude", names) => self.excludes.extend(names.iter().map(|name| name.to_vec())),
                (b"include" | b"make_map_files", _) => {}
                _ => {
                    return Err(DepmodError::Conf {
                        path: path.clone(),
                        line: index + 1,
                        text: line.escape_ascii().to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The module files below `dir`, one a module's name, in the order of their paths.
    pub(super) fn find(&self, tree: &Tree, dir: &TreePath) -> Result<Vec<Found>, DepmodError> {
        let mut all = Vec::new();
        self.walk(tree, dir, b"", &mut all)?;
        let mut winners: Vec<Option<Found>> = Vec::new();
        let mut by_name: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for new in all {
            let old = by_name.get(&new.name).and_then(|&at| winners.get_mut(at));
            if let Some(slot) = old {
                if slot
                    .as_ref()
                    .is_some_and(|old| self.old_wins(&old.relative, &new))
                {
                    continue;
                }
                *slot = None;
            }
            by_name.insert(new.name.clone(), winners.len());
            winners.push(Some(new));
        }
        Ok(winners.into_iter().flatten().collect())
    }

    fn walk(
        &self,
        tree: &Tree,
        dir: &TreePath,
        above: &[u8],
        all: &mut Vec<Found>,
    ) -> Result<(), DepmodError> {
        if above.iter().filter(|&&b| b == b'/').count() > 40 {
            return Err(DepmodError::TooDeep(dir.clone()));
        }
        let Some(children) = tree.get(dir).and_then(|node| node.children()) else {
            return Ok(());
        };
        for (name, node) in children {
            if matches!(&**name, b"build" | b"source") || self.excludes.iter().any(|other| **other == **name)
            {
                continue;
            }
            let Some(real) = tree.resolve(&dir.join_name(name)) else {
                continue;
            };
            let relative = [above, name].concat();
            match tree.get(&real).map(|node| &node.kind) {
                Some(Kind::Dir(_)) if matches!(node.kind, Kind::Dir(_)) => {
                    self.walk(tree, &real, &[&relative, b"/" as &[u8]].concat(), all)?;
                }
                Some(Kind::File(_)) if kmod::is_module_name(name) => all.push(Found {
                    name: kmod::module_name(name),
                    relative,
                    path: dir.join_name(name),
                }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the file found first keeps its place against `new`, a file for the same module.
    fn old_wins(&self, old: &[u8], new: &Found) -> bool {
        let stem = |path: &[u8]| {
            let name = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
            path[..(name + new.name.len()).min(path.len())].to_vec()
        };
        let (old_stem, new_stem) = (stem(old), stem(&new.relative));
        for path in &self.overrides {
            if *path == new_stem {
                return false;
            }
            if *path == old_stem {
                return true;
            }
        }
        let rank = |dir: &Dir| self.dirs.iter().rposition(|other| other == dir);
        let built_in = rank(&Dir::BuiltIn);
        let below =
            |path: &[u8], dir: &[u8]| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
        // A greater number is a lower rank; none at all is the lowest.
        let (mut old_rank, mut new_rank) = (None, None);
        for (index, dir) in self.dirs.iter().enumerate().rev() {
            let Dir::Path(dir) = dir else { continue };
            if below(&new_stem, dir) {
                new_rank = Some(index);
            } else if below(&old_stem, dir) {
                old_rank = Some(index);
            }
        }
        let (old_rank, new_rank) = (old_rank.or(built_in), new_rank.or(built_in));
        let strength = |rank: Option<usize>| rank.map_or(usize::MAX, |rank| rank);
        strength(new_rank) >= strength(old_rank)
    }
}

/// Whether a pattern of `override` (`*` or an extended regular expression) fits the kernel.
fn kernel_matches(pattern: &[u8], kver: &str) -> bool {
    let regex = || Regex::new(std::str::from_utf8(pattern).ok()?).ok();
    pattern == b"*" || regex().is_some_and(|regex| regex.is_match(kver.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Node, Origin};

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (path, text) in files {
            let kind = match text.strip_prefix("-> ") {
                Some(target) => Kind::Symlink(target.as_bytes().into()),
                None => Kind::file(text.as_bytes()),
            };
            let node = Node::new(Meta::root(0o644, 0), kind, Origin::Composer("test"));
            tree.insert(&TreePath::new(path).unwrap(), node).unwrap();
        }
        tree
    }

    fn winners(files: &[(&str, &str)]) -> Vec<String> {
        let tree = tree(files);
        let search = Search::read(&tree, "6.12").unwrap();
        let found = search.find(&tree, &TreePath::literal("/m")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        found.into_iter().map(|found| text(found.relative)).collect()
    }

    #[test]
    fn of_two_files_the_configured_directory_wins() {
        let kernel = ("/m/kernel/a-b.ko.xz", "");
        let extra = ("/m/extra/a_b.ko", "");
        let updates = ("/m/updates/a-b.ko", "");
        let extra_first = (
            "/usr/lib/depmod.d/x.conf",
            "# c\nsearch extra updates \\\n built-in\n",
        );
        let chosen = ("/etc/depmod.d/x.conf", "override a_b 6.* extra\n");
        let elsewhere = ("/etc/depmod.d/x.conf", "override a_b 5.* extra\nexclude kernel\n");
        assert_eq!(winners(&[kernel]), ["kernel/a-b.ko.xz"]);
        assert_eq!(winners(&[kernel, updates]), ["updates/a-b.ko"]);
        assert_eq!(
            winners(&[kernel, extra]),
            ["extra/a_b.ko"],
            "equal rank: the first in byte order"
        );
        assert_eq!(winners(&[extra_first, kernel, updates, extra]), ["extra/a_b.ko"]);
        assert_eq!(winners(&[chosen, kernel, updates, extra]), ["extra/a_b.ko"]);
        assert_eq!(winners(&[elsewhere, kernel, updates, extra]), ["updates/a-b.ko"]);
    }

    #[test]
    fn links_to_modules_count_and_builds_do_not() {
        let files = [
            ("/other/x.ko", "x"),
            ("/m/weak-updates/x.ko", "-> ../../other/x.ko"),
            ("/m/weak-updates/gone.ko", "-> nowhere"),
            ("/m/build", "-> ../other"),
            ("/m/kernel/y.ko.bz2", ""),
        ];
        assert_eq!(winners(&files), ["weak-updates/x.ko"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let tree = tree(&[("/etc/depmod.d/bad.conf", "\nexternal * /opt/modules\n")]);
        let error = Search::read(&tree, "6.12").unwrap_err();
        assert!(error.to_string().contains("/etc/depmod.d/bad.conf:2"), "{error}");
    }
}
