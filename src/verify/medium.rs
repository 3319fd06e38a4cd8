//! A disk image: its format, and its bytes as a disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{CHUNK_SIZE, TreeDigest, filled_chunks};
use crate::formats::at::{ReadAt, Window};
use crate::formats::erofs;
use crate::formats::gpt::Entry;
use crate::formats::qcow2_reader::Image;
use crate::formats::vhd::FOOTER_SIZE;

/// What is held in memory of a disk (a bit for each MiB) is bounded by this.
const MAX_SIZE: u64 = 16 << 40;

/// How a disk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Raw,
    /// A fixed VHD: the disk's bytes, then a footer.
    Vhd,
    Qcow2,
}

/// A disk image, open.
#[derive(Debug)]
pub struct Medium {
    /// The file's name.
    pub name: String,
    pub format: Format,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of the file.
    pub file_size: u64,
    source: Source,
    /// The chunks that may be more than zeroes.
    filled: Vec<bool>,
    digests: Option<io::Result<TreeDigest>>,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Qcow2(Image<File>),
}

impl Format {
    /// By the ending of a name.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "raw" | "img" => Some(Self::Raw),
            "vhd" => Some(Self::Vhd),
            "qcow2" => Some(Self::Qcow2),
            _ => None,
        }
    }
}

impl Medium {
    /// Opens the image at `path`. Its name tells the format; where it does not, the first bytes do.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_size = file.metadata()?.len();
        let format = match Format::of_name(path) {
            Some(format) => format,
            None => {
                let mut magic = [0; 4];
                match file.metadata()?.len() >= 4 && ReadAt::read_exact_at(&file, &mut magic, 0).is_ok() {
                    true if magic == *b"QFI\xfb" => Format::Qcow2,
                    _ => Format::Raw,
                }
            }
        };
        let too_large = |size: u64| {
            let wrong = io::ErrorKind::InvalidInput;
            match size > MAX_SIZE {
                true => Err(io::Error::new(wrong, "the disk is larger than 16 TiB")),
                false => Ok(size),
            }
        };
        let (source, size, filled) = match format {
            Format::Qcow2 => {
                let image = Image::open(file).map_err(io::Error::other)?;
                let (size, filled) = (image.size(), image.filled(CHUNK_SIZE)?);
                (Source::Qcow2(image), size, filled)
            }
            _ => {
                let footer = if format == Format::Vhd { FOOTER_SIZE } else { 0 };
                let size = too_large(file_size.saturating_sub(footer))?;
                let filled = filled_chunks(&file, size)?;
                (Source::Plain(file), size, filled)
            }
        };
        Ok(Self {
            name: name(path),
            format,
            size,
            file_size,
            source,
            filled,
            digests: None,
        })
    }

    /// Reads the whole disk for [`Medium::digests`].
    ///
    /// Ahead of the checks, for they run on the threads that this runs on: one that waited for it might hold the thread
    /// that it needs.
    pub fn digest(&mut self) {
        self.digests = Some(TreeDigest::of_filled(self, self.size, self.filled.clone()));
    }

    /// The tree digests of the disk's chunks; a sentence where they cannot be had.
    pub fn digests(&self) -> Result<&TreeDigest, String> {
        match &self.digests {
            Some(digests) => digests.as_ref().map_err(io::Error::to_string),
            None => Err("a lone image has nothing to be compared with".to_owned()),
        }
    }

    /// The last 512 bytes of a VHD's file.
    pub fn footer(&self) -> io::Result<[u8; 512]> {
        let mut footer = [0; 512];
        match &self.source {
            Source::Plain(file) => ReadAt::read_exact_at(file, &mut footer, self.size)?,
            Source::Qcow2(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(footer)
    }

    /// The bytes of a partition, as far as the disk has them.
    pub fn partition(&self, entry: &Entry) -> Part<'_> {
        let start = entry.offset().min(self.size);
        let size = entry.size().min(self.size - start);
        Part {
            window: Window::new(self, start, size),
            size,
        }
    }

    /// The first byte in `start..end` that is not zero.
    pub fn first_filled(&self, start: u64, end: u64) -> io::Result<Option<u64>> {
        let (mut at, end) = (start, end.min(self.size));
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        while at < end {
            let next = (at / CHUNK_SIZE + 1).saturating_mul(CHUNK_SIZE).min(end);
            let is_filled = usize::try_from(at / CHUNK_SIZE)
                .ok()
                .and_then(|chunk| self.filled.get(chunk).copied());
            if is_filled.unwrap_or(true) {
                let piece = &mut buffer[..(next - at) as usize];
                self.read_exact_at(piece, at)?;
                if let Some(byte) = piece.iter().position(|&byte| byte != 0) {
                    return Ok(Some(at + byte as u64));
                }
            }
            at = next;
        }
        Ok(None)
    }
}

impl ReadAt for Medium {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.source {
            Source::Plain(file) => Window::new(file, 0, self.size).read_exact_at(buffer, offset),
            Source::Qcow2(image) => image.read_exact_at(buffer, offset),
        }
    }
}

/// The name of the file at `path`, for people.
pub fn name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A partition's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    window: Window<&'a Medium>,
    pub size: u64,
}

impl ReadAt for Part<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.window.read_exact_at(buffer, offset)
    }
}

impl erofs::Content for Part<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.window.read_exact_at(buffer, offset)
    }
}

/// The disk images in `directory`: raw ones first, then by name.
pub fn find(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(format) = Format::of_name(&path)
            && path.is_file()
        {
            found.push((format as u8, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
