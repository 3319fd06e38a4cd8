//! What can be known to be too small before anything is written.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::layout::{DiskSpec, SIGNATURE_SIZE, hash_partition_size};
use super::{ALIGNMENT, DiskError, Role};
use crate::formats::fat::{self, FatError};
use crate::formats::verity::Algorithm;
use crate::formats::vhd;

/// The slot size for `content` bytes of `/usr` where the definition names none: half as much
/// again, in whole MiB.
pub fn default_slot_size(content: u64) -> u64 {
    content
        .saturating_add(content / 2)
        .div_ceil(ALIGNMENT)
        .max(1)
        .saturating_mul(ALIGNMENT)
}

/// Whether label, sizes and their sum are right: ESP, both slots with their hashes, and root.
///
/// # Errors
/// The first rule that is broken.
pub fn check_disk(spec: &DiskSpec, slot_size: u64, algorithm: Algorithm) -> Result<(), DiskError> {
    spec.check_label()?;
    let sizes = [
        ("disk", spec.size),
        ("ESP", spec.esp_size),
        ("slot", slot_size),
        ("least root partition", spec.min_root_size),
    ];
    for (what, bytes) in sizes {
        if bytes == 0 || !bytes.is_multiple_of(ALIGNMENT) {
            return Err(DiskError::NotMib { what, bytes });
        }
    }
    let hashes = if slot_size <= spec.size {
        hash_partition_size(spec, slot_size, algorithm)
    } else {
        0
    };
    let signatures = if spec.signed { 2 * SIGNATURE_SIZE } else { 0 };
    let mut others = 0_u64;
    for other in &spec.others {
        if other.min_size == 0 || !other.min_size.is_multiple_of(ALIGNMENT) {
            return Err(DiskError::NotMib {
                what: "partition of `[[disk.partitions]]`",
                bytes: other.min_size,
            });
        }
        if Role::is_reserved(other.type_uuid) {
            let (label, kind) = (other.label.clone(), other.type_uuid);
            return Err(DiskError::ReservedType { label, kind });
        }
        others = others.saturating_add(other.min_size);
    }
    // One MiB before the first partition for the table, one behind the last for its copy.
    let needed = [
        slot_size,
        slot_size,
        hashes,
        hashes,
        spec.min_root_size,
        spec.esp_size,
        signatures,
        others,
    ]
    .iter()
    .fold(2 * ALIGNMENT, |sum, &size| sum.saturating_add(size));
    if needed > spec.size {
        return Err(DiskError::DiskTooSmall {
            size: spec.size,
            esp: spec.esp_size,
            slot: slot_size,
            hashes,
            root: spec.min_root_size,
            others,
            needed,
        });
    }
    Ok(())
}

/// Whether a disk of `size` bytes can be a VHD for Azure.
///
/// # Errors
/// Which rule it breaks.
pub fn check_vhd(size: u64) -> Result<(), DiskError> {
    vhd::check_size(size).map_err(|source| DiskError::Vhd { size, source })
}

/// The least ESP, in bytes, for `files` (path and size), of which `uki` is the kernel image: it
/// must hold a second one beside it, and 20 % must be left.
///
/// # Errors
/// A path that cannot stand on a FAT volume, or more than the largest volume holds.
pub fn min_esp_size(files: &[(&str, u64)], uki: &str) -> Result<u64, DiskError> {
    // What a volume holds grows with its size save where the cluster size jumps, which costs only
    // some rounding: the first size that fits is the answer.
    let bytes = files
        .iter()
        .fold(0, |sum: u64, &(_, size)| sum.saturating_add(size));
    let mut size = fat::MIN_SIZE.max(bytes.next_multiple_of(ALIGNMENT));
    loop {
        let geometry = fat::geometry(size)?;
        if clusters_wanted(files, uki, geometry.cluster_size)? <= geometry.clusters {
            return Ok(size);
        }
        size += ALIGNMENT;
    }
}

/// Whether an ESP of `esp_size` bytes holds `files`, a second kernel image, and 20 % more.
///
/// # Errors
/// Where it does not, with the size that would; as [`min_esp_size`].
pub fn check_esp(esp_size: u64, files: &[(&str, u64)], uki: &str) -> Result<(), DiskError> {
    let (used, wanted, room) = match fat::geometry(esp_size) {
        Ok(geometry) => {
            let used = clusters_used(files, uki, geometry.cluster_size)? * geometry.cluster_size;
            let wanted = clusters_wanted(files, uki, geometry.cluster_size)?;
            (used, wanted, geometry.clusters)
        }
        Err(FatError::Size { .. }) if esp_size < fat::MIN_SIZE => {
            let used = clusters_used(files, uki, 512)? * 512;
            (used, 1, 0)
        }
        Err(error) => return Err(error.into()),
    };
    if wanted <= room {
        return Ok(());
    }
    let uki_size = files.iter().find(|(path, _)| *path == uki);
    Err(DiskError::EspTooSmall {
        size: esp_size,
        uki: uki_size.map_or(0, |&(_, size)| size),
        used,
        needed: min_esp_size(files, uki)?,
    })
}

fn clusters_used(files: &[(&str, u64)], uki: &str, cluster_size: u64) -> Result<u64, FatError> {
    let second = format!("{uki}.next");
    let size = files.iter().find(|(path, _)| *path == uki).map(|&(_, size)| size);
    let second = size.map(|size| (second.as_str(), size));
    fat::clusters_needed(files.iter().copied().chain(second), cluster_size)
}

fn clusters_wanted(files: &[(&str, u64)], uki: &str, cluster_size: u64) -> Result<u64, FatError> {
    let used = clusters_used(files, uki, cluster_size)?;
    Ok(used.saturating_add(used.div_ceil(5)))
}

/// Whether the file system of `dir` has `needed` bytes for this user.
///
/// # Errors
/// Where it has less, or cannot be asked.
pub fn check_space(dir: &Path, needed: u64) -> Result<(), DiskError> {
    let stat = statvfs(dir).map_err(|errno| DiskError::Io {
        what: "asking for the free space of the output directory",
        source: errno.into(),
    })?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free < needed {
        return Err(DiskError::NoSpace {
            dir: dir.to_owned(),
            free,
            needed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;

    use super::*;

    const MIB: u64 = 1 << 20;
    const UKI: &str = "EFI/Linux/sample_1.0+3.efi";

    #[test]
    fn an_esp_must_hold_two_kernels_and_a_fifth_more() {
        let files = [("EFI/BOOT/BOOTX64.EFI", 128 << 10), (UKI, 50 * MIB)];
        // Twice 50 MiB and the loader, by 1.2, and what the file system takes for itself.
        let least = min_esp_size(&files, UKI).unwrap();
        assert_eq!(least, 122 * MIB);
        check_esp(least, &files, UKI).unwrap();
        check_esp(512 * MIB, &files, UKI).unwrap();
        for size in [least - MIB, 20 * MIB] {
            let error = check_esp(size, &files, UKI).unwrap_err();
            let message = format!(
                "the ESP of {} MiB is too small: two kernel images of 50 MiB and what stands beside them \
                 take 101 MiB, and 20 % more must stay free",
                size / MIB
            );
            assert_eq!(error.to_string(), message);
            assert!(error.help().unwrap().to_string().contains("at least 122 MiB"));
        }
        assert_eq!(min_esp_size(&[(UKI, 1)], UKI).unwrap(), fat::MIN_SIZE);
    }

    #[test]
    fn default_slots_are_half_as_large_again() {
        for (content, slot) in [
            (0, 1),
            (1, 1),
            (2 * MIB, 3),
            (2 * MIB + 4096, 4),
            (292 * MIB, 438),
        ] {
            assert_eq!(default_slot_size(content), slot * MIB, "{content}");
        }
    }

    #[test]
    fn space_that_is_not_there_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        check_space(dir.path(), 1).unwrap();
        let error = check_space(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, DiskError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains(dir.path().to_str().unwrap()));
        assert!(check_space(&dir.path().join("absent"), 1).is_err());
    }

    #[test]
    fn sizes_no_vhd_has_are_refused() {
        check_vhd(30 << 30).unwrap();
        assert!(matches!(check_vhd(2 << 40), Err(DiskError::Vhd { .. })));
        assert!(matches!(check_vhd(10 * MIB), Err(DiskError::Vhd { .. })));
    }
}
