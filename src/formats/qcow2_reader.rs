//! qcow2 images: reading.
//!
//! Specification: QEMU's `docs/interop/qcow2.rst`, versions 2 and 3; integers are big-endian. What is read stands by
//! itself: no backing file, no external data, no encryption, no compressed clusters, no snapshots. Nothing is trusted: the
//! first table of clusters is held in memory, and its size is bounded.

use std::io;

use super::at::ReadAt;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// What a disk may have at most, in bytes.
const MAX_SIZE: u64 = 16 << 40;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 12..=21;
/// Entries of the first table: a disk of 16 TiB in clusters of 64 KiB.
const MAX_L1: u64 = 1 << 15;
/// "Dirty": reference counts may be wrong, which reading does not care for.
const HARMLESS: u64 = 1;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// In a second table: the cluster reads as zeroes.
const ZERO: u64 = 1;

/// An image that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2ReadError {
    #[error("this is no qcow2 image that can be read here: {0}")]
    Unfit(&'static str),
    #[error("the qcow2 image cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A disk in a qcow2 image.
#[derive(Debug)]
pub struct Image<S> {
    source: S,
    cluster_bits: u32,
    /// Bytes of the disk.
    size: u64,
    l1: Vec<u64>,
}

impl<S: ReadAt> Image<S> {
    /// Reads the header and the first table.
    ///
    /// # Errors
    /// Where they are not those of an image that stands by itself.
    pub fn open(source: S) -> Result<Self, Qcow2ReadError> {
        let unfit = |what| Err(Qcow2ReadError::Unfit(what));
        let mut header = [0; 80];
        source.read_exact_at(&mut header, 0)?;
        if header[..4] != *MAGIC {
            return unfit("it does not begin with `QFI`");
        }
        let version = u32_at(&header, 4);
        if version != 2 && version != 3 {
            return unfit("its version is neither 2 nor 3");
        }
        if version == 3 && u64_at(&header, 72) & !HARMLESS != 0 {
            return unfit(
                "it uses an incompatible feature (external data, compression by zstd, extended entries)",
            );
        }
        if u64_at(&header, 8) != 0 {
            return unfit("it has a backing file");
        }
        if u32_at(&header, 32) != 0 {
            return unfit("it is encrypted");
        }
        if u32_at(&header, 60) != 0 {
            return unfit("it holds snapshots");
        }
        let (cluster_bits, size) = (u32_at(&header, 20), u64_at(&header, 24));
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return unfit("its clusters are smaller than 4 KiB or larger than 2 MiB");
        }
        if size == 0 || size > MAX_SIZE || size % 512 != 0 {
            return unfit("its disk is no whole number of sectors up to 16 TiB");
        }
        // An entry of the first table covers a cluster of entries of 8 bytes.
        let entries = size.div_ceil(1 << (2 * cluster_bits - 3));
        if entries > MAX_L1 || u64::from(u32_at(&header, 36)) < entries {
            return unfit("its first table is too short, or longer than 32,768 entries");
        }
        let mut table = vec![0; entries as usize * 8];
        source.read_exact_at(&mut table, u64_at(&header, 40))?;
        Ok(Self {
            l1: table
                .chunks_exact(8)
                .map(|entry| u64_at(entry, 0) & OFFSET)
                .collect(),
            source,
            cluster_bits,
            size,
        })
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Where an entry of a second table says that its cluster lies; `None` where it reads as zeroes.
    fn place(&self, entry: u64) -> io::Result<Option<u64>> {
        if entry & COMPRESSED != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the qcow2 image has compressed clusters; `qemu-img convert -O qcow2` writes it without",
            ));
        }
        let at = entry & OFFSET;
        Ok((at != 0 && entry & ZERO == 0).then_some(at))
    }

    fn find(&self, index: u64) -> io::Result<Option<u64>> {
        let per_table = self.cluster() / 8;
        match usize::try_from(index / per_table)
            .ok()
            .and_then(|at| self.l1.get(at))
        {
            None | Some(0) => Ok(None),
            Some(table) => {
                let mut entry = [0; 8];
                let at = table + index % per_table * 8;
                self.source.read_exact_at(&mut entry, at)?;
                self.place(u64::from_be_bytes(entry))
            }
        }
    }

    /// Whether there may be anything but zeroes in each piece of `piece` bytes (a power of two) of the disk.
    ///
    /// # Errors
    /// Whatever reading gives, and compressed clusters.
    pub fn filled(&self, piece: u64) -> io::Result<Vec<bool>> {
        let count = usize::try_from(self.size.div_ceil(piece)).map_err(io::Error::other)?;
        let mut filled = vec![false; count];
        let per_table = self.cluster() / 8;
        let mut table = vec![0; self.cluster() as usize];
        for (index, &at) in self.l1.iter().enumerate().filter(|(_, at)| **at != 0) {
            self.source.read_exact_at(&mut table, at)?;
            let first = index as u64 * per_table;
            for (entry, cluster) in table.chunks_exact(8).zip(first..) {
                if self.place(u64_at(entry, 0))?.is_some() {
                    let start = cluster * self.cluster();
                    let end = (start + self.cluster()).min(self.size);
                    let pieces = start / piece..end.div_ceil(piece);
                    if let Some(pieces) = filled.get_mut(pieces.start as usize..pieces.end as usize) {
                        pieces.fill(true);
                    }
                }
            }
        }
        Ok(filled)
    }
}

impl<S: ReadAt> ReadAt for Image<S> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let inside = at % self.cluster();
            let count = rest
                .len()
                .min(usize::try_from(self.cluster() - inside).unwrap_or(usize::MAX));
            let (piece, behind) = rest.split_at_mut(count);
            match self.find(at / self.cluster())? {
                Some(place) => self.source.read_exact_at(piece, place + inside)?,
                None => piece.fill(0),
            }
            at += count as u64;
            rest = behind;
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::formats::qcow2;
    use crate::formats::testing::{noise, run, tool};

    const SIZE: u64 = 40 << 20;

    /// A disk with data at its start, in its middle and at its end.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; SIZE as usize];
        for (seed, at, length) in [
            (1, 0, 100_000),
            (2, 17 << 20, 3 << 20),
            (3, (SIZE - 5000) as usize, 5000),
        ] {
            disk[at..at + length].copy_from_slice(&noise(seed, length));
        }
        disk
    }

    fn check(image: &[u8], disk: &[u8]) {
        let image = Image::open(image.to_vec()).unwrap();
        assert_eq!(image.size(), SIZE);
        let mut read = vec![1; SIZE as usize];
        image.read_exact_at(&mut read, 0).unwrap();
        assert!(read == disk);
        let mut across = vec![1; 200_001];
        image.read_exact_at(&mut across, (17 << 20) - 777).unwrap();
        assert!(across == disk[(17 << 20) - 777..][..200_001]);
        assert!(image.read_exact_at(&mut [0; 2], SIZE - 1).is_err());
        assert!(image.read_exact_at(&mut [0; 2], u64::MAX).is_err());
        let filled = image.filled(1 << 20).unwrap();
        let pieces: Vec<_> = (0..40).filter(|&piece| filled[piece]).collect();
        assert_eq!(pieces, [0, 17, 18, 19, 39]);
    }

    #[test]
    fn what_is_written_here_and_by_qemu_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, ours, theirs) = (
            dir.path().join("raw"),
            dir.path().join("ours"),
            dir.path().join("theirs"),
        );
        let disk = disk();
        fs::write(&raw, &disk).unwrap();
        let out = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&ours)
            .unwrap();
        qcow2::write(&disk, SIZE, &[0..1, 1..SIZE], &out).unwrap();
        check(&fs::read(&ours).unwrap(), &disk);
        if !tool("qemu-img") {
            return;
        }
        for (compat, cluster) in [("1.1", "64k"), ("0.10", "64k"), ("1.1", "4k"), ("1.1", "2M")] {
            let options = format!("compat={compat},cluster_size={cluster}");
            let paths = [raw.as_os_str(), theirs.as_os_str()];
            let start = ["convert", "-f", "raw", "-O", "qcow2", "-o", &options];
            run("qemu-img", start.iter().map(std::ffi::OsStr::new).chain(paths));
            let bytes = fs::read(&theirs).unwrap();
            let image = Image::open(bytes.clone()).unwrap();
            let mut read = vec![1; SIZE as usize];
            image.read_exact_at(&mut read, 0).unwrap();
            assert!(read == disk, "{options}");
        }
        let paths = [raw.as_os_str(), theirs.as_os_str()];
        let start = ["convert", "-c", "-f", "raw", "-O", "qcow2"];
        run("qemu-img", start.iter().map(std::ffi::OsStr::new).chain(paths));
        let image = Image::open(fs::read(&theirs).unwrap()).unwrap();
        let error = image.read_exact_at(&mut [0; 1 << 20], 0).unwrap_err().to_string();
        assert!(error.contains("compressed clusters"), "{error}");
    }

    #[test]
    fn what_does_not_stand_by_itself_is_refused() {
        let image = tempfile::NamedTempFile::new().unwrap();
        qcow2::write(&disk(), SIZE, &[0..1, 1..SIZE], image.as_file()).unwrap();
        let bytes = fs::read(image.path()).unwrap();
        type Change = fn(&mut Vec<u8>);
        let table: [(Change, &str); 8] = [
            (|b| b[0] = 0, "begin with"),
            (|b| b[7] = 4, "version"),
            (|b| b[15] = 1, "backing file"),
            (|b| b[35] = 1, "encrypted"),
            (|b| b[63] = 1, "snapshots"),
            (|b| b[79] = 4, "incompatible"),
            (|b| b[23] = 9, "clusters"),
            (|b| b[39] = 0, "first table"),
        ];
        for (change, expected) in table {
            let mut bad = bytes.clone();
            change(&mut bad);
            let error = Image::open(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // Any header is an error or an image that can be asked.
        for at in 0..104 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                if let Ok(image) = Image::open(bad) {
                    let _ = image.read_exact_at(&mut [0; 4096], 0);
                    let _ = image.filled(1 << 20);
                }
            }
        }
    }
}
