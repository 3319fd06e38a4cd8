//! From the layout of RPM to the layout of ostree: `/usr` holds everything that is sealed,
//! `/usr/etc` the defaults of `/etc`, and the rest of the root is made of links into `/var` and
//! empty directories. What packages bring under `/var` becomes tmpfiles.d lines.

use std::collections::{BTreeMap, BTreeSet};

use super::path::TreePath;
use super::{Children, Kind, Meta, Node, Origin, Tree, TreeError};

/// Top-level links of an ostree system, with the mode of the directory that tmpfiles makes behind them.
const STATE_LINKS: [(&str, &str, u16); 5] = [
    ("/home", "var/home", 0o755),
    ("/root", "var/roothome", 0o700),
    ("/opt", "var/opt", 0o755),
    ("/srv", "var/srv", 0o755),
    ("/mnt", "var/mnt", 0o755),
];
/// Links whose target is made elsewhere.
const OTHER_LINKS: [(&str, &str); 2] = [("/media", "run/media"), ("/ostree", "sysroot/ostree")];
const EMPTY_DIRECTORIES: [(&str, u16); 8] = [
    ("/boot", 0o755),
    ("/dev", 0o755),
    ("/proc", 0o755),
    ("/run", 0o755),
    ("/sys", 0o755),
    ("/sysroot", 0o755),
    ("/tmp", 0o1777),
    ("/var", 0o755),
];
const USR_LINKS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const FACTORY: &str = "/usr/share/factory";

/// A path of a package has no place in the layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum LayoutError {
    #[error("`{path}` ({owner}) is neither in /usr nor in /etc, and the layout has no place for it")]
    #[diagnostic(help(
        "say in the definition what becomes of it: `[[paths]]` with `path = \"{path}\"`, `action = \"move\"` or `\"drop\"`, and a `reason`"
    ))]
    NoPlace { path: TreePath, owner: String },
    #[error("`{path}` ({owner}) is {what}: neither ostree nor a sealed /usr can hold it")]
    #[diagnostic(help("drop it with `[[paths]]` in the definition; devices appear in /dev by themselves"))]
    Special {
        path: TreePath,
        owner: String,
        what: &'static str,
    },
    #[error("`/{name}` is {what}, not a link to `usr/{name}`")]
    #[diagnostic(help("the set lacks the package that makes it one (`filesystem`), or is not usr-merged"))]
    NotMerged { name: &'static str, what: &'static str },
    #[error("both `{path}` ({owner}) and `{to}` exist, which are one file in this layout")]
    #[diagnostic(help("drop one of the two with `[[paths]]` in the definition"))]
    Twice {
        path: TreePath,
        to: TreePath,
        owner: String,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What becomes of a package's path, and of everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    Drop,
    Move(TreePath),
}

/// Applies the definition's rules for paths; gives back those that matched nothing.
///
/// # Errors
/// Where a rule moves something onto another file.
pub fn apply_rules(
    tree: &mut Tree,
    rules: &[(TreePath, Rule)],
    name: &dyn Fn(&Origin) -> String,
) -> Result<Vec<TreePath>, LayoutError> {
    let mut idle = Vec::new();
    for (path, rule) in rules {
        match (tree.remove(path), rule) {
            (None, _) => idle.push(path.clone()),
            (Some(_), Rule::Drop) => {}
            (Some(node), Rule::Move(to)) => graft(tree, path, to, node, name)?,
        }
    }
    Ok(idle)
}

/// Brings `tree` into ostree's layout. `time` dates what the composer makes; `name` says in
/// messages who put a node there.
///
/// # Errors
/// Where a path has no place.
pub fn to_ostree(tree: &mut Tree, time: i64, name: &dyn Fn(&Origin) -> String) -> Result<(), LayoutError> {
    check_usr_merge(tree)?;
    kernel_files(tree, name)?;
    if let Some(etc) = tree.remove(&TreePath::literal("/etc")) {
        graft(
            tree,
            &TreePath::literal("/etc"),
            &TreePath::literal("/usr/etc"),
            etc,
            name,
        )?;
    }
    // Devices appear in /dev by themselves; nothing that lies in these at build time is ever seen.
    for hidden in ["/dev", "/proc", "/sys", "/tmp"] {
        let path = TreePath::literal(hidden);
        let files = tree
            .walk_from(&path)
            .filter(|(_, node)| matches!(node.kind, Kind::File(_)));
        if let Some((path, node)) = files.into_iter().next() {
            return Err(no_place(&path, name(&node.origin)));
        }
        tree.remove(&path);
    }

    let mut state = State::new(tree, time);
    for (link, target, mode) in STATE_LINKS {
        let path = TreePath::literal(link);
        let place = TreePath::literal("/")
            .join(target)
            .map_err(|_| no_place(&path, "the layout".to_owned()))?;
        let node = tree.remove(&path);
        let meta = Meta::root(mode, time);
        match node {
            Some(node) if matches!(node.kind, Kind::Dir(_)) => {
                if link == "/opt" {
                    refuse_files(&path, &node, name)?;
                }
                let empty = Node::new(meta, Kind::Dir(Children::new()), LAYOUT);
                let node = Node {
                    meta: empty.meta,
                    ..node
                };
                state.add(tree, &place, node, name)?;
            }
            _ => state.add(
                tree,
                &place,
                Node::new(meta, Kind::Dir(Children::new()), LAYOUT),
                name,
            )?,
        }
        put_link(tree, &path, target, time)?;
    }
    let local = TreePath::literal("/usr/local");
    if let Some(node) = tree.remove(&local)
        && matches!(node.kind, Kind::Dir(_))
    {
        refuse_files(&local, &node, name)?;
        state.add(tree, &TreePath::literal("/var/usrlocal"), node, name)?;
    }
    put_link(tree, &local, "../var/usrlocal", time)?;
    for top in ["/var", "/run"] {
        let path = TreePath::literal(top);
        let Some(mut node) = tree.remove(&path) else {
            continue;
        };
        for (child, below) in std::mem::take(node.children_mut().unwrap_or(&mut Children::new())) {
            state.add(tree, &path.join_name(&child), below, name)?;
        }
    }
    state.write(tree)?;

    for (path, target) in OTHER_LINKS {
        let path = TreePath::literal(path);
        if let Some(node) = tree.remove(&path) {
            refuse_files(&path, &node, name)?;
        }
        put_link(tree, &path, target, time)?;
    }
    for (path, mode) in EMPTY_DIRECTORIES {
        let path = TreePath::literal(path);
        if let Some(node) = tree.remove(&path) {
            refuse_files(&path, &node, name)?;
        }
        let node = Node::new(Meta::root(mode, time), Kind::Dir(Children::new()), LAYOUT);
        tree.insert(&path, node)?;
    }
    check_rest(tree, name)?;
    machine_id(tree, time)
}

const LAYOUT: Origin = Origin::Composer("the layout");

fn no_place(path: &TreePath, owner: String) -> LayoutError {
    LayoutError::NoPlace {
        path: path.clone(),
        owner,
    }
}

fn put_link(tree: &mut Tree, path: &TreePath, target: &str, time: i64) -> Result<(), LayoutError> {
    let kind = Kind::Symlink(target.as_bytes().into());
    tree.insert(path, Node::new(Meta::root(0o777, time), kind, LAYOUT))?;
    Ok(())
}

/// `/bin` and its like must be links, or every path below them would be outside `/usr`.
fn check_usr_merge(tree: &mut Tree) -> Result<(), LayoutError> {
    for name in USR_LINKS {
        let path = TreePath::root().join_name(name.as_bytes());
        let Some(node) = tree.get(&path) else {
            continue;
        };
        match &node.kind {
            Kind::Symlink(target) if target.strip_prefix(b"/").unwrap_or(target).starts_with(b"usr/") => {}
            kind => {
                let what = kind.noun();
                return Err(LayoutError::NotMerged { name, what });
            }
        }
    }
    Ok(())
}

/// Kernels that packages bring in /boot go to where ostree looks for them.
fn kernel_files(tree: &mut Tree, name: &dyn Fn(&Origin) -> String) -> Result<(), LayoutError> {
    let boot = TreePath::literal("/boot");
    let modules = TreePath::literal("/usr/lib/modules");
    let children = tree.get(&boot).and_then(Node::children);
    let files: Vec<Box<[u8]>> = children
        .into_iter()
        .flat_map(|children| children.keys().cloned())
        .collect();
    for file in files {
        for stem in ["vmlinuz", "config", "System.map", "symvers"] {
            let Some(version) = file
                .strip_prefix(stem.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"-"))
            else {
                continue;
            };
            let directory = modules.join_name(version);
            if tree.get(&directory).is_none() {
                continue;
            }
            let path = boot.join_name(&file);
            let to = directory.join_name(stem.as_bytes());
            let Some(node) = tree.remove(&path) else {
                continue;
            };
            // Fedora's kernels bring both, the one in /boot as a copy.
            let equal = tree
                .get(&to)
                .is_some_and(|there| match (&there.kind, &node.kind) {
                    (Kind::File(a), Kind::File(b)) => a.blob == b.blob,
                    (_, Kind::Symlink(_)) => true,
                    _ => false,
                });
            if !equal {
                graft(tree, &path, &to, node, name)?;
            }
        }
    }
    Ok(())
}

/// Puts `node`, which was at `from`, to `to`; directories are merged.
fn graft(
    tree: &mut Tree,
    from: &TreePath,
    to: &TreePath,
    mut node: Node,
    name: &dyn Fn(&Origin) -> String,
) -> Result<(), LayoutError> {
    let directory = tree.get(to).map(|there| there.children().is_some());
    match (directory, node.children_mut().map(std::mem::take)) {
        (None, children) => {
            if let Some(children) = children {
                node.kind = Kind::Dir(children);
            }
            tree.insert(to, node)?;
            Ok(())
        }
        (Some(true), Some(children)) => {
            for (child, below) in children {
                graft(tree, &from.join_name(&child), &to.join_name(&child), below, name)?;
            }
            Ok(())
        }
        (Some(_), _) => Err(LayoutError::Twice {
            path: from.clone(),
            to: to.clone(),
            owner: name(&node.origin),
        }),
    }
}

/// Directories alone may be there: files would leave the seal, or never be seen.
fn refuse_files(path: &TreePath, node: &Node, name: &dyn Fn(&Origin) -> String) -> Result<(), LayoutError> {
    match &node.kind {
        Kind::Dir(children) => {
            for (child, below) in children {
                refuse_files(&path.join_name(child), below, name)?;
            }
            Ok(())
        }
        Kind::Symlink(_) if node.origin == LAYOUT => Ok(()),
        Kind::Symlink(target)
            if STATE_LINKS
                .iter()
                .any(|(at, to, _)| path.as_bytes() == at.as_bytes() && **target == *to.as_bytes()) =>
        {
            Ok(())
        }
        _ => Err(no_place(path, name(&node.origin))),
    }
}

fn check_rest(tree: &Tree, name: &dyn Fn(&Origin) -> String) -> Result<(), LayoutError> {
    let known: BTreeSet<&str> = ["/usr"]
        .into_iter()
        .chain(STATE_LINKS.iter().map(|(path, ..)| *path))
        .chain(OTHER_LINKS.iter().map(|(path, _)| *path))
        .chain(EMPTY_DIRECTORIES.iter().map(|(path, _)| *path))
        .chain(["/bin", "/sbin", "/lib", "/lib64"])
        .collect();
    for (child, node) in tree.root().children().into_iter().flatten() {
        let path = TreePath::root().join_name(child);
        // The definition may add mount points of its own, empty.
        let wanted = matches!(node.origin, Origin::Definition(_)) && refuse_files(&path, node, name).is_ok();
        let linked = matches!(&node.kind, Kind::Symlink(target) if target.starts_with(b"usr/"));
        if !wanted && !linked && !std::str::from_utf8(path.as_bytes()).is_ok_and(|path| known.contains(path))
        {
            return Err(no_place(&path, name(&node.origin)));
        }
    }
    for (path, node) in tree.walk() {
        if matches!(
            node.kind,
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo | Kind::Socket
        ) {
            return Err(LayoutError::Special {
                path,
                owner: name(&node.origin),
                what: node.kind.noun(),
            });
        }
    }
    Ok(())
}

/// An image that has booted nowhere yet says so: machine-id(5), "First Boot Semantics".
fn machine_id(tree: &mut Tree, time: i64) -> Result<(), LayoutError> {
    let node = Node::new(Meta::root(0o444, time), Kind::file(*b"uninitialized\n"), LAYOUT);
    tree.insert(&TreePath::literal("/usr/etc/machine-id"), node)?;
    Ok(())
}

/// Collects what must exist under `/var` and `/run` as tmpfiles.d lines.
struct State {
    time: i64,
    lines: BTreeMap<TreePath, String>,
    /// Paths that tmpfiles.d lines of packages make already.
    made: BTreeSet<TreePath>,
}

impl State {
    fn new(tree: &Tree, time: i64) -> Self {
        let mut made = BTreeSet::new();
        for directory in ["/usr/lib/tmpfiles.d", "/usr/etc/tmpfiles.d"] {
            for (path, node) in tree.walk_from(&TreePath::literal(directory)) {
                let Kind::File(file) = &node.kind else {
                    continue;
                };
                if !path.as_bytes().ends_with(b".conf") {
                    continue;
                }
                let text = file.blob.read_all().unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                for line in text.lines() {
                    let mut words = line.split_whitespace();
                    let kind = words.next().unwrap_or_default();
                    if kind.starts_with(['d', 'D', 'v', 'q', 'Q', 'f', 'F', 'L', 'C', 'p'])
                        && let Some(path) = words.next().and_then(|path| TreePath::new(path).ok())
                    {
                        made.insert(path);
                    }
                }
            }
        }
        let lines = BTreeMap::new();
        Self { time, lines, made }
    }

    /// Takes `node` out of the sealed tree: it will be made at boot, at `path`.
    fn add(
        &mut self,
        tree: &mut Tree,
        path: &TreePath,
        node: Node,
        name: &dyn Fn(&Origin) -> String,
    ) -> Result<(), LayoutError> {
        let Meta { mode, .. } = node.meta;
        let user = node.meta.user.as_deref().unwrap_or("root").to_owned();
        let group = node.meta.group.as_deref().unwrap_or("root").to_owned();
        let quoted = quote(path);
        let line = match node.kind {
            Kind::Dir(children) => {
                for (child, below) in children {
                    self.add(tree, &path.join_name(&child), below, name)?;
                }
                format!("d {quoted} {mode:04o} {user} {group} -")
            }
            Kind::Symlink(target) => format!("L {quoted} - - - - {}", escape(&target)),
            Kind::File(_) => {
                let factory = TreePath::literal(FACTORY);
                let copy = factory
                    .join(path.as_bytes())
                    .map_err(|_| no_place(path, name(&node.origin)))?;
                tree.insert(&copy, node)?;
                format!("C {quoted} {mode:04o} {user} {group} - {}", quote(&copy))
            }
            kind => {
                return Err(LayoutError::Special {
                    path: path.clone(),
                    owner: name(&node.origin),
                    what: kind.noun(),
                });
            }
        };
        if !self.made.contains(path) {
            self.lines.insert(path.clone(), line);
        }
        Ok(())
    }

    fn write(self, tree: &mut Tree) -> Result<(), LayoutError> {
        let mut text = String::from("# State that packages and the layout want under /var and /run.\n");
        for line in self.lines.values() {
            text.push_str(line);
            text.push('\n');
        }
        let path = TreePath::literal("/usr/lib/tmpfiles.d/hullwright-state.conf");
        let node = Node::new(
            Meta::root(0o644, self.time),
            Kind::file(text.into_bytes()),
            LAYOUT,
        );
        tree.insert(&path, node)?;
        Ok(())
    }
}

/// A path as tmpfiles.d(5) reads it: quoted where it has white space, with C escapes, `%` doubled.
fn quote(path: &TreePath) -> String {
    let text = escape(path.as_bytes());
    if text.contains([' ', '"', '\'']) {
        format!("\"{text}\"")
    } else {
        text
    }
}

fn escape(bytes: &[u8]) -> String {
    bytes
        .escape_ascii()
        .to_string()
        .replace("\\'", "'")
        .replace('%', "%%")
}

#[cfg(test)]
mod tests;
