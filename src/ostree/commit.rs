//! From a tree to a commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Error;
use super::content::{Content, ContentWriter, Data, Written};
use super::kept::Kept;
use super::layout::{Layout, RepoMode, is_ref_name};
use super::object::{CommitObject, DirTree, Kind, Ownership};
use super::record::TreeRecord;
use crate::formats::gvariant::{self, Text, Type};
use crate::store::{Digest, Store};
use crate::tree::path::TreePath;
use crate::tree::{Kind as NodeKind, Node, Tree, Xattrs};

/// The key under which a commit names the refs that it may be found by.
const REF_BINDING: &str = "ostree.ref-binding";

/// A commit's metadata value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Str(String),
    /// `b`
    Bool(bool),
    /// `t`, big-endian as all numbers of ostree's: so `ostree show` gives the number that was meant.
    U64(u64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `as`
    StrArray(Vec<String>),
}

/// What a commit says besides its tree, and how it is kept.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// The branch that the commit is written to; it is bound to the commit, too.
    pub ref_name: String,
    /// Further refs that clients may pull the commit under (`ostree commit --bind-ref`).
    pub bind_refs: Vec<String>,
    /// One line.
    pub subject: String,
    pub body: String,
    /// Seconds since the epoch, UTC.
    pub timestamp: u64,
    /// The commit before it. It need not be in the repository.
    pub parent: Option<Digest>,
    /// Written in the order of the keys, before the ref binding.
    pub metadata: BTreeMap<String, Value>,
    pub mode: RepoMode,
    /// Whether all objects must be on the disk before the ref is set, so that a power failure cannot
    /// leave a ref to a commit with holes. Of use for repositories that outlive the build.
    pub sync: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub checksum: Digest,
    pub tree: CommitTree,
}

/// The objects of a tree, in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTree {
    pub root_dirtree: Digest,
    pub root_dirmeta: Digest,
    /// Paths of the tree, by type; hard links count each.
    pub directories: u64,
    pub files: u64,
    pub symlinks: u64,
    /// Distinct content objects, and the bytes that they hold unpacked.
    pub content_objects: u64,
    pub content_bytes: u64,
    /// Objects that the repository did not have, of every kind, and the bytes of their files.
    pub objects_written: u64,
    pub bytes_written: u64,
}

/// Writes `tree` as a commit into the repository at `repo_dir`, which is made where it is absent, and
/// sets the ref. Objects that are there already are not written again.
///
/// The checksum depends on the tree (names, types, modes, owners, contents, targets, extended
/// attributes; not times) and on what `options` says; the repository's bytes besides only on the mode.
/// Neither depends on the number of threads, which are those of the current `rayon` pool.
///
/// # Errors
/// Before anything is written: a ref name that ostree refuses; a node that it cannot hold (devices,
/// FIFOs, sockets); names and targets that are not UTF-8. Then, whatever reading contents and writing
/// files gives; the ref is set last, so it never leads to a half-written commit.
pub fn write_commit(tree: &Tree, options: &CommitOptions, repo_dir: &Path) -> Result<Commit, Error> {
    write_commit_from(tree, options, repo_dir, None)
}

/// As [`write_commit`]. Content objects that `store` keeps are not made again; where the file systems
/// allow, they and those that are made are shared with it by hard links.
///
/// # Errors
/// As [`write_commit`]; and where the store cannot be read or written.
pub fn write_commit_from(
    tree: &Tree,
    options: &CommitOptions,
    repo_dir: &Path,
    store: Option<&Store>,
) -> Result<Commit, Error> {
    check_options(options)?;
    let (mut tree, _) = write_tree(tree, options.mode, repo_dir, store)?;
    let bytes = commit_object(&tree, options)?;
    let (checksum, new) = put_commit(&bytes, &[], options, repo_dir)?;
    if new {
        tree.count_object(bytes.len() as u64);
    }
    Ok(Commit { checksum, tree })
}

/// Writes everything of `tree` but the commit into the repository at `repo_dir`, which is made where it is absent;
/// `store` as in [`write_commit_from`]. Gives with it what [`restore_tree`](super::restore_tree) makes the same of.
///
/// # Errors
/// As [`write_commit_from`].
pub fn write_tree(
    tree: &Tree,
    mode: RepoMode,
    repo_dir: &Path,
    store: Option<&Store>,
) -> Result<(CommitTree, TreeRecord), Error> {
    let plan = Plan::new(tree)?;
    let mut layout = Layout::create(repo_dir, mode)?;
    let kept = store.map(|store| Kept::open(store, mode)).transpose()?;
    let aside = layout.set_aside()?;
    let written = write_contents(&layout, kept.as_ref(), &plan.contents)?;
    let mut record = TreeRecord::default();
    if let Some(kept) = &kept {
        record.add_contents(kept, &plan.contents);
    }

    let mut commit = CommitTree {
        root_dirtree: Digest([0; 32]),
        root_dirmeta: Digest([0; 32]),
        directories: 0,
        files: 0,
        symlinks: 0,
        content_objects: written.len() as u64,
        content_bytes: plan.contents.iter().map(Content::size).sum(),
        objects_written: 0,
        bytes_written: 0,
    };
    for stored in written.iter().filter_map(|object| object.stored) {
        commit.count_object(stored);
    }
    let mut checksums = plan
        .places
        .iter()
        .filter_map(|place| written.get(*place))
        .map(|w| w.checksum);
    let mut writing = Writing {
        layout: &layout,
        kept: kept.as_ref(),
        commit: &mut commit,
        record: &mut record,
    };
    let root = writing.directory(tree.root(), &mut checksums)?;
    (commit.root_dirtree, commit.root_dirmeta) = root;
    kept.map_or(Ok(()), Kept::finish)?;
    if let Some(aside) = aside {
        layout.settle(aside)?;
    }
    Ok((commit, record))
}

/// The commit object over `tree`: what is hashed, and signed.
///
/// # Errors
/// Options that ostree refuses.
pub fn commit_object(tree: &CommitTree, options: &CommitOptions) -> Result<Vec<u8>, Error> {
    check_options(options)?;
    let object = CommitObject {
        metadata: BTreeMap::new(),
        parent: options.parent,
        subject: options.subject.clone(),
        body: options.body.clone(),
        timestamp: options.timestamp,
        root_dirtree: tree.root_dirtree,
        root_dirmeta: tree.root_dirmeta,
    };
    Ok(object.serialise(metadata(options).iter().map(|(key, value)| (*key, value.clone()))))
}

/// Writes the commit object `bytes`, with Ed25519 `signatures` (64 bytes each) beside it, and sets the ref.
///
/// # Errors
/// Whatever writing gives.
pub fn publish_commit(
    bytes: &[u8],
    signatures: &[Vec<u8>],
    options: &CommitOptions,
    repo_dir: &Path,
) -> Result<Digest, Error> {
    put_commit(bytes, signatures, options, repo_dir).map(|(checksum, _)| checksum)
}

fn put_commit(
    bytes: &[u8],
    signatures: &[Vec<u8>],
    options: &CommitOptions,
    repo_dir: &Path,
) -> Result<(Digest, bool), Error> {
    let layout = Layout::create(repo_dir, options.mode)?;
    let (checksum, new) = layout.write_metadata(Kind::Commit, bytes)?;
    if !signatures.is_empty() {
        super::detached::write_signatures(repo_dir, &checksum, signatures)?;
    }
    if options.sync {
        layout.sync()?;
    }
    layout.write_ref(&options.ref_name, &checksum)?;
    Ok((checksum, new))
}

fn check_options(options: &CommitOptions) -> Result<(), Error> {
    for name in options.bind_refs.iter().chain([&options.ref_name]) {
        if !is_ref_name(name) {
            return Err(Error::RefName { name: name.clone() });
        }
    }
    let text = |what: &dyn Fn() -> String, text: &str| match text.contains('\0') {
        true => Err(Error::NulInText { what: what() }),
        false => Ok(()),
    };
    text(&|| "subject".to_owned(), &options.subject)?;
    text(&|| "body".to_owned(), &options.body)?;
    for (key, value) in &options.metadata {
        if key == REF_BINDING {
            return Err(Error::ReservedKey { key: REF_BINDING });
        }
        let what = || format!("metadata `{}`", key.escape_debug());
        text(&what, key)?;
        match value {
            Value::Str(value) => text(&what, value)?,
            Value::StrArray(values) => values.iter().try_for_each(|value| text(&what, value))?,
            Value::Bool(_) | Value::U64(_) | Value::Bytes(_) => {}
        }
    }
    Ok(())
}

/// The metadata in the order in which `ostree commit` writes it: what was asked for, then the binding.
fn metadata(options: &CommitOptions) -> Vec<(&str, gvariant::Value<'_>)> {
    fn strings<'a>(items: impl Iterator<Item = &'a String>) -> gvariant::Value<'a> {
        let items = items.map(|item| gvariant::Value::str(item)).collect();
        gvariant::Value::Array(Type::Text(Text::String), items)
    }
    let refs: BTreeSet<&String> = options.bind_refs.iter().chain([&options.ref_name]).collect();
    let asked = options.metadata.iter().map(|(key, value)| {
        let value = match value {
            Value::Str(text) => gvariant::Value::str(text),
            Value::Bool(truth) => gvariant::Value::bool(*truth),
            Value::U64(number) => gvariant::Value::u64(number.swap_bytes()),
            Value::Bytes(bytes) => gvariant::Value::bytes(bytes),
            Value::StrArray(items) => strings(items.iter()),
        };
        (key.as_str(), value)
    });
    asked.chain([(REF_BINDING, strings(refs.into_iter()))]).collect()
}

/// The distinct contents of a tree.
struct Plan<'a> {
    contents: Vec<Content<'a>>,
    /// For each file and symbolic link, in the order of [`Tree::walk`], its index in `contents`.
    places: Vec<usize>,
}

/// What makes two files one object.
#[derive(PartialEq, Eq, Hash)]
struct Identity<'a> {
    file: Option<Digest>,
    target: Option<&'a str>,
    uid: u32,
    gid: u32,
    mode: u16,
    xattrs: &'a Xattrs,
}

impl<'a> Plan<'a> {
    fn new(tree: &'a Tree) -> Result<Self, Error> {
        let mut plan = Self {
            contents: Vec::new(),
            places: Vec::new(),
        };
        let mut known: HashMap<Identity<'a>, usize> = HashMap::new();
        for (path, node) in tree.walk() {
            check_names(&path, node)?;
            let data = match &node.kind {
                NodeKind::Dir(_) => continue,
                NodeKind::File(file) if !path.is_root() => Data::File(&file.blob),
                NodeKind::Symlink(target) if !path.is_root() => {
                    Data::Symlink(std::str::from_utf8(target).map_err(|_| Error::NotUtf8 {
                        path: path.clone(),
                        what: "target",
                    })?)
                }
                other => {
                    return Err(Error::Unsupported {
                        what: other.noun(),
                        path,
                    });
                }
            };
            let identity = Identity {
                file: data.blob().map(|blob| blob.sha256()),
                target: data.target(),
                uid: node.meta.uid,
                gid: node.meta.gid,
                mode: node.st_mode(),
                xattrs: &node.meta.xattrs,
            };
            let next = plan.contents.len();
            let place = *known.entry(identity).or_insert(next);
            if place == next {
                let owned = Ownership::new(&node.meta, node.st_mode());
                plan.contents.push(Content { path, owned, data });
            }
            plan.places.push(place);
        }
        Ok(plan)
    }
}

/// That ostree takes the name, and a file system the extended attributes.
fn check_names(path: &TreePath, node: &Node) -> Result<(), Error> {
    if path.name().is_some_and(|name| std::str::from_utf8(name).is_err()) {
        return Err(Error::NotUtf8 {
            path: path.clone(),
            what: "name",
        });
    }
    let xattrs = &node.meta.xattrs;
    let what = if xattrs.keys().any(|name| name.is_empty() || name.contains(&0)) {
        "an extended attribute whose name is empty or holds a NUL byte"
    } else if xattrs.keys().map(|name| name.len() + 1).sum::<usize>() > 65_536 {
        "extended attributes whose names take more than 64 KiB"
    } else if xattrs.values().any(|value| value.len() > 65_536) {
        "an extended attribute of more than 64 KiB"
    } else if matches!(&node.kind, NodeKind::Symlink(target) if target.is_empty() || target.len() > 4095 || target.contains(&0))
    {
        "a target that is empty, holds a NUL byte or has more than 4095 bytes"
    } else {
        return Ok(());
    };
    Err(Error::Impossible {
        path: path.clone(),
        what,
    })
}

/// Writes all contents, on all threads; the largest first, so that none is left over for the end.
fn write_contents(
    layout: &Layout,
    kept: Option<&Kept>,
    contents: &[Content<'_>],
) -> Result<Vec<Written>, Error> {
    let mut order: Vec<usize> = (0..contents.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(contents[index].size()));
    let idle: Mutex<Vec<ContentWriter<'_>>> = Mutex::new(Vec::new());
    let lock = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut written: Vec<(usize, Written)> = order
        .par_iter()
        .with_max_len(1)
        .map(|&index| {
            let taken = lock().pop();
            let mut writer = taken.unwrap_or_else(|| ContentWriter::new(layout, kept));
            let written = writer.write(&contents[index])?;
            lock().push(writer);
            Ok((index, written))
        })
        .collect::<Result<_, Error>>()?;
    written.sort_by_key(|(index, _)| *index);
    Ok(written.into_iter().map(|(_, written)| written).collect())
}

/// Directories being written.
struct Writing<'a> {
    layout: &'a Layout,
    kept: Option<&'a Kept>,
    commit: &'a mut CommitTree,
    record: &'a mut TreeRecord,
}

impl Writing<'_> {
    /// Writes directory `node` and those below it; its `dirtree` and `dirmeta`.
    fn directory(
        &mut self,
        node: &Node,
        contents: &mut dyn Iterator<Item = Digest>,
    ) -> Result<(Digest, Digest), Error> {
        let mut tree = DirTree::default();
        for (name, child) in node.children().into_iter().flatten() {
            let name = String::from_utf8_lossy(name).into_owned();
            if child.children().is_some() {
                let (dirtree, dirmeta) = self.directory(child, contents)?;
                tree.dirs.push((name, dirtree, dirmeta));
                continue;
            }
            match child.kind {
                NodeKind::Symlink(_) => self.commit.symlinks += 1,
                _ => self.commit.files += 1,
            }
            tree.files
                .extend(contents.next().map(|checksum| (name, checksum)));
        }
        self.commit.directories += 1;
        let dirtree = self.object(Kind::DirTree, tree.serialise())?;
        let dirmeta = Ownership::new(&node.meta, node.st_mode()).dirmeta();
        let dirmeta = self.object(Kind::DirMeta, dirmeta)?;
        Ok((dirtree, dirmeta))
    }

    fn object(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<Digest, Error> {
        let (checksum, new) = match self.kept {
            Some(kept) => kept.write_metadata(kind, &bytes, self.layout)?,
            None => self.layout.write_metadata(kind, &bytes)?,
        };
        if new {
            self.commit.count_object(bytes.len() as u64);
            self.record.add_object(kind, bytes);
        }
        Ok(checksum)
    }
}

impl CommitTree {
    fn count_object(&mut self, stored: u64) {
        self.objects_written += 1;
        self.bytes_written += stored;
    }
}
