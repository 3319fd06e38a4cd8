//! The tree of an erofs volume: path by path in the order of a commit's, and single files.

use std::io;

use crate::formats::erofs::{Content, Image, ReadError, StoredInode};
use crate::tree::path::TreePath;

const DIRECTORY: u16 = 0o040_000;
const TYPE: u16 = 0o170_000;
/// As many as a commit may have: a hostile volume could lead in circles.
const MAX_ENTRIES: u64 = 10_000_000;

/// Directories are read whole, and a hostile volume may claim one as long as itself. 64 MiB hold a million names.
const MAX_DIRECTORY: u64 = 64 << 20;

/// What keeps a volume from being gone through.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("`{}` holds a name that no file can have", path)]
    Name { path: TreePath },
    #[error("`{}` is a directory of {} MiB", path, size >> 20)]
    Directory { path: TreePath, size: u64 },
    #[error("it holds more than {MAX_ENTRIES} paths, or a directory is inside itself")]
    TooMany,
}

/// The paths of a volume: parents before children, names in byte order.
pub struct Walk<'a, S> {
    image: &'a Image<S>,
    stack: Vec<(TreePath, u64)>,
    seen: u64,
}

impl<'a, S: Content> Walk<'a, S> {
    /// The volume's root is called `root`.
    pub fn new(image: &'a Image<S>, root: TreePath) -> Result<Self, WalkError> {
        Ok(Self {
            image,
            stack: vec![(root, image.root()?.nid())],
            seen: 0,
        })
    }

    fn step(&mut self, path: TreePath, nid: u64) -> Result<(TreePath, StoredInode), WalkError> {
        self.seen += 1;
        if self.seen > MAX_ENTRIES {
            return Err(WalkError::TooMany);
        }
        let inode = self.image.inode(nid)?;
        if inode.st_mode() & TYPE == DIRECTORY {
            if inode.size() > MAX_DIRECTORY {
                let size = inode.size();
                return Err(WalkError::Directory { path, size });
            }
            for (name, nid) in self.image.children(&inode)?.into_iter().rev() {
                let wrong = name.is_empty() || name.contains(&b'/') || *name == *b"." || *name == *b"..";
                let below = path.join(&name).ok().filter(|_| !wrong);
                let below = below.ok_or_else(|| WalkError::Name { path: path.clone() })?;
                self.stack.push((below, nid));
            }
        }
        Ok((path, inode))
    }
}

impl<S: Content> Iterator for Walk<'_, S> {
    type Item = Result<(TreePath, StoredInode), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, nid) = self.stack.pop()?;
        let item = self.step(path, nid);
        if item.is_err() {
            self.stack.clear();
        }
        Some(item)
    }
}

/// What stands at `path`, relative to the volume's root; symbolic links are not followed.
pub fn find<S: Content>(image: &Image<S>, path: &str) -> Result<Option<StoredInode>, ReadError> {
    let mut inode = image.root()?;
    for name in path.split('/') {
        if inode.st_mode() & TYPE != DIRECTORY || inode.size() > MAX_DIRECTORY {
            return Ok(None);
        }
        let Some(&nid) = image.children(&inode)?.get(name.as_bytes()) else {
            return Ok(None);
        };
        inode = image.inode(nid)?;
    }
    Ok(Some(inode))
}

/// The content of the file at `path`, which has at most `limit` bytes.
pub fn read<S: Content>(image: &Image<S>, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let inode = find(image, path).map_err(io::Error::other)?;
    let inode =
        inode.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("/usr/{path} is not there")))?;
    if inode.size() > limit {
        return Err(io::Error::other(format!("/usr/{path} is too large")));
    }
    let mut bytes = Vec::new();
    image.read(&inode, &mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
