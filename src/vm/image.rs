//! Which disk to boot, in which format, how large.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::VmError;

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes, nothing else.
    Raw,
    /// A VHD (Virtual PC's format), as Azure takes it: data, then a footer of 512 bytes.
    Vhd,
    /// QEMU's qcow2.
    Qcow2,
}

impl DiskFormat {
    /// QEMU's name of the driver.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vhd => "vpc",
            Self::Qcow2 => "qcow2",
        }
    }

    /// The file name ending.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vhd => "vhd",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A disk image that was looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskImage {
    /// The file, absolute and without symlinks.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// The disk's size as the guest sees it, in bytes; a multiple of 512.
    pub size: u64,
    /// When the file was last written.
    pub modified: SystemTime,
}

const SECTOR: u64 = 512;
const VHD_COOKIE: &[u8] = b"conectix";
const QCOW2_MAGIC: &[u8] = b"QFI\xfb";

impl DiskImage {
    /// Finds the disk: `path` itself, or where that is a build's output directory the one `.raw` in it, then
    /// `.qcow2`, then `.vhd` (only `wanted`, where given).
    ///
    /// # Errors
    /// Nothing there, several to choose from, or a file that is not what its name says.
    pub fn find(path: &Path, wanted: Option<DiskFormat>) -> Result<Self, VmError> {
        let meta = fs::metadata(path).map_err(VmError::io("find", path))?;
        if !meta.is_dir() {
            let image = Self::inspect(path)?;
            return match wanted {
                Some(format) if format != image.format => Err(VmError::Image {
                    path: path.into(),
                    what: format!("is {}, not {}", image.format.driver(), format.driver()),
                    help: "leave the format out, or name the output directory".into(),
                }),
                _ => Ok(image),
            };
        }
        let every = [DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vhd];
        for format in every
            .into_iter()
            .filter(|format| wanted.is_none_or(|w| w == *format))
        {
            let mut found = files_ending(path, format.ending())?;
            if found.len() > 1 {
                let names: Vec<_> = found.iter().map(|file| file.display().to_string()).collect();
                return Err(VmError::Image {
                    path: path.into(),
                    what: format!("holds several disk images: {}", names.join(", ")),
                    help: "name the one to boot".into(),
                });
            }
            if let Some(file) = found.pop() {
                return Self::inspect(&file);
            }
        }
        Err(VmError::Image {
            path: path.into(),
            what: "holds no disk image (.raw, .qcow2 or .vhd)".into(),
            help: "name the directory that `hullwright build` printed, <OUT>/<id>_<version>, or a disk image"
                .into(),
        })
    }

    /// Looks into the file at `path`. The ending of its name decides and the content must agree; only a name
    /// without a known ending is judged by content alone, since a guest can write any magic on a raw disk.
    ///
    /// # Errors
    /// An unreadable file, content that does not fit the name, or a size that is no disk's.
    pub fn inspect(path: &Path) -> Result<Self, VmError> {
        let path = fs::canonicalize(path).map_err(VmError::io("find", path))?;
        let wrong = |what: String, help: &str| VmError::Image {
            path: path.clone(),
            what,
            help: help.into(),
        };
        let file = File::open(&path).map_err(VmError::io("open", &path))?;
        let meta = file.metadata().map_err(VmError::io("examine", &path))?;
        if !meta.is_file() {
            return Err(wrong("is not a regular file".into(), "name a disk image"));
        }
        let length = meta.len();
        let head = read_at(&file, 0, length.min(104)).map_err(VmError::io("read", &path))?;
        let foot = match length.checked_sub(SECTOR) {
            Some(offset) => read_at(&file, offset, SECTOR).map_err(VmError::io("read", &path))?,
            None => Vec::new(),
        };
        let is_qcow2 = head.starts_with(QCOW2_MAGIC);
        let is_vhd = foot.starts_with(VHD_COOKIE);

        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_ascii_lowercase);
        let format = match ending.as_deref() {
            Some("raw" | "img") => DiskFormat::Raw,
            Some("vhd" | "vpc") if is_vhd => DiskFormat::Vhd,
            Some("vhd" | "vpc") => {
                return Err(wrong(
                    "is named as a VHD, but has no VHD footer in its last 512 bytes".into(),
                    "the file was perhaps cut off while it was copied",
                ));
            }
            Some("qcow2") if is_qcow2 => DiskFormat::Qcow2,
            Some("qcow2") => {
                return Err(wrong(
                    "is named qcow2, but is none".into(),
                    "rename it to .raw if it is one",
                ));
            }
            _ if is_qcow2 => DiskFormat::Qcow2,
            _ if is_vhd => DiskFormat::Vhd,
            _ if head.starts_with(b"vhdxfile") => {
                return Err(wrong(
                    "is a VHDX".into(),
                    "convert it with `qemu-img convert -O raw`",
                ));
            }
            _ => DiskFormat::Raw,
        };
        let size = match format {
            DiskFormat::Raw => Some(length),
            DiskFormat::Vhd => big_endian(&foot, 48),
            DiskFormat::Qcow2 => big_endian(&head, 24),
        };
        match size {
            Some(size) if size > 0 && size % SECTOR == 0 => Ok(Self {
                format,
                size,
                modified: meta.modified().map_err(VmError::io("examine", &path))?,
                path,
            }),
            Some(size) => Err(wrong(
                format!("has {size} bytes, which is no whole number of 512-byte sectors"),
                "this is not a complete disk image",
            )),
            None => Err(wrong("is cut off".into(), "this is not a complete disk image")),
        }
    }
}

fn files_ending(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, VmError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(VmError::io("list", dir))? {
        let path = entry.map_err(VmError::io("list", dir))?.path();
        if path.extension().is_some_and(|e| e == ending) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_at(file: &File, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u64> {
    let field: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_be_bytes(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vhd(size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes.extend_from_slice(VHD_COOKIE);
        bytes.resize(4096 + 48, 0);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.resize(4096 + 512, 0);
        bytes
    }

    fn qcow2(size: u64) -> Vec<u8> {
        let mut bytes = QCOW2_MAGIC.to_vec();
        bytes.resize(24, 0);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.resize(65536, 0);
        bytes
    }

    #[test]
    fn name_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let raw = vec![0; 8192];
        type Expected = Result<(DiskFormat, u64), &'static str>;
        let cases: &[(&str, &[u8], Expected)] = &[
            ("a.raw", &raw, Ok((DiskFormat::Raw, 8192))),
            ("disk", &raw, Ok((DiskFormat::Raw, 8192))),
            ("a.vhd", &vhd(4096), Ok((DiskFormat::Vhd, 4096))),
            ("vhd", &vhd(4096), Ok((DiskFormat::Vhd, 4096))),
            ("a.qcow2", &qcow2(1 << 30), Ok((DiskFormat::Qcow2, 1 << 30))),
            ("qcow", &qcow2(1 << 30), Ok((DiskFormat::Qcow2, 1 << 30))),
            // A guest may write a qcow2 header on its raw disk: the name must win, or it reads host files.
            ("evil.raw", &qcow2(1 << 30), Ok((DiskFormat::Raw, 65536))),
            ("cut.vhd", &raw, Err("no VHD footer")),
            ("not.qcow2", &raw, Err("is named qcow2")),
            ("odd.raw", &raw[..8191], Err("8191 bytes")),
            ("empty.raw", &[], Err("0 bytes")),
            ("short", QCOW2_MAGIC, Err("cut off")),
            ("odd.vhd", &vhd(4095), Err("4095 bytes")),
            ("x.vhdx", b"vhdxfile________", Err("is a VHDX")),
        ];
        for (name, bytes, expected) in cases {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            match (DiskImage::inspect(&path), expected) {
                (Ok(image), Ok(expected)) => assert_eq!((image.format, image.size), *expected, "{name}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn output_directory() {
        let dir = tempfile::tempdir().unwrap();
        let find = |wanted| DiskImage::find(dir.path(), wanted);
        let error = |wanted| find(wanted).unwrap_err().to_string();
        assert!(error(None).contains("holds no disk image"));

        fs::write(dir.path().join("os_1.vhd"), vhd(4096)).unwrap();
        assert_eq!(find(None).unwrap().format, DiskFormat::Vhd);
        fs::write(dir.path().join("os_1.raw"), [0; 4096]).unwrap();
        assert_eq!(find(None).unwrap().format, DiskFormat::Raw);
        assert_eq!(find(Some(DiskFormat::Vhd)).unwrap().format, DiskFormat::Vhd);
        assert!(error(Some(DiskFormat::Qcow2)).contains("holds no disk image"));
        fs::write(dir.path().join("os_2.raw"), [0; 4096]).unwrap();
        assert!(error(None).contains("several disk images"));
    }
}
