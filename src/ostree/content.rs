//! Content objects: regular files and symbolic links, hashed, compressed and written.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use flate2::{Compress, Compression, FlushCompress, Status};
use rustix::fs::{FlockOperation, XattrFlags, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::kept::Kept;
use super::layout::{Layout, RepoMode};
use super::object::Ownership;
use crate::store::{Blob, Digest};
use crate::tree::path::TreePath;

/// Bytes in memory at a time, for each thread.
const CHUNK: usize = 256 << 10;

/// The extended attribute in which `bare-user` repositories keep owner, mode and attributes.
pub(super) const OSTREE_META: &str = "user.ostreemeta";

/// What a content object is made of.
pub(super) struct Content<'a> {
    /// One of the paths that it has in the tree, for messages.
    pub path: TreePath,
    pub owned: Ownership,
    pub data: Data<'a>,
}

pub(super) enum Data<'a> {
    File(&'a Blob),
    Symlink(&'a str),
}

impl Content<'_> {
    /// Bytes to hash and compress.
    pub(super) fn size(&self) -> u64 {
        self.data.blob().map_or(0, Blob::size)
    }
}

impl<'a> Data<'a> {
    pub(super) fn blob(&self) -> Option<&'a Blob> {
        match self {
            Self::File(blob) => Some(blob),
            Self::Symlink(_) => None,
        }
    }

    pub(super) fn target(&self) -> Option<&'a str> {
        match self {
            Self::File(_) => None,
            Self::Symlink(target) => Some(target),
        }
    }
}

/// An object that is in the repository now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub checksum: Digest,
    /// Bytes of the object file, where this writer wrote it.
    pub stored: Option<u64>,
}

/// Writes content objects; one a thread, so that buffers and the compressor are used again.
pub(super) struct ContentWriter<'a> {
    layout: &'a Layout,
    kept: Option<&'a Kept>,
    deflate: Compress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<'a> ContentWriter<'a> {
    pub(super) fn new(layout: &'a Layout, kept: Option<&'a Kept>) -> Self {
        let level = match layout.mode {
            RepoMode::Archive { level } => level.min(9),
            RepoMode::BareUser => 0,
        };
        Self {
            layout,
            kept,
            deflate: Compress::new(Compression::new(level), false),
            input: Vec::new(),
            output: Vec::with_capacity(CHUNK),
        }
    }

    /// Writes `content`, unless the repository has it; from the store, where that has it.
    ///
    /// It is hashed first: then nothing is compressed in vain, and only files larger than a chunk are
    /// read twice.
    pub(super) fn write(&mut self, content: &Content<'_>) -> Result<Written, Error> {
        let key = self.kept.map(|kept| kept.key(content));
        if let (Some(kept), Some(key)) = (self.kept, &key)
            && let Some(written) = kept.link(key, content, self.layout)
        {
            return Ok(written);
        }
        let checksum = self.checksum(content)?;
        let path = self
            .layout
            .object_path(&checksum, self.layout.mode.content_kind());
        if self.layout.has_object(&path) {
            return Ok(Written {
                checksum,
                stored: None,
            });
        }
        let stored = match self.layout.mode {
            RepoMode::Archive { .. } => self.write_archive(content, &path)?,
            RepoMode::BareUser => self.write_bare_user(content, &path)?,
        };
        if let (Some(kept), Some(key)) = (self.kept, &key) {
            kept.keep(key, &checksum, &path);
        }
        Ok(Written {
            checksum,
            stored: Some(stored),
        })
    }

    /// SHA-256 of the framed header and the content. A file of one chunk stays in `self.input`.
    fn checksum(&mut self, content: &Content<'_>) -> Result<Digest, Error> {
        let mut hasher = Sha256::new();
        match content.data {
            Data::Symlink(target) => hasher.update(content.owned.content_header(target)),
            Data::File(blob) => {
                hasher.update(content.owned.content_header(""));
                for_each_chunk(blob, &mut self.input, |chunk| {
                    hasher.update(chunk);
                    Ok(())
                })
                .map_err(|source| read_error(content, source))?;
            }
        }
        Ok(Digest::finish(hasher))
    }

    fn write_archive(&mut self, content: &Content<'_>, path: &Path) -> Result<u64, Error> {
        let mut pending = self.layout.begin(path)?;
        let file = pending.file();
        let mut stored = 0;
        let mut put = |bytes: &[u8]| {
            stored += bytes.len() as u64;
            file.write_all(bytes).map_err(Error::io("write", path))
        };
        match content.data {
            Data::Symlink(target) => put(&content.owned.archive_header(0, target))?,
            Data::File(blob) => {
                self.deflate.reset();
                self.output.clear();
                self.output
                    .extend_from_slice(&content.owned.archive_header(blob.size(), ""));
                let mut at = 0;
                loop {
                    let chunk =
                        chunk_at(blob, at, &mut self.input).map_err(|source| read_error(content, source))?;
                    at += chunk.len() as u64;
                    let flush = if at == blob.size() {
                        FlushCompress::Finish
                    } else {
                        FlushCompress::None
                    };
                    if deflate_chunk(&mut self.deflate, chunk, flush, &mut self.output, &mut put)? {
                        break;
                    }
                }
                put(&self.output)?;
            }
        }
        // So that the store knows it again: see `store::Linked`.
        file.set_modified(SystemTime::UNIX_EPOCH)
            .map_err(Error::io("set the time of", path))?;
        self.layout.complete(pending, 0o644, path)?;
        Ok(stored)
    }

    fn write_bare_user(&mut self, content: &Content<'_>, path: &Path) -> Result<u64, Error> {
        if let Data::File(blob) = content.data
            && let Some(file) = blob.own_file().map_err(|source| read_error(content, source))?
            && self.share(content, &file, path)
        {
            return Ok(blob.size());
        }
        let mut pending = self.layout.begin(path)?;
        let file = pending.file();
        let stored = match content.data {
            Data::Symlink(target) => {
                // libostree ends the target with a NUL byte.
                let target = [target.as_bytes(), b"\0"].concat();
                file.write_all(&target).map_err(Error::io("write", path))?;
                target.len() as u64
            }
            Data::File(blob) => {
                let mut at = 0;
                while at < blob.size() {
                    let chunk =
                        chunk_at(blob, at, &mut self.input).map_err(|source| read_error(content, source))?;
                    file.write_all(chunk).map_err(Error::io("write", path))?;
                    at += chunk.len() as u64;
                }
                blob.size()
            }
        };
        rustix::fs::fsetxattr(&*file, OSTREE_META, &content.owned.dirmeta(), XattrFlags::empty()).map_err(
            |errno| match errno {
                Errno::OPNOTSUPP | Errno::PERM => Error::XattrsUnsupported {
                    path: self.layout.path.clone(),
                    source: errno.into(),
                },
                _ => Error::io("set the extended attribute that holds the owner of", path)(errno.into()),
            },
        )?;
        // Content keeps no time; ostree gives it this one, so that hard-linked checkouts are equal.
        file.set_modified(SystemTime::UNIX_EPOCH)
            .map_err(Error::io("set the time of", path))?;
        self.layout.complete(pending, bare_mode(content), path)?;
        Ok(stored)
    }

    /// Makes `file`, the store's own of the same content, the object at `path`, where it is not one of another owner or mode
    /// and the file systems allow. What goes wrong on the way writing a copy says better.
    fn share(&self, content: &Content<'_>, file: &File, path: &Path) -> bool {
        let claimed = claim(file, &content.owned.dirmeta(), bare_mode(content));
        claimed.is_ok_and(|claimed| claimed) && self.layout.link(file, path)
    }
}

/// Whether `file` is an object with `meta` as [`OSTREE_META`]; it is made one where nobody else has a name for it. Held
/// against other builds that share the store by a lock.
fn claim(file: &File, meta: &[u8], mode: u32) -> io::Result<bool> {
    flock(file, FlockOperation::LockExclusive)?;
    let metadata = file.metadata()?;
    let mut found = vec![0; meta.len() + 1];
    let bears = match rustix::fs::fgetxattr(file, OSTREE_META, found.as_mut_slice()) {
        Ok(length) if &found[..length] == meta => true,
        // Another one, perhaps longer than `meta`.
        Ok(_) | Err(Errno::RANGE) => return Ok(false),
        Err(Errno::NODATA) => false,
        Err(errno) => return Err(errno.into()),
    };
    if bears && metadata.mode() & 0o7777 == mode && (metadata.mtime(), metadata.mtime_nsec()) == (0, 0) {
        return Ok(true);
    }
    // In an output, where somebody has changed it, it stays as it is.
    if metadata.nlink() > 1 {
        return Ok(false);
    }
    // Whoever may not write a file may not give it attributes either. A build that was killed may have done a part of it.
    file.set_permissions(Permissions::from_mode(mode | 0o200))?;
    rustix::fs::fsetxattr(file, OSTREE_META, meta, XattrFlags::empty())?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH)?;
    Ok(true)
}

/// The mode of the object file itself, as libostree gives it: readable by its owner, without set-id,
/// sticky and others' write bits. The true mode is in the extended attribute.
pub(super) fn bare_mode(content: &Content<'_>) -> u32 {
    match content.data {
        Data::File(_) => (content.owned.mode | 0o400) & 0o775,
        Data::Symlink(_) => 0o644,
    }
}

/// The chunk of `blob` that begins at `at`. A blob of one chunk that is in `buffer` already, from
/// hashing it, is not read again.
fn chunk_at<'b>(blob: &Blob, at: u64, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
    if blob.size() > CHUNK as u64 {
        fill(blob, at, buffer)?;
    }
    Ok(buffer)
}

fn fill(blob: &Blob, at: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    let left = blob.size() - at;
    buffer.resize(usize::try_from(left).unwrap_or(CHUNK).min(CHUNK), 0);
    blob.read_exact_at(buffer, at)
}

fn for_each_chunk(
    blob: &Blob,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = 0;
    buffer.clear();
    while at < blob.size() {
        fill(blob, at, buffer)?;
        each(buffer)?;
        at += buffer.len() as u64;
    }
    Ok(())
}

fn read_error(content: &Content<'_>, source: io::Error) -> Error {
    Error::Source {
        path: content.path.clone(),
        source,
    }
}

/// Compresses all of `input`; full buffers go to `put`, the rest stays in `output`. Whether the
/// stream has ended.
fn deflate_chunk(
    deflate: &mut Compress,
    mut input: &[u8],
    flush: FlushCompress,
    output: &mut Vec<u8>,
    put: &mut impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<bool, Error> {
    loop {
        if output.len() == output.capacity() {
            put(output)?;
            output.clear();
        }
        let before = deflate.total_in();
        // A compressor that is given room fails only where it was misused.
        let status = deflate
            .compress_vec(input, output, flush)
            .map_err(|error| Error::io("compress", Path::new("content"))(io::Error::other(error)))?;
        let taken = usize::try_from(deflate.total_in() - before).unwrap_or(input.len());
        input = &input[taken..];
        match status {
            Status::StreamEnd => return Ok(true),
            _ if input.is_empty() && flush == FlushCompress::None => return Ok(false),
            _ => {}
        }
    }
}
