//! Reads the whole tree of a volume back into a [`FileSystem`].

use std::collections::{BTreeMap, HashMap, HashSet};

use super::format::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, decode_device, file_type,
};
use super::model::{Content, FileSystem, Inode, InodeIndex, InodeKind};
use super::read_error::ReadError;
use super::reader::{Image, StoredInode};

/// Bytes of extended attributes that all inodes together may have beyond the volume's own length: a
/// shared one is stored once, but each inode gets its copy.
const XATTR_BUDGET: u64 = 64 << 20;

/// A tree while it is read. What is said of inodes goes by their index in the tree.
struct Walk<'a, S> {
    image: &'a Image<S>,
    tree: FileSystem<StoredInode>,
    stored: Vec<StoredInode>,
    /// Links met so far.
    links: Vec<u32>,
    /// By inode number.
    known: HashMap<u64, InodeIndex>,
    /// Directories that have been met as an entry; the root counts from the start.
    is_placed: HashSet<InodeIndex>,
    /// Directories to be read, with the number of the one above.
    pending: Vec<(InodeIndex, u64)>,
    /// Bytes of directories, and of extended attributes, that may still come.
    directories: u64,
    xattrs: u64,
}

impl<S: Content> Image<S> {
    /// The whole tree. The content of a file is its inode, for [`Image::read`]. Checks what each
    /// inode alone cannot show: that directories form a tree, `.` and `..` are right, and numbers of
    /// links and types agree.
    ///
    /// # Errors
    /// Where the volume is malformed or contradicts itself.
    pub fn tree(&self) -> Result<FileSystem<StoredInode>, ReadError> {
        let mut walk = Walk {
            image: self,
            tree: FileSystem {
                inodes: Vec::new(),
                root: InodeIndex(0),
            },
            stored: Vec::new(),
            links: Vec::new(),
            known: HashMap::new(),
            is_placed: HashSet::from([InodeIndex(0)]),
            pending: Vec::new(),
            directories: self.length(),
            xattrs: self.length() + XATTR_BUDGET,
        };
        let root = self.root()?;
        if root.st_mode() & S_IFMT != S_IFDIR {
            return Err("the root is not a directory".into());
        }
        let nid = root.nid();
        walk.add(root, nid)?;
        while let Some((directory, parent)) = walk.pending.pop() {
            walk.directory(directory, parent)
                .map_err(|error| error.of(walk.stored[directory.0].nid()))?;
        }
        for (inode, links) in walk.stored.iter().zip(walk.links) {
            if inode.links() != links {
                return Err(ReadError::from("an inode's number of links is wrong").of(inode.nid()));
            }
        }
        Ok(walk.tree)
    }
}

impl<S: Content> Walk<'_, S> {
    /// Takes an inode that is met for the first time, in the directory with number `parent`.
    fn add(&mut self, inode: StoredInode, parent: u64) -> Result<InodeIndex, ReadError> {
        let index = InodeIndex(self.tree.inodes.len());
        let xattrs = self.image.xattrs(&inode)?;
        let bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.xattrs = self
            .xattrs
            .checked_sub(bytes as u64)
            .ok_or("its extended attributes take too much memory")?;
        let device = decode_device(inode.head.union);
        let kind = match inode.st_mode() & S_IFMT {
            S_IFDIR => {
                self.pending.push((index, parent));
                InodeKind::Dir(BTreeMap::new())
            }
            S_IFREG => InodeKind::File(inode.clone()),
            S_IFLNK => InodeKind::Symlink(self.image.target(&inode)?),
            S_IFCHR => InodeKind::CharDevice {
                major: device.0,
                minor: device.1,
            },
            S_IFBLK => InodeKind::BlockDevice {
                major: device.0,
                minor: device.1,
            },
            S_IFIFO => InodeKind::Fifo,
            S_IFSOCK => InodeKind::Socket,
            _ => return Err(ReadError::from("an inode has no known type").of(inode.nid())),
        };
        self.links.push(match kind {
            InodeKind::Dir(_) => 2,
            _ => 0,
        });
        self.tree.inodes.push(Inode {
            mode: inode.st_mode() & !S_IFMT,
            uid: inode.head.uid,
            gid: inode.head.gid,
            mtime: inode.head.mtime,
            xattrs,
            kind,
        });
        self.known.insert(inode.nid(), index);
        self.stored.push(inode);
        Ok(index)
    }

    /// Reads the entries of a directory.
    fn directory(&mut self, directory: InodeIndex, parent: u64) -> Result<(), ReadError> {
        let own = self.stored[directory.0].clone();
        self.directories = self
            .directories
            .checked_sub(own.size())
            .ok_or("its directories share blocks")?;
        let mut children = BTreeMap::new();
        for found in self.image.entries(&own)? {
            match &*found.name {
                b"." if found.nid == own.nid() => continue,
                b".." if found.nid == parent => continue,
                b"." | b".." => return Err("`.` or `..` leads elsewhere".into()),
                _ => {}
            }
            let index = match self.known.get(&found.nid) {
                Some(index) => *index,
                None => self.add(self.image.inode(found.nid)?, own.nid())?,
            };
            let mode = self.stored[index.0].st_mode();
            if found.file_type != file_type(mode) {
                return Err("an entry's type is not its inode's".into());
            }
            if mode & S_IFMT != S_IFDIR {
                self.links[index.0] = self.links[index.0].saturating_add(1);
            } else if self.is_placed.insert(index) {
                self.links[directory.0] = self.links[directory.0].saturating_add(1);
            } else {
                return Err("a directory stands in more than one place".into());
            }
            children.insert(found.name, index);
        }
        self.tree.inodes[directory.0].kind = InodeKind::Dir(children);
        Ok(())
    }
}
