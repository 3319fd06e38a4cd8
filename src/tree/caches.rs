//! What packages' scriptlets would compile from the files of all packages together, made natively: one file a cache.
//!
//! Every step looks whether the tree holds both the input and the program whose work it does; where either is absent,
//! nothing is made. Results lie where that program would put them, with its modes, owned by root.

pub mod ca_trust;
pub mod catalog;
pub mod hwdb;
pub mod icons;
pub mod mime;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::path::TreePath;
use super::{FileData, Kind, Meta, Node, Origin, Tree, TreeError};
use crate::formats::catalog::CatalogError;
use crate::formats::hwdb::HwdbError;
use crate::formats::icon_cache::IconCacheError;
use crate::formats::mime::MimeError;
use crate::formats::p11kit::TrustError;
use crate::store::Store;

/// Inputs above this size are refused: the largest real one, a list of all PCI devices, has 4 MB.
const MAX_INPUT: u64 = 64 << 20;
/// Where programs lie, in a tree whose `/bin` may be a link or not.
const PROGRAMS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The command whose work it is, as scriptlets write it.
    pub command: &'static str,
    /// What was made, in the order of making; nothing where the booting machine makes it.
    pub written: Vec<TreePath>,
    /// What the command would have warned of.
    pub remarks: Vec<String>,
    /// Why its work is not done, where it is not.
    pub not_done: Option<&'static str>,
}

/// A cache cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CacheError {
    #[error("`{path}` cannot be read: {source}")]
    Read {
        path: TreePath,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has {size} bytes: more than {what} can have")]
    #[diagnostic(help("drop it with `[[paths]]`, or take another package"))]
    TooLarge {
        path: TreePath,
        size: u64,
        what: &'static str,
    },
    #[error("the hardware database cannot be compiled: {0}")]
    #[diagnostic(help("drop the file with `[[paths]]`, or take another package"))]
    Hwdb(#[from] HwdbError),
    #[error("the journal's message catalog cannot be compiled: {0}")]
    #[diagnostic(help("mend the file, or drop it with `[[paths]]`"))]
    Catalog(#[from] CatalogError),
    #[error("the certificates that the system trusts cannot be read: {0}")]
    #[diagnostic(help(
        "mend the file, or drop it with `[[paths]]`; p11-kit itself would pass over all of it"
    ))]
    Trust(#[from] TrustError),
    #[error("the certificate `{label}` has a name that no file can have")]
    #[diagnostic(help("drop the file that holds it with `[[paths]]`"))]
    CertificateName { label: String },
    #[error("the database of MIME types cannot be made: {0}")]
    #[diagnostic(help(
        "mend the file, or drop it with `[[paths]]`; or let `update-mime-database` itself run: `[[rpms.scriptlets]]` with \
         `action = \"run\"` for each scriptlet that calls it"
    ))]
    Mime(#[from] MimeError),
    #[error("the icon theme `{theme}` cannot be indexed: {source}")]
    #[diagnostic(help(
        "drop what it names with `[[paths]]`; or let `gtk-update-icon-cache` itself run: `[[rpms.scriptlets]]` with \
         `action = \"run\"` for each scriptlet that calls it"
    ))]
    Icons { theme: TreePath, source: IconCacheError },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What is made only where a scriptlet would have made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The database of MIME types.
    pub mime: bool,
    pub icon_themes: BTreeSet<&'a icons::Theme>,
}

/// Makes every cache that `tree` has the means for, and what is `asked` for. Paths are still as packages name them (`/etc`,
/// not `/usr/etc`); what is made is dated `time`. `store` may have what takes long from an earlier build.
///
/// # Errors
/// The first input that cannot be taken.
pub fn run_all(
    tree: &mut Tree,
    time: i64,
    asked: &Asked<'_>,
    store: Option<&Store>,
) -> Result<Vec<Report>, CacheError> {
    let steps = [catalog::run, ca_trust::run];
    let mut reports = Vec::from_iter(hwdb::run(tree, time, store)?);
    for step in steps {
        reports.extend(step(tree, time)?);
    }
    if asked.mime {
        reports.extend(mime::run(tree, time)?);
    }
    for theme in &asked.icon_themes {
        reports.extend(icons::run(tree, theme, time)?);
    }
    Ok(reports)
}

/// The program `name` of the tree, under the first path that leads to it.
fn program<'a>(tree: &'a Tree, name: &str) -> Option<(TreePath, &'a FileData)> {
    PROGRAMS.iter().find_map(|directory| {
        let path = TreePath::literal(directory).join_name(name.as_bytes());
        tree.file(&path).map(|file| (path, file))
    })
}

/// The files of `directories` whose names end in `suffix`, in the order of their names: the first directory hides
/// files of the same name in later ones; an empty file or a link to `/dev/null` hides them and counts for nothing.
/// Each under the path by which it is found, as systemd's programs list such files.
fn drop_ins<'a>(tree: &'a Tree, directories: &[&'static str], suffix: &str) -> Vec<(TreePath, &'a FileData)> {
    let mut found = BTreeMap::new();
    for directory in directories {
        let directory = TreePath::literal(directory);
        let children = tree
            .resolve(&directory)
            .and_then(|real| tree.get(&real)?.children());
        for (name, node) in children.into_iter().flatten() {
            if !name.ends_with(suffix.as_bytes()) || name.starts_with(b".") {
                continue;
            }
            let path = directory.join_name(name);
            let counts = match (&node.kind, tree.file(&path)) {
                (Kind::Symlink(target), _) if &**target == b"/dev/null" => None,
                (_, Some(file)) => Some(file).filter(|file| file.blob.size() > 0),
                _ => continue,
            };
            found.entry(name.clone()).or_insert((path, counts));
        }
    }
    let files = found.into_values();
    files.filter_map(|(path, counts)| Some((path, counts?))).collect()
}

/// The content of `file`, found at `path`: `what` in messages.
fn read(path: &TreePath, file: &FileData, what: &'static str) -> Result<Vec<u8>, CacheError> {
    let size = file.blob.size();
    if size > MAX_INPUT {
        let path = path.clone();
        return Err(CacheError::TooLarge { path, size, what });
    }
    file.blob.read_all().map_err(|source| CacheError::Read {
        path: path.clone(),
        source,
    })
}

/// The contents of `files`, in their order.
fn read_all(files: &[(TreePath, &FileData)], what: &'static str) -> Result<Vec<Vec<u8>>, CacheError> {
    files.iter().map(|(path, file)| read(path, file, what)).collect()
}

/// Puts a file at `path`, links to directories above it followed, in place of what is there.
fn put(
    tree: &mut Tree,
    path: &TreePath,
    mode: u16,
    time: i64,
    bytes: Vec<u8>,
    origin: &'static str,
) -> Result<(), TreeError> {
    let kind = Kind::file(bytes);
    let node = Node::new(Meta::root(mode, time), kind, Origin::Composer(origin));
    let place = place(tree, path);
    tree.insert(&place, node)?;
    Ok(())
}

/// Puts a symbolic link to `target` at `path`, as [`put`] puts files.
fn put_link(
    tree: &mut Tree,
    path: &TreePath,
    time: i64,
    target: &[u8],
    origin: &'static str,
) -> Result<(), TreeError> {
    let kind = Kind::Symlink(target.into());
    let node = Node::new(Meta::root(0o777, time), kind, Origin::Composer(origin));
    let place = place(tree, path);
    tree.insert(&place, node)?;
    Ok(())
}

/// Where `path` leads, its last component not followed.
fn place(tree: &Tree, path: &TreePath) -> TreePath {
    path.parent()
        .and_then(|above| tree.resolve(&above))
        .zip(path.name())
        .map_or_else(|| path.clone(), |(above, name)| above.join_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with these files, and links where the text begins with `->`.
    pub(super) fn tree(files: &[(&str, &[u8])]) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (path, text) in files {
            let kind = match text.strip_prefix(b"->") {
                Some(target) => Kind::Symlink(target.into()),
                None => Kind::file(text.to_vec()),
            };
            let node = Node::new(Meta::root(0o644, 7), kind, Origin::Packages(vec![0]));
            tree.insert(&TreePath::new(path).unwrap(), node).unwrap();
        }
        tree
    }

    #[test]
    fn directories_hide_and_mask_files_of_later_ones() {
        let tree = tree(&[
            ("/usr/lib/x.d/10-a.x", b"1"),
            ("/usr/lib/x.d/20-b.x", b"2"),
            ("/usr/lib/x.d/30-c.x", b"3"),
            ("/usr/lib/x.d/40-d.x", b"4"),
            ("/usr/lib/x.d/README", b"5"),
            ("/usr/lib/x.d/.hidden.x", b"6"),
            ("/usr/lib/x.d/50-dir.x/file", b"7"),
            ("/usr/lib/x.d/60-dangling.x", b"->nowhere"),
            ("/etc/x.d/20-b.x", b"->/dev/null"),
            ("/etc/x.d/30-c.x", b""),
            ("/etc/x.d/40-d.x", b"->../../usr/lib/real"),
            ("/etc/x.d/15-e.x", b"9"),
            ("/usr/lib/real", b"8"),
        ]);
        let found: Vec<_> = drop_ins(&tree, &["/etc/x.d", "/usr/lib/x.d"], ".x")
            .into_iter()
            .map(|(path, file)| (path.to_string(), file.blob.read_all().unwrap()))
            .collect();
        let expected = [
            ("/usr/lib/x.d/10-a.x", b"1"),
            ("/etc/x.d/15-e.x", b"9"),
            ("/etc/x.d/40-d.x", b"8"),
        ];
        let expected = expected.map(|(path, text)| (path.to_owned(), text.to_vec()));
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_made_where_nothing_is_there() {
        let mut empty = tree(&[("/usr/bin/sh", b"")]);
        let theme = icons::Theme {
            program: "gtk-update-icon-cache".to_owned(),
            path: TreePath::literal("/usr/share/icons/hicolor"),
            without_index: true,
        };
        let asked = Asked {
            mime: true,
            icon_themes: BTreeSet::from([&theme]),
        };
        assert_eq!(run_all(&mut empty, 9, &asked, None).unwrap(), []);
        assert_eq!(empty.walk().count(), 4);
    }
}
