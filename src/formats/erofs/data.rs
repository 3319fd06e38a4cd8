//! The data of regular files: read and compressed by several threads, written in the plan's order.
//!
//! How a file is cut into segments depends on its size alone, so the bytes written do not depend on
//! the number of threads.

use std::collections::HashMap;
use std::io::{self, Write};

use super::cluster::{self, Clusters, Codec, Extent};
use super::error::Error;
use super::format::{BLOCK, NULL_ADDR};
use super::index;
use super::model::{Compression, Content, FileSystem, InodeKind, Options, Stats};
use super::ordered::ordered;
use super::plan::Plan;

/// What one job reads of a file at most.
const SEGMENT: u64 = 4 << 20;
/// Small files are put together into jobs of at least this many bytes.
const BATCH: u64 = 1 << 20;

/// Where the data of a file lies.
#[derive(Debug)]
pub(super) struct Stored {
    /// The first block; [`NULL_ADDR`] where there is none.
    pub(super) block: u32,
    pub(super) form: Form,
}

/// How the data of a file is stored.
#[derive(Debug)]
pub(super) enum Form {
    /// As it is; the last, partial block stands behind the inode where that holds it.
    Flat,
    /// As compressed clusters; the last may stand behind the inode.
    Compressed {
        extents: Vec<Extent>,
        inline: Option<Box<[u8]>>,
    },
    /// As the inode with this index, which has the same content.
    Same(usize),
}

/// Whether so many bytes can stand behind an inode that, with its extended attributes, has `head`
/// bytes: they may not cross the end of a block.
pub(super) fn fits_behind(head: usize, bytes: usize) -> bool {
    head + bytes <= BLOCK
}

/// A piece of a file, up to [`SEGMENT`] bytes.
#[derive(Debug, Clone, Copy)]
struct Part {
    inode: usize,
    offset: u64,
    length: usize,
    /// Of the file.
    size: u64,
}

/// What has become of a part.
struct PartDone {
    inode: usize,
    blocks: usize,
    form: Form,
}

/// What has become of the parts of a job: their blocks, one behind the other.
struct Done {
    bytes: Vec<u8>,
    parts: Vec<PartDone>,
}

/// Jobs, and the files that need none as their content equals another's: copy, original.
struct Jobs {
    jobs: Vec<Vec<Part>>,
    same: Vec<(usize, usize)>,
}

fn jobs<C: Content>(tree: &FileSystem<C>, plan: &Plan, heads: &[usize]) -> Jobs {
    let mut all = Jobs {
        jobs: Vec::new(),
        same: Vec::new(),
    };
    let mut known = HashMap::new();
    let mut batch = Vec::new();
    let mut batched = 0;
    for &inode in &plan.order {
        let InodeKind::File(content) = &tree.inodes[inode].kind else {
            continue;
        };
        let size = content.size();
        if size == 0 {
            continue;
        }
        if let Some(digest) = content.digest() {
            // What stands behind the inode depends on the room that its head leaves.
            match known.entry((digest, size, heads[inode])) {
                std::collections::hash_map::Entry::Occupied(entry) => {
                    all.same.push((inode, *entry.get()));
                    continue;
                }
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(inode),
            };
        }
        let mut offset = 0;
        while offset < size {
            let length = SEGMENT.min(size - offset);
            batch.push(Part {
                inode,
                offset,
                // At most `SEGMENT`.
                length: length as usize,
                size,
            });
            offset += length;
            batched += length;
            if batched >= BATCH {
                all.jobs.push(std::mem::take(&mut batch));
                batched = 0;
            }
        }
    }
    if !batch.is_empty() {
        all.jobs.push(batch);
    }
    all
}

/// Reads and, where asked to, compresses the parts of a job.
struct Worker<'a, C> {
    tree: &'a FileSystem<C>,
    plan: &'a Plan,
    options: &'a Options,
    heads: &'a [usize],
}

impl<C: Content> Worker<'_, C> {
    fn job(&self, state: &mut (Option<Codec>, Vec<u8>), parts: &[Part]) -> Result<Done, Error> {
        let mut done = Done {
            bytes: Vec::new(),
            parts: Vec::with_capacity(parts.len()),
        };
        let (codec, buffer) = state;
        for part in parts {
            let InodeKind::File(content) = &self.tree.inodes[part.inode].kind else {
                continue;
            };
            let path = || self.plan.path(part.inode);
            buffer.resize(part.length, 0);
            content
                .read_exact_at(buffer, part.offset)
                .map_err(|source| Error::Read { path: path(), source })?;
            let start = done.bytes.len();
            let form = match codec {
                None => self.flat(part, buffer, &mut done.bytes),
                Some(codec) => self
                    .compressed(part, buffer, codec, &mut done.bytes)
                    .map_err(|message| Error::Compress {
                        path: path(),
                        message,
                    })?,
            };
            done.parts.push(PartDone {
                inode: part.inode,
                blocks: (done.bytes.len() - start) / BLOCK,
                form,
            });
        }
        Ok(done)
    }

    /// Appends the part's blocks as they are, without a tail that will stand behind the inode.
    fn flat(&self, part: &Part, buffer: &[u8], out: &mut Vec<u8>) -> Form {
        // Only the last segment can have a tail.
        let tail = buffer.len() % BLOCK;
        if tail > 0 && fits_behind(self.heads[part.inode], tail) {
            out.extend(&buffer[..buffer.len() - tail]);
        } else {
            out.extend(buffer);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        Form::Flat
    }

    /// Appends the part's clusters, or the plain blocks where a whole file does not get smaller.
    fn compressed(
        &self,
        part: &Part,
        buffer: &[u8],
        codec: &mut Codec,
        out: &mut Vec<u8>,
    ) -> Result<Form, String> {
        let head = self.heads[part.inode];
        let index = index::size(head, part.size);
        let is_last = part.offset + part.length as u64 == part.size;
        let room = match self.options.tail_packing && is_last {
            true => BLOCK.saturating_sub(head + index),
            false => 0,
        };
        let start = out.len();
        let cluster_size = self.options.cluster_size as usize;
        let Clusters { extents, inline } = cluster::compress(codec, buffer, cluster_size, room, out)?;
        if part.length as u64 == part.size {
            let tail = buffer.len() % BLOCK;
            let plain = match fits_behind(head, tail) {
                true => buffer.len(),
                false => buffer.len().next_multiple_of(BLOCK),
            };
            let packed = out.len() - start + index + inline.as_ref().map_or(0, |bytes| bytes.len());
            if packed >= plain {
                out.truncate(start);
                return Ok(self.flat(part, buffer, out));
            }
        }
        Ok(Form::Compressed { extents, inline })
    }
}

/// Writes the data of all regular files from block `first` on. `heads` are the lengths of the
/// inodes with their extended attributes. Returns where each inode's data lies, and the block
/// behind the last.
pub(super) fn write<C: Content>(
    tree: &FileSystem<C>,
    plan: &Plan,
    options: &Options,
    heads: &[usize],
    first: u32,
    out: &mut impl Write,
    stats: &mut Stats,
) -> Result<(Vec<Option<Stored>>, u32), Error> {
    let Jobs { jobs, same } = jobs(tree, plan, heads);
    let worker = Worker {
        tree,
        plan,
        options,
        heads,
    };
    let mut stored: Vec<Option<Stored>> = Vec::new();
    stored.resize_with(tree.inodes.len(), || None);
    let mut next = first;
    ordered(
        jobs.len(),
        || (Codec::new(options), Vec::new()),
        |state, job| worker.job(state, &jobs[job]),
        |done| {
            let done = done?;
            out.write_all(&done.bytes).map_err(Error::Write)?;
            for part in done.parts {
                let block = next;
                next = u32::try_from(part.blocks)
                    .ok()
                    .and_then(|blocks| next.checked_add(blocks))
                    .filter(|next| *next < NULL_ADDR)
                    .ok_or(Error::TooLarge)?;
                add(&mut stored[part.inode], block, part);
            }
            Ok(())
        },
    )?;
    stats.shared_files = same.len() as u64;
    for (copy, original) in same {
        stored[copy] = Some(Stored {
            block: NULL_ADDR,
            form: Form::Same(original),
        });
    }
    for inode in &tree.inodes {
        if let InodeKind::File(content) = &inode.kind {
            stats.content_bytes += content.size();
        }
    }
    stats.compressed_files = stored
        .iter()
        .flatten()
        .filter(|stored| matches!(stored.form, Form::Compressed { .. }))
        .count() as u64;
    Ok((stored, next))
}

/// Puts a part behind what is already there of its file.
fn add(slot: &mut Option<Stored>, block: u32, part: PartDone) {
    match slot {
        None => {
            *slot = Some(Stored {
                block: if part.blocks > 0 { block } else { NULL_ADDR },
                form: part.form,
            });
        }
        Some(stored) => {
            if let (
                Form::Compressed { extents, inline },
                Form::Compressed {
                    extents: more,
                    inline: last,
                },
            ) = (&mut stored.form, part.form)
            {
                extents.extend(more);
                *inline = last;
            }
        }
    }
}

/// The tail of a file of `size` bytes, read for standing behind its inode.
pub(super) fn read_tail<C: Content>(content: &C) -> io::Result<Vec<u8>> {
    let size = content.size();
    // Less than a block.
    let length = size % BLOCK as u64;
    let mut tail = vec![0; length as usize];
    content.read_exact_at(&mut tail, size - length)?;
    Ok(tail)
}

/// Whether this way of compressing has clusters at all.
pub(super) fn compresses(options: &Options) -> bool {
    options.compression != Compression::None
}
