//! The packed file: small files and the ends of others, one behind the other, so that they are compressed
//! together. It has an inode, but stands in no directory.
//!
//! It is cut into runs that are compressed on their own, by several threads. A run ends where the digest of a file
//! says so: a change of one file leaves the runs before and behind it as they are, and so their kept clusters.

use std::io::Write;

use super::cache;
use super::cluster::{self, Codec, End};
use super::data::{BATCH, SEGMENT, Worker};
use super::error::Error;
use super::format::BLOCK;
use super::model::{Content, InodeKind};
use super::ordered::ordered;
use super::stored::{Cursor, Form, Stored, Units};

/// One of so many files ends a run that is long enough.
const RUN_ENDS: u8 = 64;

/// A file or the end of one.
#[derive(Debug, Clone, Copy)]
struct Piece {
    inode: usize,
    /// Where it begins in its file.
    offset: u64,
    /// At most a cluster.
    length: u64,
    /// Where it begins in its run.
    at: usize,
}

/// What is compressed on its own: whole blocks, the last filled up with zeros.
#[derive(Debug, Default)]
struct Run {
    pieces: Vec<Piece>,
    length: usize,
}

/// The packed file as it has been written.
pub(super) struct Packed {
    /// Bytes.
    pub(super) size: u64,
    pub(super) stored: Stored,
}

impl<C: Content> Worker<'_, C> {
    fn content(&self, inode: usize) -> Option<&C> {
        match &self.tree.inodes[inode].kind {
            InodeKind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Gives each fragment its place, in the order of the tree, and tells it to its file.
    fn runs(&self, stored: &mut [Option<Stored>]) -> (Vec<Run>, u64) {
        let mut runs = Vec::new();
        let mut run = Run::default();
        // Where the run begins.
        let mut start = 0;
        for &inode in &self.plan.order {
            let (Some(content), Some(stored)) = (self.content(inode), &mut stored[inode]) else {
                continue;
            };
            let length = match &stored.form {
                Form::Fragment => content.size(),
                Form::Compressed(clusters) => u64::from(clusters.left),
                Form::Flat | Form::Chunks | Form::Same(_) => 0,
            };
            if length == 0 {
                continue;
            }
            stored.fragment = start + run.length as u64;
            run.pieces.push(Piece {
                inode,
                offset: content.size() - length,
                length,
                at: run.length,
            });
            run.length += length as usize;
            let is_end = content.digest().is_some_and(|digest| digest[0] % RUN_ENDS == 0);
            if run.length as u64 >= SEGMENT - u64::from(self.options.cluster_size)
                || is_end && run.length as u64 >= BATCH
            {
                run.length = run.length.next_multiple_of(BLOCK);
                start += run.length as u64;
                runs.push(std::mem::take(&mut run));
            }
        }
        if !run.pieces.is_empty() {
            run.length = run.length.next_multiple_of(BLOCK);
            start += run.length as u64;
            runs.push(run);
        }
        (runs, start)
    }

    /// The name of the run's clusters, where the digests of its files are known.
    fn run_key(&self, run: &Run) -> Option<[u8; 32]> {
        let pieces = run.pieces.iter();
        let digests: Option<Vec<_>> = pieces
            .map(|piece| Some((self.content(piece.inode)?.digest()?, piece.offset, piece.length)))
            .collect();
        digests.map(|pieces| cache::run_key(self.options, pieces.into_iter()))
    }

    /// Compresses a run.
    fn run(&self, state: &mut (Option<Codec>, Vec<u8>), run: &Run) -> Result<(Form, Vec<u8>), Error> {
        let (codec, buffer) = state;
        let key = self.run_key(run);
        let mut out = Vec::new();
        let kept = key
            .and_then(|key| self.cache.get(&key))
            .and_then(|value| cache::decode(&value, run.length, &mut out));
        if let Some(form @ Form::Compressed(_)) = kept {
            return Ok((form, out));
        }
        buffer.clear();
        buffer.resize(run.length, 0);
        for piece in &run.pieces {
            let to = &mut buffer[piece.at..piece.at + piece.length as usize];
            if let Some(content) = self.content(piece.inode) {
                content
                    .read_exact_at(to, piece.offset)
                    .map_err(|source| Error::Read {
                        path: self.plan.path(piece.inode),
                        source,
                    })?;
            }
        }
        let Some(codec) = codec else {
            return Ok((Form::Flat, out));
        };
        let size = self.options.cluster_size as usize;
        let clusters = cluster::compress(codec, buffer, size, End::Blocks, &mut out).map_err(|message| {
            Error::Compress {
                path: self.plan.path(run.pieces[0].inode),
                message,
            }
        })?;
        let form = Form::Compressed(clusters);
        if let Some(key) = key {
            self.cache.put(&key, &cache::encode(&form, &out));
        }
        Ok((form, out))
    }

    /// Writes the packed file behind all others, and tells the files in `stored` where in it they are. `None` where
    /// there are no fragments.
    pub(super) fn write_fragments(
        &self,
        stored: &mut [Option<Stored>],
        cursor: &mut Cursor<'_, impl Write>,
    ) -> Result<Option<Packed>, Error> {
        let (runs, size) = self.runs(stored);
        let coming = runs
            .iter()
            .filter_map(|run| Some((self.run_key(run)?, run.length as u64)));
        self.cache.expect(&coming.collect::<Vec<_>>());
        let mut packed = None;
        ordered(
            runs.len(),
            || (Codec::new(self.options), Vec::new()),
            |state, run| self.run(state, &runs[run]),
            |done| {
                let (form, bytes) = done?;
                cursor.put(&mut packed, form, &bytes, &Units::None)
            },
        )?;
        Ok(packed.map(|stored| Packed { size, stored }))
    }
}
