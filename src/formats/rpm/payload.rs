//! The payload of a package: a compressed cpio archive in `newc` form, or in RPM's stripped
//! form (`07070X`) whose entries carry an index into the header's file list only.

use std::io::{self, BufRead, Read};

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Bzip2,
    /// The LZMA-alone container.
    Lzma,
    Xz,
    Zstd,
}

/// Memory for one decompressor's window: what `xz -9e` and `zstd --ultra -22 --long=27` need.
const WINDOW_LOG: u32 = 27;
const LZMA_MEMORY: u64 = 256 << 20;

impl Compression {
    /// From `PAYLOADCOMPRESSOR`; packages without it were written before there was a choice.
    pub fn from_tag(name: Option<&[u8]>, start: &[u8]) -> Option<Self> {
        Some(match name {
            Some(b"gzip") | None if start.starts_with(&[0x1f, 0x8b]) => Self::Gzip,
            // RPM reads what is not gzip as it stands.
            Some(b"gzip") | None => Self::None,
            Some(b"none" | b"identity" | b"") => Self::None,
            Some(b"bzip2") => Self::Bzip2,
            Some(b"lzma") => Self::Lzma,
            Some(b"xz") => Self::Xz,
            Some(b"zstd") => Self::Zstd,
            Some(_) => return None,
        })
    }

    /// A reader of what `source` holds uncompressed.
    ///
    /// # Errors
    /// Where the decompressor cannot be set up.
    pub fn decoder<'a>(self, source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(LZMA_MEMORY)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(LZMA_MEMORY, flags)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Which file of the package an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryName {
    /// By path, as the archive writes it.
    Path(Vec<u8>),
    /// By index into the header's file list.
    Index(u32),
}

/// One entry of the archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: EntryName,
    /// `st_mode`, and the length of the content: `None` in stripped archives, where the header
    /// has them.
    pub newc: Option<NewcFields>,
}

/// What a `newc` entry says besides its name.
#[derive(Debug, Clone, Copy)]
pub struct NewcFields {
    pub mode: u32,
    /// Bytes of content that follow; 0 for all hard links of an inode but the last.
    pub size: u32,
}

/// An archive is not of the format. `offset` counts uncompressed bytes.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("no cpio entry at byte {offset} of the uncompressed payload, but {found:?}")]
    Magic { offset: u64, found: String },
    #[error("the cpio entry at byte {offset} has a {field} that is not hexadecimal")]
    Field { offset: u64, field: &'static str },
    #[error("the cpio entry at byte {offset} has a name of {length} bytes (1 to 4096 are accepted)")]
    NameLength { offset: u64, length: u32 },
    #[error("the cpio entry at byte {offset} has a name without a single NUL at its end")]
    NameEnd { offset: u64 },
    #[error("the payload ends at uncompressed byte {offset}, inside an entry")]
    Truncated { offset: u64 },
    #[error("the payload cannot be decompressed past uncompressed byte {offset}: {source}")]
    Io { offset: u64, source: io::Error },
}

/// Reads an archive entry by entry.
pub struct Archive<R> {
    reader: R,
    /// Uncompressed bytes read.
    offset: u64,
    padding: u64,
    /// For contents, kept between entries.
    buffer: Vec<u8>,
}

/// Bytes of content handed on at once.
const PIECE: u64 = 128 << 10;

impl<R: Read> Archive<R> {
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            offset: 0,
            padding: 0,
            buffer: Vec::new(),
        }
    }

    /// Uncompressed bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), PayloadError> {
        let offset = self.offset;
        self.reader
            .read_exact(buffer)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => PayloadError::Truncated { offset },
                _ => PayloadError::Io { offset, source },
            })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    /// Every structure is padded to 4 bytes.
    fn skip_padding(&mut self) -> Result<(), PayloadError> {
        let count = std::mem::take(&mut self.padding);
        self.fill(&mut [0; 4][..usize::try_from(count).unwrap_or(0)])
    }

    /// The next entry; `None` at the trailer. The content of the one before must have been read.
    ///
    /// # Errors
    /// Where the archive is not of the format.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, PayloadError> {
        self.skip_padding()?;
        let offset = self.offset;
        let mut magic = [0; 6];
        self.fill(&mut magic)?;
        if &magic == b"07070X" {
            let mut index = [0; 8];
            self.fill(&mut index)?;
            self.fill(&mut [0; 2])?;
            let index = hex(&index).ok_or(PayloadError::Field {
                offset,
                field: "index",
            })?;
            return Ok(Some(Entry {
                name: EntryName::Index(index),
                newc: None,
            }));
        }
        if !matches!(&magic, b"070701" | b"070702") {
            let found = magic.escape_ascii().to_string();
            return Err(PayloadError::Magic { offset, found });
        }
        let mut fields = [0; 13 * 8];
        self.fill(&mut fields)?;
        let field = |index: usize, field| {
            hex(&fields[index * 8..index * 8 + 8]).ok_or(PayloadError::Field { offset, field })
        };
        let (mode, size) = (field(1, "mode")?, field(6, "size")?);
        let length = field(11, "name length")?;
        if !(1..=4096).contains(&length) {
            return Err(PayloadError::NameLength { offset, length });
        }
        let mut name = vec![0; length as usize];
        self.fill(&mut name)?;
        if name.iter().position(|&b| b == 0) != Some(name.len() - 1) {
            return Err(PayloadError::NameEnd { offset });
        }
        name.pop();
        self.padding = (4 - (110 + u64::from(length)) % 4) % 4;
        self.skip_padding()?;
        if name == b"TRAILER!!!" {
            return Ok(None);
        }
        Ok(Some(Entry {
            name: EntryName::Path(name),
            newc: Some(NewcFields { mode, size }),
        }))
    }

    /// Hands the entry's content, `size` bytes, to `sink` piece by piece.
    ///
    /// # Errors
    /// Where the archive ends early, or `sink` fails.
    pub fn content<E: From<PayloadError>>(
        &mut self,
        size: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let wanted = usize::try_from(size.min(PIECE)).unwrap_or(0);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let mut left = size;
        while left > 0 {
            let piece = usize::try_from(left.min(PIECE)).unwrap_or(0);
            self.fill(&mut buffer[..piece])?;
            sink(&buffer[..piece])?;
            left -= piece as u64;
        }
        self.buffer = buffer;
        self.padding = (4 - size % 4) % 4;
        Ok(())
    }
}

fn hex(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value: u32, &digit| {
        Some(value << 4 | char::from(digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newc(name: &str, content: &[u8]) -> Vec<u8> {
        let mut entry = format!(
            "070701{:08x}{:08x}{:032x}{:08x}{:032x}{:08x}{:08x}{name}\0",
            1,
            0o100_644,
            0,
            content.len(),
            0,
            name.len() + 1,
            0
        )
        .into_bytes();
        // uid, gid, nlink and mtime make 32 digits; so do the four device numbers.
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry.extend(content);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(EntryName, Vec<u8>)>, PayloadError> {
        let mut archive = Archive::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut content = Vec::new();
            let size = entry.newc.map_or(3, |newc| u64::from(newc.size));
            archive.content::<PayloadError>(size, |piece| {
                content.extend_from_slice(piece);
                Ok(())
            })?;
            entries.push((entry.name, content));
        }
        Ok(entries)
    }

    #[test]
    fn both_forms_are_read() {
        let archive = [
            newc("./a", b"alpha"),
            b"07070X00000007\0\0xyz\0".to_vec(),
            newc("TRAILER!!!", b""),
        ]
        .concat();
        let entries = read_all(&archive).unwrap();
        assert_eq!(entries[0], (EntryName::Path(b"./a".to_vec()), b"alpha".to_vec()));
        assert_eq!(entries[1], (EntryName::Index(7), b"xyz".to_vec()));
        for cut in 0..archive.len() - 3 {
            assert!(read_all(&archive[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn broken_entries_are_refused_with_their_offset() {
        let mut archive = [newc("./a", b"alpha"), newc("./b", b"")].concat();
        archive[124..130].copy_from_slice(b"070707");
        let error = read_all(&archive).unwrap_err().to_string();
        assert_eq!(
            error,
            "no cpio entry at byte 124 of the uncompressed payload, but \"070707\""
        );
        let mut long = newc("./a", b"");
        long[94..102].copy_from_slice(b"ffffffff");
        assert!(matches!(
            read_all(&long),
            Err(PayloadError::NameLength { length: u32::MAX, .. })
        ));
    }
}
