//! PE/COFF images (EFI programs): reading the section table.
//!
//! Specification: Microsoft, *PE Format*. Integers are little-endian. Everything is checked
//! against the file's size before use, so any bytes may be given.

use std::io;
use std::ops::Range;

use super::at::ReadAt;

/// Entry of the data directory that locates the certificate table.
pub(super) const CERTIFICATES: usize = 4;
/// Entry of the data directory that locates debug data, by position in the file.
pub(super) const DEBUG: usize = 6;
/// `DllCharacteristics`: the image does without memory both writable and executable.
pub const NX_COMPAT: u16 = 0x0100;

pub(super) const SECTION_HEADER: usize = 40;
const COFF_HEADER: usize = 20;
const MAX_HEADERS: u64 = 1 << 20;
/// What Windows' loader takes at most; firmware takes no more.
const MAX_SECTIONS: usize = 96;

/// Bytes are no usable PE image.
#[derive(Debug, thiserror::Error)]
pub enum PeError {
    #[error("this is not a PE image: {0}")]
    NotPe(&'static str),
    #[error("section `{name}` lies outside the file (bytes {start} to {end} of {size})")]
    SectionOutside {
        name: String,
        start: u64,
        end: u64,
        size: u64,
    },
    #[error("section `{name}` has {size} bytes; at most {limit} were expected")]
    SectionTooLarge { name: String, size: u64, limit: u64 },
    #[error("the PE image's sections overlap or are out of order at `{0}`")]
    Order(String),
    #[error("the PE image's header has no free slot for section `{0}`")]
    NoSlot(String),
    #[error("the section name `{0}` is not 1 to 8 printable ASCII characters")]
    Name(String),
    #[error("the PE image holds debug data found by its position in the file, which would move")]
    Debug,
    #[error("the PE image would grow past 4 GiB, which the format cannot express")]
    TooLarge,
    #[error("reading or writing a PE image")]
    Io(#[from] io::Error),
}

/// An entry of the section table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The name's 8 bytes, padded with zeroes.
    pub raw_name: [u8; 8],
    /// Address in memory, relative to the image's base.
    pub virtual_address: u32,
    /// Bytes of content, before padding.
    pub virtual_size: u32,
    /// Position in the file.
    pub raw_offset: u32,
    /// Bytes in the file, padding included.
    pub raw_size: u32,
    /// `IMAGE_SCN_*` bits.
    pub characteristics: u32,
}

/// The headers of a PE image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file's bytes up to `SizeOfHeaders`.
    pub(super) headers: Vec<u8>,
    pub(super) coff: usize,
    pub(super) optional: usize,
    /// Where the data directory begins in `headers`, and its number of entries.
    pub(super) directories: (usize, usize),
    pub(super) table: usize,
    sections: Vec<Section>,
}

impl Section {
    /// The name without its padding; bytes that are not UTF-8 are shown as U+FFFD.
    pub fn name(&self) -> String {
        let end = self.raw_name.iter().position(|&b| b == 0).unwrap_or(8);
        String::from_utf8_lossy(&self.raw_name[..end]).into_owned()
    }

    /// Bytes of content that the file holds.
    pub fn content_size(&self) -> u32 {
        self.virtual_size.min(self.raw_size)
    }
}

impl Image {
    /// Reads the headers of the image in the first `size` bytes of `source`.
    ///
    /// # Errors
    /// Where they are not those of a PE image, or point outside it.
    pub fn read(source: &(impl ReadAt + ?Sized), size: u64) -> Result<Self, PeError> {
        let mut dos = [0; 64];
        if size < 64 {
            return Err(PeError::NotPe("it is shorter than a DOS header"));
        }
        source.read_exact_at(&mut dos, 0)?;
        if dos[..2] != *b"MZ" {
            return Err(PeError::NotPe("it does not begin with `MZ`"));
        }
        let pe = u64::from(u32_at(&dos, 0x3c));
        let fixed = pe + 4 + COFF_HEADER as u64 + 96;
        if pe < 64 || fixed > size.min(MAX_HEADERS) {
            return Err(PeError::NotPe("its PE header lies outside the file"));
        }
        let mut start = vec![0; fixed as usize];
        source.read_exact_at(&mut start, 0)?;
        let pe = pe as usize;
        if start[pe..pe + 4] != *b"PE\0\0" {
            return Err(PeError::NotPe("the signature `PE` is missing"));
        }
        let (coff, optional) = (pe + 4, pe + 4 + COFF_HEADER);
        let header_size = u64::from(u32_at(&start, optional + 60));
        if header_size < fixed || header_size > size.min(MAX_HEADERS) {
            return Err(PeError::NotPe("its SizeOfHeaders is impossible"));
        }
        let mut headers = vec![0; header_size as usize];
        source.read_exact_at(&mut headers, 0)?;
        let table = optional + usize::from(u16_at(&headers, coff + 16));
        let count = usize::from(u16_at(&headers, coff + 2));
        if count > MAX_SECTIONS || table + count * SECTION_HEADER > headers.len() {
            return Err(PeError::NotPe("its section table lies outside the headers"));
        }
        let directories = match u16_at(&headers, optional) {
            0x20b => optional + 112,
            0x10b => optional + 96,
            _ => return Err(PeError::NotPe("its optional header is of an unknown kind")),
        };
        if directories > table {
            return Err(PeError::NotPe("its optional header is too short"));
        }
        let entries = u32_at(&headers, directories - 4) as usize;
        if entries > (table - directories) / 8 {
            return Err(PeError::NotPe("its data directory is longer than its header"));
        }
        let sections = (0..count)
            .map(|index| section(&headers[table + index * SECTION_HEADER..], size))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            headers,
            coff,
            optional,
            directories: (directories, entries),
            table,
            sections,
        })
    }

    /// The section table.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The first section called `name`.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name() == name)
    }

    /// The content of the first section called `name`, without padding.
    ///
    /// # Errors
    /// Where it is longer than `limit` bytes, or cannot be read.
    pub fn content(
        &self,
        source: &(impl ReadAt + ?Sized),
        name: &str,
        limit: u32,
    ) -> Result<Option<Vec<u8>>, PeError> {
        let Some(section) = self.section(name) else {
            return Ok(None);
        };
        let size = section.content_size();
        if size > limit {
            return Err(PeError::SectionTooLarge {
                name: name.to_owned(),
                size: size.into(),
                limit: limit.into(),
            });
        }
        let mut bytes = vec![0; size as usize];
        source.read_exact_at(&mut bytes, section.raw_offset.into())?;
        Ok(Some(bytes))
    }

    /// `DllCharacteristics`, [`NX_COMPAT`] among them.
    pub fn dll_characteristics(&self) -> u16 {
        u16_at(&self.headers, self.optional + 70)
    }

    /// Where in the file the certificate table lies; `None` where the image is not signed.
    pub fn certificates(&self) -> Option<Range<u64>> {
        let (start, size) = self.directory(CERTIFICATES);
        let start = u64::from(start);
        (size > 0).then(|| start..start + u64::from(size))
    }

    /// Where in the file the fields lie that signing writes: the checksum, and the directory entry of the certificates.
    pub fn signing_fields(&self) -> Vec<Range<usize>> {
        let (start, entries) = self.directories;
        let checksum = self.optional + 64..self.optional + 68;
        let at = start + CERTIFICATES * 8;
        match entries > CERTIFICATES {
            true => vec![checksum, at..at + 8],
            false => Vec::from([checksum]),
        }
    }

    pub(super) fn directory(&self, entry: usize) -> (u32, u32) {
        let (start, entries) = self.directories;
        if entry >= entries {
            return (0, 0);
        }
        let at = start + entry * 8;
        (u32_at(&self.headers, at), u32_at(&self.headers, at + 4))
    }
}

fn section(bytes: &[u8], size: u64) -> Result<Section, PeError> {
    let mut raw_name = [0; 8];
    raw_name.copy_from_slice(&bytes[..8]);
    let section = Section {
        raw_name,
        virtual_size: u32_at(bytes, 8),
        virtual_address: u32_at(bytes, 12),
        raw_size: u32_at(bytes, 16),
        raw_offset: u32_at(bytes, 20),
        characteristics: u32_at(bytes, 36),
    };
    let start = u64::from(section.raw_offset);
    let end = start + u64::from(section.raw_size);
    if section.raw_size > 0 && end > size {
        return Err(PeError::SectionOutside {
            name: section.name(),
            start,
            end,
            size,
        });
    }
    Ok(section)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) | u16::from(bytes[at + 1]) << 8
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small EFI program in the shape of a stub: `.text`, `.sbat`, `.sdmagic`, `.reloc`, 4 KiB
    /// section alignment, a header of 1 KiB.
    pub fn sample_stub(sbat: &str) -> Vec<u8> {
        let sections: [(&[u8; 8], Vec<u8>, u32); 4] = [
            (b".text\0\0\0", vec![0xc3; 700], 0x6000_0020),
            (b".sbat\0\0\0", sbat.as_bytes().to_vec(), 0x4000_0040),
            (b".sdmagic", b"#### LoaderInfo: test ####".to_vec(), 0x4000_0040),
            (
                b".reloc\0\0",
                vec![0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0],
                0x4200_0040,
            ),
        ];
        let mut image = vec![0; 0x400];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0\x64\x86");
        put(0x86, &[4, 0]);
        put(0x94, &[0xf0, 0, 0x0e, 0x02]);
        put(0x98, &0x20bu16.to_le_bytes());
        put(0x98 + 16, &0x1000u32.to_le_bytes());
        put(0x98 + 20, &0x1000u32.to_le_bytes());
        put(0x98 + 32, &0x1000u32.to_le_bytes());
        put(0x98 + 36, &0x200u32.to_le_bytes());
        put(0x98 + 56, &0x5000u32.to_le_bytes());
        put(0x98 + 60, &0x400u32.to_le_bytes());
        put(0x98 + 68, &10u16.to_le_bytes());
        put(0x98 + 70, &0x160u16.to_le_bytes());
        put(0x98 + 108, &16u32.to_le_bytes());
        put(0x98 + 112 + 5 * 8, &0x4000u32.to_le_bytes());
        put(0x98 + 112 + 5 * 8 + 4, &12u32.to_le_bytes());
        for (index, (name, content, characteristics)) in sections.iter().enumerate() {
            let raw = image.len();
            let header = 0x98 + 0xf0 + index * 40;
            let size = content.len().next_multiple_of(0x200);
            let mut put = |at: usize, value: usize| {
                let value = u32::try_from(value).unwrap();
                image[header + at..header + at + 4].copy_from_slice(&value.to_le_bytes());
            };
            put(8, content.len());
            put(12, 0x1000 * (index + 1));
            put(16, size);
            put(20, raw);
            put(36, *characteristics as usize);
            image[header..header + 8].copy_from_slice(*name);
            image.extend_from_slice(content);
            image.resize(raw + size, 0);
        }
        image
    }

    #[test]
    fn sections_are_read() {
        let stub = sample_stub("sbat,1\nx,1\n");
        let image = Image::read(&stub, stub.len() as u64).unwrap();
        let names: Vec<_> = image.sections().iter().map(Section::name).collect();
        assert_eq!(names, [".text", ".sbat", ".sdmagic", ".reloc"]);
        let sbat = image.content(&stub, ".sbat", 100).unwrap();
        assert_eq!(sbat.as_deref(), Some(&b"sbat,1\nx,1\n"[..]));
        assert!(image.content(&stub, ".none", 100).unwrap().is_none());
        assert!(matches!(
            image.content(&stub, ".text", 100),
            Err(PeError::SectionTooLarge { size: 700, .. })
        ));
        assert_eq!(image.dll_characteristics() & NX_COMPAT, NX_COMPAT);
    }

    #[test]
    fn any_bytes_in_the_header_are_an_error_or_an_image() {
        let stub = sample_stub("sbat,1\n");
        for at in 0..0x400 {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bad = stub.clone();
                bad[at] = value;
                if let Ok(image) = Image::read(&bad, bad.len() as u64) {
                    for section in image.sections() {
                        let _ = image.content(&bad, &section.name(), 1 << 16);
                    }
                }
            }
        }
        for size in 0..stub.len() {
            let short = stub[..size].to_vec();
            assert!(Image::read(&short, size as u64).is_err(), "{size} bytes");
        }
    }
}
