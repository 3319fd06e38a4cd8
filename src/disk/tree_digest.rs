//! The tree digest of a disk: SHA-256 over the SHA-256 of its 1 MiB chunks, the last of which may
//! be shorter. A chunk in a hole costs nothing, so a digest takes the time of the data.

use std::fs::File;
use std::io;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::sparse;
use crate::formats::at::ReadAt;
use crate::store::Digest;

/// Bytes of a chunk.
pub const CHUNK_SIZE: u64 = 1 << 20;

/// The digests of a file's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest {
    chunks: Vec<Digest>,
}

/// The digest of a chunk that begins with `content`, at most a chunk's bytes, and is zero behind it.
pub fn padded_chunk(content: &[u8]) -> Digest {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut hasher = Sha256::new_with_prefix(content);
    let mut left = (CHUNK_SIZE as usize).saturating_sub(content.len());
    while left > 0 {
        let count = left.min(ZEROS.len());
        hasher.update(&ZEROS[..count]);
        left -= count;
    }
    Digest::finish(hasher)
}

/// Which chunks of the first `size` bytes of `file` are more than a hole.
///
/// # Errors
/// Whatever asking the file system gives.
pub fn filled_chunks(file: &File, size: u64) -> io::Result<Vec<bool>> {
    let count = usize::try_from(size.div_ceil(CHUNK_SIZE)).map_err(io::Error::other)?;
    let mut filled = vec![false; count];
    for range in sparse::data_ranges(file, size)? {
        let chunks = range.start / CHUNK_SIZE..range.end.div_ceil(CHUNK_SIZE);
        filled[chunks.start as usize..chunks.end as usize].fill(true);
    }
    Ok(filled)
}

impl TreeDigest {
    /// Reads the first `size` bytes of `file`.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of(file: &File, size: u64) -> io::Result<Self> {
        Self::of_known(file, size, |_| None)
    }

    /// As [`TreeDigest::of`], without reading the chunks that `known` has a digest of, by number.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of_known(
        file: &File,
        size: u64,
        known: impl Fn(usize) -> Option<Digest> + Sync,
    ) -> io::Result<Self> {
        Self::read(file, size, filled_chunks(file, size)?, known)
    }

    /// Reads the first `size` bytes of `source`, of which only the chunks in `filled` are not known to be zeroes.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of_filled(source: &impl ReadAt, size: u64, filled: Vec<bool>) -> io::Result<Self> {
        Self::read(source, size, filled, |_| None)
    }

    fn read(
        source: &impl ReadAt,
        size: u64,
        mut filled: Vec<bool>,
        known: impl Fn(usize) -> Option<Digest> + Sync,
    ) -> io::Result<Self> {
        filled.resize(
            usize::try_from(size.div_ceil(CHUNK_SIZE)).map_err(io::Error::other)?,
            false,
        );
        if let Some(last) = filled.last_mut()
            && !size.is_multiple_of(CHUNK_SIZE)
        {
            *last = true;
        }
        let zero = Digest::of(&vec![0; CHUNK_SIZE as usize]);
        let chunks = filled
            .par_iter()
            .enumerate()
            .map_init(Vec::new, |buffer, (index, &filled)| {
                if !filled {
                    return Ok(zero);
                }
                if let Some(digest) = known(index) {
                    return Ok(digest);
                }
                let start = index as u64 * CHUNK_SIZE;
                buffer.resize((size - start).min(CHUNK_SIZE) as usize, 0);
                source.read_exact_at(buffer, start)?;
                Ok(Digest::of(buffer))
            });
        Ok(Self {
            chunks: chunks.collect::<io::Result<_>>()?,
        })
    }

    /// The digests of the chunks, in order.
    pub fn chunks(&self) -> &[Digest] {
        &self.chunks
    }

    /// The digest of the whole.
    pub fn root(&self) -> Digest {
        root(&self.chunks)
    }

    /// The tree digest of the range of `size` bytes at `offset`, both whole chunks; `None` where
    /// they are not, or lie outside.
    pub fn range(&self, offset: u64, size: u64) -> Option<Digest> {
        if !offset.is_multiple_of(CHUNK_SIZE) || !size.is_multiple_of(CHUNK_SIZE) {
            return None;
        }
        let start = usize::try_from(offset / CHUNK_SIZE).ok()?;
        let end = start.checked_add(usize::try_from(size / CHUNK_SIZE).ok()?)?;
        self.chunks.get(start..end).map(root)
    }

    /// As if `tail`, at most one chunk, followed; all chunks so far must be whole.
    pub fn with_tail(mut self, tail: &[u8]) -> Self {
        self.chunks.push(Digest::of(tail));
        self
    }
}

fn root(chunks: &[Digest]) -> Digest {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(chunk.0);
    }
    Digest::finish(hasher)
}
