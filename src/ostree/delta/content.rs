//! Content objects, read whole.

use super::super::Error;
use super::super::object::Ownership;
use super::super::read::Repo;
use crate::formats::bsdiff;
use crate::store::Digest;

/// What a content object is, without its bytes.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub owned: Ownership,
    /// Of the bytes of a file.
    pub size: u64,
    /// Of a symbolic link.
    pub target: Option<Vec<u8>>,
}

impl Content {
    /// Reads the header.
    pub(super) fn look(repo: &Repo, digest: &Digest) -> Result<Self, Error> {
        let file = repo.open_file(digest)?;
        Ok(Self {
            owned: Ownership {
                uid: file.uid,
                gid: file.gid,
                mode: file.mode,
                xattrs: file.xattrs,
            },
            size: file.size,
            target: file.target.map(Vec::from),
        })
    }

    /// As [`Content::look`], with the bytes of the file or the target, whose checksum holds.
    pub(super) fn read(repo: &Repo, digest: &Digest) -> Result<(Self, Vec<u8>), Error> {
        let content = Self::look(repo, digest)?;
        if let Some(target) = &content.target {
            let target = target.clone();
            return Ok((content, target));
        }
        let mut reader = repo.open_file(digest)?.reader;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read_verified(&mut buffer)? {
                0 => return Ok((content, bytes)),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Whether new files may be made of it: a client that is not root reads a file of others only where all may.
    pub(super) fn is_source(&self) -> bool {
        self.target.is_none()
            && self.owned.mode & 0o004 != 0
            && self.size > 0
            && self.size <= bsdiff::MAX_SIZE as u64
    }
}
