//! What lay in the tree when it was last looked at, and what has changed since.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use sha2::{Digest as _, Sha256};

use super::ground::{Ground, LIST, LOOK, READ, entry};
use super::records::{Inode, Records, Said, inode};
use super::usage::Held;
use super::{Change, ChangeKind};
use crate::path::TreePath;
use crate::store::Digest;

/// Longest path that a tree can hold, in bytes.
const LONGEST: usize = 4095;

/// The tree as it was.
#[derive(Debug)]
pub(super) struct Snapshot {
    root: Entry,
}

#[derive(Debug)]
struct Entry {
    state: State,
    children: BTreeMap<Box<[u8]>, Entry>,
}

/// One node as it was.
#[derive(Debug, Clone)]
pub(super) struct State {
    inode: Inode,
    ctime: (i64, u32),
    size: u64,
    /// Type and permission bits of the real inode.
    mode: u16,
    said: Option<Box<Said>>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    None,
    File(Digest),
    Link(Box<[u8]>),
}

/// A scan that cannot go on.
#[derive(Debug)]
pub(super) struct ScanError {
    pub path: TreePath,
    pub source: io::Error,
}

fn kind(mode: u16) -> FileType {
    FileType::from_raw_mode(mode.into())
}

impl State {
    fn of(stat: &Statx, said: Option<&Said>, content: Content) -> Self {
        Self {
            inode: inode(stat),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            size: stat.stx_size,
            mode: stat.stx_mode,
            said: said.map(|said| Box::new(said.clone())),
            content,
        }
    }

    /// Whether the content cannot have changed since.
    fn has_content_of(&self, stat: &Statx) -> bool {
        self.inode == inode(stat)
            && self.ctime == (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
            && self.size == stat.stx_size
    }

    /// Whether nothing has changed since. A directory's times and size tell of its entries, which are looked at anyway.
    fn is(&self, stat: &Statx, said: Option<&Said>) -> bool {
        let same = kind(self.mode) == FileType::Directory && self.inode == inode(stat);
        (same || self.has_content_of(stat)) && self.mode == stat.stx_mode && self.said.as_deref() == said
    }

    /// Of a node that has just been laid; `sha256` for a regular file, `target` for a link.
    pub(super) fn laid(
        stat: &Statx,
        said: Option<&Said>,
        sha256: Option<Digest>,
        target: Option<&[u8]>,
    ) -> Self {
        let content = match (sha256, target) {
            (Some(digest), _) => Content::File(digest),
            (_, Some(target)) => Content::Link(target.into()),
            _ => Content::None,
        };
        Self::of(stat, said, content)
    }
}

impl Snapshot {
    pub(super) fn new(root: State) -> Self {
        Self {
            root: Entry {
                state: root,
                children: BTreeMap::new(),
            },
        }
    }

    /// Notes what lies at `path` now; the directories above must have been noted.
    pub(super) fn note(&mut self, path: &TreePath, state: State) {
        let mut at = &mut self.root;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                let is_directory = kind(state.mode) == FileType::Directory;
                let entry = at.children.entry(name.into()).or_insert_with(|| Entry {
                    state: state.clone(),
                    children: BTreeMap::new(),
                });
                entry.state = state;
                if !is_directory {
                    entry.children.clear();
                }
                return;
            }
            let Some(next) = at.children.get_mut(name) else {
                return;
            };
            at = next;
        }
        at.state = state;
    }

    /// Forgets what lay at `path` and below.
    pub(super) fn forget(&mut self, path: &TreePath) {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return;
        };
        let mut at = &mut self.root;
        for part in parent.components() {
            let Some(next) = at.children.get_mut(part) else {
                return;
            };
            at = next;
        }
        at.children.remove(name);
    }

    /// The newest change that it has seen, in seconds and nanoseconds: a later one may carry the same time.
    pub(super) fn newest(&self) -> (i64, u32) {
        fn below(entry: &Entry) -> (i64, u32) {
            let deepest = entry.children.values().map(below).max();
            entry.state.ctime.max(deepest.unwrap_or_default())
        }
        below(&self.root)
    }

    /// What it holds.
    pub(super) fn held(&self) -> Held {
        fn below(entry: &Entry, held: &mut Held, seen: &mut HashSet<Inode>) {
            for child in entry.children.values() {
                let state = &child.state;
                held.names += 1;
                if kind(state.mode) == FileType::RegularFile && seen.insert(state.inode) {
                    held.bytes = held.bytes.saturating_add(state.size);
                }
                below(child, held, seen);
            }
        }
        let mut held = Held::default();
        below(&self.root, &mut held, &mut HashSet::new());
        held
    }

    /// Looks at the whole tree, gives what changed since the last time, sorted by path, and remembers it as it is now.
    /// No more than `most` bytes of content are read.
    pub(super) fn scan(
        &mut self,
        ground: &Ground,
        records: &Records,
        most: u64,
    ) -> Result<Vec<Change>, ScanError> {
        let mut scan = Scan {
            records,
            changes: Vec::new(),
            left: most,
            digests: HashMap::new(),
        };
        let path = TreePath::root();
        let fail = |source: rustix::io::Errno| ScanError {
            path: TreePath::root(),
            source: source.into(),
        };
        let root = ground.at(&path, LIST).map_err(fail)?;
        let stat = super::records::real(root.as_fd()).map_err(fail)?;
        let said = records.get(root.as_fd(), &stat);
        scan.metadata(&path, &self.root.state, &stat, said);
        self.root.state = State::of(&stat, said, Content::None);
        // The root's own rights, too.
        let opened = entry(root.as_fd(), b".", LIST).map_err(fail)?;
        scan.directory(opened.fd.as_fd(), &path, &mut self.root)?;
        drop(opened);
        let mut changes = scan.changes;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }
}

struct Scan<'a> {
    records: &'a Records,
    changes: Vec<Change>,
    /// Bytes of content that may still be read.
    left: u64,
    /// Of what has more than one name and was read.
    digests: HashMap<Inode, Digest>,
}

impl Scan<'_> {
    fn say(&mut self, path: &TreePath, kind: ChangeKind) {
        let path = path.clone();
        self.changes.push(Change { path, kind });
    }

    /// Says whether something about the node has changed besides its content.
    fn metadata(&mut self, path: &TreePath, old: &State, stat: &Statx, said: Option<&Said>) -> bool {
        let differs = old.mode != stat.stx_mode || old.said.as_deref() != said;
        if differs {
            self.say(path, ChangeKind::Metadata);
        }
        differs
    }

    fn removed(&mut self, path: &TreePath, entry: &Entry) {
        self.say(path, ChangeKind::Removed);
        for (name, child) in &entry.children {
            self.removed(&path.join_name(name), child);
        }
    }

    fn directory(&mut self, fd: BorrowedFd<'_>, path: &TreePath, old: &mut Entry) -> Result<(), ScanError> {
        let fail = |source: rustix::io::Errno| ScanError {
            path: path.clone(),
            source: source.into(),
        };
        let mut names = Vec::new();
        for found in Dir::read_from(fd).map_err(fail)? {
            let name = found.map_err(fail)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        for name in old.children.keys() {
            if names
                .binary_search_by(|found| found.as_slice().cmp(name))
                .is_err()
            {
                gone.push(name.clone());
            }
        }
        for name in gone {
            if let Some(entry) = old.children.remove(&name) {
                self.removed(&path.join_name(&name), &entry);
            }
        }
        for name in names {
            self.node(fd, path, &name, old)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        directory: BorrowedFd<'_>,
        above: &TreePath,
        name: &[u8],
        parent: &mut Entry,
    ) -> Result<(), ScanError> {
        // Most nodes are as they were: only the others' paths are put together.
        let fail = |source: io::Error| ScanError {
            path: above.join_name(name),
            source,
        };
        if above.as_bytes().len() + 1 + name.len() > LONGEST {
            return Err(ScanError {
                path: above.clone(),
                source: rustix::io::Errno::NAMETOOLONG.into(),
            });
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = statx(directory, name, flags, wanted).map_err(|error| fail(error.into()))?;
        let said = self
            .records
            .find(&stat, || {
                openat(directory, name, LOOK | OFlags::CLOEXEC, Mode::empty())
            })
            .map_err(|error| fail(error.into()))?;
        let what = kind(stat.stx_mode);
        let now = match parent.children.entry(Box::from(name)) {
            btree_map::Entry::Occupied(entry) if kind(entry.get().state.mode) == what => {
                let entry = entry.into_mut();
                if !entry.state.is(&stat, said) {
                    let same_content = entry.state.has_content_of(&stat);
                    let content = if same_content {
                        entry.state.content.clone()
                    } else {
                        self.content(directory, name, &stat).map_err(fail)?
                    };
                    let path = above.join_name(name);
                    if entry.state.content == content {
                        self.metadata(&path, &entry.state, &stat, said);
                    } else {
                        self.say(&path, ChangeKind::Content);
                    }
                    entry.state = State::of(&stat, said, content);
                }
                entry
            }
            other => {
                let path = above.join_name(name);
                if let btree_map::Entry::Occupied(entry) = &other {
                    // Something of another kind was in its place.
                    for (below, child) in &entry.get().children {
                        self.removed(&path.join_name(below), child);
                    }
                }
                self.say(&path, ChangeKind::Created);
                let content = self.content(directory, name, &stat).map_err(fail)?;
                let entry = Entry {
                    state: State::of(&stat, said, content),
                    children: BTreeMap::new(),
                };
                other.insert_entry(entry).into_mut()
            }
        };
        if what == FileType::Directory {
            // Held open, with the owner's rights given, until all below it has been looked at.
            let below = entry(directory, name, LIST).map_err(|error| fail(error.into()))?;
            self.directory(below.fd.as_fd(), &above.join_name(name), now)?;
        }
        Ok(())
    }

    /// A regular file's digest or a link's target.
    fn content(&mut self, directory: BorrowedFd<'_>, name: &[u8], stat: &Statx) -> io::Result<Content> {
        Ok(match kind(stat.stx_mode) {
            FileType::RegularFile => Content::File(self.file(directory, name, stat)?),
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                Content::Link(target.to_bytes().into())
            }
            _ => Content::None,
        })
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &[u8], stat: &Statx) -> io::Result<Digest> {
        if let Some(known) = self.digests.get(&inode(stat)) {
            return Ok(*known);
        }
        // Holes are long to read, though they take no disk.
        self.left = self
            .left
            .checked_sub(stat.stx_size)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let digest = digest(directory, name)?;
        if stat.stx_nlink > 1 {
            self.digests.insert(inode(stat), digest);
        }
        Ok(digest)
    }
}

/// SHA-256 of a regular file's content.
fn digest(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Digest> {
    let opened = entry(directory, name, READ)?;
    let mut file = File::from(opened.fd.try_clone()?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::finish(hasher)),
            length => hasher.update(&buffer[..length]),
        }
    }
}
