//! FAT32 volumes, as an EFI system partition is one.
//!
//! Specification: Microsoft, *FAT32 File System Specification* 1.03 (2000). The volume is written
//! by the `fatfs` crate; [`super::fat_mend`] then puts right what it leaves askew. All sectors have
//! 512 bytes. The volume's metadata is held in memory while writing (8 bytes a cluster), file
//! contents are not; nothing is written where the volume holds zeroes, so the target must begin
//! as zeroes and stays sparse.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

use super::at::{Content, ReadAt, WriteAt};
use super::fat_mend;
use super::fat_volume::{Device, Volume};

pub(super) const SECTOR: u64 = 512;
pub(super) const ENTRY: u64 = 32;
pub(super) const RESERVED_SECTORS: u64 = 8;
const FATS: u64 = 2;
/// With fewer clusters a volume is FAT16 to every reader, whatever its boot sector says.
const MIN_CLUSTERS: u64 = 65_525;
/// Writers are known that are off by a few at that limit; Microsoft advises to keep away from it.
const CLUSTER_MARGIN: u64 = 16;
const LARGEST_CLUSTER: u64 = 4096;
/// Keeps the file allocation tables, which are in memory, below 64 MiB together.
const MAX_SIZE: u64 = 32 << 30;
const LONGEST_NAME: usize = 255;

/// The smallest volume in bytes, rounded up to MiB.
pub const MIN_SIZE: u64 = 33 << 20;

/// What a volume is made with, beside its files.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// Bytes of the volume.
    pub size: u64,
    /// The serial number, which becomes the file system's UUID (`XXXX-XXXX`).
    pub volume_id: u32,
    /// At most 11 characters: upper-case letters, digits, `_` and `-`.
    pub label: &'a str,
    /// Time of all files and directories: seconds since the Unix epoch, kept to two seconds and
    /// to the years 1980 to 2107.
    pub time: i64,
}

/// A file of the volume.
#[derive(Clone, Copy)]
pub struct FatFile<'a> {
    /// Relative, components parted by `/`; directories are made as needed.
    pub path: &'a str,
    pub content: Content<'a>,
}

/// How the space of a volume is parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Clusters of data.
    pub clusters: u64,
    /// Where the first cluster (number 2) begins, in bytes.
    pub data_start: u64,
}

/// A volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    #[error(
        "a FAT32 volume of {size} bytes is impossible: it takes {MIN_SIZE} bytes to 32 GiB, in sectors of 512"
    )]
    Size { size: u64 },
    #[error("the volume label `{0}` is not 1 to 11 upper-case letters, digits, `_` or `-`")]
    Label(String),
    #[error("`{path}` cannot be a file on a FAT volume: {why}")]
    Path { path: String, why: &'static str },
    #[error("`{path}` has {size} bytes; a file on a FAT volume has less than 4 GiB")]
    FileSize { path: String, size: u64 },
    #[error("the files need {needed} clusters of {cluster_size} bytes; the volume has {clusters}")]
    Full {
        needed: u64,
        clusters: u64,
        cluster_size: u64,
    },
    #[error("the FAT volume came out differently than computed: {0}")]
    Mismatch(&'static str),
    #[error("reading or writing a FAT volume")]
    Io(#[from] io::Error),
}

/// The geometry of a volume of `size` bytes: clusters of 4 KiB, or as much smaller as it takes to
/// have enough of them for FAT32.
///
/// # Errors
/// Where no FAT32 volume has that size.
pub fn geometry(size: u64) -> Result<Geometry, FatError> {
    if !size.is_multiple_of(SECTOR) || !(MIN_SIZE..=MAX_SIZE).contains(&size) {
        return Err(FatError::Size { size });
    }
    let data_sectors = size / SECTOR - RESERVED_SECTORS;
    let mut cluster_size = LARGEST_CLUSTER;
    while cluster_size >= SECTOR {
        let per_cluster = cluster_size / SECTOR;
        // One sector of a table serves 128 clusters; the same estimate as the crate's, which is
        // never too small.
        let fat_sectors = (data_sectors + 2 * per_cluster).div_ceil(per_cluster * 128 + FATS);
        let clusters = (data_sectors - FATS * fat_sectors) / per_cluster;
        if clusters >= MIN_CLUSTERS + CLUSTER_MARGIN {
            return Ok(Geometry {
                cluster_size,
                clusters,
                data_start: (RESERVED_SECTORS + FATS * fat_sectors) * SECTOR,
            });
        }
        cluster_size /= 2;
    }
    Err(FatError::Size { size })
}

/// Clusters that files of these paths and sizes take, their directories and the root included.
///
/// # Errors
/// A path that cannot be.
pub fn clusters_needed<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    cluster_size: u64,
) -> Result<u64, FatError> {
    // Entries of each directory by its path, upper-cased as names are compared.
    let mut directories = BTreeMap::from([(String::new(), 1)]);
    let mut seen = BTreeSet::new();
    let mut clusters = 0;
    for (path, size) in files {
        let components = components(path)?;
        let mut at = String::new();
        for (index, name) in components.iter().enumerate() {
            let parent = at.clone();
            at = format!("{at}/{}", name.to_uppercase());
            let last = index + 1 == components.len();
            let wrong = |why| FatError::Path {
                path: path.to_owned(),
                why,
            };
            if last && (directories.contains_key(&at) || !seen.insert(at.clone())) {
                return Err(wrong("the name is taken (upper and lower case are the same)"));
            }
            if !last && seen.contains(&at) {
                return Err(wrong("it lies below a file"));
            }
            let new = last || !directories.contains_key(&at);
            if new {
                let entries = name.encode_utf16().count().div_ceil(13) as u64 + 1;
                *directories.entry(parent).or_default() += entries;
            }
            if new && !last {
                // `fatfs` gives `.` and `..` a long name each.
                directories.insert(at.clone(), 4);
            }
        }
        if size > u64::from(u32::MAX) {
            return Err(FatError::FileSize {
                path: path.to_owned(),
                size,
            });
        }
        clusters += size.div_ceil(cluster_size);
    }
    let tables = directories
        .values()
        .map(|&entries| (entries * ENTRY).div_ceil(cluster_size));
    Ok(clusters + tables.sum::<u64>())
}

/// Writes a volume with `files` to `target`, which reads as zeroes before. Equal input gives equal
/// bytes. The volume passes `fsck.vfat` without a message.
///
/// # Errors
/// A size, label, path or amount that cannot be, and I/O.
pub fn write<T: ReadAt + WriteAt>(
    target: &T,
    params: Params<'_>,
    files: &[FatFile<'_>],
) -> Result<(), FatError> {
    let geometry = geometry(params.size)?;
    let label = label(params.label)?;
    let sizes = files.iter().map(|file| (file.path, file.content.size()));
    let needed = clusters_needed(sizes, geometry.cluster_size)?;
    if needed > geometry.clusters {
        return Err(FatError::Full {
            needed,
            clusters: geometry.clusters,
            cluster_size: geometry.cluster_size,
        });
    }
    let volume = Volume::new(target, params.size, geometry.data_start);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(geometry.cluster_size as u32)
        .volume_id(params.volume_id)
        .volume_label(label);
    fatfs::format_volume(volume.device(), options)?;
    let options = FsOptions::new().time_provider(&NO_TIME);
    let system = FileSystem::new(volume.device(), options)?;
    let stats = system.stats()?;
    if u64::from(stats.total_clusters()) != geometry.clusters {
        return Err(FatError::Mismatch("the number of clusters"));
    }
    for file in files {
        write_file(&system, file)?;
    }
    let used = stats.total_clusters() - system.stats()?.free_clusters();
    if u64::from(used) != needed {
        return Err(FatError::Mismatch("the number of clusters that the files take"));
    }
    system.unmount()?;
    fat_mend::mend(&volume, geometry, fat_mend::Timestamp::new(params.time))?;
    volume.flush()?;
    Ok(())
}

fn write_file<T: ReadAt + WriteAt>(
    system: &FileSystem<Device<'_, T>>,
    file: &FatFile<'_>,
) -> Result<(), FatError> {
    let components = components(file.path)?;
    let mut dir = system.root_dir();
    let Some((name, above)) = components.split_last() else {
        return Ok(());
    };
    for component in above {
        dir = dir.create_dir(component)?;
    }
    let mut target = dir.create_file(name)?;
    file.content
        .for_each_piece::<io::Error>(1 << 20, |piece| target.write_all(piece))?;
    target.flush()?;
    Ok(())
}

fn components(path: &str) -> Result<Vec<&str>, FatError> {
    let wrong = |why| {
        Err(FatError::Path {
            path: path.to_owned(),
            why,
        })
    };
    let components: Vec<_> = path.split('/').collect();
    for name in &components {
        if name.is_empty() || *name == "." || *name == ".." {
            return wrong("a component is empty, `.` or `..`");
        }
        if name.encode_utf16().count() > LONGEST_NAME {
            return wrong("a name is longer than 255 UTF-16 units");
        }
        if name.ends_with([' ', '.']) || name.starts_with(' ') {
            return wrong("a name begins with a blank or ends with a blank or a dot");
        }
        if name.contains('~') {
            return wrong("a name holds `~`, which the short names that FAT makes up hold too");
        }
        if name.chars().any(|c| c.is_control() || "\"*:<>?\\|".contains(c)) {
            return wrong("a name holds a control character or one of \" * : < > ? \\ |");
        }
    }
    Ok(components)
}

fn label(text: &str) -> Result<[u8; 11], FatError> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !(1..=11).contains(&text.len()) || !text.bytes().all(allowed) {
        return Err(FatError::Label(text.to_owned()));
    }
    let mut label = [b' '; 11];
    label[..text.len()].copy_from_slice(text.as_bytes());
    Ok(label)
}

/// Keeps the clock out while `fatfs` writes; the real times are put in afterwards.
#[derive(Debug)]
struct NoTime;

static NO_TIME: NoTime = NoTime;

impl TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;
    use crate::formats::testing::{noise, run, tool};

    const MIB: u64 = 1 << 20;

    fn params(size: u64) -> Params<'static> {
        Params {
            size,
            volume_id: 0x1234_abcd,
            label: "ESP",
            time: 1_763_683_199,
        }
    }

    fn make(path: &Path, size: u64, files: &[(String, Vec<u8>)]) -> Result<(), FatError> {
        let target = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        target.set_len(size).unwrap();
        let files: Vec<_> = files
            .iter()
            .map(|(path, bytes)| FatFile {
                path,
                content: Content::bytes(bytes),
            })
            .collect();
        write(&target, params(size), &files)
    }

    fn sample() -> Vec<(String, Vec<u8>)> {
        let mut files = vec![
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), noise(1, 140_000)),
            ("EFI/systemd/systemd-bootx64.efi".to_owned(), noise(1, 140_000)),
            (
                "EFI/Linux/sample-container-host_1.0.20251121+3.efi".to_owned(),
                noise(2, 3_000_001),
            ),
            (
                "EFI/Linux/sample-container-host_1.0.20251122+3.efi".to_owned(),
                noise(3, 4096),
            ),
            ("loader/loader.conf".to_owned(), b"timeout 0\n".to_vec()),
            ("loader/empty".to_owned(), Vec::new()),
            ("zeroes".to_owned(), vec![0; 100_000]),
            (
                "loader/entries/Grüße aus Köln, sehr lang.conf".to_owned(),
                noise(4, 1),
            ),
        ];
        // A directory of several clusters.
        files.extend((0..60).map(|n| (format!("many/a rather long file name {n:03}.conf"), vec![b'x'; n])));
        files
    }

    #[test]
    fn volumes_are_fat32_at_every_size_and_clean() {
        if !tool("fsck.vfat") {
            return;
        }
        let table = [
            (33, 512),
            (64, 512),
            (128, 1024),
            (256, 2048),
            (260, 4096),
            (512, 4096),
            (1024, 4096),
        ];
        for (mib, cluster_size) in table {
            let geometry = geometry(mib * MIB).unwrap();
            assert_eq!(geometry.cluster_size, cluster_size, "{mib} MiB");
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("esp");
            make(&path, mib * MIB, &sample()).unwrap();
            let text = run("fsck.vfat", ["-n".as_ref(), "-v".as_ref(), path.as_os_str()]);
            assert!(text.contains("2 FATs, 32 bit entries"), "{text}");
            assert!(
                text.contains(&format!("{cluster_size} bytes per cluster")),
                "{text}"
            );
            let text = run("fsck.vfat", ["-n".as_ref(), path.as_os_str()]);
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 2, "messages beside version and counts: {text}");
            let needed = clusters_needed(
                sample()
                    .iter()
                    .map(|(path, bytes)| (path.as_str(), bytes.len() as u64)),
                cluster_size,
            );
            let counts = format!("{}/{} clusters", needed.unwrap(), geometry.clusters);
            assert!(lines[1].ends_with(&counts), "{counts}: {text}");
        }
    }

    #[test]
    fn no_volume_is_near_the_limit_of_fat16() {
        for size in (255 * MIB..262 * MIB).step_by(4096) {
            let geometry = geometry(size).unwrap();
            assert!(geometry.clusters >= 65_541, "{size}: {geometry:?}");
        }
    }

    #[test]
    fn mtools_reads_back_what_was_written() {
        if !tool("mcopy") || !tool("mdir") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("esp");
        make(&image, 64 * MIB, &sample()).unwrap();
        let copy = dir.path().join("copy");
        fs::create_dir(&copy).unwrap();
        run(
            "mcopy",
            [
                "-s".as_ref(),
                "-i".as_ref(),
                image.as_os_str(),
                "::*".as_ref(),
                copy.as_os_str(),
            ],
        );
        for (path, bytes) in sample() {
            assert!(fs::read(copy.join(&path)).unwrap() == bytes, "{path}");
        }
        let text = run("mdir", ["-i".as_ref(), image.as_os_str(), "::EFI/BOOT".as_ref()]);
        assert!(text.contains("Volume in drive : is ESP"), "{text}");
        assert!(text.contains("Volume Serial Number is 1234-ABCD"), "{text}");
        let line = text
            .lines()
            .find(|line| line.contains("EFI") && line.contains("140000"))
            .unwrap();
        assert!(line.contains("2025-11-20  23:59"), "{text}");
    }

    #[test]
    fn equal_input_gives_equal_sparse_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        make(&a, 64 * MIB, &sample()).unwrap();
        make(&b, 64 * MIB, &sample()).unwrap();
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
        let used = fs::metadata(&a).unwrap().blocks() * 512;
        assert!(used < 6 * MIB, "{used} bytes on disk");
    }

    #[test]
    fn a_full_volume_is_refused_and_a_filled_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("esp");
        let geometry = geometry(34 * MIB).unwrap();
        // All clusters but the root directory's.
        let most = (geometry.clusters - 1) * geometry.cluster_size;
        let filled = |size: u64| vec![("all".to_owned(), noise(9, usize::try_from(size).unwrap()))];
        make(&path, 34 * MIB, &filled(most)).unwrap();
        if tool("fsck.vfat") {
            run("fsck.vfat", ["-n".as_ref(), path.as_os_str()]);
        }
        let error = make(&path, 34 * MIB, &filled(most + 1)).unwrap_err();
        assert!(matches!(error, FatError::Full { .. }), "{error}");
    }

    #[test]
    fn names_and_sizes_that_cannot_be_are_refused() {
        let needed = |paths: &[&str]| clusters_needed(paths.iter().map(|&path| (path, 1)), 512);
        for path in [
            "", "/a", "a//b", "a/../b", "./a", "a:b", "a\nb", "a.", " a", "a\\b",
        ] {
            assert!(needed(&[path]).is_err(), "{path:?}");
        }
        assert!(needed(&["a/B", "A/b"]).is_err());
        assert!(needed(&["a", "A/b"]).is_err());
        assert!(needed(&["a/b", "A"]).is_err());
        assert!(needed(&[&"x".repeat(256)]).is_err());
        assert_eq!(needed(&["a/b", "A/c"]).unwrap(), 4);
        assert!(clusters_needed([("a", 1 << 32)], 512).is_err());
        for size in [0, 512, 32 * MIB, 64 * MIB + 1, 33 << 30] {
            assert!(geometry(size).is_err(), "{size}");
        }
        for text in ["", "esp", "TWELVE CHARS", "Ü"] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
