//! What the image definition lays over the packages: directories of the project, single entries.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::path::{PathError, TreePath};
use super::{Children, Kind, Meta, Node, Origin, Tree, TreeError};

/// A file of the project cannot be laid into the tree.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OverlayError {
    #[error("`{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("the definition names it: correct the name, or make it readable"))]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is {what}: an overlay holds files, directories and symbolic links", path.display())]
    #[diagnostic(help("remove it from the overlay"))]
    Special { path: PathBuf, what: &'static str },
    #[error("`{}` cannot be in an image: {source}", path.display())]
    #[diagnostic(help("rename it"))]
    Path { path: PathBuf, source: PathError },
    #[error("{what}: {source}")]
    #[diagnostic(help("a package has something else there: choose another path"))]
    Tree { what: Arc<str>, source: TreeError },
    #[error("{what}: `{path}` is {found} of a package and cannot become {wanted}")]
    #[diagnostic(help("choose another path, or drop the package's with `[[paths]]`"))]
    Kind {
        what: Arc<str>,
        path: TreePath,
        found: &'static str,
        wanted: &'static str,
    },
}

/// Lays the content of `directory` (on the host) over the tree: owned by root, 0755 where the
/// owner may execute a file, else 0644, dated `time`.
///
/// # Errors
/// Where something cannot be read, is of another type, or is in a package's way.
pub fn lay_directory(tree: &mut Tree, directory: &Path, time: i64) -> Result<(), OverlayError> {
    lay_below(tree, directory, &TreePath::root(), time)
}

fn lay_below(tree: &mut Tree, directory: &Path, at: &TreePath, time: i64) -> Result<(), OverlayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OverlayError::Io { path, source }
    };
    let entries: Result<Vec<_>, _> = fs::read_dir(directory).map_err(failed(directory))?.collect();
    let mut entries = entries.map_err(failed(directory))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let host = entry.path();
        let path = at
            .join(entry.file_name().as_bytes())
            .map_err(|source| OverlayError::Path {
                path: host.clone(),
                source,
            })?;
        let what: Arc<str> = host.display().to_string().into();
        let metadata = entry.metadata().map_err(failed(&host))?;
        if metadata.is_dir() {
            put_directory(tree, &path, Meta::root(0o755, time), &what)?;
            lay_below(tree, &host, &path, time)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&host).map_err(failed(&host))?;
            let kind = Kind::Symlink(target.as_os_str().as_bytes().into());
            put(tree, &path, Meta::root(0o777, time), kind, &what)?;
        } else if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            let kind = Kind::file(fs::read(&host).map_err(failed(&host))?);
            put(tree, &path, Meta::root(mode, time), kind, &what)?;
        } else {
            let what = "neither a file nor a directory nor a link";
            return Err(OverlayError::Special { path: host, what });
        }
    }
    Ok(())
}

/// Puts a file, link or other leaf at `path`, links above it followed, in place of what is there.
///
/// # Errors
/// Where a directory is there, or something else stands above it.
pub fn put(
    tree: &mut Tree,
    path: &TreePath,
    meta: Meta,
    kind: Kind,
    what: &Arc<str>,
) -> Result<(), OverlayError> {
    let place = place(tree, path);
    if let Some(there) = tree.get(&place)
        && there.children().is_some_and(|children| !children.is_empty())
    {
        return Err(OverlayError::Kind {
            what: Arc::clone(what),
            path: path.clone(),
            found: there.kind.noun(),
            wanted: kind.noun(),
        });
    }
    let node = Node::new(meta, kind, Origin::Definition(Arc::clone(what)));
    let inserted = tree.insert(&place, node).map_err(|source| OverlayError::Tree {
        what: Arc::clone(what),
        source,
    });
    inserted.map(|_| ())
}

/// Makes a directory at `path`; one that a package has there stays as it is.
///
/// # Errors
/// Where something other than a directory is there or above it.
pub fn put_directory(
    tree: &mut Tree,
    path: &TreePath,
    meta: Meta,
    what: &Arc<str>,
) -> Result<(), OverlayError> {
    let place = place(tree, path);
    let there = tree.resolve(&place).and_then(|path| tree.get(&path));
    match there {
        Some(node) if node.children().is_some() => Ok(()),
        Some(node) => Err(OverlayError::Kind {
            what: Arc::clone(what),
            path: path.clone(),
            found: node.kind.noun(),
            wanted: "a directory",
        }),
        None => put(tree, path, meta, Kind::Dir(Children::new()), what),
    }
}

/// `path` with the links above its last component followed.
fn place(tree: &Tree, path: &TreePath) -> TreePath {
    let mut above = path.parent().unwrap_or_else(TreePath::root);
    let mut below = Vec::new();
    below.extend(path.name());
    // What is there may be a link; what is not there yet is taken as written.
    loop {
        if let Some(real) = tree.resolve(&above) {
            return below.iter().rev().fold(real, |path, name| path.join_name(name));
        }
        let Some(parent) = above.parent() else {
            return path.clone();
        };
        let depth = below.len();
        below.extend(path.components().rev().nth(depth));
        above = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (path, kind) in [
            ("/usr/lib/a", Kind::file(*b"package")),
            ("/lib", Kind::Symlink((*b"usr/lib").into())),
        ] {
            let node = Node::new(Meta::root(0o600, 0), kind, Origin::Packages(vec![0]));
            tree.insert(&TreePath::literal(path), node).unwrap();
        }
        tree
    }

    #[test]
    fn a_directory_is_laid_over_links_and_files() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("lib/new/deep")).unwrap();
        fs::write(host.path().join("lib/a"), "overlay").unwrap();
        fs::write(host.path().join("lib/new/deep/run"), "#!").unwrap();
        fs::set_permissions(
            host.path().join("lib/new/deep/run"),
            fs::Permissions::from_mode(0o700),
        )
        .unwrap();
        std::os::unix::fs::symlink("a", host.path().join("lib/link")).unwrap();
        let mut tree = tree();
        lay_directory(&mut tree, host.path(), 9).unwrap();
        let node = |path: &'static str| tree.get(&TreePath::literal(path)).unwrap();
        assert_eq!(node("/usr/lib/a").meta.mode, 0o644);
        assert_eq!(node("/usr/lib/new/deep/run").meta.mode, 0o755);
        assert!(matches!(&node("/usr/lib/link").kind, Kind::Symlink(target) if &**target == b"a"));
        assert!(matches!(node("/lib").kind, Kind::Symlink(_)));
    }

    #[test]
    fn a_directory_of_a_package_is_not_replaced_by_a_file() {
        let what: Arc<str> = "files[0]".into();
        let meta = Meta::root(0o644, 0);
        let error = put(
            &mut tree(),
            &TreePath::literal("/usr/lib"),
            meta,
            Kind::file(*b""),
            &what,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "files[0]: `/usr/lib` is a directory of a package and cannot become a regular file"
        );
    }
}
