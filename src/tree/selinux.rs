//! SELinux labels for every file of a tree, from the policy that the tree itself holds.
//!
//! Each node gets `security.selinux` as setfiles(8) would write it (the context with a trailing NUL) after asking
//! libselinux for the path and type. `/usr/etc` of a tree laid out for ostree is asked for as `/etc`, since it is mounted
//! there. No policy and no configuration of the host is read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use super::path::TreePath;
use super::{Kind, LinkId, Tree};
use crate::formats::file_contexts::{CompileError, Database, FileContexts, FileKind, SyntaxError};

/// The attribute that holds the label.
pub const XATTR: &[u8] = b"security.selinux";
/// Files of a policy above this size are not read. Fedora's largest has 600 KiB.
const MAX_FILE: u64 = 32 << 20;

/// Why the tree cannot be labelled.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SelinuxError {
    #[error("`{0}` is no name of an SELinux policy")]
    #[diagnostic(help(
        "a policy is the name of a directory below /etc/selinux, `targeted` or `default`; `none` labels nothing"
    ))]
    PolicyName(String),
    #[error("the image has no SELinux policy `{policy}`: `{path}` is absent")]
    #[diagnostic(help(
        "add the package `selinux-policy-{policy}` to the set; where the file is made by a script after \
         installation, as Debian's is, lay it over by the definition; or set `os.selinux = \"none\"`"
    ))]
    NoPolicy { policy: String, path: String },
    #[error("`{path}` of the SELinux policy cannot be read: {source}")]
    Read { path: TreePath, source: io::Error },
    #[error("`{path}` has {size} bytes: too large for a file of an SELinux policy")]
    TooLarge { path: TreePath, size: u64 },
    #[error("`{path}`, {source}")]
    #[diagnostic(help("correct the package that brings the policy, or lay a corrected file over it"))]
    Syntax { path: TreePath, source: SyntaxError },
    #[error("`{path}`: {source}")]
    #[diagnostic(help("correct the package that brings the policy, or lay a corrected file over it"))]
    Compile { path: TreePath, source: CompileError },
}

/// What was labelled.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Nodes with a label.
    pub labelled: usize,
    /// What the policy gives no label (`<<none>>`, or no entry), in order.
    pub unlabelled: Vec<TreePath>,
    /// Names of hard-linked files whose own label would be another than that of the file's first name, which they have.
    pub conflicts: Vec<(TreePath, TreePath)>,
}

/// Labels every node of `tree` by its policy `policy` (`targeted`, `default`), in place of labels that are there.
///
/// # Errors
/// Where the policy is absent or cannot be understood. Then nothing is labelled.
pub fn label(tree: &mut Tree, policy: &str) -> Result<Report, SelinuxError> {
    let contexts = load(tree, policy)?;
    Ok(apply(tree, &contexts))
}

/// Labels every node of `tree`, which has no policy of its own, by policy `policy` of `system`.
///
/// # Errors
/// As [`label`].
pub fn label_by(tree: &mut Tree, system: &Tree, policy: &str) -> Result<(), SelinuxError> {
    apply(tree, &load(system, policy)?);
    Ok(())
}

/// The text files of a policy, in libselinux's order.
const ENTRIES: [&str; 3] = ["file_contexts", "file_contexts.homedirs", "file_contexts.local"];

/// Reads policy `policy` out of `tree`.
fn load(tree: &Tree, policy: &str) -> Result<FileContexts, SelinuxError> {
    let named = !policy.is_empty()
        && !policy.starts_with('.')
        && policy
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    if !named {
        return Err(SelinuxError::PolicyName(policy.to_owned()));
    }
    let below = format!("selinux/{policy}/contexts/files");
    let places = ["/usr/etc", "/etc"].map(|etc| TreePath::literal(etc).join(&below));
    let main = |directory: &TreePath| directory.join_name(ENTRIES[0].as_bytes());
    let place = places
        .iter()
        .flatten()
        .find(|place| tree.file(&main(place)).is_some());
    let Some(directory) = place else {
        return Err(SelinuxError::NoPolicy {
            policy: policy.to_owned(),
            path: format!("/etc/{below}/{}", ENTRIES[0]),
        });
    };
    let mut database = Database::default();
    let mut inputs = Vec::new();
    for name in ENTRIES {
        let path = directory.join_name(name.as_bytes());
        if let Some(text) = read(tree, &path)? {
            database.add(&text).map_err(|source| SelinuxError::Syntax {
                path: path.clone(),
                source,
            })?;
            inputs.push(path);
        }
    }
    let path = directory.join_name(b"file_contexts.subs");
    if let Some(text) = read(tree, &path)? {
        let added = database.add_local_substitutions(&text);
        added.map_err(|source| SelinuxError::Syntax { path, source })?;
    }
    let path = directory.join_name(b"file_contexts.subs_dist");
    if let Some(text) = read(tree, &path)? {
        let added = database.add_distribution_substitutions(&text);
        added.map_err(|source| SelinuxError::Syntax { path, source })?;
    }
    database.compile().map_err(|source| {
        let input = match &source {
            CompileError::Pattern { input, .. } => inputs.get(*input).cloned(),
            CompileError::Branch { .. } => None,
        };
        SelinuxError::Compile {
            path: input.unwrap_or_else(|| main(directory)),
            source,
        }
    })
}

fn read(tree: &Tree, path: &TreePath) -> Result<Option<Vec<u8>>, SelinuxError> {
    let Some(file) = tree.file(path) else {
        return Ok(None);
    };
    let size = file.blob.size();
    if size > MAX_FILE {
        return Err(SelinuxError::TooLarge {
            path: path.clone(),
            size,
        });
    }
    let bytes = file.blob.read_all();
    bytes.map(Some).map_err(|source| SelinuxError::Read {
        path: path.clone(),
        source,
    })
}

fn kind(kind: &Kind) -> FileKind {
    match kind {
        Kind::Dir(_) => FileKind::Directory,
        Kind::File(_) => FileKind::Regular,
        Kind::Symlink(_) => FileKind::Symlink,
        Kind::CharDevice { .. } => FileKind::CharDevice,
        Kind::BlockDevice { .. } => FileKind::BlockDevice,
        Kind::Fifo => FileKind::Fifo,
        Kind::Socket => FileKind::Socket,
    }
}

/// The path by which a running system knows the node at `path`.
fn mounted(path: &TreePath) -> &[u8] {
    let bytes = path.as_bytes();
    match bytes.strip_prefix(b"/usr/etc") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => &bytes[b"/usr".len()..],
        _ => bytes,
    }
}

fn apply(tree: &mut Tree, contexts: &FileContexts) -> Report {
    let nodes: Vec<_> = tree.walk().map(|(path, node)| (path, kind(&node.kind))).collect();
    let labels: Vec<Option<Arc<str>>> = nodes
        .par_iter()
        .map(|(path, kind)| contexts.lookup(mounted(path), *kind).cloned())
        .collect();
    // Both walks go in the same order.
    let mut labels = labels.into_iter();
    let mut report = Report::default();
    let mut links: HashMap<LinkId, (TreePath, Option<Arc<str>>)> = HashMap::new();
    tree.for_each_mut(|path, node| {
        let mut label = labels.next().flatten();
        if let Kind::File(file) = &node.kind
            && let Some(link) = file.link
        {
            let (first, given) = links.entry(link).or_insert_with(|| (path.clone(), label.clone()));
            if *given != label {
                report.conflicts.push((first.clone(), path.clone()));
                label.clone_from(given);
            }
        }
        if let Some(label) = label {
            let value = [label.as_bytes(), b"\0"].concat();
            node.meta.xattrs.insert(XATTR.into(), value.into());
            report.labelled += 1;
        } else {
            node.meta.xattrs.remove(XATTR);
            report.unlabelled.push(path.clone());
        }
    });
    report
}

#[cfg(test)]
mod tests;
