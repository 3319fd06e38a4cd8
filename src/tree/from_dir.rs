//! A tree from a directory of the file system.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Children, FileData, Kind, LinkId, Meta, Node, Origin, Tree, Xattrs};
use crate::store::{Blob, Digest};

/// A directory could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be read: {source}", path.display())]
pub struct FromDirError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl Tree {
    /// The tree below directory `root`: modes, owners, times and hard links as they stand there;
    /// extended attributes are not read. File contents stay where they are and are read when
    /// asked for, so that the directory must not change while the tree lives.
    ///
    /// # Errors
    /// The first path that cannot be read.
    pub fn from_dir(root: &Path) -> Result<Self, FromDirError> {
        let metadata = fs::symlink_metadata(root).map_err(|source| failed(root, source))?;
        let mut files = Vec::new();
        let children = directory(root, &mut files)?;
        let blobs: Vec<Blob> = files
            .par_iter()
            .map(|path| blob(path).map_err(|source| failed(path, source)))
            .collect::<Result<_, _>>()?;
        let mut tree = Self::new(meta(&metadata));
        let mut blobs = blobs.into_iter();
        let mut links = BTreeMap::new();
        tree.root_mut().kind = Kind::Dir(finish(children, &mut blobs, &mut links));
        Ok(tree)
    }
}

/// A directory's entries before the files' contents are known.
type Entries = BTreeMap<Box<[u8]>, (Metadata, Entry)>;

enum Entry {
    Dir(Entries),
    /// The next of the list of files.
    File,
    Other(Kind),
}

fn failed(path: &Path, source: io::Error) -> FromDirError {
    FromDirError {
        path: path.to_owned(),
        source,
    }
}

fn meta(metadata: &Metadata) -> Meta {
    Meta {
        mode: (metadata.mode() & 0o7777) as u16,
        uid: metadata.uid(),
        gid: metadata.gid(),
        user: None,
        group: None,
        mtime: metadata.mtime(),
        xattrs: Xattrs::new(),
    }
}

/// Reads names and metadata; appends the regular files' paths in the order of their names, which
/// [`finish`] counts on.
fn directory(path: &Path, files: &mut Vec<PathBuf>) -> Result<Entries, FromDirError> {
    let fail = |source| failed(path, source);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        found.insert(Box::from(entry.file_name().as_bytes()), entry.path());
    }
    let mut entries = Entries::new();
    for (name, path) in found {
        let fail = |source| failed(&path, source);
        let metadata = fs::symlink_metadata(&path).map_err(fail)?;
        let kind = metadata.file_type();
        let (major, minor) = (
            nix::sys::stat::major(metadata.rdev()),
            nix::sys::stat::minor(metadata.rdev()),
        );
        let (major, minor) = (major as u32, minor as u32);
        let entry = if kind.is_dir() {
            Entry::Dir(directory(&path, files)?)
        } else if kind.is_file() {
            files.push(path);
            Entry::File
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(fail)?;
            Entry::Other(Kind::Symlink(target.as_os_str().as_bytes().into()))
        } else if kind.is_char_device() {
            Entry::Other(Kind::CharDevice { major, minor })
        } else if kind.is_block_device() {
            Entry::Other(Kind::BlockDevice { major, minor })
        } else if kind.is_fifo() {
            Entry::Other(Kind::Fifo)
        } else {
            Entry::Other(Kind::Socket)
        };
        entries.insert(name, (metadata, entry));
    }
    Ok(entries)
}

fn blob(path: &Path) -> io::Result<Blob> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let size = io::copy(&mut file, &mut HashWriter(&mut hasher))?;
    Ok(Blob::from_file(Arc::new(file), size, Digest::finish(hasher)))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn finish(
    entries: Entries,
    blobs: &mut impl Iterator<Item = Blob>,
    links: &mut BTreeMap<(u64, u64), LinkId>,
) -> Children {
    let mut children = Children::new();
    for (name, (metadata, entry)) in entries {
        let kind = match entry {
            Entry::Dir(below) => Kind::Dir(finish(below, blobs, links)),
            Entry::Other(kind) => kind,
            Entry::File => {
                let Some(blob) = blobs.next() else { continue };
                let link = (metadata.nlink() > 1).then(|| {
                    let next = LinkId(links.len() as u64);
                    *links.entry((metadata.dev(), metadata.ino())).or_insert(next)
                });
                Kind::File(FileData { blob, link })
            }
        };
        let origin = Origin::Composer("read from a directory");
        children.insert(name, Node::new(meta(&metadata), kind, origin));
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::path::TreePath;

    #[test]
    fn a_directory_is_read_with_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/a"), "one").unwrap();
        fs::write(dir.path().join("z"), "two").unwrap();
        fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("d/a", dir.path().join("s")).unwrap();
        let tree = Tree::from_dir(dir.path()).unwrap();
        let file = |path| tree.file(&TreePath::literal(path)).unwrap();
        assert_eq!(file("/s").blob.read_all().unwrap(), b"one");
        assert_eq!(file("/z").blob.read_all().unwrap(), b"two");
        assert_eq!(file("/b"), file("/d/a"));
        assert!(file("/b").link.is_some());
        assert_eq!(file("/z").link, None);
        let missing = Tree::from_dir(&dir.path().join("absent")).unwrap_err();
        assert!(missing.to_string().contains("absent"), "{missing}");
    }
}
