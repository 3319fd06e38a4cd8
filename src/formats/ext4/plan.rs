//! Which inode is what, and which blocks are whose.

use std::collections::BTreeMap;
use std::ops::Range;

use super::content::{self, Entry};
use super::error::Ext4Error;
use super::format::{
    BLOCK_SIZE, BLOCKS_PER_GROUP, FIRST_INODE, ROOT_INODE, TYPE_DIRECTORY, TYPE_FILE, TYPE_SYMLINK,
};
use super::geometry::Geometry;
use super::inode::{self, MAP_SIZE};
use super::model::{Inode, Kind};
use super::xattr::{self, Place};

/// The name of the directory that e2fsck puts what it finds into.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";
const LONGEST_NAME: usize = 255;
/// A target ends with a NUL in its block.
const LONGEST_TARGET: usize = BLOCK_SIZE as usize - 1;

/// An inode of the tree, with its number and its blocks.
pub(super) struct Node<'t, 'a> {
    pub number: u32,
    pub inode: &'t Inode<'a>,
    /// Of a directory, `.` and `..` first.
    pub entries: Vec<Entry<'t>>,
    pub xattrs: Place,
    /// Of content, in order.
    pub runs: Vec<Range<u64>>,
    /// The block with the map of the content.
    pub leaf: Option<u64>,
    pub xattr_block: Option<u64>,
}

impl Node<'_, '_> {
    pub fn links(&self) -> u16 {
        // A directory's own name (the root's `..`) and `.` make two, and each directory in it has `..`.
        let directories = self.entries.iter().filter(|(_, _, kind)| *kind == TYPE_DIRECTORY);
        directories.count().max(1) as u16
    }

    /// A target that the inode itself holds.
    pub fn short_target(&self) -> Option<&[u8]> {
        match &self.inode.kind {
            Kind::Symlink(target) if target.len() < MAP_SIZE => Some(target),
            _ => None,
        }
    }

    /// Blocks of content.
    fn wanted(&self) -> u64 {
        match &self.inode.kind {
            Kind::Directory(_) => content::block_count(&self.entries).max(content::least_blocks(self.number)),
            Kind::File(content) => content.size().div_ceil(BLOCK_SIZE),
            Kind::Symlink(_) => u64::from(self.short_target().is_none()),
        }
    }
}

/// Blocks in use and blocks that are free.
pub(super) struct Space<'g> {
    geometry: &'g Geometry,
    /// Beside those that every file system of this shape uses; start and end.
    taken: BTreeMap<u64, u64>,
}

impl<'g> Space<'g> {
    pub fn new(geometry: &'g Geometry) -> Self {
        Self {
            geometry,
            taken: BTreeMap::new(),
        }
    }

    /// Everything in use of `group`, as rising runs.
    pub fn used(&self, group: u64) -> Vec<Range<u64>> {
        let blocks = self.geometry.group(group);
        let mut used = self.geometry.fixed(group);
        used.extend(self.taken_of(&blocks));
        used
    }

    /// Whether nothing of `group` is in use but what every group of its number has.
    pub fn is_untouched(&self, group: u64) -> bool {
        self.taken_of(&self.geometry.group(group)).next().is_none()
    }

    /// Runs that were taken within `blocks`; they never cross the end of a group.
    fn taken_of(&self, blocks: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<'_> {
        self.taken.range(blocks.clone()).map(|(&start, &end)| start..end)
    }

    /// Takes `count` free blocks, the first ones from group `from` on, then from the first group on.
    pub fn take(&mut self, count: u64, from: u64) -> Result<Vec<Range<u64>>, Ext4Error> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut left = count;
        for group in (from..self.geometry.groups).chain(0..from) {
            if left == 0 {
                break;
            }
            let blocks = self.geometry.group(group);
            let mut used = self.used(group);
            used.push(blocks.end..blocks.end);
            let mut at = blocks.start;
            for run in used {
                let end = run.start.min(at.saturating_add(left));
                if end > at {
                    left -= end - at;
                    match runs.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => runs.push(at..end),
                    }
                }
                at = at.max(run.end);
            }
        }
        if left > 0 {
            return Err(Ext4Error::Full {
                needed: count,
                free: count - left,
            });
        }
        for run in &runs {
            self.mark(run);
        }
        Ok(runs)
    }

    fn mark(&mut self, run: &Range<u64>) {
        let mut start = run.start;
        while start < run.end {
            let end = ((start / BLOCKS_PER_GROUP + 1) * BLOCKS_PER_GROUP).min(run.end);
            // One entry for all that touches it, or there would be one for each small file.
            let before = self.taken.range(..start).next_back();
            let before = before
                .filter(|(_, before_end)| **before_end == start && !start.is_multiple_of(BLOCKS_PER_GROUP));
            let first = before.map_or(start, |(&before, _)| before);
            self.taken.insert(first, end);
            start = end;
        }
    }

    fn one(&mut self) -> Result<u64, Ext4Error> {
        let runs = self.take(1, 0)?;
        Ok(runs.first().map_or(0, |run| run.start))
    }
}

/// Numbers the tree breadth first, and gives every inode its blocks. `lost` is what `lost+found` is where the tree has
/// none.
pub(super) fn plan<'t, 'a>(
    root: &'t Inode<'a>,
    lost: &'t Inode<'a>,
    space: &mut Space<'_>,
) -> Result<Vec<Node<'t, 'a>>, Ext4Error> {
    let Kind::Directory(top) = &root.kind else {
        return Err(Ext4Error::Root);
    };
    let own = top.get(LOST_AND_FOUND).unwrap_or(lost);
    if !matches!(&own.kind, Kind::Directory(children) if children.is_empty()) {
        return Err(Ext4Error::Root);
    }
    let mut nodes = Vec::new();
    let mut places = vec![
        (ROOT_INODE, ROOT_INODE, root, String::new()),
        (FIRST_INODE, ROOT_INODE, own, "/lost+found".to_owned()),
    ];
    let mut next = FIRST_INODE + 1;
    let mut at = 0;
    while let Some((number, parent, inode, path)) = places.get(at).cloned() {
        at += 1;
        check(inode, &path)?;
        let mut entries: Vec<Entry<'t>> = Vec::new();
        if let Kind::Directory(children) = &inode.kind {
            entries.push((b".", number, TYPE_DIRECTORY));
            entries.push((b"..", parent, TYPE_DIRECTORY));
            if number == ROOT_INODE {
                entries.push((LOST_AND_FOUND, FIRST_INODE, TYPE_DIRECTORY));
            }
            for (name, child) in children {
                if number == ROOT_INODE && &**name == LOST_AND_FOUND {
                    continue;
                }
                let path = format!("{path}/{}", String::from_utf8_lossy(name));
                if !is_name(name) {
                    return Err(Ext4Error::Name { path });
                }
                entries.push((name, next, entry_type(child)));
                places.push((next, number, child, path));
                next += 1;
                let count = u64::from(next - 1);
                let room = space.geometry.inodes_per_group;
                if count > room {
                    return Err(Ext4Error::Inodes { count, room });
                }
            }
        }
        let xattrs = xattr::place(&inode.xattrs).map_err(|(name, why)| Ext4Error::Xattr {
            path: shown(&path),
            name,
            why,
        })?;
        let mut node = Node {
            number,
            inode,
            entries,
            xattrs,
            runs: Vec::new(),
            leaf: None,
            xattr_block: None,
        };
        node.runs = space.take(node.wanted(), 0)?;
        if !inode::holds(&node.runs) {
            return Err(Ext4Error::Full {
                needed: node.wanted(),
                free: 0,
            });
        }
        if inode::needs_leaf(&node.runs) {
            node.leaf = Some(space.one()?);
        }
        if let Place::Block(_) = node.xattrs {
            node.xattr_block = Some(space.one()?);
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Whether `inode` can be written, as far as it says so itself.
fn check(inode: &Inode<'_>, path: &str) -> Result<(), Ext4Error> {
    let path = || shown(path);
    if let Kind::Symlink(target) = &inode.kind
        && !(1..=LONGEST_TARGET).contains(&target.len())
    {
        return Err(Ext4Error::Target {
            path: path(),
            size: target.len(),
        });
    }
    if !inode::holds_time(inode.time) {
        return Err(Ext4Error::Time {
            path: path(),
            time: inode.time,
        });
    }
    Ok(())
}

fn shown(path: &str) -> String {
    if path.is_empty() { "/" } else { path }.to_owned()
}

fn is_name(name: &[u8]) -> bool {
    !(name.is_empty()
        || name.len() > LONGEST_NAME
        || name == b"."
        || name == b".."
        || name.contains(&b'/')
        || name.contains(&0))
}

fn entry_type(inode: &Inode<'_>) -> u8 {
    match inode.kind {
        Kind::Directory(_) => TYPE_DIRECTORY,
        Kind::File(_) => TYPE_FILE,
        Kind::Symlink(_) => TYPE_SYMLINK,
    }
}
