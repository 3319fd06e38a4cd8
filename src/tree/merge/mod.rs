//! Merging the packages of a set into one tree, by the rules of RPM.
//!
//! The result is what one transaction of RPM leaves in an empty root without scriptlets. Where RPM's own result
//! hangs on the order of its transaction (files that differ in capabilities only, or that only a ghost between them
//! keeps from conflicting), the set is refused.

mod error;
mod node;
mod place;
mod share;

use std::collections::{BTreeMap, HashMap};

pub use error::{MergeError, MergeErrors};

use self::node::Nodes;
use self::place::Links;
use super::path::TreePath;
use super::{Children, Kind, LinkId, Meta, Node, Origin, Tree};
use crate::rpmset::{Contents, FileEntry, FileState, Filter, HardLink, RpmSet, States};

/// What becomes of IMA signatures that packages carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ima {
    #[default]
    Drop,
    /// As the extended attribute `security.ima`.
    Keep,
}

/// What whoever builds the image chooses.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub filter: Filter<'a>,
    pub ima: Ima,
}

impl Options<'static> {
    /// RPM's own defaults.
    pub const DEFAULT: Self = Self {
        filter: Filter::KEEP,
        ima: Ima::Drop,
    };
}

/// A set as it lies in the tree.
#[derive(Debug, Clone)]
pub struct Merged {
    pub tree: Tree,
    /// What became of each file, for the rpmdb.
    pub states: States,
}

/// Merges the files of `set`, with `contents` as [`RpmSet::contents`] gives them, each where it really lies:
/// symbolic links to directories are followed. Owners are names still. Directories that no package owns are root's,
/// 0755.
///
/// # Errors
/// All conflicts of the set.
pub fn merge(set: &RpmSet, contents: &Contents, options: &Options<'_>) -> Result<Merged, MergeErrors> {
    let packages = set.packages();
    let filter = &options.filter;
    let mut merger = Merger {
        set,
        states: packages
            .iter()
            .map(|package| filter.states(&package.files))
            .collect(),
        color: if filter.color == 0 { u32::MAX } else { filter.color },
        errors: Vec::new(),
    };
    let placed = merger.place();
    let winners = merger.choose(&placed);
    let tree = merger.build(&winners, contents, options.ima);
    let Merger {
        states, mut errors, ..
    } = merger;
    if errors.is_empty() {
        return Ok(Merged { tree, states });
    }
    errors.dedup();
    Err(MergeErrors(errors))
}

/// A file of the set: package and number in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Which {
    package: u32,
    file: u32,
}

/// What lies at a path.
struct Winner<'a> {
    path: &'a TreePath,
    which: Which,
    /// All packages that have it, in the order of the set.
    owners: Vec<u32>,
}

struct Merger<'a> {
    set: &'a RpmSet,
    states: States,
    color: u32,
    errors: Vec<MergeError>,
}

const IMPLICIT: Origin = Origin::Composer("a directory that no package owns");

impl<'a> Merger<'a> {
    fn file(&self, which: Which) -> &'a FileEntry {
        &self.set.packages()[which.package as usize].files[which.file as usize]
    }

    fn package(&self, which: Which) -> String {
        self.set.packages()[which.package as usize].nevra.to_string()
    }

    fn state(&mut self, which: Which) -> &mut FileState {
        &mut self.states[which.package as usize][which.file as usize]
    }

    /// All files that are to be there, each with its real path, in the order of paths and then of the set.
    fn place(&mut self) -> Vec<(TreePath, Which)> {
        let mut present = Vec::new();
        for (package, (states, entry)) in (0..).zip(self.states.iter().zip(self.set.packages())) {
            for (file, (state, entry)) in (0..).zip(states.iter().zip(&entry.files)) {
                // A ghost is never there by itself, and conflicts with nothing.
                if *state == FileState::Normal && !entry.is_ghost() {
                    present.push(Which { package, file });
                }
            }
        }
        let entries = || present.iter().map(|&which| self.file(which));
        let links: Vec<_> = entries()
            .filter(|file| file.is_symlink())
            .map(|file| (&file.path, file.target.as_slice()))
            .collect();
        let links = Links::new(&links);
        let mut directories: HashMap<TreePath, Result<TreePath, place::Obstacle>> = HashMap::new();
        let mut placed = Vec::with_capacity(present.len());
        for which in present {
            let path = &self.file(which).path;
            let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
                placed.push((TreePath::root(), which));
                continue;
            };
            let real = directories
                .entry(parent)
                .or_insert_with_key(|parent| links.directory(parent));
            match real {
                Ok(real) => placed.push((real.join_name(name), which)),
                Err((obstacle, what)) => {
                    let (obstacle, what) = (obstacle.clone(), what.clone());
                    self.errors.push(self.blocked(which, obstacle, what));
                }
            }
        }
        placed.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
        placed
    }

    fn blocked(&self, which: Which, obstacle: TreePath, what: String) -> MergeError {
        MergeError::Blocked {
            package: self.package(which),
            path: self.file(which).path.clone(),
            obstacle,
            what,
        }
    }

    /// One file for each path. The states of those that lose by their ELF class are noted.
    fn choose<'p>(&mut self, placed: &'p [(TreePath, Which)]) -> Vec<Winner<'p>> {
        let mut winners = Vec::with_capacity(placed.len());
        for group in placed.chunk_by(|a, b| a.0 == b.0) {
            let path = &group[0].0;
            // Each variant by the first file that has it; what is the same as one shares its fate.
            let mut variants: Vec<(Which, Vec<Which>)> = Vec::new();
            for &(_, which) in group {
                let file = self.file(which);
                let known = variants
                    .iter_mut()
                    .find(|(first, _)| share::same(self.file(*first), file));
                match known {
                    Some((_, members)) => members.push(which),
                    None => variants.push((which, vec![which])),
                }
            }
            let mut winner = variants[0].0;
            for (number, &(second, _)) in variants.iter().enumerate() {
                for &(first, _) in &variants[..number] {
                    if !share::decided_by_class(self.file(first), self.file(second), self.color) {
                        self.errors.push(self.conflict(path, first, second));
                    }
                }
                if self.file(second).color & self.color & share::PREFERRED != 0 {
                    winner = second;
                }
            }
            for (first, members) in &variants {
                if *first != winner {
                    for &which in members {
                        *self.state(which) = FileState::WrongColor;
                    }
                }
            }
            let mut owners: Vec<_> = group.iter().map(|(_, which)| which.package).collect();
            owners.dedup();
            winners.push(Winner {
                path,
                which: winner,
                owners,
            });
        }
        winners
    }

    fn conflict(&self, path: &TreePath, first: Which, second: Which) -> MergeError {
        let (a, b) = (self.file(first), self.file(second));
        MergeError::Conflict {
            path: path.clone(),
            first: self.package(first),
            first_what: share::describe(a, b),
            second: self.package(second),
            second_what: share::describe(b, a),
        }
    }

    fn build(&mut self, winners: &[Winner<'_>], contents: &Contents, ima: Ima) -> Tree {
        let mut nodes = Nodes::new(ima);
        let links = self.hard_links(winners);
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for winner in winners {
            let Winner { path, which, .. } = *winner;
            let file = self.file(which);
            let link = file.link.and_then(|link| links.get(&(which.package, link)));
            let made = || {
                // Names of one inode have one owner and mode, whatever the header says of each.
                let meta = nodes.meta(link.map_or(file, |set| self.file(set.leader)))?;
                let blob = contents[which.package as usize][which.file as usize].as_ref();
                Ok((meta, node::kind(file, blob, link.map(|set| set.id))?))
            };
            let made: Result<_, String> = { made }();
            let (meta, kind) = match made {
                Ok(made) => made,
                Err(what) => {
                    let package = self.package(which);
                    let path = file.path.clone();
                    self.errors.push(MergeError::Malformed { package, path, what });
                    continue;
                }
            };
            let node = Node::new(meta, kind, Origin::Packages(winner.owners.clone()));
            if let Err((obstacle, what)) = insert(&mut tree, path, node) {
                self.errors.push(self.blocked(which, obstacle, what.to_owned()));
            }
        }
        tree
    }

    /// The sets of names of one inode, as far as they came to lie in the tree. A single name is no set.
    fn hard_links(&self, winners: &[Winner<'_>]) -> HashMap<(u32, HardLink), LinkSet> {
        let mut found: BTreeMap<(u32, HardLink), Vec<Which>> = BTreeMap::new();
        for winner in winners {
            if let Some(link) = self.file(winner.which).link {
                found
                    .entry((winner.which.package, link))
                    .or_default()
                    .push(winner.which);
            }
        }
        // RPM sets owner and mode with the last name of the list, which brings the content; where that one is left
        // out, with the first that is there.
        let last = |package: u32, link: HardLink| {
            let files = &self.set.packages()[package as usize].files;
            files.iter().rposition(|file| file.link == Some(link))
        };
        let sets = found.into_iter().filter(|(_, members)| members.len() > 1);
        (1..)
            .zip(sets)
            .map(|(id, (key, mut members))| {
                members.sort();
                let last = last(key.0, key.1);
                let by_content = members.iter().find(|which| last == Some(which.file as usize));
                let leader = *by_content.unwrap_or(&members[0]);
                let id = LinkId(id);
                (key, LinkSet { id, leader })
            })
            .collect()
    }
}

struct LinkSet {
    id: LinkId,
    /// Whose mode and owner all have.
    leader: Which,
}

/// Puts `node` at `path`, whose parents come first if anyone owns them. What is in the way otherwise.
fn insert(tree: &mut Tree, path: &TreePath, node: Node) -> Result<(), (TreePath, &'static str)> {
    let Some(name) = path.name() else {
        let root = tree.root_mut();
        (root.meta, root.origin) = (node.meta, node.origin);
        return Ok(());
    };
    let above = path.parent().unwrap_or_else(TreePath::root);
    let mut at = tree.root_mut();
    let mut depth = 0;
    for part in above.components() {
        depth += 1;
        let noun = at.kind.noun();
        let Some(children) = at.children_mut() else {
            return Err((ancestor(path, depth - 1), noun));
        };
        at = children
            .entry(part.into())
            .or_insert_with(|| Node::new(Meta::root(0o755, 0), Kind::Dir(Children::new()), IMPLICIT));
    }
    let noun = at.kind.noun();
    let children = at.children_mut().ok_or_else(|| (above.clone(), noun))?;
    children.insert(name.into(), node);
    Ok(())
}

/// The first `depth` components of `path`.
fn ancestor(path: &TreePath, depth: usize) -> TreePath {
    let parts = path.components().take(depth);
    parts.fold(TreePath::root(), |above, part| above.join_name(part))
}
