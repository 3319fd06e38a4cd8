//! The order in which inodes are written, their links, and the checks that come before any byte.

use std::collections::{BTreeMap, VecDeque};

use super::error::{Error, Fault};
use super::format::{DIRENT, NAME_MAX, encode_device};
use super::model::{FileSystem, Inode, InodeIndex, InodeKind};

/// What is known of the tree before anything is written.
#[derive(Debug)]
pub(super) struct Plan {
    /// All inodes, breadth first: the inodes of a directory and their data lie side by side.
    pub(super) order: Vec<usize>,
    /// By index in [`FileSystem::inodes`].
    pub(super) links: Vec<u32>,
    /// Where an inode was first met: its directory and its name there. `None` for the root.
    first: Vec<Option<(usize, Box<[u8]>)>>,
}

impl Plan {
    /// Checks `tree` and orders it.
    pub(super) fn new<C>(tree: &FileSystem<C>) -> Result<Self, Error> {
        let count = tree.inodes.len();
        let mut plan = Self {
            order: Vec::with_capacity(count),
            links: vec![0; count],
            first: vec![None; count],
        };
        let root = tree.root.0;
        let at_root = |fault| Error::Entry {
            path: "/".to_owned(),
            fault,
        };
        let root_inode = tree
            .inodes
            .get(root)
            .ok_or_else(|| at_root(Fault::NoSuchInode(root)))?;
        if !matches!(root_inode.kind, InodeKind::Dir(_)) {
            return Err(at_root(Fault::RootNotDirectory));
        }
        check(root_inode).map_err(at_root)?;
        plan.links[root] = 2;
        let mut directories = VecDeque::from([root]);
        plan.order.push(root);
        while let Some(directory) = directories.pop_front() {
            if let InodeKind::Dir(entries) = &tree.inodes[directory].kind {
                plan.enter(tree, directory, entries, &mut directories)?;
            }
        }
        match plan.links.iter().position(|links| *links == 0) {
            Some(index) => Err(Error::Unreachable { index }),
            None => Ok(plan),
        }
    }

    /// Takes note of the entries of one directory.
    fn enter<C>(
        &mut self,
        tree: &FileSystem<C>,
        directory: usize,
        entries: &BTreeMap<Box<[u8]>, InodeIndex>,
        directories: &mut VecDeque<usize>,
    ) -> Result<(), Error> {
        for (name, &InodeIndex(index)) in entries {
            let wrong = |fault| Error::Entry {
                path: join(&self.path(directory), name),
                fault,
            };
            check_name(name).map_err(wrong)?;
            let inode = tree
                .inodes
                .get(index)
                .ok_or_else(|| wrong(Fault::NoSuchInode(index)))?;
            let is_new = self.links[index] == 0;
            if matches!(inode.kind, InodeKind::Dir(_)) {
                if !is_new {
                    return Err(wrong(Fault::DirectoryLinkedTwice));
                }
                self.links[directory] += 1;
                self.links[index] = 2;
                directories.push_back(index);
            } else {
                self.links[index] += 1;
            }
            if is_new {
                check(inode).map_err(|fault| Error::Entry {
                    path: join(&self.path(directory), name),
                    fault,
                })?;
                self.order.push(index);
                self.first[index] = Some((directory, name.clone()));
            }
        }
        Ok(())
    }

    /// The directory above directory `index`; the root's is the root itself.
    pub(super) fn parent(&self, index: usize) -> usize {
        self.first[index].as_ref().map_or(index, |(parent, _)| *parent)
    }

    /// The path under which an inode was first met, for messages.
    pub(super) fn path(&self, mut index: usize) -> String {
        let mut names = Vec::new();
        while let Some((parent, name)) = &self.first[index] {
            names.push(String::from_utf8_lossy(name));
            index = *parent;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }
}

fn join(directory: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!("{}/{name}", directory.trim_end_matches('/'))
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.len() > NAME_MAX {
        return Err(Fault::NameTooLong(name.len()));
    }
    let is_special = name.is_empty() || name == b"." || name == b"..";
    if is_special || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Fault::BadName);
    }
    Ok(())
}

/// What can be seen from the inode alone, extended attributes apart.
fn check<C>(inode: &Inode<C>) -> Result<(), Fault> {
    if inode.mode & !0o7777 != 0 {
        return Err(Fault::BadMode(inode.mode));
    }
    match &inode.kind {
        InodeKind::Symlink(target) => {
            let fits = (1..4096).contains(&target.len());
            if !fits || target.contains(&0) {
                return Err(Fault::BadTarget(target.len()));
            }
        }
        &InodeKind::CharDevice { major, minor } | &InodeKind::BlockDevice { major, minor } => {
            if encode_device(major, minor).is_none() {
                return Err(Fault::DeviceOutOfRange(major, minor));
            }
        }
        InodeKind::Dir(entries) => {
            // Twice, for what the ends of blocks may leave empty.
            let bytes: u64 = entries.keys().map(|name| 2 * (DIRENT + name.len()) as u64).sum();
            if bytes > u64::from(u32::MAX) {
                return Err(Fault::DirectoryTooLarge(bytes / 2));
            }
        }
        InodeKind::File(_) | InodeKind::Fifo | InodeKind::Socket => {}
    }
    Ok(())
}
