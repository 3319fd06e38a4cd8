//! Where the data of files lies, while it is written: blocks one behind the other, and what is there already
//! once.

use std::collections::HashMap;
use std::io::Write;

use sha2::{Digest, Sha256};

use super::cluster::{Clusters, Extent};
use super::error::Error;
use super::format::{BLOCK, NULL_ADDR};

/// Where the data of a file lies.
#[derive(Debug)]
pub(super) struct Stored {
    /// The first block; [`NULL_ADDR`] where there is none.
    pub(super) block: u32,
    /// The first block of each extent or chunk.
    pub(super) addresses: Vec<u32>,
    pub(super) form: Form,
    /// Where in the packed file the fragment begins, if there is one.
    pub(super) fragment: u64,
}

impl Stored {
    pub(super) fn new(block: u32, form: Form) -> Self {
        Self {
            block,
            addresses: Vec::new(),
            form,
            fragment: 0,
        }
    }
}

/// How the data of a file is stored.
#[derive(Debug)]
pub(super) enum Form {
    /// As it is; the last, partial block stands behind the inode where that holds it.
    Flat,
    /// As it is, in chunks that do not lie one behind the other; [`NULL_ADDR`] for one of zeros.
    Chunks,
    /// As compressed clusters; the last may stand behind the inode, or the end be a fragment.
    Compressed(Clusters),
    /// As a fragment alone.
    Fragment,
    /// As the inode with this index, which has the same content.
    Same(usize),
}

/// What of a part of a file may be there already.
pub(super) enum Units {
    /// Nothing is looked for.
    None,
    /// The digests of its clusters; `None` for one that has no blocks.
    Clusters(Vec<Option<[u8; 32]>>),
    Chunks {
        /// Their digests; `None` for zeros.
        digests: Vec<Option<[u8; 32]>>,
        /// Bytes of a chunk.
        size: usize,
        /// Bytes at the end that can stand behind the inode.
        behind: usize,
    },
}

impl Units {
    /// Clusters are equal where the kernel sees no difference: bytes, length and kind.
    pub(super) fn clusters(mut blocks: &[u8], extents: &[Extent]) -> Self {
        let digests = extents.iter().map(|extent| {
            let (own, behind) = blocks.split_at(usize::from(extent.blocks) * BLOCK);
            blocks = behind;
            let mut hasher = Sha256::new();
            hasher.update(extent.length.to_le_bytes());
            hasher.update([u8::from(extent.raw)]);
            hasher.update(own);
            (!own.is_empty()).then(|| hasher.finalize().into())
        });
        Self::Clusters(digests.collect())
    }

    /// Of a part with `length` bytes; `blocks` are these, filled up.
    pub(super) fn chunks(blocks: &[u8], length: usize, size: usize, behind: usize) -> Self {
        let digests = blocks[..length].chunks(size).map(|chunk| {
            let is_hole = chunk.iter().all(|byte| *byte == 0);
            (!is_hole).then(|| Sha256::digest(chunk).into())
        });
        Self::Chunks {
            digests: digests.collect(),
            size,
            behind,
        }
    }
}

/// Where the next blocks go, and which clusters or chunks are there already.
pub(super) struct Cursor<'a, W> {
    next: u32,
    out: &'a mut W,
    known: HashMap<[u8; 32], u32>,
    /// Blocks that were there already, or are holes.
    shared: u64,
}

impl<'a, W: Write> Cursor<'a, W> {
    pub(super) fn new(next: u32, out: &'a mut W) -> Self {
        Self {
            next,
            out,
            known: HashMap::new(),
            shared: 0,
        }
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn shared_blocks(&self) -> u64 {
        self.shared
    }

    /// Writes whole blocks. Returns the first.
    fn write(&mut self, bytes: &[u8]) -> Result<u32, Error> {
        let block = self.next;
        self.next = u32::try_from(bytes.len() / BLOCK)
            .ok()
            .and_then(|blocks| block.checked_add(blocks))
            .filter(|next| *next < NULL_ADDR)
            .ok_or(Error::TooLarge)?;
        self.out.write_all(bytes).map_err(Error::Write)?;
        Ok(block)
    }

    /// Writes `bytes` unless they are there already.
    fn write_once(&mut self, bytes: &[u8], digest: [u8; 32]) -> Result<(u32, bool), Error> {
        if let Some(block) = self.known.get(&digest) {
            self.shared += (bytes.len() / BLOCK) as u64;
            return Ok((*block, false));
        }
        let block = self.write(bytes)?;
        self.known.insert(digest, block);
        Ok((block, true))
    }

    /// Writes the blocks of a part of a file, and puts it behind what is already there of it.
    pub(super) fn put(
        &mut self,
        slot: &mut Option<Stored>,
        form: Form,
        bytes: &[u8],
        units: &Units,
    ) -> Result<(), Error> {
        // What has no block at all says so.
        let first = match !bytes.is_empty() || slot.is_some() {
            true => self.next,
            false => NULL_ADDR,
        };
        match (form, units) {
            (
                Form::Flat,
                Units::Chunks {
                    digests,
                    size,
                    behind,
                },
            ) => {
                let stored = slot.get_or_insert_with(|| Stored::new(NULL_ADDR, Form::Flat));
                self.chunks(stored, bytes, digests, *size, *behind)
            }
            (Form::Compressed(more), units) => {
                let mut addresses = Vec::with_capacity(more.extents.len());
                match units {
                    Units::Clusters(digests) => self.clusters(&more, bytes, digests, &mut addresses)?,
                    _ => {
                        self.write(bytes)?;
                        let mut address = first;
                        for extent in &more.extents {
                            addresses.push(address);
                            // Within the blocks that have been counted.
                            address += u32::from(extent.blocks);
                        }
                    }
                }
                let stored = match slot {
                    Some(stored) => stored,
                    none => none.insert(Stored::new(first, Form::Flat)),
                };
                stored.addresses.extend(addresses);
                match &mut stored.form {
                    Form::Compressed(clusters) => {
                        clusters.extents.extend(more.extents);
                        clusters.inline = more.inline;
                        clusters.left = more.left;
                    }
                    form => *form = Form::Compressed(more),
                }
                Ok(())
            }
            (form, _) => {
                self.write(bytes)?;
                slot.get_or_insert_with(|| Stored::new(first, form));
                Ok(())
            }
        }
    }

    fn clusters(
        &mut self,
        clusters: &Clusters,
        mut bytes: &[u8],
        digests: &[Option<[u8; 32]>],
        addresses: &mut Vec<u32>,
    ) -> Result<(), Error> {
        for (extent, digest) in clusters.extents.iter().zip(digests) {
            let (own, behind) = bytes.split_at(usize::from(extent.blocks) * BLOCK);
            bytes = behind;
            addresses.push(match digest {
                Some(digest) => self.write_once(own, *digest)?.0,
                // Behind the inode.
                None => self.next,
            });
        }
        Ok(())
    }

    /// As long as its chunks are new, a file is flat.
    fn chunks(
        &mut self,
        stored: &mut Stored,
        bytes: &[u8],
        digests: &[Option<[u8; 32]>],
        size: usize,
        behind: usize,
    ) -> Result<(), Error> {
        for ((chunk, digest), number) in bytes.chunks(size).zip(digests).zip(1..) {
            let is_last = number == digests.len();
            let is_flat = matches!(stored.form, Form::Flat);
            let is_new = digest.is_some_and(|digest| !self.known.contains_key(&digest));
            if is_last && behind > 0 && is_flat && is_new {
                let whole = &chunk[..chunk.len() - BLOCK];
                if !whole.is_empty() {
                    let block = self.write(whole)?;
                    stored.addresses.push(block);
                }
                break;
            }
            let (block, is_new) = match digest {
                Some(digest) => self.write_once(chunk, *digest)?,
                None => {
                    self.shared += (chunk.len() / BLOCK) as u64;
                    (NULL_ADDR, false)
                }
            };
            stored.addresses.push(block);
            if !is_new {
                stored.form = Form::Chunks;
            }
        }
        if let Some(first) = stored.addresses.first() {
            stored.block = *first;
        }
        Ok(())
    }
}
