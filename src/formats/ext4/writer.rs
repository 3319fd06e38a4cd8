//! Writing a file system: metadata, content, and the superblock last.

use std::ops::Range;

use super::super::at::{ReadAt, WriteAt};
use super::checksum;
use super::content;
use super::error::Ext4Error;
use super::format::{
    BLOCK, BLOCK_SIZE, BLOCK_UNINIT, BLOCKS_PER_GROUP, COMPAT, DESCRIPTOR_SIZE, EXTRA_SIZE, FIRST_INODE,
    INCOMPAT, INODE_SIZE, INODE_UNINIT, JOURNAL_INODE, RESIZE_INODE, RO_COMPAT, S_IFDIR, S_IFLNK, S_IFREG,
    put16, put16s, put32, put32s,
};
use super::geometry::{GROUPS_PER_FLEX, Geometry};
use super::inode::{self, MAP_SIZE, Map, Record};
use super::model::{Inode, Kind, Params};
use super::plan::{self, Node, Space};
use super::xattr::Place;
use super::{journal, resize, xattr};

/// One in so many blocks is kept for root.
const RESERVED: u64 = 20;
/// Blocks of a file that are written at once.
const PIECE: u64 = 64;

/// Writes the file system of `params` with the tree `root` into `out`, from its start; gives its size in bytes.
///
/// Writes are of whole blocks of 4096 bytes, at multiples of that. What is not written is not read, neither by Linux nor
/// by e2fsck.
///
/// # Errors
/// What ext4 cannot hold, content that does not fit or cannot be read, and I/O.
pub fn write(out: &impl WriteAt, params: &Params<'_>, root: &Inode<'_>) -> Result<u64, Ext4Error> {
    let geometry = Geometry::new(params.size)?;
    if params.label.len() > 16 {
        return Err(Ext4Error::Label {
            label: params.label.to_owned(),
        });
    }
    if !inode::holds_time(params.time) {
        return Err(Ext4Error::Time {
            path: "/".to_owned(),
            time: params.time,
        });
    }
    let lost = Inode::root(0o700, params.time, Kind::Directory(Default::default()));
    let mut space = Space::new(&geometry);
    // In the middle, as mke2fs puts it, so that it is near to everything.
    let middle = geometry.groups / 2;
    let journal = space.take(geometry.journal_blocks, middle)?;
    let journal_leaf = inode::needs_leaf(&journal)
        .then(|| space.take(1, middle))
        .transpose()?;
    let double = space.take(1, 0)?;
    let nodes = plan::plan(root, &lost, &mut space)?;
    let writer = Writer {
        out,
        params,
        geometry: &geometry,
        seed: checksum::of_file_system(params.uuid.as_bytes()),
    };
    let mut inodes = Inodes::new(writer.seed);
    let double = double.first().map_or(0, |run| run.start);
    inodes.put(RESIZE_INODE, &resize::inode(&geometry, double, params.time));
    writer.block(double, &resize::double(&geometry))?;
    for (number, block) in resize::indirect(&geometry) {
        writer.block(number, &block)?;
    }
    let journal_leaf = journal_leaf.and_then(|runs| runs.first().map(|run| run.start));
    let journal_map = writer.journal(&journal, journal_leaf, &mut inodes)?;
    for node in &nodes {
        writer.node(node, &mut inodes)?;
    }
    writer.inodes(&inodes)?;
    let directories = nodes.iter().filter(|node| !node.entries.is_empty()).count();
    let highest = nodes.iter().map(|node| node.number).max().unwrap_or(FIRST_INODE);
    let groups = writer.groups(&space, u64::from(highest), directories as u64)?;
    writer.superblocks(&groups, u64::from(highest), &journal_map)?;
    Ok(geometry.blocks * BLOCK_SIZE)
}

struct Writer<'w, T> {
    out: &'w T,
    params: &'w Params<'w>,
    geometry: &'w Geometry,
    seed: u32,
}

/// The beginning of the first group's inode table.
struct Inodes {
    seed: u32,
    table: Vec<u8>,
}

/// The groups' descriptors, and what they sum up to.
struct Groups {
    descriptors: Vec<u8>,
    free_blocks: u64,
}

impl Inodes {
    fn new(seed: u32) -> Self {
        Self {
            seed,
            table: Vec::new(),
        }
    }

    fn put(&mut self, number: u32, record: &Record) {
        let at = (number as usize - 1) * INODE_SIZE;
        let end = (at + INODE_SIZE).max(self.table.len()).next_multiple_of(BLOCK);
        self.table.resize(end, 0);
        let bytes = record.encode(checksum::of_inode(self.seed, number));
        self.table[at..at + INODE_SIZE].copy_from_slice(&bytes);
    }
}

impl<T: WriteAt> Writer<'_, T> {
    fn block(&self, number: u64, bytes: &[u8]) -> Result<(), Ext4Error> {
        Ok(self.out.write_all_at(bytes, number * BLOCK_SIZE)?)
    }

    fn journal(
        &self,
        runs: &[Range<u64>],
        leaf: Option<u64>,
        inodes: &mut Inodes,
    ) -> Result<[u8; MAP_SIZE], Ext4Error> {
        let blocks = self.geometry.journal_blocks;
        let map = inode::map(runs, leaf, checksum::of_inode(self.seed, JOURNAL_INODE));
        self.leaf(&map, leaf)?;
        let record = Record {
            mode: S_IFREG | 0o600,
            uid: 0,
            gid: 0,
            time: self.params.time,
            size: blocks * BLOCK_SIZE,
            links: 1,
            blocks: blocks + u64::from(leaf.is_some()),
            flags: 0,
            map: [0; MAP_SIZE],
            xattr_block: 0,
            xattrs: Vec::new(),
        };
        inodes.put(JOURNAL_INODE, &record.with_extents(&map));
        if let Some(run) = runs.first() {
            let superblock = journal::superblock(blocks, self.params.uuid.as_bytes());
            self.block(run.start, &superblock)?;
        }
        Ok(map.inode)
    }

    fn leaf(&self, map: &Map, number: Option<u64>) -> Result<(), Ext4Error> {
        match (&map.leaf, number) {
            (Some(block), Some(number)) => self.block(number, block),
            _ => Ok(()),
        }
    }

    fn node(&self, node: &Node<'_, '_>, inodes: &mut Inodes) -> Result<(), Ext4Error> {
        let seed = checksum::of_inode(self.seed, node.number);
        let blocks: u64 = node.runs.iter().map(|run| run.end - run.start).sum();
        let (kind, size) = match &node.inode.kind {
            Kind::Directory(_) => (S_IFDIR, blocks * BLOCK_SIZE),
            Kind::File(content) => (S_IFREG, content.size()),
            Kind::Symlink(target) => (S_IFLNK, target.len() as u64),
        };
        let extra = [node.leaf, node.xattr_block].iter().flatten().count() as u64;
        let mut record = Record {
            mode: kind | (node.inode.mode & 0o7777),
            uid: node.inode.uid,
            gid: node.inode.gid,
            time: node.inode.time,
            size,
            links: node.links(),
            blocks: blocks + extra,
            flags: 0,
            map: [0; MAP_SIZE],
            xattr_block: node.xattr_block.unwrap_or(0),
            xattrs: Vec::new(),
        };
        match (&node.xattrs, node.xattr_block) {
            (Place::Inode(bytes), _) => record.xattrs.clone_from(bytes),
            (Place::Block(block), Some(number)) => {
                let mut block = block.clone();
                xattr::seal(&mut block, number, self.seed);
                self.block(number, block.as_slice())?;
            }
            (Place::Block(_), None) => {}
        }
        if let Some(target) = node.short_target() {
            record.map[..target.len()].copy_from_slice(target);
            inodes.put(node.number, &record);
            return Ok(());
        }
        let map = inode::map(&node.runs, node.leaf, seed);
        self.leaf(&map, node.leaf)?;
        inodes.put(node.number, &record.with_extents(&map));
        let mut places = node.runs.iter().cloned().flatten();
        match &node.inode.kind {
            Kind::Directory(_) => {
                let least = content::least_blocks(node.number);
                for (block, place) in content::blocks(&node.entries, least, seed).iter().zip(places) {
                    self.block(place, block)?;
                }
            }
            Kind::Symlink(target) => {
                let mut block = [0; BLOCK];
                block[..target.len()].copy_from_slice(target);
                if let Some(place) = places.next() {
                    self.block(place, &block)?;
                }
            }
            Kind::File(content) => self.file(content, &node.runs)?,
        }
        Ok(())
    }

    fn file(&self, content: &super::super::at::Content<'_>, runs: &[Range<u64>]) -> Result<(), Ext4Error> {
        let mut buffer = vec![0; (PIECE * BLOCK_SIZE) as usize];
        let mut read = 0;
        for run in runs {
            let mut block = run.start;
            while block < run.end {
                let count = (run.end - block).min(PIECE);
                let piece = &mut buffer[..(count * BLOCK_SIZE) as usize];
                let there = (content.size() - read).min(piece.len() as u64);
                let (data, rest) = piece.split_at_mut(there as usize);
                content.read_exact_at(data, read)?;
                rest.fill(0);
                self.block(block, piece)?;
                read += there;
                block += count;
            }
        }
        Ok(())
    }

    fn inodes(&self, inodes: &Inodes) -> Result<(), Ext4Error> {
        self.block(self.geometry.tables(0).inode_table, &inodes.table)
    }

    /// Writes the bitmaps that are not left to be made from descriptors.
    fn groups(&self, space: &Space<'_>, inodes: u64, directories: u64) -> Result<Groups, Ext4Error> {
        let geometry = self.geometry;
        let mut descriptors = Vec::new();
        let mut free_blocks = 0;
        for group in 0..geometry.groups {
            let blocks = geometry.group(group);
            let used = space.used(group);
            let count: u64 = used.iter().map(|run| run.end - run.start).sum();
            let free = blocks.end - blocks.start - count;
            free_blocks += free;
            let tables = geometry.tables(group);
            let mut bytes = [0; DESCRIPTOR_SIZE];
            put32s(&mut bytes, 0x00, 0x20, tables.block_bitmap);
            put32s(&mut bytes, 0x04, 0x24, tables.inode_bitmap);
            put32s(&mut bytes, 0x08, 0x28, tables.inode_table);
            put16s(&mut bytes, 0x0c, 0x2c, free as u32);
            let used_inodes = if group == 0 { inodes } else { 0 };
            let free_inodes = (geometry.inodes_per_group - used_inodes) as u32;
            put16s(&mut bytes, 0x0e, 0x2e, free_inodes);
            // Inodes are used from the first on, so as many are unused at the end of the table.
            put16s(&mut bytes, 0x1c, 0x32, free_inodes);
            let mut flags = INODE_UNINIT | BLOCK_UNINIT;
            // Readers make the bitmap of a group by themselves that holds nothing but copies and reserve, save the last's.
            let last = group + 1 == geometry.groups;
            let tables_of_others = group.is_multiple_of(GROUPS_PER_FLEX);
            if last || tables_of_others || !space.is_untouched(group) {
                flags &= !BLOCK_UNINIT;
                let bitmap = bitmap(&used, blocks.start, blocks.end - blocks.start);
                self.block(tables.block_bitmap, &bitmap)?;
                put16s(&mut bytes, 0x18, 0x38, checksum::crc(self.seed, &bitmap));
            }
            if group == 0 {
                flags &= !INODE_UNINIT;
                put16s(&mut bytes, 0x10, 0x30, directories as u32);
                let bitmap = bitmap(&[0..inodes], 0, geometry.inodes_per_group);
                self.block(tables.inode_bitmap, &bitmap)?;
                let covered = (geometry.inodes_per_group / 8) as usize;
                put16s(
                    &mut bytes,
                    0x1a,
                    0x3a,
                    checksum::crc(self.seed, &bitmap[..covered]),
                );
            }
            put16(&mut bytes, 0x12, flags);
            let sum = checksum::crc(self.seed, &(group as u32).to_le_bytes());
            let sum = checksum::crc(sum, &bytes);
            put16(&mut bytes, 0x1e, sum as u16);
            descriptors.extend_from_slice(&bytes);
        }
        descriptors.resize(descriptors.len().next_multiple_of(BLOCK), 0);
        Ok(Groups {
            descriptors,
            free_blocks,
        })
    }

    fn superblocks(&self, groups: &Groups, inodes: u64, journal: &[u8; MAP_SIZE]) -> Result<(), Ext4Error> {
        let copies: Vec<u64> = self.geometry.copies().collect();
        for group in copies.into_iter().rev().chain([0]) {
            let start = group * BLOCKS_PER_GROUP;
            self.block(start + 1, &groups.descriptors)?;
            let superblock = self.superblock(group, groups, inodes, journal);
            let mut block = [0; BLOCK];
            // The first kibibyte of the medium is for boot loaders.
            let at = if group == 0 { 1024 } else { 0 };
            block[at..at + superblock.len()].copy_from_slice(&superblock);
            self.block(start, &block)?;
        }
        Ok(())
    }

    fn superblock(&self, group: u64, groups: &Groups, inodes: u64, journal: &[u8; MAP_SIZE]) -> [u8; 1024] {
        let geometry = self.geometry;
        let params = self.params;
        let mut bytes = [0; 1024];
        let all_inodes = geometry.inodes_per_group * geometry.groups;
        let time = params.time as u32;
        let time_high = (params.time >> 32) as u8;
        for (at, value) in [
            (0x00, all_inodes as u32),
            (0x10, (all_inodes - inodes) as u32),
            // Blocks of 1024 << 2 bytes.
            (0x18, 2),
            (0x1c, 2),
            (0x20, BLOCKS_PER_GROUP as u32),
            (0x24, BLOCKS_PER_GROUP as u32),
            (0x28, geometry.inodes_per_group as u32),
            // Written, checked, made.
            (0x30, time),
            (0x40, time),
            (0x108, time),
            // Revision 1: with features.
            (0x4c, 1),
            (0x54, FIRST_INODE),
            (0x5c, COMPAT),
            (0x60, INCOMPAT),
            (0x64, RO_COMPAT),
            (0xe0, JOURNAL_INODE),
            // Mount options: user_xattr, acl.
            (0x100, 0xc),
            // Names are hashed as signed characters.
            (0x160, 1),
        ] {
            put32(&mut bytes, at, value);
        }
        put32s(&mut bytes, 0x04, 0x150, geometry.blocks);
        put32s(&mut bytes, 0x08, 0x154, geometry.blocks / RESERVED);
        put32s(&mut bytes, 0x0c, 0x158, groups.free_blocks);
        for (at, value) in [
            // No count of mounts forces a check.
            (0x36, 0xffff),
            (0x38, 0xef53),
            // Clean; on errors, go on.
            (0x3a, 1),
            (0x3c, 1),
            (0x58, INODE_SIZE as u16),
            (0x5a, group as u16),
            (0xce, geometry.reserved_blocks as u16),
            (0xfe, DESCRIPTOR_SIZE as u16),
            (0x15c, EXTRA_SIZE),
            (0x15e, EXTRA_SIZE),
        ] {
            put16(&mut bytes, at, value);
        }
        bytes[0x68..0x78].copy_from_slice(params.uuid.as_bytes());
        bytes[0x78..0x78 + params.label.len()].copy_from_slice(params.label.as_bytes());
        bytes[0xec..0xfc].copy_from_slice(&params.hash_seed);
        // Half of MD4; a copy of the journal's inode follows.
        bytes[0xfc] = 1;
        bytes[0xfd] = 1;
        bytes[0x10c..0x10c + MAP_SIZE].copy_from_slice(journal);
        put32s(&mut bytes, 0x14c, 0x148, geometry.journal_blocks * BLOCK_SIZE);
        bytes[0x174] = GROUPS_PER_FLEX.trailing_zeros() as u8;
        // CRC-32C.
        bytes[0x175] = 1;
        // Written, made, checked: bits 32 to 39.
        for at in [0x274, 0x276, 0x277] {
            bytes[at] = time_high;
        }
        let sum = checksum::crc(!0, &bytes[..0x3fc]);
        put32(&mut bytes, 0x3fc, sum);
        bytes
    }
}

/// A block's bitmap of `count` things from `first` on: those in `used` are set, and so is what is behind the last.
fn bitmap(used: &[Range<u64>], first: u64, count: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let end = BLOCKS_PER_GROUP;
    let used = used.iter().map(|run| run.start - first..run.end - first);
    for run in used.chain([count..end]) {
        for bit in run {
            bytes[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
    bytes
}
