//! The metadata area behind the data: inodes with what stands behind them, directories, shared
//! extended attributes.

use std::io::Write;

use super::chunks;
use super::cluster::{Clusters, Extent};
use super::data::{self, fits_behind};
use super::directory;
use super::error::Error;
use super::format::{
    BLOCK, COMPACT_SIZE, EXTENDED_SIZE, InodeHead, Layout, NULL_ADDR, S_IFREG, SLOT, encode_device, file_type,
};
use super::fragments::Packed;
use super::index;
use super::index_reader::Tail;
use super::model::{Content, FileSystem, Inode, InodeKind, Options};
use super::plan::Plan;
use super::space::Space;
use super::stored::{Form, Stored};
use super::xattr::{self, SharedXattrs};

/// Everything that the metadata is made from.
pub(super) struct Metadata<'a, C> {
    pub(super) tree: &'a FileSystem<C>,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) shared: &'a SharedXattrs,
    /// Lengths of the inodes with their extended attributes, by index.
    pub(super) heads: &'a [usize],
    /// Where files' data lies, by index.
    pub(super) stored: &'a [Option<Stored>],
    pub(super) packed: Option<&'a Packed>,
}

/// Where everything lies, in bytes from the start of the metadata area.
pub(super) struct Places {
    inodes: Vec<u64>,
    /// Own blocks of directories and symbolic links, by index; `None` where there are none.
    blocks: Vec<Option<u64>>,
    /// The shared extended attributes.
    pub(super) shared: u64,
    /// The inode of the packed file.
    packed: Option<u64>,
    /// Length of the area in blocks.
    pub(super) length: u64,
    root: usize,
}

impl Places {
    /// The number of an inode: its slot.
    fn nid(&self, index: usize) -> u64 {
        self.inodes[index] / SLOT as u64
    }

    /// The number of the packed file; 0 where there is none.
    pub(super) fn packed_nid(&self) -> u64 {
        self.packed.map_or(0, |position| position / SLOT as u64)
    }

    /// The root's number; it is always at the start.
    pub(super) fn root_nid(&self) -> u16 {
        u16::try_from(self.nid(self.root)).unwrap_or(u16::MAX)
    }
}

/// What is to be written at a position.
enum Piece {
    Inode(usize),
    Blocks(usize),
    Shared,
    Packed,
}

impl<C: Content> Metadata<'_, C> {
    fn inode(&self, index: usize) -> &Inode<C> {
        &self.tree.inodes[index]
    }

    fn entries(&self, index: usize) -> Vec<directory::Entry<'_>> {
        match &self.inode(index).kind {
            InodeKind::Dir(children) => directory::entries(children, index, self.plan.parent(index)),
            _ => Vec::new(),
        }
    }

    /// Whether the part of `size` bytes behind the last whole block stands behind the inode.
    fn has_tail(&self, index: usize, size: u64) -> bool {
        let tail = (size % BLOCK as u64) as usize;
        tail > 0 && fits_behind(self.heads[index], tail)
    }

    /// The file's data, looked up under its original where it is a copy.
    fn stored(&self, index: usize) -> Option<&Stored> {
        let stored = self.stored[index].as_ref()?;
        match stored.form {
            Form::Same(original) => self.stored[original].as_ref(),
            _ => Some(stored),
        }
    }

    /// `i_size` of a directory or symbolic link, whose bytes live in this area.
    fn local_size(&self, index: usize) -> Option<u64> {
        match &self.inode(index).kind {
            InodeKind::Dir(_) => Some(directory::size(&self.entries(index)) as u64),
            InodeKind::Symlink(target) => Some(target.len() as u64),
            _ => None,
        }
    }

    /// Gives everything its place. The root comes first, as its number has 16 bits; slot 0 stays
    /// empty, as inode number 0 is not shown by `readdir`.
    pub(super) fn place(&self) -> Places {
        let mut space = Space::default();
        let mut places = Places {
            inodes: vec![0; self.tree.inodes.len()],
            blocks: vec![None; self.tree.inodes.len()],
            shared: 0,
            packed: None,
            length: 0,
            root: self.tree.root.0,
        };
        let (&root, others) = match self.plan.order.split_first() {
            Some(split) => split,
            None => return places,
        };
        // Without a tail, the root and the empty slot share the first block whatever its size.
        let root_length = self.length_behind(root) + self.heads[root];
        if root_length + SLOT <= BLOCK {
            space.take(SLOT);
            places.inodes[root] = space.take(root_length);
        } else {
            space.take_blocks(SLOT);
            places.inodes[root] = space.take(root_length);
        }
        places.blocks[root] = self.place_blocks(root, &mut space);
        places.shared = match self.shared.area.len() {
            0 => 0,
            length => space.take_blocks(length),
        };
        for &index in others {
            places.inodes[index] = space.take(self.heads[index] + self.length_behind(index));
            places.blocks[index] = self.place_blocks(index, &mut space);
        }
        places.packed = self.packed.map(|packed| {
            let head = self.packed_head(packed);
            let own = head_length(&head, self.options.build_time);
            space.take(own + self.index_size(own, head.size, &packed.stored))
        });
        places.length = space.blocks();
        // fsck.erofs 1.5 looks for extended attributes behind an inode even where there are none.
        let end = places.length * BLOCK as u64;
        let is_at_end = |index: &usize| places.inodes[*index] + self.heads[*index] as u64 == end;
        if self.plan.order.iter().any(is_at_end) {
            places.length += 1;
        }
        places
    }

    /// Bytes that stand behind an inode and its extended attributes: a tail, or a cluster index
    /// with, perhaps, the last cluster.
    fn length_behind(&self, index: usize) -> usize {
        let head = self.heads[index];
        match &self.inode(index).kind {
            InodeKind::File(content) => match self.stored(index).map(|stored| &stored.form) {
                Some(Form::Compressed(_) | Form::Fragment) => self
                    .stored(index)
                    .map_or(0, |stored| self.index_size(head, content.size(), stored)),
                Some(Form::Chunks) => self
                    .stored(index)
                    .map_or(0, |stored| chunks::encoded_length(&stored.addresses)),
                _ => self.tail_length(index, content.size()),
            },
            _ => self
                .local_size(index)
                .map_or(0, |size| self.tail_length(index, size)),
        }
    }

    /// Bytes of the cluster index of a file of `size` bytes, with what stands behind it.
    fn index_size(&self, head: usize, size: u64, stored: &Stored) -> usize {
        match &stored.form {
            Form::Fragment => index::fragment_size(head),
            Form::Compressed(clusters) => {
                let index = match needs_full_index(stored) {
                    true => index::full_size(head, size),
                    false => index::size(head, size),
                };
                index + clusters.inline.as_ref().map_or(0, |bytes| bytes.len())
            }
            Form::Flat | Form::Chunks | Form::Same(_) => 0,
        }
    }

    fn tail_length(&self, index: usize, size: u64) -> usize {
        match self.has_tail(index, size) {
            true => (size % BLOCK as u64) as usize,
            false => 0,
        }
    }

    /// Length of the own blocks of a directory or symbolic link, not filled up.
    fn blocks_length(&self, index: usize) -> usize {
        let Some(size) = self.local_size(index) else {
            return 0;
        };
        size as usize - self.tail_length(index, size)
    }

    fn place_blocks(&self, index: usize, space: &mut Space) -> Option<u64> {
        let length = self.blocks_length(index);
        (length > 0).then(|| space.take_blocks(length))
    }

    /// Writes the whole area, which starts at block `first`.
    pub(super) fn write(&self, places: &Places, first: u32, out: &mut impl Write) -> Result<(), Error> {
        let mut pieces: Vec<(u64, Piece)> = Vec::with_capacity(self.plan.order.len() + 1);
        if !self.shared.area.is_empty() {
            pieces.push((places.shared, Piece::Shared));
        }
        for &index in &self.plan.order {
            pieces.push((places.inodes[index], Piece::Inode(index)));
            if let Some(position) = places.blocks[index] {
                pieces.push((position, Piece::Blocks(index)));
            }
        }
        pieces.extend(places.packed.map(|position| (position, Piece::Packed)));
        pieces.sort_unstable_by_key(|(position, _)| *position);
        let numbers: Vec<u32> = self.numbers();
        let mut at = 0;
        let mut put = |bytes: &[u8], position: u64| {
            // Pieces do not overlap, and gaps are smaller than a block.
            let gap = position.saturating_sub(at) as usize;
            at += (gap + bytes.len()) as u64;
            out.write_all(&vec![0; gap])
                .and_then(|()| out.write_all(bytes))
                .map_err(Error::Write)
        };
        for (position, piece) in pieces {
            let bytes = match piece {
                Piece::Shared => self.shared.area.clone(),
                Piece::Packed => self
                    .packed
                    .map_or_else(Vec::new, |packed| self.packed_bytes(packed)),
                Piece::Blocks(index) => {
                    let mut bytes = self.local_bytes(index, places);
                    bytes.truncate(self.blocks_length(index));
                    bytes
                }
                Piece::Inode(index) => self.inode_bytes(index, numbers[index], places, first)?,
            };
            put(&bytes, position)?;
        }
        put(&[], places.length * BLOCK as u64)
    }

    /// Running numbers by index, from 1 on.
    fn numbers(&self) -> Vec<u32> {
        let mut numbers = vec![0; self.tree.inodes.len()];
        for (&index, number) in self.plan.order.iter().zip(1..) {
            numbers[index] = number;
        }
        numbers
    }

    /// The content of a directory or symbolic link.
    fn local_bytes(&self, index: usize, places: &Places) -> Vec<u8> {
        match &self.inode(index).kind {
            InodeKind::Symlink(target) => target.to_vec(),
            _ => directory::encode(&self.entries(index), |index| {
                (places.nid(index), file_type(self.inode(index).st_mode()))
            }),
        }
    }

    /// An inode, its extended attributes and what stands behind them.
    fn inode_bytes(&self, index: usize, ino: u32, places: &Places, first: u32) -> Result<Vec<u8>, Error> {
        let inode = self.inode(index);
        let body = self
            .shared
            .body(&inode.xattrs)
            .map_err(|fault| self.entry_error(index, fault))?;
        let mut head = InodeHead {
            layout: Layout::FlatPlain,
            xattr_count: xattr::count(body.len()),
            mode: inode.st_mode(),
            nlink: self.plan.links[index],
            size: 0,
            union: NULL_ADDR,
            ino,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
        };
        let mut behind = Vec::new();
        match &inode.kind {
            InodeKind::Dir(_) | InodeKind::Symlink(_) => {
                let mut bytes = self.local_bytes(index, places);
                head.size = bytes.len() as u64;
                if let Some(position) = places.blocks[index] {
                    // The area's end has been checked to be a block number.
                    head.union = first + (position / BLOCK as u64) as u32;
                }
                let tail = self.tail_length(index, head.size);
                if tail > 0 {
                    head.layout = Layout::FlatInline;
                    behind = bytes.split_off(bytes.len() - tail);
                }
            }
            InodeKind::File(content) => {
                head.size = content.size();
                behind = self.file(index, content, &mut head)?;
            }
            &InodeKind::CharDevice { major, minor } | &InodeKind::BlockDevice { major, minor } => {
                // The plan has checked the range.
                head.union = encode_device(major, minor).unwrap_or_default();
            }
            InodeKind::Fifo | InodeKind::Socket => head.union = 0,
        }
        let mut bytes = head.encode(self.options.build_time);
        bytes.extend(body);
        bytes.extend(behind);
        Ok(bytes)
    }

    /// Completes a regular file's inode and returns what stands behind it.
    fn file(&self, index: usize, content: &C, head: &mut InodeHead) -> Result<Vec<u8>, Error> {
        let Some(stored) = self.stored(index) else {
            return Ok(Vec::new());
        };
        if matches!(stored.form, Form::Compressed(_) | Form::Fragment) {
            return Ok(self.index_bytes(self.heads[index], head, stored));
        }
        if let (Form::Chunks, Some(size)) = (&stored.form, self.options.chunk_size) {
            head.layout = Layout::Chunked;
            head.union = chunks::Format::new(size).encode();
            return Ok(chunks::encode(&stored.addresses));
        }
        head.union = stored.block;
        if !self.has_tail(index, head.size) {
            return Ok(Vec::new());
        }
        head.layout = Layout::FlatInline;
        data::read_tail(content).map_err(|source| Error::Read {
            path: self.plan.path(index),
            source,
        })
    }

    /// Completes the inode of a compressed file, whose length with its extended attributes is `own`, and returns its
    /// cluster index with what stands behind it.
    fn index_bytes(&self, own: usize, head: &mut InodeHead, stored: &Stored) -> Vec<u8> {
        head.layout = Layout::CompressedCompact;
        let Form::Compressed(Clusters {
            extents,
            inline,
            left,
        }) = &stored.form
        else {
            head.union = 0;
            return index::encode_fragment(own, stored.fragment);
        };
        head.union = extents.iter().map(|extent| u32::from(extent.blocks)).sum();
        let compression = self.options.compression;
        // Shorter than a block.
        let mut tail = inline
            .as_ref()
            .map_or(Tail::Blocks, |bytes| Tail::Behind(bytes.len() as u16));
        let (mut extents, mut addresses) = (extents.clone(), stored.addresses.clone());
        if *left > 0 {
            tail = Tail::Fragment(stored.fragment as u32);
            let behind = extents
                .last()
                .zip(addresses.last())
                .map_or(0, |(extent, address)| address + u32::from(extent.blocks));
            addresses.push(match needs_full_index(stored) {
                true => (stored.fragment >> 32) as u32,
                false => behind,
            });
            extents.push(Extent {
                length: *left,
                blocks: 0,
                raw: false,
            });
        }
        let mut bytes = match needs_full_index(stored) {
            true => {
                head.layout = Layout::CompressedFull;
                index::encode_full(&extents, &addresses, own, tail, compression)
            }
            false => index::encode(&extents, &addresses, head.size, own, tail, compression),
        };
        bytes.extend(inline.iter().flatten());
        bytes
    }

    /// The packed file's inode without what follows it. Nobody sees it.
    fn packed_head(&self, packed: &Packed) -> InodeHead {
        InodeHead {
            layout: Layout::CompressedCompact,
            xattr_count: 0,
            mode: S_IFREG | 0o400,
            nlink: 1,
            size: packed.size,
            union: 0,
            // Behind all others, which are fewer than 2^32 as they have places.
            ino: self.plan.order.len() as u32 + 1,
            uid: 0,
            gid: 0,
            mtime: self.options.build_time,
        }
    }

    fn packed_bytes(&self, packed: &Packed) -> Vec<u8> {
        let mut head = self.packed_head(packed);
        let own = head_length(&head, self.options.build_time);
        let behind = self.index_bytes(own, &mut head, &packed.stored);
        let mut bytes = head.encode(self.options.build_time);
        bytes.extend(behind);
        bytes
    }

    fn entry_error(&self, index: usize, fault: super::error::Fault) -> Error {
        Error::Entry {
            path: self.plan.path(index),
            fault,
        }
    }
}

/// Whether the compact index cannot say where a compressed file's data lies.
fn needs_full_index(stored: &Stored) -> bool {
    let Form::Compressed(clusters) = &stored.form else {
        return false;
    };
    let is_far = clusters.left > 0 && u32::try_from(stored.fragment).is_err();
    is_far || !index::is_compact(&clusters.extents, &stored.addresses)
}

/// Length of an inode without extended attributes.
fn head_length(head: &InodeHead, build_time: i64) -> usize {
    match head.is_compact(build_time) {
        true => COMPACT_SIZE,
        false => EXTENDED_SIZE,
    }
}
