//! A qcow2 overlay: the disk that the guest writes to, over an image that stays as it is.
//!
//! Version 3 of the format (QEMU's `docs/interop/qcow2.txt`): big-endian header, one refcount block, an
//! empty L1 table. Written here, so that booting needs no `qemu-img`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Guest bytes that one L1 entry covers: a cluster of L2 entries (8 bytes each), a cluster per entry.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// The L1 table is always one cluster, 4 TiB of disk, so that an overlay can grow by its header alone.
const L1_ENTRIES: u64 = CLUSTER / 8;
/// The longest backing file name that the format allows.
const MAX_BACKING_NAME: usize = 1023;
const SIZE_OFFSET: u64 = 24;

/// Largest disk that an overlay of ours can hold, in bytes.
pub(super) const MAX_SIZE: u64 = L1_ENTRIES * PER_L1_ENTRY;

/// Writes an overlay of `size` bytes over `backing`, a file of QEMU's format `driver`, to the new file `path`.
/// A relative `backing` is taken from the overlay's directory.
pub(super) fn create(path: &Path, size: u64, backing: &str, driver: &str) -> io::Result<()> {
    let bytes = header(size, backing, driver)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&bytes)?;
    file.set_len(4 * CLUSTER)
}

/// The disk's size in an overlay made by [`create`].
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let mut field = [0; 8];
    File::open(path)?.read_exact_at(&mut field, SIZE_OFFSET)?;
    Ok(u64::from_be_bytes(field))
}

/// Sets the disk's size, never smaller than it was.
pub(super) fn grow(path: &Path, wanted: u64) -> io::Result<()> {
    if wanted > size(path)? {
        check_size(wanted)?;
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&wanted.to_be_bytes(), SIZE_OFFSET)?;
        file.sync_all()?;
    }
    Ok(())
}

fn check_size(size: u64) -> io::Result<()> {
    if size > MAX_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{size} bytes are more than the {MAX_SIZE} that an overlay can hold"),
        ));
    }
    Ok(())
}

/// Cluster 0: header, extensions, backing name. 1: refcount table. 2: its one refcount block, in which these
/// four clusters count 1. 3: L1 table, empty. Zero clusters at the end are left to a hole.
fn header(size: u64, backing: &str, driver: &str) -> io::Result<Vec<u8>> {
    check_size(size)?;
    if backing.len() > MAX_BACKING_NAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            format!(
                "a path of {} bytes is too long for qcow2 (at most {MAX_BACKING_NAME})",
                backing.len()
            ),
        ));
    }
    let mut extensions = Vec::new();
    extensions.extend_from_slice(&0xe279_2aca_u32.to_be_bytes()); // backing file format
    extensions.extend_from_slice(
        &u32::try_from(driver.len())
            .map_err(io::Error::other)?
            .to_be_bytes(),
    );
    extensions.extend_from_slice(driver.as_bytes());
    extensions.resize(extensions.len().next_multiple_of(8), 0);
    extensions.extend_from_slice(&[0; 8]); // end of extensions

    let header_length = 104_u32;
    let name_offset = u64::from(header_length) + extensions.len() as u64;
    let mut bytes = Vec::with_capacity(3 * CLUSTER as usize);
    bytes.extend_from_slice(b"QFI\xfb");
    bytes.extend_from_slice(&3_u32.to_be_bytes());
    bytes.extend_from_slice(&name_offset.to_be_bytes());
    bytes.extend_from_slice(
        &u32::try_from(backing.len())
            .map_err(io::Error::other)?
            .to_be_bytes(),
    );
    bytes.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&0_u32.to_be_bytes()); // no encryption
    bytes.extend_from_slice(&(L1_ENTRIES as u32).to_be_bytes());
    bytes.extend_from_slice(&(3 * CLUSTER).to_be_bytes());
    bytes.extend_from_slice(&CLUSTER.to_be_bytes());
    bytes.extend_from_slice(&1_u32.to_be_bytes()); // clusters of refcount table
    bytes.extend_from_slice(&[0; 12]); // no snapshots
    bytes.extend_from_slice(&[0; 24]); // no features
    bytes.extend_from_slice(&4_u32.to_be_bytes()); // refcounts of 1 << 4 bits
    bytes.extend_from_slice(&header_length.to_be_bytes());
    bytes.extend_from_slice(&extensions);
    bytes.extend_from_slice(backing.as_bytes());
    bytes.resize(CLUSTER as usize, 0);
    bytes.extend_from_slice(&(2 * CLUSTER).to_be_bytes());
    bytes.resize(2 * CLUSTER as usize, 0);
    for _ in 0..4 {
        bytes.extend_from_slice(&1_u16.to_be_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.qcow2");
        assert!(create(&path, MAX_SIZE + 512, "base.raw", "raw").is_err());
        assert!(create(&path, 512, &"x".repeat(1024), "raw").is_err());
        assert!(!path.exists());
        create(&path, 1 << 30, "base.raw", "raw").unwrap();
        assert!(
            create(&path, 1 << 30, "base.raw", "raw").is_err(),
            "an overlay is never overwritten"
        );
        grow(&path, 1 << 20).unwrap();
        assert_eq!(size(&path).unwrap(), 1 << 30, "it never shrinks");
        grow(&path, 3 << 30).unwrap();
        assert_eq!(size(&path).unwrap(), 3 << 30);
    }

    #[test]
    fn qemu_img_agrees() {
        if Command::new("qemu-img").arg("--version").output().is_err() {
            crate::testing::skip("qemu-img is missing");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.raw"), vec![7; 1 << 20]).unwrap();
        let path = dir.path().join("o.qcow2");
        create(&path, 30 << 30, "base.raw", "raw").unwrap();
        grow(&path, 32 << 30).unwrap();
        let run = |args: &[&str]| Command::new("qemu-img").args(args).arg(&path).output().unwrap();
        let check = run(&["check"]);
        assert!(check.status.success(), "{check:?}");
        let info = String::from_utf8(run(&["info", "--output=json", "--backing-chain"]).stdout).unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info[0]["virtual-size"], 34_359_738_368_u64);
        assert_eq!(info[0]["backing-filename-format"], "raw");
        assert_eq!(info[1]["virtual-size"], 1 << 20);
    }
}
