//! Reading a repository: nothing in it is trusted until its checksum has been computed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::content::OSTREE_META;
use super::layout::{Layout, RepoMode, is_ref_name, open_regular};
use super::object::{CommitObject, DirTree, Kind, Ownership, object_name};
use super::walk::{EntryKind, Walk};
use crate::store::Digest;
use crate::tree::Xattrs;

/// The longest content header that is read: more than the attributes that Linux allows take.
const MAX_HEADER: u32 = 4 << 20;

/// The largest value of an extended attribute that Linux knows.
const MAX_XATTR: usize = 65_536;

/// How deep refs may nest in directories.
const MAX_REF_DEPTH: usize = 64;

/// A repository open for reading.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(super) layout: Layout,
}

/// What [`Repo::verify`] went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub directories: u64,
    pub files: u64,
    pub symlinks: u64,
    /// Distinct content objects.
    pub content_objects: u64,
}

/// A content object: what its header says, and its bytes. The header is vouched for by the checksum
/// as the bytes are: only once `reader` has been read to its end.
#[derive(Debug)]
pub struct FileObject {
    pub uid: u32,
    pub gid: u32,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    pub xattrs: Xattrs,
    /// Bytes of the content; 0 for a symbolic link.
    pub size: u64,
    /// Where a symbolic link points; such an object has been verified.
    pub target: Option<Box<[u8]>>,
    pub reader: ContentReader,
}

impl Repo {
    /// Opens the repository at `path`.
    ///
    /// # Errors
    /// Where there is none, or its mode is neither `archive` nor `bare-user`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Layout::open(path).map(|layout| Self { layout })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.layout.path
    }

    /// How it keeps contents. (The level of an archive is not recorded in it.)
    pub fn mode(&self) -> RepoMode {
        self.layout.mode
    }

    /// The commit that `name`, a ref of this repository or 64 hexadecimal digits, stands for.
    ///
    /// # Errors
    /// No such ref, or one that does not hold a checksum.
    pub fn resolve(&self, name: &str) -> Result<Digest, Error> {
        if let Ok(checksum) = name.parse() {
            return Ok(checksum);
        }
        if !is_ref_name(name) {
            return Err(Error::RefName {
                name: name.to_owned(),
            });
        }
        let path = self.layout.path.join("refs/heads").join(name);
        let mut text = String::new();
        let file = open_regular(&path).map_err(|_| Error::NoSuchRef {
            path: self.layout.path.clone(),
            name: name.to_owned(),
        })?;
        file.take(128)
            .read_to_string(&mut text)
            .map_err(Error::io("read", &path))?;
        text.trim_end().parse().map_err(|_| Error::BadRef {
            name: name.to_owned(),
        })
    }

    /// The refs of this repository with their commits, by name.
    ///
    /// # Errors
    /// Files under `refs/heads` that are not refs.
    pub fn refs(&self) -> Result<Vec<(String, Digest)>, Error> {
        let mut names = Vec::new();
        let heads = self.layout.path.join("refs/heads");
        list_refs(&heads, "", MAX_REF_DEPTH, &mut names)?;
        names.sort();
        let resolve = |name: String| self.resolve(&name).map(|commit| (name, commit));
        names.into_iter().map(resolve).collect()
    }

    /// Reads the commit object `checksum`.
    ///
    /// # Errors
    /// Where it is absent, is malformed, or has another checksum.
    pub fn commit(&self, checksum: &Digest) -> Result<CommitObject, Error> {
        let bytes = self.layout.read_metadata(checksum, Kind::Commit)?;
        CommitObject::parse(&bytes, &object_name(checksum, Kind::Commit))
    }

    /// Goes through the tree of commit `checksum`: parents before children, names in byte order.
    ///
    /// # Errors
    /// As [`Repo::commit`]; each entry may be an error in turn, after which there are no more.
    pub fn walk(&self, checksum: &Digest) -> Result<Walk<'_>, Error> {
        let commit = self.commit(checksum)?;
        Ok(Walk::new(self, *checksum, &commit))
    }

    /// Opens content object `checksum`, as [`EntryKind::File`] names it.
    ///
    /// # Errors
    /// Where it is absent, or its header is malformed. What it holds is checked as it is read.
    pub fn open_file(&self, checksum: &Digest) -> Result<FileObject, Error> {
        let kind = self.layout.mode.content_kind();
        let name = object_name(checksum, kind);
        let path = self.layout.object_path(checksum, kind);
        let file = self.layout.open_object(&path, &name)?;
        let parts = match self.layout.mode {
            RepoMode::Archive { .. } => open_archive(file, &path, &name)?,
            RepoMode::BareUser => open_bare_user(file, &path, &name)?,
        };
        let Parts {
            owned,
            size,
            target,
            source,
        } = parts;
        let target_text = target.as_deref().unwrap_or_default();
        let mut hasher = Sha256::new();
        hasher.update(owned.content_header(target_text));
        let mut reader = ContentReader {
            name,
            expected: *checksum,
            left: size,
            hasher: Some(hasher),
            source,
        };
        match owned.mode & 0o170_000 {
            0o100_000 if target.is_none() => {}
            0o120_000 if target.as_ref().is_some_and(|t| !t.is_empty()) && size == 0 => {
                reader.finish()?;
            }
            _ => {
                return Err(Error::Malformed {
                    name: reader.name,
                    what: format!("mode {:o} does not go with what it holds", owned.mode),
                });
            }
        }
        Ok(FileObject {
            uid: owned.uid,
            gid: owned.gid,
            mode: owned.mode,
            xattrs: owned.xattrs,
            size,
            target: target.map(|target| target.into_bytes().into()),
            reader,
        })
    }

    /// Reads all that commit `checksum` leads to and checks every checksum, on all threads of the
    /// current `rayon` pool.
    ///
    /// # Errors
    /// The first object that is absent, malformed or corrupt.
    pub fn verify(&self, checksum: &Digest) -> Result<Verified, Error> {
        let mut verified = Verified {
            directories: 0,
            files: 0,
            symlinks: 0,
            content_objects: 0,
        };
        let mut contents = BTreeSet::new();
        let mut links = BTreeSet::new();
        for entry in self.walk(checksum)? {
            match entry?.kind {
                EntryKind::Directory => verified.directories += 1,
                EntryKind::Symlink { checksum, .. } => {
                    verified.symlinks += 1;
                    links.insert(checksum);
                }
                EntryKind::File { checksum, .. } => {
                    verified.files += 1;
                    contents.insert(checksum);
                }
            }
        }
        verified.content_objects = (contents.len() + links.len()) as u64;
        let contents: Vec<Digest> = contents.into_iter().collect();
        contents
            .par_iter()
            .try_for_each(|file| self.check_content(file))?;
        Ok(verified)
    }

    /// Reads a content object to its end, where its checksum must hold.
    pub(super) fn check_content(&self, checksum: &Digest) -> Result<(), Error> {
        let mut reader = self.open_file(checksum)?.reader;
        let mut buffer = vec![0; 64 << 10];
        while reader.read_verified(&mut buffer)? > 0 {}
        Ok(())
    }

    pub(super) fn dirtree(&self, checksum: &Digest) -> Result<DirTree, Error> {
        let bytes = self.layout.read_metadata(checksum, Kind::DirTree)?;
        DirTree::parse(&bytes, &object_name(checksum, Kind::DirTree))
    }

    pub(super) fn dirmeta(&self, checksum: &Digest) -> Result<Ownership, Error> {
        let name = object_name(checksum, Kind::DirMeta);
        let owned = Ownership::parse(&self.layout.read_metadata(checksum, Kind::DirMeta)?, &name)?;
        if owned.mode & 0o170_000 != 0o040_000 {
            let what = format!("mode {:o} is not a directory's", owned.mode);
            return Err(Error::Malformed { name, what });
        }
        Ok(owned)
    }
}

fn list_refs(directory: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let entry = entry.map_err(Error::io("list", directory))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if !is_ref_name(&name) || depth == 0 {
            return Err(Error::RefName { name });
        }
        let kind = entry.file_type().map_err(Error::io("look at", directory))?;
        if kind.is_dir() {
            list_refs(&entry.path(), &format!("{name}/"), depth - 1, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// What is known of a content object before its content is read.
struct Parts {
    owned: Ownership,
    size: u64,
    target: Option<String>,
    source: Source,
}

fn open_archive(file: File, path: &Path, name: &str) -> Result<Parts, Error> {
    let malformed = |what: &str| Error::Malformed {
        name: name.to_owned(),
        what: what.to_owned(),
    };
    let mut file = BufReader::new(file);
    let mut frame = [0; 8];
    file.read_exact(&mut frame).map_err(Error::io("read", path))?;
    let [a, b, c, d, padding @ ..] = frame;
    let length = u32::from_be_bytes([a, b, c, d]);
    if padding != [0; 4] || length > MAX_HEADER {
        return Err(malformed("its header's length is out of bounds"));
    }
    let mut header = Vec::new();
    file.by_ref()
        .take(u64::from(length))
        .read_to_end(&mut header)
        .map_err(Error::io("read", path))?;
    if header.len() as u64 != u64::from(length) {
        return Err(malformed("it ends within its header"));
    }
    let (size, owned, target) = Ownership::parse_archive_header(&header, name)?;
    let target = (owned.mode & 0o170_000 == 0o120_000 || !target.is_empty()).then_some(target);
    let source = match target {
        Some(_) => Source::Plain(file),
        None => Source::Deflated(Box::new(DeflateDecoder::new(file))),
    };
    Ok(Parts {
        owned,
        size,
        target,
        source,
    })
}

fn open_bare_user(file: File, path: &Path, name: &str) -> Result<Parts, Error> {
    let mut value = vec![0; MAX_XATTR];
    let length = rustix::fs::fgetxattr(&file, OSTREE_META, &mut value[..]).map_err(|errno| {
        Error::io("read the extended attribute that holds the owner of", path)(errno.into())
    })?;
    value.truncate(length);
    let owned = Ownership::parse(&value, name)?;
    let status = file.metadata().map_err(Error::io("look at", path))?;
    let mut file = BufReader::new(file);
    if owned.mode & 0o170_000 != 0o120_000 {
        return Ok(Parts {
            owned,
            size: status.len(),
            target: None,
            source: Source::Plain(file),
        });
    }
    let mut target = String::new();
    file.by_ref()
        .take(4096)
        .read_to_string(&mut target)
        .map_err(Error::io("read", path))?;
    // libostree ends it with a NUL byte, and reads it with and without.
    if target.ends_with('\0') {
        target.pop();
    }
    if target.contains('\0') {
        return Err(Error::Malformed {
            name: name.to_owned(),
            what: "its target holds a NUL byte".to_owned(),
        });
    }
    Ok(Parts {
        owned,
        size: 0,
        target: Some(target),
        source: Source::Plain(file),
    })
}

#[derive(Debug)]
enum Source {
    Plain(BufReader<File>),
    Deflated(Box<DeflateDecoder<BufReader<File>>>),
}

/// Reads a content object. The end is reached only where size and checksum are right; else the last
/// read is an error of kind `InvalidData` that wraps an [`Error`].
#[derive(Debug)]
pub struct ContentReader {
    name: String,
    expected: Digest,
    left: u64,
    /// Taken once the checksum has been compared.
    hasher: Option<Sha256>,
    source: Source,
}

impl ContentReader {
    /// As [`Read::read`], with this room's error.
    pub(super) fn read_verified(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let malformed = |name: &str, what: String| Error::Malformed {
            name: name.to_owned(),
            what,
        };
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            self.finish()?;
            return Ok(0);
        }
        let count = match &mut self.source {
            Source::Plain(file) => file.read(&mut buffer[..wanted]),
            Source::Deflated(file) => file.read(&mut buffer[..wanted]),
        };
        let count =
            count.map_err(|error| malformed(&self.name, format!("its content cannot be read: {error}")))?;
        if count == 0 {
            return Err(malformed(&self.name, format!("{} bytes are missing", self.left)));
        }
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }

    /// That nothing follows, and the checksum is right.
    fn finish(&mut self) -> Result<(), Error> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = Digest::finish(hasher);
        if found != self.expected {
            let name = self.name.clone();
            return Err(Error::Checksum { name, found });
        }
        let mut one = [0];
        let more = match &mut self.source {
            Source::Plain(file) => file.read(&mut one),
            Source::Deflated(file) => match file.read(&mut one) {
                Ok(0) => file.get_mut().fill_buf().map(<[u8]>::len),
                other => other,
            },
        };
        match more {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::Malformed {
                name: self.name.clone(),
                what: "bytes follow its content".to_owned(),
            }),
            Err(error) => Err(Error::Malformed {
                name: self.name.clone(),
                what: format!("its end cannot be read: {error}"),
            }),
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_verified(buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
