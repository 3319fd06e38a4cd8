//! The data of regular files: read and compressed by several threads, written in the plan's order.
//!
//! How a file is cut into segments depends on its size alone, so the bytes written do not depend on
//! the number of threads.

use std::collections::HashMap;
use std::io::{self, Write};

use super::cache::{self, ClusterCache, Piece};
use super::cluster::{self, Codec, End};
use super::error::Error;
use super::format::{BLOCK, NULL_ADDR};
use super::fragments::Packed;
use super::index;
use super::model::{Compression, Content, FileSystem, InodeKind, Options, Stats};
use super::ordered::ordered;
use super::plan::Plan;
use super::stored::{Cursor, Form, Stored, Units};

/// What one job reads of a file at most.
pub(super) const SEGMENT: u64 = 4 << 20;
/// Small files are put together into jobs of at least this many bytes.
pub(super) const BATCH: u64 = 1 << 20;

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
    /// Bytes of its blocks.
    length: usize,
    form: Form,
    units: Units,
}

/// What has become of the parts of a job: their blocks, one behind the other.
struct Done {
    bytes: Vec<u8>,
    parts: Vec<PartDone>,
}

/// Jobs, and the files that need none: those whose content equals another's (copy, original), and fragments.
struct Jobs {
    jobs: Vec<Vec<Part>>,
    same: Vec<(usize, usize)>,
    fragments: Vec<usize>,
}

fn jobs<C: Content>(worker: &Worker<'_, C>) -> Jobs {
    let Worker {
        tree,
        plan,
        options,
        heads,
        ..
    } = *worker;
    let mut all = Jobs {
        jobs: Vec::new(),
        same: Vec::new(),
        fragments: Vec::new(),
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
        let is_fragment = options.fragments && size <= u64::from(options.cluster_size);
        if let Some(digest) = content.digest() {
            // What stands behind the inode depends on the room that its head leaves.
            let head = if is_fragment { 0 } else { heads[inode] };
            match known.entry((digest, size, head)) {
                std::collections::hash_map::Entry::Occupied(entry) => {
                    all.same.push((inode, *entry.get()));
                    continue;
                }
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(inode),
            };
        }
        if is_fragment {
            all.fragments.push(inode);
            continue;
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
pub(super) struct Worker<'a, C> {
    pub(super) tree: &'a FileSystem<C>,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) cache: &'a dyn ClusterCache,
    /// Lengths of the inodes with their extended attributes, by index.
    pub(super) heads: &'a [usize],
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
            let start = done.bytes.len();
            let key = match (&codec, content.digest()) {
                (Some(_), Some(digest)) => Some(self.key(part, digest)),
                _ => None,
            };
            let kept = key
                .and_then(|key| self.cache.get(&key))
                .and_then(|value| cache::decode(&value, part.length, &mut done.bytes));
            let form = match kept {
                Some(Form::Compressed(clusters)) => Form::Compressed(clusters),
                kept => {
                    self.read(part, content, buffer)?;
                    match codec {
                        Some(codec) if kept.is_none() => {
                            let form = self.compressed(part, buffer, codec, &mut done.bytes)?;
                            if let Some(key) = key {
                                self.cache.put(&key, &cache::encode(&form, &done.bytes[start..]));
                            }
                            form
                        }
                        _ => self.flat(part, buffer, &mut done.bytes),
                    }
                }
            };
            done.parts.push(PartDone {
                inode: part.inode,
                length: done.bytes.len() - start,
                units: self.units(part, &form, &done.bytes[start..]),
                form,
            });
        }
        Ok(done)
    }

    fn read(&self, part: &Part, content: &C, buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.resize(part.length, 0);
        content
            .read_exact_at(buffer, part.offset)
            .map_err(|source| Error::Read {
                path: self.plan.path(part.inode),
                source,
            })
    }

    fn key(&self, part: &Part, digest: [u8; 32]) -> [u8; 32] {
        let piece = Piece {
            digest,
            offset: part.offset,
            length: part.length as u64,
            size: part.size,
            head: self.heads[part.inode],
        };
        piece.key(self.options)
    }

    /// Appends the part's blocks as they are, without a tail that will stand behind the inode.
    fn flat(&self, part: &Part, buffer: &[u8], out: &mut Vec<u8>) -> Form {
        // Only the last segment can have a tail. Chunks find out later what becomes of it.
        let tail = buffer.len() % BLOCK;
        if tail > 0 && fits_behind(self.heads[part.inode], tail) && self.options.chunk_size.is_none() {
            out.extend(&buffer[..buffer.len() - tail]);
        } else {
            out.extend(buffer);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        Form::Flat
    }

    /// What of a part may be there already.
    fn units(&self, part: &Part, form: &Form, blocks: &[u8]) -> Units {
        let extents = match form {
            Form::Compressed(clusters) if self.options.dedupe => &clusters.extents,
            Form::Flat if let Some(size) = self.options.chunk_size => {
                let is_last = part.offset + part.length as u64 == part.size;
                let tail = part.length % BLOCK;
                let behind = match is_last && fits_behind(self.heads[part.inode], tail) {
                    true => tail,
                    false => 0,
                };
                // At most 1 MiB.
                return Units::chunks(blocks, part.length, size as usize, behind);
            }
            _ => return Units::None,
        };
        Units::clusters(blocks, extents)
    }

    /// Appends the part's clusters, or the plain blocks where a whole file does not get smaller.
    fn compressed(
        &self,
        part: &Part,
        buffer: &[u8],
        codec: &mut Codec,
        out: &mut Vec<u8>,
    ) -> Result<Form, Error> {
        let head = self.heads[part.inode];
        // Clusters that are shared may need the longer index.
        let index = match self.options.dedupe {
            true => index::full_size(head, part.size),
            false => index::size(head, part.size),
        };
        let is_last = part.offset + part.length as u64 == part.size;
        let end = match is_last {
            true if self.options.fragments => End::Fragment,
            true if self.options.tail_packing => End::Behind(BLOCK.saturating_sub(head + index)),
            _ => End::Blocks,
        };
        let start = out.len();
        let cluster_size = self.options.cluster_size as usize;
        let clusters =
            cluster::compress(codec, buffer, cluster_size, end, out).map_err(|message| Error::Compress {
                path: self.plan.path(part.inode),
                message,
            })?;
        if part.length as u64 == part.size {
            let tail = buffer.len() % BLOCK;
            let plain = match fits_behind(head, tail) {
                true => buffer.len(),
                false => buffer.len().next_multiple_of(BLOCK),
            };
            let inline = clusters.inline.as_ref().map_or(0, |bytes| bytes.len());
            let packed = out.len() - start + index + inline + clusters.left as usize;
            if packed >= plain {
                out.truncate(start);
                return Ok(self.flat(part, buffer, out));
            }
        }
        Ok(Form::Compressed(clusters))
    }
}

/// What [`write`] has written.
pub(super) struct Written {
    /// Where each inode's data lies.
    pub(super) stored: Vec<Option<Stored>>,
    pub(super) packed: Option<Packed>,
    /// The first free block.
    pub(super) next: u32,
}

/// Writes the data of all regular files from block `first` on. Returns where each inode's data lies,
/// and the block behind the last.
pub(super) fn write<C: Content>(
    worker: &Worker<'_, C>,
    first: u32,
    out: &mut impl Write,
    stats: &mut Stats,
) -> Result<Written, Error> {
    let Worker { tree, options, .. } = *worker;
    let Jobs {
        jobs,
        same,
        fragments,
    } = jobs(worker);
    let mut stored: Vec<Option<Stored>> = Vec::new();
    stored.resize_with(tree.inodes.len(), || None);
    if compresses(options) {
        let parts = jobs.iter().flatten();
        let coming = parts.filter_map(|part| match &tree.inodes[part.inode].kind {
            InodeKind::File(content) => Some((worker.key(part, content.digest()?), part.length as u64)),
            _ => None,
        });
        worker.cache.expect(&coming.collect::<Vec<_>>());
    }
    let mut cursor = Cursor::new(first, out);
    ordered(
        jobs.len(),
        || (Codec::new(options), Vec::new()),
        |state, job| worker.job(state, &jobs[job]),
        |done| {
            let done = done?;
            let mut bytes = &done.bytes[..];
            for part in done.parts {
                let (own, behind) = bytes.split_at(part.length);
                cursor.put(&mut stored[part.inode], part.form, own, &part.units)?;
                bytes = behind;
            }
            Ok(())
        },
    )?;
    for inode in fragments {
        stored[inode] = Some(Stored::new(NULL_ADDR, Form::Fragment));
    }
    let packed = worker.write_fragments(&mut stored, &mut cursor)?;
    let next = cursor.next();
    stats.shared_blocks = cursor.shared_blocks();
    stats.shared_files = same.len() as u64;
    for (copy, original) in same {
        stored[copy] = Some(Stored::new(NULL_ADDR, Form::Same(original)));
    }
    for inode in &tree.inodes {
        if let InodeKind::File(content) = &inode.kind {
            stats.content_bytes += content.size();
        }
    }
    for stored in stored.iter().flatten() {
        if let Form::Compressed(clusters) = &stored.form {
            stats.compressed_files += 1;
            stats.fragmented_files += u64::from(clusters.left > 0);
        }
        stats.fragmented_files += u64::from(matches!(stored.form, Form::Fragment));
        stats.chunked_files += u64::from(matches!(stored.form, Form::Chunks));
    }
    Ok(Written { stored, packed, next })
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
