//! FAT32 volumes: reading, with every cluster accounted for.
//!
//! Specification: Microsoft, *FAT32 File System Specification* 1.03 (2000). Integers are little-endian, sectors have 512
//! bytes. Nothing is trusted: a cluster belongs to one file or directory at most, so nothing can be read without end, and
//! the allocation table, which is held in memory, has at most 64 MiB.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::at::ReadAt;
use super::fat_directory::{self, Item};

const SECTOR: u64 = 512;
/// With fewer clusters a volume is FAT16 to every reader, whatever its boot sector says.
const MIN_CLUSTERS: u64 = 65_525;
const MAX_TABLE: u64 = 64 << 20;
/// Bits of a table entry that count.
const CLUSTER: u32 = 0x0fff_ffff;
/// From here on an entry ends a chain; the one before marks a bad cluster.
const END: u32 = 0x0fff_fff8;
const BAD: u32 = 0x0fff_fff7;
const MAX_DIRECTORY: u64 = 2 << 20;
const MAX_DEPTH: usize = 32;

/// A volume that cannot be read, or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum FatReadError {
    #[error("{what}{}", Of(path))]
    Wrong {
        what: &'static str,
        /// What it was found at: a file or directory; empty where it is the volume as a whole.
        path: String,
        /// Bytes from the start of the volume.
        at: u64,
    },
    #[error("the FAT volume cannot be read: {0}")]
    Io(#[from] io::Error),
}

struct Of<'a>(&'a str);

impl std::fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "" => Ok(()),
            path => write!(f, " (`{path}`)"),
        }
    }
}

/// A volume.
#[derive(Debug)]
pub struct Volume {
    /// What stands in the root directory, or in the boot sector.
    pub label: String,
    pub serial: u32,
    /// In the order of the directories, parents first. Paths are relative, parted by `/`.
    pub files: Vec<StoredFile>,
    pub directories: Vec<String>,
    /// Clusters that are in use and belong to nothing.
    pub lost: u64,
    /// Where the first lost one lies: bytes from the start of the volume.
    pub first_lost: u64,
}

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Where its content lies: bytes from the start of the volume; whole clusters.
    extents: Vec<Range<u64>>,
}

impl StoredFile {
    /// Its content, read from the volume in `volume`.
    pub fn content<S: ReadAt>(&self, volume: S) -> FileContent<'_, S> {
        FileContent { file: self, volume }
    }

    /// Where its first byte lies: bytes from the start of the volume. 0 for an empty file.
    pub fn offset(&self) -> u64 {
        self.extents.first().map_or(0, |extent| extent.start)
    }
}

/// The content of a [`StoredFile`].
#[derive(Debug, Clone, Copy)]
pub struct FileContent<'a, S> {
    file: &'a StoredFile,
    volume: S,
}

impl<S: ReadAt> ReadAt for FileContent<'_, S> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.file.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut skip, mut rest) = (offset, buffer);
        for extent in &self.file.extents {
            let length = extent.end - extent.start;
            if skip >= length {
                skip -= length;
                continue;
            }
            let count = rest
                .len()
                .min(usize::try_from(length - skip).unwrap_or(usize::MAX));
            let (piece, behind) = rest.split_at_mut(count);
            self.volume.read_exact_at(piece, extent.start + skip)?;
            (skip, rest) = (0, behind);
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the volume in the first `size` bytes of `source`: boot sector and its copy, both allocation tables, every
/// directory.
///
/// # Errors
/// The first thing that contradicts the format or itself.
pub fn read(source: &impl ReadAt, size: u64) -> Result<Volume, FatReadError> {
    let shape = Shape::read(source, size)?;
    let table = shape.table(source)?;
    let mut reader = Reader {
        source,
        used: vec![false; table.len()],
        shape,
        table,
        volume: Volume {
            label: String::new(),
            serial: shape.serial,
            files: Vec::new(),
            directories: Vec::new(),
            lost: 0,
            first_lost: 0,
        },
    };
    reader.directory("", shape.root, 0)?;
    let Reader {
        used,
        table,
        mut volume,
        ..
    } = reader;
    for (cluster, (&entry, &used)) in table.iter().zip(&used).enumerate().skip(2) {
        if entry & CLUSTER != 0 && entry & CLUSTER != BAD && !used {
            if volume.lost == 0 {
                volume.first_lost = shape.place(cluster as u32);
            }
            volume.lost += 1;
        }
    }
    Ok(volume)
}

fn wrong<T>(what: &'static str, path: &str, at: u64) -> Result<T, FatReadError> {
    Err(FatReadError::Wrong {
        what,
        path: path.to_owned(),
        at,
    })
}

/// What the boot sector says, checked.
#[derive(Debug, Clone, Copy)]
struct Shape {
    cluster_size: u64,
    /// Bytes from the start of the volume.
    tables_start: u64,
    /// Bytes of one table, and how many there are.
    table_size: u64,
    tables: u64,
    data_start: u64,
    clusters: u64,
    root: u32,
    serial: u32,
}

impl Shape {
    fn read(source: &impl ReadAt, size: u64) -> Result<Self, FatReadError> {
        if size < 2 * SECTOR {
            return wrong("the volume is shorter than two sectors", "", 0);
        }
        let mut boot = [0; SECTOR as usize];
        source.read_exact_at(&mut boot, 0)?;
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u16_at(at + 2) << 16 | u16_at(at);
        if boot[510..] != [0x55, 0xaa] || u16_at(11) != SECTOR {
            return wrong(
                "there is no boot sector of a FAT volume with sectors of 512 bytes",
                "",
                0,
            );
        }
        let (per_cluster, reserved, tables) = (u64::from(boot[13]), u16_at(14), u64::from(boot[16]));
        let (table_sectors, sectors) = (u32_at(36), u32_at(32));
        let sixteen = [17, 19, 22].iter().any(|&at| u16_at(at) != 0);
        if sixteen
            || u16_at(42) != 0
            || !per_cluster.is_power_of_two()
            || reserved == 0
            || !(1..=2).contains(&tables)
        {
            return wrong("the boot sector is not one of a FAT32 volume", "", 0);
        }
        // Bit 7: only one table is kept up to date.
        if boot[40] & 0x80 != 0 {
            return wrong("only one of the allocation tables is in use", "", 40);
        }
        let data = reserved + tables * table_sectors;
        if sectors * SECTOR > size || data >= sectors {
            return wrong(
                "the boot sector says that the volume is longer than it is",
                "",
                32,
            );
        }
        let clusters = (sectors - data) / per_cluster;
        if clusters < MIN_CLUSTERS {
            return wrong(
                "the volume has fewer than 65,525 clusters: firmware reads it as FAT16",
                "",
                32,
            );
        }
        if table_sectors * SECTOR > MAX_TABLE || (clusters + 2) * 4 > table_sectors * SECTOR {
            return wrong("the allocation table is too short, or longer than 64 MiB", "", 36);
        }
        let shape = Self {
            cluster_size: per_cluster * SECTOR,
            tables_start: reserved * SECTOR,
            table_size: table_sectors * SECTOR,
            tables,
            data_start: data * SECTOR,
            clusters,
            root: u32_at(44) as u32,
            serial: u32_at(67) as u32,
        };
        let copy = u16_at(50);
        if copy != 0 && copy != 0xffff {
            let mut second = [0; SECTOR as usize];
            source.read_exact_at(&mut second, copy * SECTOR)?;
            if second != boot {
                return wrong("the boot sector and its copy differ", "", copy * SECTOR);
            }
        }
        Ok(shape)
    }

    /// The allocation table; all copies must be equal.
    fn table(&self, source: &impl ReadAt) -> Result<Vec<u32>, FatReadError> {
        let mut first = vec![0; self.table_size as usize];
        source.read_exact_at(&mut first, self.tables_start)?;
        let mut piece = vec![0; 1 << 16];
        for copy in 1..self.tables {
            let start = self.tables_start + copy * self.table_size;
            for (index, expected) in first.chunks(piece.len()).enumerate() {
                let at = start + (index << 16) as u64;
                let found = &mut piece[..expected.len()];
                source.read_exact_at(found, at)?;
                if let Some(byte) = found.iter().zip(expected).position(|(a, b)| a != b) {
                    return wrong("the two allocation tables differ", "", at + byte as u64);
                }
            }
        }
        let entries = first.chunks_exact(4).take(self.clusters as usize + 2);
        Ok(entries
            .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
            .collect())
    }

    /// Where a cluster begins: bytes from the start of the volume.
    fn place(&self, cluster: u32) -> u64 {
        self.data_start + (u64::from(cluster).saturating_sub(2)) * self.cluster_size
    }
}

struct Reader<'a, S> {
    source: &'a S,
    shape: Shape,
    table: Vec<u32>,
    used: Vec<bool>,
    volume: Volume,
}

impl<S: ReadAt> Reader<'_, S> {
    /// The extents of the chain from `first` on, which must be `clusters` long where that is given.
    fn chain(
        &mut self,
        path: &str,
        first: u32,
        clusters: Option<u64>,
    ) -> Result<Vec<Range<u64>>, FatReadError> {
        let mut extents: Vec<Range<u64>> = Vec::new();
        let (mut at, mut count) = (first, 0);
        loop {
            let index = at as usize;
            let place = self.shape.place(at);
            if at < 2 || index >= self.table.len() {
                return wrong(
                    "a chain of clusters leads out of the volume",
                    path,
                    self.shape.tables_start,
                );
            }
            if std::mem::replace(&mut self.used[index], true) {
                return wrong("a cluster belongs to two files, or twice to one", path, place);
            }
            match extents.last_mut() {
                Some(last) if last.end == place => last.end += self.shape.cluster_size,
                _ => extents.push(place..place + self.shape.cluster_size),
            }
            count += 1;
            at = self.table[index] & CLUSTER;
            if at >= END {
                break;
            }
        }
        if clusters.is_some_and(|clusters| clusters != count) {
            let at = extents.first().map_or(0, |extent| extent.start);
            return wrong("the number of clusters does not go with the size", path, at);
        }
        Ok(extents)
    }

    fn directory(&mut self, path: &str, cluster: u32, depth: usize) -> Result<(), FatReadError> {
        let extents = self.chain(path, cluster, None)?;
        let start = extents.first().map_or(0, |extent| extent.start);
        let size = extents
            .iter()
            .map(|extent| extent.end - extent.start)
            .sum::<u64>();
        if size > MAX_DIRECTORY || depth > MAX_DEPTH {
            return wrong(
                "a directory is larger than 2 MiB, or lies below 32 others",
                path,
                start,
            );
        }
        let file = StoredFile {
            path: path.to_owned(),
            size,
            extents,
        };
        let mut bytes = vec![0; size as usize];
        file.content(self.source).read_exact_at(&mut bytes, 0)?;
        let items = fat_directory::parse(&bytes, depth == 0).or_else(|(what, at)| {
            let at = at as u64;
            let mut before = 0;
            let extent = file.extents.iter().find(|extent| {
                before += extent.end - extent.start;
                at < before
            });
            wrong(
                what,
                path,
                extent.map_or(start, |extent| extent.end - (before - at)),
            )
        })?;
        let mut names = BTreeSet::new();
        for item in items {
            let (name, cluster, size) = match item {
                Item::Label(label) => {
                    if depth > 0 || !self.volume.label.is_empty() {
                        return wrong("a second volume label stands in a directory", path, start);
                    }
                    self.volume.label = label;
                    continue;
                }
                Item::Directory { name, cluster } => (name, cluster, None),
                Item::File { name, cluster, size } => (name, cluster, Some(size)),
            };
            // As firmware compares them.
            if !names.insert(name.to_uppercase()) {
                return wrong("a name stands twice in a directory", path, start);
            }
            let below = match path {
                "" => name,
                _ => format!("{path}/{name}"),
            };
            match size {
                None => {
                    self.volume.directories.push(below.clone());
                    self.directory(&below, cluster, depth + 1)?;
                }
                Some(size) => {
                    let size = u64::from(size);
                    let extents = match (size, cluster) {
                        (0, 0) => Vec::new(),
                        _ => self.chain(&below, cluster, Some(size.div_ceil(self.shape.cluster_size)))?,
                    };
                    self.volume.files.push(StoredFile {
                        path: below,
                        size,
                        extents,
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
