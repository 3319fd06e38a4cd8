//! Taking files over from the image's tree, with the links that lead to them.

use crate::tree::path::TreePath;
use crate::tree::{Kind, Node, Tree, TreeError};

/// Copies parts of one tree into another, which stays closed: what a path leads through in the
/// first it leads through in the second.
pub struct Gather<'a> {
    from: &'a Tree,
    pub into: Tree,
}

impl<'a> Gather<'a> {
    pub fn new(from: &'a Tree, into: Tree) -> Self {
        Self { from, into }
    }

    /// The tree that is copied from.
    pub fn source(&self) -> &'a Tree {
        self.from
    }

    /// Takes over what `path` leads to: every symbolic link on the way, and the end of it, a
    /// directory with all that is below. Paths below `/etc` are looked up in `/usr/etc` too and
    /// are put below `/etc`. Where the way ends nowhere, nothing is taken and `None` is given.
    ///
    /// # Errors
    /// Where something other than a directory is in the way.
    pub fn add(&mut self, path: &TreePath) -> Result<Option<TreePath>, TreeError> {
        if let Some((links, end)) = self.from.follow(path) {
            for link in links {
                self.copy(&link, &link)?;
            }
            self.add_resolved(&end, &end)?;
            return Ok(Some(end));
        }
        let etc = TreePath::literal("/etc");
        let vendor = TreePath::literal("/usr/etc");
        if path.starts_with(&etc)
            && let Ok(below) = vendor.join(path.as_bytes().strip_prefix(b"/etc").unwrap_or_default())
            && let Some(end) = self.from.resolve(&below)
        {
            self.add_resolved(&end, path)?;
            return Ok(Some(end));
        }
        Ok(None)
    }

    /// Takes over the node at `from`, which no link leads through, as `to`.
    fn add_resolved(&mut self, from: &TreePath, to: &TreePath) -> Result<(), TreeError> {
        let Some(node) = self.from.get(from) else {
            return Ok(());
        };
        self.copy(from, to)?;
        for name in node.children().into_iter().flat_map(|children| children.keys()) {
            let (below, target) = (from.join_name(name), to.join_name(name));
            match self.from.get(&below).map(|node| &node.kind) {
                // A link to what is absent is as much a part of a directory as any other.
                Some(Kind::Symlink(_)) => {
                    self.copy(&below, &target)?;
                    self.add(&below)?;
                }
                _ => self.add_resolved(&below, &target)?,
            }
        }
        Ok(())
    }

    /// Takes over the node at `path` alone, a directory without its entries: for a list that
    /// holds the links and directories on the way itself.
    ///
    /// # Errors
    /// Where something other than a directory is in the way.
    pub fn add_node(&mut self, path: &TreePath) -> Result<(), TreeError> {
        self.copy(path, path)
    }

    /// Copies one node, a directory without its entries; what is there already stays.
    fn copy(&mut self, from: &TreePath, to: &TreePath) -> Result<(), TreeError> {
        let (Some(node), None) = (self.from.get(from), self.into.get(to)) else {
            return Ok(());
        };
        let kind = match &node.kind {
            Kind::Dir(_) => Kind::Dir(Default::default()),
            other => other.clone(),
        };
        let copied = Node::new(node.meta.clone(), kind, node.origin.clone());
        self.into.insert(to, copied).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Origin};

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn tree(entries: &[(&str, Kind)]) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (at, kind) in entries {
            let node = Node::new(Meta::root(0o644, 0), kind.clone(), Origin::Composer("test"));
            tree.insert(&path(at), node).unwrap();
        }
        tree
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink(target.as_bytes().into())
    }

    fn names(tree: &Tree) -> Vec<String> {
        tree.walk().skip(1).map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn links_on_the_way_come_with_what_they_lead_to() {
        let from = tree(&[
            ("/sbin", link("usr/sbin")),
            ("/usr/sbin/modprobe", link("../bin/kmod")),
            ("/usr/bin/kmod", Kind::file(*b"elf")),
            ("/usr/bin/other", Kind::file(*b"elf")),
        ]);
        let mut gather = Gather::new(&from, Tree::new(Meta::root(0o755, 0)));
        assert_eq!(
            gather.add(&path("/sbin/modprobe")).unwrap(),
            Some(path("/usr/bin/kmod"))
        );
        assert_eq!(
            names(&gather.into),
            [
                "/sbin",
                "/usr",
                "/usr/bin",
                "/usr/bin/kmod",
                "/usr/sbin",
                "/usr/sbin/modprobe"
            ]
        );
    }

    #[test]
    fn directories_come_whole_and_etc_from_where_it_is() {
        let from = tree(&[
            ("/usr/etc/modprobe.d/a.conf", Kind::file(*b"a")),
            ("/usr/etc/modprobe.d/b.conf", link("/nowhere")),
            ("/etc", Kind::Dir(Default::default())),
        ]);
        let mut gather = Gather::new(&from, Tree::new(Meta::root(0o755, 0)));
        assert!(gather.add(&path("/etc/modprobe.d")).unwrap().is_some());
        assert_eq!(gather.add(&path("/etc/absent")).unwrap(), None);
        assert_eq!(
            names(&gather.into),
            [
                "/etc",
                "/etc/modprobe.d",
                "/etc/modprobe.d/a.conf",
                "/etc/modprobe.d/b.conf"
            ]
        );
    }

    #[test]
    fn a_loop_ends() {
        let from = tree(&[("/a", link("b")), ("/b", link("a"))]);
        let mut gather = Gather::new(&from, Tree::new(Meta::root(0o755, 0)));
        assert_eq!(gather.add(&path("/a")).unwrap(), None);
    }
}
