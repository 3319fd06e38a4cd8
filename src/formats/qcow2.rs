//! qcow2 images: what QEMU stores sparse disks in.
//!
//! Specification: QEMU's `docs/interop/qcow2.rst`, version 3; integers are big-endian. Clusters of
//! 64 KiB, 16-bit reference counts, no compression, no backing file. Clusters of zeroes are left
//! out whether or not the source has a hole there, so the bytes follow from the content alone.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::at::{ReadAt, WriteAt};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const MAGIC: &[u8; 4] = b"QFI\xfb";
const HEADER_SIZE: u32 = 104;
/// 2^4 = 16 bits a reference count.
const REFCOUNT_ORDER: u32 = 4;
/// Reference counts in a block of a cluster.
const COUNTS: u64 = CLUSTER / 2;
/// Entries in a table of a cluster.
const ENTRIES: u64 = CLUSTER / 8;
/// "This cluster has one owner", in L1 and L2 entries.
const COPIED: u64 = 1 << 63;
/// One cluster of reference table suffices up to here.
const MAX_SIZE: u64 = 8 << 40;

/// An image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    #[error("a disk of {0} bytes is not a positive number of 512-byte sectors up to 8 TiB")]
    Size(u64),
    #[error("reading the disk or writing its qcow2 image")]
    Io(#[from] io::Error),
}

/// Writes the image of the first `size` bytes of `disk` to `out`, which is empty. `data` are the
/// ranges, in order, outside which `disk` is known to be zeroes. Gives the image's size in bytes.
///
/// # Errors
/// A size that cannot be, and I/O.
pub fn write(
    disk: &impl ReadAt,
    size: u64,
    data: &[Range<u64>],
    out: &impl WriteAt,
) -> Result<u64, Qcow2Error> {
    if size == 0 || !size.is_multiple_of(512) || size > MAX_SIZE {
        return Err(Qcow2Error::Size(size));
    }
    let used = used_clusters(disk, size, data)?;
    let mut tables: Vec<u64> = used.iter().map(|cluster| cluster / ENTRIES).collect();
    tables.dedup();

    let l1_entries = size.div_ceil(CLUSTER * ENTRIES);
    let l1_clusters = l1_entries.div_ceil(ENTRIES);
    let fixed = 2 + l1_clusters + tables.len() as u64 + used.len() as u64;
    // The blocks of reference counts count themselves.
    let mut blocks = fixed.div_ceil(COUNTS);
    while (fixed + blocks).div_ceil(COUNTS) > blocks {
        blocks += 1;
    }
    let total = fixed + blocks;
    let (l1_at, l2_at) = (2 + blocks, 2 + blocks + l1_clusters);
    let data_at = l2_at + tables.len() as u64;

    out.write_all_at(&header(size, l1_entries, l1_at), 0)?;
    let block_offsets = (0..blocks).map(|block| (2 + block) * CLUSTER);
    out.write_all_at(&table(block_offsets, ENTRIES), CLUSTER)?;
    for block in 0..blocks {
        let mut counts = vec![0; CLUSTER as usize];
        let here = (total - block * COUNTS).min(COUNTS) as usize;
        for count in counts.chunks_exact_mut(2).take(here) {
            count[1] = 1;
        }
        out.write_all_at(&counts, (2 + block) * CLUSTER)?;
    }
    let mut l1 = vec![0; l1_entries as usize];
    for (index, &at) in tables.iter().enumerate() {
        l1[at as usize] = ((l2_at + index as u64) * CLUSTER) | COPIED;
    }
    out.write_all_at(&table(l1, l1_clusters * ENTRIES), l1_at * CLUSTER)?;
    let mut next = data_at;
    for (index, clusters) in used.chunk_by(|a, b| a / ENTRIES == b / ENTRIES).enumerate() {
        let mut l2 = vec![0; ENTRIES as usize];
        for cluster in clusters {
            l2[(cluster % ENTRIES) as usize] = (next * CLUSTER) | COPIED;
            next += 1;
        }
        out.write_all_at(&table(l2, ENTRIES), (l2_at + index as u64) * CLUSTER)?;
    }
    used.par_iter()
        .enumerate()
        .try_for_each_init(Vec::new, |buffer, (index, &cluster)| {
            read_cluster(disk, size, cluster, buffer)?;
            out.write_all_at(buffer, (data_at + index as u64) * CLUSTER)
        })?;
    Ok(total * CLUSTER)
}

/// Numbers of the disk's clusters that are not all zeroes, rising.
fn used_clusters(disk: &impl ReadAt, size: u64, data: &[Range<u64>]) -> io::Result<Vec<u64>> {
    let mut candidates: Vec<u64> = data
        .iter()
        .flat_map(|range| range.start / CLUSTER..range.end.min(size).div_ceil(CLUSTER))
        .collect();
    candidates.dedup();
    let used = candidates.into_par_iter().map_init(Vec::new, |buffer, cluster| {
        read_cluster(disk, size, cluster, buffer)?;
        Ok(buffer.iter().any(|&byte| byte != 0).then_some(cluster))
    });
    used.filter_map(Result::transpose).collect()
}

/// Reads a cluster into `buffer`; what lies behind the disk's end is zeroes.
fn read_cluster(disk: &impl ReadAt, size: u64, cluster: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = cluster * CLUSTER;
    let count = (size - start).min(CLUSTER) as usize;
    buffer.resize(CLUSTER as usize, 0);
    buffer[count..].fill(0);
    disk.read_exact_at(&mut buffer[..count], start)
}

fn header(size: u64, l1_entries: u64, l1_at: u64) -> Vec<u8> {
    let mut header = Vec::from(MAGIC);
    let u32s = |header: &mut Vec<u8>, values: &[u32]| {
        for value in values {
            header.extend_from_slice(&value.to_be_bytes());
        }
    };
    let u64s = |header: &mut Vec<u8>, values: &[u64]| {
        for value in values {
            header.extend_from_slice(&value.to_be_bytes());
        }
    };
    // Version, backing file (offset, length), cluster size.
    u32s(&mut header, &[3, 0, 0, 0, CLUSTER_BITS]);
    u64s(&mut header, &[size]);
    // No encryption; `MAX_SIZE` keeps the number of L1 entries small.
    u32s(&mut header, &[0, l1_entries as u32]);
    u64s(&mut header, &[l1_at * CLUSTER, CLUSTER]);
    // One cluster of reference table, no snapshots.
    u32s(&mut header, &[1, 0]);
    // Where the snapshots are, and three words of feature bits.
    u64s(&mut header, &[0; 4]);
    u32s(&mut header, &[REFCOUNT_ORDER, HEADER_SIZE]);
    // The end of the header extensions.
    u64s(&mut header, &[0]);
    header.resize(CLUSTER as usize, 0);
    header
}

/// Big-endian entries, filled up with zeroes to `entries` of them.
fn table(values: impl IntoIterator<Item = u64>, entries: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = values.into_iter().flat_map(u64::to_be_bytes).collect();
    bytes.resize((entries * 8) as usize, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::slice::from_ref;

    use super::*;
    use crate::formats::testing::{noise, run, tool};

    const MIB: u64 = 1 << 20;

    /// A disk of `size` bytes with noise at some places, as a file.
    fn disk(path: &Path, size: u64, places: &[(u64, usize)]) -> File {
        let disk = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        disk.set_len(size).unwrap();
        for &(at, count) in places {
            FileExt::write_all_at(&disk, &noise(at, count), at).unwrap();
        }
        disk
    }

    #[test]
    fn qemu_finds_the_image_sound_and_equal() {
        if !tool("qemu-img") {
            return;
        }
        let cases: [(u64, &[(u64, usize)]); 4] = [
            (MIB, &[]),
            (MIB + 512, &[(0, 1), (MIB, 512)]),
            // Three L2 tables, of which the middle one is absent; a cluster's edges.
            (
                1500 * MIB,
                &[(65_535, 2), (3 * MIB, 200_000), (1400 * MIB, 65_536)],
            ),
            (64 * MIB, &[(0, 64 << 20)]),
        ];
        for (size, places) in cases {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let raw = disk(&at("raw"), size, places);
            let out = File::create(at("qcow2")).unwrap();
            let data: Vec<_> = places.iter().map(|&(at, count)| at..at + count as u64).collect();
            let written = write(&raw, size, &data, &out).unwrap();
            assert_eq!(out.metadata().unwrap().len(), written);
            let text = |name: &str| at(name).to_str().unwrap().to_owned();
            let check = run("qemu-img", ["check", "-f", "qcow2", &text("qcow2")]);
            assert!(check.contains("No errors were found"), "{check}");
            let info = run("qemu-img", ["info", "--output=json", &text("qcow2")]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["format"], "qcow2");
            run(
                "qemu-img",
                [
                    "compare",
                    "-f",
                    "raw",
                    "-F",
                    "qcow2",
                    &text("raw"),
                    &text("qcow2"),
                ],
            );
        }
    }

    #[test]
    fn holes_and_written_zeroes_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let sparse = disk(&at("sparse"), 8 * MIB, &[(0, 10)]);
        let dense = disk(&at("dense"), 8 * MIB, &[]);
        FileExt::write_all_at(&dense, &vec![0; 8 << 20], 0).unwrap();
        FileExt::write_all_at(&dense, &noise(0, 10), 0).unwrap();
        write(
            &sparse,
            8 * MIB,
            from_ref(&(0..10)),
            &File::create(at("a")).unwrap(),
        )
        .unwrap();
        write(
            &dense,
            8 * MIB,
            from_ref(&(0..8 * MIB)),
            &File::create(at("b")).unwrap(),
        )
        .unwrap();
        let (a, b) = (fs::read(at("a")).unwrap(), fs::read(at("b")).unwrap());
        assert!(a == b);
        assert_eq!(a.len(), 6 << 16);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let out = tempfile::tempfile().unwrap();
        for size in [0, 511, MAX_SIZE + 512] {
            let error = write(&Vec::new(), size, &[], &out).unwrap_err();
            assert!(matches!(error, Qcow2Error::Size(found) if found == size));
        }
    }
}
