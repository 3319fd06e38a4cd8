//! Merging the packages of a set into one tree, by the rules of RPM.

use std::collections::HashMap;
use std::sync::Arc;

use super::path::TreePath;
use super::{Children, FileData, Kind, LinkId, Meta, Node, Origin, Tree, capability};
use crate::rpmset::{Contents, FileEntry, HardLink, RpmSet};
use crate::store::Blob;

/// Two packages cannot be in one tree, or one asks for what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum MergeError {
    #[error("`{path}` is {first_what} in {first} and {second_what} in {second}")]
    #[diagnostic(help("leave one of the two packages out of the set, or take versions that agree"))]
    Conflict {
        path: TreePath,
        first: String,
        first_what: String,
        second: String,
        second_what: String,
    },
    #[error("{package}: `{path}` lies behind `{obstacle}`, which is {what}")]
    #[diagnostic(help("take another version of the package, or of the one that brings the obstacle"))]
    Blocked {
        package: String,
        path: TreePath,
        obstacle: TreePath,
        what: String,
    },
    #[error("{package}: `{path}` has {what}")]
    #[diagnostic(help("the package is malformed: have it rebuilt by its maker"))]
    Malformed {
        package: String,
        path: TreePath,
        what: String,
    },
}

/// Merges all files of `set`, with `contents` as [`RpmSet::contents`] gives them, paths as the
/// packages name them, symbolic links to directories followed. Owners are names still.
///
/// # Errors
/// All conflicts of the set.
pub fn merge(set: &RpmSet, contents: &Contents) -> Result<Tree, Vec<MergeError>> {
    let mut merger = Merger {
        set,
        tree: Tree::new(Meta::root(0o755, 0)),
        names: HashMap::new(),
        links: HashMap::new(),
        colors: HashMap::new(),
        errors: Vec::new(),
    };
    let mut files: Vec<(&FileEntry, u32, Option<&Blob>)> = Vec::new();
    for (index, (package, blobs)) in (0..).zip(set.packages().iter().zip(contents)) {
        let present = package
            .files
            .iter()
            .zip(blobs)
            .filter(|(file, _)| !file.is_ghost());
        files.extend(present.map(|(file, blob)| (file, index, blob.as_ref())));
    }
    // Parents before children; packages in the order of the set.
    files.sort_by(|a, b| a.0.path.cmp(&b.0.path).then(a.1.cmp(&b.1)));
    for (file, package, blob) in files {
        if let Err(error) = merger.add(file, package, blob) {
            merger.errors.push(error);
        }
    }
    merger.errors.dedup();
    if merger.errors.is_empty() {
        Ok(merger.tree)
    } else {
        Err(merger.errors)
    }
}

struct Merger<'a> {
    set: &'a RpmSet,
    tree: Tree,
    names: HashMap<&'a str, Arc<str>>,
    links: HashMap<(u32, HardLink), LinkId>,
    /// ELF classes of the files that have one.
    colors: HashMap<TreePath, u32>,
    errors: Vec<MergeError>,
}

const IMPLICIT: Origin = Origin::Composer("a directory that no package owns");
/// As in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

impl<'a> Merger<'a> {
    fn add(&mut self, file: &'a FileEntry, package: u32, blob: Option<&Blob>) -> Result<(), MergeError> {
        let Some(name) = file.path.name() else {
            let node = self.node(file, package, blob)?;
            let root = self.tree.root_mut();
            (root.meta, root.origin) = (node.meta, node.origin);
            return Ok(());
        };
        let parent = file.path.parent().unwrap_or_else(TreePath::root);
        let parent = self
            .real_directory(&parent)
            .map_err(|(obstacle, what)| MergeError::Blocked {
                package: self.package(package),
                path: file.path.clone(),
                obstacle,
                what,
            })?;
        let path = parent.join_name(name);
        let node = self.node(file, package, blob)?;
        let color = file.color & 3;
        let Some(present) = self.tree.get(&path) else {
            if color != 0 {
                self.colors.insert(path.clone(), color);
            }
            // The parent was just found to be a directory.
            let _ = self.tree.insert(&path, node);
            return Ok(());
        };
        self.share(&path, present.clone(), node, file, package)
    }

    /// A second package (or a second spelling of a path) brings `node` where `present` is.
    fn share(
        &mut self,
        path: &TreePath,
        present: Node,
        node: Node,
        file: &FileEntry,
        package: u32,
    ) -> Result<(), MergeError> {
        // A directory that exists because something lies in it takes its owner's metadata.
        if present.origin == IMPLICIT && matches!(node.kind, Kind::Dir(_)) {
            if let Some(target) = self.tree.get_mut(path) {
                (target.meta, target.origin) = (node.meta, node.origin);
            }
            return Ok(());
        }
        // RPM lets a directory be where a package has a link to one.
        let link_to_directory = |a: &Kind, b: &Kind| {
            matches!((a, b), (Kind::Symlink(_), Kind::Dir(_)))
                && self
                    .tree
                    .resolve(path)
                    .and_then(|path| self.tree.get(&path))
                    .is_none_or(|node| node.children().is_some())
        };
        let both = same(&present, &node) || link_to_directory(&present.kind, &node.kind);
        let color = file.color & 3;
        let other = self.colors.get(path).copied().unwrap_or(0);
        let preferred = color != 0 && other != 0 && color != other;
        if !both && !preferred {
            return Err(MergeError::Conflict {
                path: path.clone(),
                first: self.origin(&present.origin),
                first_what: describe(&present, &node),
                second: self.package(package),
                second_what: describe(&node, &present),
            });
        }
        if let Some(target) = self.tree.get_mut(path) {
            // Of two ELF classes, the 64-bit one is installed.
            if preferred && color & 2 != 0 {
                (target.meta, target.kind) = (node.meta, node.kind);
                self.colors.insert(path.clone(), color);
            }
            if let Origin::Packages(owners) = &mut target.origin {
                owners.push(package);
            }
        }
        Ok(())
    }

    /// Where `path` really lies, links followed, what is absent made a directory.
    fn real_directory(&mut self, path: &TreePath) -> Result<TreePath, (TreePath, String)> {
        let mut links = 0;
        let mut done = TreePath::root();
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut link = TreePath::root();
        while let Some(name) = todo.pop() {
            if name == b".." {
                // Only links have such components. A system would stay at its root; no honest
                // package counts on that, and a dishonest one hopes for more.
                done = done.parent().ok_or_else(|| {
                    let what = "a symbolic link that leads out of the image's root";
                    (link.clone(), what.to_owned())
                })?;
                continue;
            }
            let next = done.join_name(&name);
            match self.tree.get(&next).map(|node| &node.kind) {
                Some(Kind::Dir(_)) => done = next,
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err((next, "one of a loop of symbolic links".to_owned()));
                    }
                    if target.starts_with(b"/") {
                        done = TreePath::root();
                    }
                    link = next;
                    let parts = target.split(|&b| b == b'/').rev();
                    todo.extend(
                        parts
                            .filter(|part| !part.is_empty() && *part != b".")
                            .map(<[u8]>::to_vec),
                    );
                }
                Some(other) => return Err((next, other.noun().to_owned())),
                None => {
                    let node = Node::new(Meta::root(0o755, 0), Kind::Dir(Children::new()), IMPLICIT);
                    // `done` is a directory: it was followed to here.
                    let _ = self.tree.insert(&next, node);
                    done = next;
                }
            }
        }
        Ok(done)
    }

    fn node(&mut self, file: &'a FileEntry, package: u32, blob: Option<&Blob>) -> Result<Node, MergeError> {
        let malformed = |what: String| MergeError::Malformed {
            package: self.set.packages()[package as usize].nevra.to_string(),
            path: file.path.clone(),
            what,
        };
        let (major, minor) = (u32::from(file.rdev >> 8), u32::from(file.rdev & 0xff));
        let kind = match file.format() {
            0o040_000 => Kind::Dir(Children::new()),
            0o120_000 if file.target.is_empty() => return Err(malformed("an empty link target".to_owned())),
            0o120_000 => Kind::Symlink(file.target.clone().into()),
            0o100_000 => {
                let blob = blob.cloned().ok_or_else(|| malformed("no content".to_owned()))?;
                let next = LinkId(self.links.len() as u64 + 1);
                let link = file
                    .link
                    .map(|link| *self.links.entry((package, link)).or_insert(next));
                Kind::File(FileData { blob, link })
            }
            0o020_000 => Kind::CharDevice { major, minor },
            0o060_000 => Kind::BlockDevice { major, minor },
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            other => return Err(malformed(format!("the unknown file type {other:o}"))),
        };
        let mut meta = Meta::root(file.mode & 0o7777, i64::from(file.mtime));
        if file.is_symlink() {
            meta.mode = 0o777;
        }
        if let Some(value) = capability::from_text(&file.capabilities).map_err(malformed)? {
            meta.xattrs.insert(capability::XATTR.into(), value.into());
        }
        meta.user = self.owner(&file.user);
        meta.group = self.owner(&file.group);
        Ok(Node::new(meta, kind, Origin::Packages(vec![package])))
    }

    /// `None` for root, whose number is known.
    fn owner(&mut self, name: &'a str) -> Option<Arc<str>> {
        (name != "root").then(|| Arc::clone(self.names.entry(name).or_insert_with(|| name.into())))
    }

    fn package(&self, index: u32) -> String {
        self.set.packages()[index as usize].nevra.to_string()
    }

    fn origin(&self, origin: &Origin) -> String {
        match origin {
            Origin::Packages(owners) => owners
                .first()
                .map_or_else(String::new, |&index| self.package(index)),
            Origin::Definition(what) => what.to_string(),
            Origin::Composer(what) => (*what).to_owned(),
        }
    }
}

/// Whether two packages may share a path: what is installed is the same for both.
fn same(a: &Node, b: &Node) -> bool {
    let owners = |node: &Node| (node.meta.mode, node.meta.user.clone(), node.meta.group.clone());
    match (&a.kind, &b.kind) {
        (Kind::Dir(_), Kind::Dir(_)) => true,
        (Kind::File(x), Kind::File(y)) => x.blob == y.blob && owners(a) == owners(b),
        (Kind::Symlink(x), Kind::Symlink(y)) => x == y,
        (Kind::CharDevice { major: a, minor: b }, Kind::CharDevice { major: c, minor: d })
        | (Kind::BlockDevice { major: a, minor: b }, Kind::BlockDevice { major: c, minor: d }) => {
            (a, b) == (c, d)
        }
        (Kind::Fifo, Kind::Fifo) | (Kind::Socket, Kind::Socket) => true,
        _ => false,
    }
}

/// What `node` is, as far as it differs from `other`.
fn describe(node: &Node, other: &Node) -> String {
    match (&node.kind, &other.kind) {
        (Kind::File(file), Kind::File(against)) if file.blob != against.blob => {
            let digest = file.blob.sha256().to_string();
            format!(
                "a file of {} bytes (SHA-256 {}…)",
                file.blob.size(),
                &digest[..12]
            )
        }
        (Kind::File(_), Kind::File(_)) => {
            let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("root").to_owned();
            let Meta {
                mode, user, group, ..
            } = &node.meta;
            format!("a file of {}:{} with mode {mode:04o}", name(user), name(group))
        }
        (Kind::Symlink(target), _) => format!("a link to `{}`", target.escape_ascii()),
        (kind, _) => kind.noun().to_owned(),
    }
}
