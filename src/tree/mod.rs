//! The file tree of an image, in memory: metadata and names, with contents as [`Blob`]s.

pub mod booted;
pub mod caches;
pub mod capability;
pub mod closure;
pub mod depmod;
mod from_dir;
pub mod identity;
pub mod layout;
pub mod ldconfig;
pub mod merge;
pub mod modules;
mod node;
pub mod overlay;
pub mod rpm_verify;
pub mod seal;
pub mod selinux;
pub mod units;

pub use from_dir::FromDirError;
pub use node::{Children, FileData, Kind, LinkId, Meta, Node, Origin, Xattrs};

pub use crate::path;
use path::TreePath;

/// A file tree. Paths are absolute, normalised and made of raw bytes ([`TreePath`]).
#[derive(Debug, Clone)]
pub struct Tree {
    root: Node,
}

/// A path cannot be reached or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A component before the last one is something other than a directory.
    #[error("`{path}` cannot exist: `{obstacle}` is {what}, not a directory")]
    NotADirectory {
        path: TreePath,
        obstacle: TreePath,
        what: &'static str,
    },
}

impl Tree {
    /// A tree whose root is an empty directory with `meta`.
    pub fn new(meta: Meta) -> Self {
        Self {
            root: Node::new(
                meta,
                Kind::Dir(Children::new()),
                Origin::Composer("the root directory"),
            ),
        }
    }

    /// The root directory.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The root directory, to be changed.
    pub fn root_mut(&mut self) -> &mut Node {
        &mut self.root
    }

    /// The node at `path`; symbolic links are *not* followed.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        let mut node = &self.root;
        for name in path.components() {
            node = node.children()?.get(name)?;
        }
        Some(node)
    }

    /// As [`Tree::get`], to be changed.
    pub fn get_mut(&mut self, path: &TreePath) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for name in path.components() {
            node = node.children_mut()?.get_mut(name)?;
        }
        Some(node)
    }

    /// Where `path` leads when symbolic links are followed inside the tree, the last component's
    /// included; `None` where something is absent or more than 40 links are met.
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        self.follow(path).map(|(_, end)| end)
    }

    /// As [`Tree::resolve`], with the symbolic links on the way, each under its resolved path.
    pub fn follow(&self, path: &TreePath) -> Option<(Vec<TreePath>, TreePath)> {
        let mut links = Vec::new();
        let mut done = TreePath::root();
        let mut todo: Vec<Box<[u8]>> = path.components().rev().map(Box::from).collect();
        while let Some(name) = todo.pop() {
            if &*name == b".." {
                done = done.parent().unwrap_or_else(TreePath::root);
                continue;
            }
            let next = done.join_name(&name);
            let Kind::Symlink(target) = &self.get(&next)?.kind else {
                done = next;
                continue;
            };
            links.push(next);
            // As the kernel has it: more is a loop.
            if links.len() > 40 {
                return None;
            }
            if target.starts_with(b"/") {
                done = TreePath::root();
            }
            let parts = target.split(|&b| b == b'/').rev();
            todo.extend(parts.filter(|p| !p.is_empty() && *p != b".").map(Box::from));
        }
        Some((links, done))
    }

    /// The regular file that `path` leads to, symbolic links followed.
    pub fn file(&self, path: &TreePath) -> Option<&FileData> {
        match &self.get(&self.resolve(path)?)?.kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    /// Puts `node` at `path`, in place of what was there; directories above that are absent are
    /// made root-owned, 0755, with `node`'s time.
    ///
    /// # Errors
    /// Where a component above is not a directory.
    pub fn insert(&mut self, path: &TreePath, node: Node) -> Result<Option<Node>, TreeError> {
        let Some(last) = path.name() else {
            return Ok(Some(std::mem::replace(&mut self.root, node)));
        };
        let above = path.parent().unwrap_or_else(TreePath::root);
        let parent = self
            .make_dirs(&above, node.meta.mtime)
            .map_err(|error| match error {
                TreeError::NotADirectory { obstacle, what, .. } => TreeError::NotADirectory {
                    path: path.clone(),
                    obstacle,
                    what,
                },
            })?;
        Ok(parent.insert(last.into(), node))
    }

    /// The children of directory `path`, made as [`Tree::insert`] makes directories.
    ///
    /// # Errors
    /// Where a component is not a directory.
    pub fn make_dirs(&mut self, path: &TreePath, mtime: i64) -> Result<&mut Children, TreeError> {
        let mut at = TreePath::root();
        let mut node = &mut self.root;
        for name in path.components() {
            let what = node.kind.noun();
            let Kind::Dir(children) = &mut node.kind else {
                return Err(TreeError::NotADirectory {
                    path: path.clone(),
                    obstacle: at,
                    what,
                });
            };
            at = at.join_name(name);
            node = children.entry(name.into()).or_insert_with(|| {
                let origin = Origin::Composer("a directory above a file");
                Node::new(Meta::root(0o755, mtime), Kind::Dir(Children::new()), origin)
            });
        }
        let what = node.kind.noun();
        match &mut node.kind {
            Kind::Dir(children) => Ok(children),
            _ => Err(TreeError::NotADirectory {
                path: path.clone(),
                obstacle: at,
                what,
            }),
        }
    }

    /// Takes the node at `path` out of the tree.
    pub fn remove(&mut self, path: &TreePath) -> Option<Node> {
        let parent = self.get_mut(&path.parent()?)?;
        parent.children_mut()?.remove(path.name()?)
    }

    /// Every node, parents before children, names in byte order; the root first.
    pub fn walk(&self) -> impl Iterator<Item = (TreePath, &Node)> {
        Walk {
            stack: vec![(TreePath::root(), &self.root)],
        }
    }

    /// Every node at or below `path` (nothing where it is absent), as [`Tree::walk`].
    pub fn walk_from(&self, path: &TreePath) -> impl Iterator<Item = (TreePath, &Node)> {
        Walk {
            stack: self
                .get(path)
                .map(|node| (path.clone(), node))
                .into_iter()
                .collect(),
        }
    }

    /// Calls `change` on every node, parents before children.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&TreePath, &mut Node)) {
        fn down(path: &TreePath, node: &mut Node, change: &mut dyn FnMut(&TreePath, &mut Node)) {
            change(path, node);
            if let Some(children) = node.children_mut() {
                for (name, child) in children {
                    down(&path.join_name(name), child, change);
                }
            }
        }
        down(&TreePath::root(), &mut self.root, &mut change);
    }
}

struct Walk<'a> {
    stack: Vec<(TreePath, &'a Node)>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (TreePath, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, node) = self.stack.pop()?;
        if let Some(children) = node.children() {
            let below = children
                .iter()
                .rev()
                .map(|(name, child)| (path.join_name(name), child));
            self.stack.extend(below);
        }
        Some((path, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn sample() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let mut put = |at: &str, kind| {
            let node = Node::new(Meta::root(0o644, 7), kind, Origin::Composer("test"));
            tree.insert(&path(at), node).unwrap();
        };
        put("/usr/bin/sh", Kind::file(*b"#!"));
        put("/bin", Kind::Symlink((*b"usr/bin").into()));
        put("/usr/loop", Kind::Symlink((*b"loop").into()));
        put("/usr/up", Kind::Symlink((*b"../../../bin").into()));
        tree
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        let tree = sample();
        assert_eq!(tree.resolve(&path("/bin/sh")), Some(path("/usr/bin/sh")));
        assert_eq!(tree.resolve(&path("/usr/up/sh")), Some(path("/usr/bin/sh")));
        assert_eq!(tree.resolve(&path("/usr/loop")), None);
        assert_eq!(tree.resolve(&path("/absent")), None);
        assert_eq!(
            tree.file(&path("/bin/sh")).unwrap().blob.read_all().unwrap(),
            b"#!"
        );
        assert!(tree.file(&path("/usr")).is_none());
    }

    #[test]
    fn nothing_is_put_below_a_file_or_a_link() {
        let mut tree = sample();
        let node = Node::new(Meta::root(0o644, 0), Kind::Fifo, Origin::Composer("test"));
        let error = tree.insert(&path("/bin/x"), node).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/bin/x` cannot exist: `/bin` is a symbolic link, not a directory"
        );
    }

    #[test]
    fn a_walk_goes_parents_first_in_byte_order() {
        let tree = sample();
        let seen: Vec<_> = tree.walk().map(|(path, _)| path.to_string()).collect();
        assert_eq!(
            seen,
            [
                "/",
                "/bin",
                "/usr",
                "/usr/bin",
                "/usr/bin/sh",
                "/usr/loop",
                "/usr/up"
            ]
        );
    }
}
