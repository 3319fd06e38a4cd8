//! Adding sections to a PE image.
//!
//! The file is laid out anew: headers, then the sections' data without a gap between them, and
//! nothing behind the last. Authenticode's hash is then the same however it is computed; tools
//! disagree over bytes that belong to no section, such as the COFF symbol table that trails old
//! stubs (which is dropped here, and so is a signature, which would not hold any more).

use super::at::{Content, WriteAt};
use super::pe::{CERTIFICATES, DEBUG, Image, PeError, SECTION_HEADER, Section, u32_at};

/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_READ`
pub const CODE: u32 = 0x4000_0020;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`
pub const DATA: u32 = 0x4000_0040;

const CONTAINS_CODE: u32 = 0x0000_0020;
/// COFF characteristics: symbols were removed.
const SYMBOLS_STRIPPED: u8 = 0x08;
const CHECKSUM: usize = 64;

/// A section to be added.
pub struct NewSection<'a> {
    /// 1 to 8 printable ASCII characters.
    pub name: &'a str,
    pub content: Content<'a>,
    /// `IMAGE_SCN_*` bits: [`CODE`] or [`DATA`].
    pub characteristics: u32,
}

impl<'a> NewSection<'a> {
    /// A section of data.
    pub fn data(name: &'a str, content: Content<'a>) -> Self {
        Self {
            name,
            content,
            characteristics: DATA,
        }
    }
}

/// The image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub size: u64,
    pub sections: Vec<Section>,
}

/// A section of the new file with the place its bytes come from.
struct Planned<'a> {
    section: Section,
    content: Content<'a>,
}

/// Writes `base` with `sections` added. A section of `base` that has the name of a new one is
/// replaced: in its place where the new content fits before the next section in memory, else it
/// is dropped and the new one added at the end. New ones may have the same name among them, if `base` has none of it.
/// `nx_compat` false clears [`super::pe::NX_COMPAT`].
///
/// # Errors
/// Where `base` is no sound PE image or has no room, and I/O.
pub fn append(
    base: &[u8],
    sections: &[NewSection<'_>],
    nx_compat: bool,
    out: &impl WriteAt,
) -> Result<Written, PeError> {
    let image = Image::read(base, base.len() as u64)?;
    let section_alignment = alignment(&image, 32)?;
    let file_alignment = alignment(&image, 36)?;
    if file_alignment < 512 || section_alignment < file_alignment {
        return Err(PeError::NotPe("its alignments are impossible"));
    }
    check_order(&image)?;

    let mut planned = existing(base, &image, sections);
    let kept: Vec<String> = planned.iter().map(|old| old.section.name()).collect();
    for new in sections {
        if !kept.iter().any(|old| old == new.name) {
            let end = planned.last().map_or(Ok(0), |last| memory_end(&last.section))?;
            planned.push(added(new, round_up(end, section_alignment)?)?);
        }
    }
    let mut at = round_up(to_u32(image.headers.len())?, file_alignment)?;
    let header_size = at;
    for entry in &mut planned {
        let size = u32::try_from(entry.content.size()).map_err(|_| PeError::TooLarge)?;
        entry.section.raw_size = round_up(size, file_alignment)?;
        entry.section.raw_offset = if size == 0 { 0 } else { at };
        at = at.checked_add(entry.section.raw_size).ok_or(PeError::TooLarge)?;
    }
    let moved = image.sections().iter().any(|old| {
        let same = planned.iter().find(|new| new.section.raw_name == old.raw_name);
        old.raw_size > 0 && same.is_none_or(|new| new.section.raw_offset != old.raw_offset)
    });
    if moved && image.directory(DEBUG) != (0, 0) {
        return Err(PeError::Debug);
    }

    let mut header = build_header(&image, &planned, header_size, section_alignment, nx_compat)?;
    let mut sum = Checksum::default();
    for entry in &planned {
        write_section(entry, out, &mut sum)?;
    }
    sum.add(&header);
    let checksum = sum.finish(at);
    let field = image.optional + CHECKSUM;
    header[field..field + 4].copy_from_slice(&checksum.to_le_bytes());
    out.write_all_at(&header, 0)?;
    Ok(Written {
        size: at.into(),
        sections: planned.into_iter().map(|entry| entry.section).collect(),
    })
}

/// Sections of the base that stay, with their new content where one replaces them in place.
fn existing<'a>(base: &'a [u8], image: &Image, new: &[NewSection<'a>]) -> Vec<Planned<'a>> {
    let old = image.sections();
    let mut planned = Vec::new();
    for (index, section) in old.iter().enumerate() {
        let replacement = new.iter().find(|new| new.name == section.name());
        let mut section = section.clone();
        let content = match replacement {
            None => Content::bytes(raw_bytes(base, &section)),
            Some(new) => {
                let room = old
                    .get(index + 1)
                    .map_or(u32::MAX, |next| next.virtual_address - section.virtual_address);
                match u32::try_from(new.content.size()) {
                    Ok(size) if size <= room => section.virtual_size = size,
                    _ => continue,
                }
                new.content
            }
        };
        planned.push(Planned { section, content });
    }
    planned
}

/// The section's bytes in the file; [`Image::read`] has checked that they lie within it.
fn raw_bytes<'a>(base: &'a [u8], section: &Section) -> &'a [u8] {
    let start = section.raw_offset as usize;
    base.get(start..start + section.raw_size as usize)
        .unwrap_or_default()
}

fn added<'a>(new: &NewSection<'a>, virtual_address: u32) -> Result<Planned<'a>, PeError> {
    let name = new.name.as_bytes();
    if !(1..=8).contains(&name.len()) || !name.iter().all(u8::is_ascii_graphic) {
        return Err(PeError::Name(new.name.to_owned()));
    }
    let mut raw_name = [0; 8];
    raw_name[..name.len()].copy_from_slice(name);
    let section = Section {
        raw_name,
        virtual_address,
        virtual_size: u32::try_from(new.content.size()).map_err(|_| PeError::TooLarge)?,
        raw_offset: 0,
        raw_size: 0,
        characteristics: new.characteristics,
    };
    memory_end(&section)?;
    Ok(Planned {
        section,
        content: new.content,
    })
}

/// Sections must rise in memory and in the file, or laying them out in the table's order would
/// change what the image is.
fn check_order(image: &Image) -> Result<(), PeError> {
    let (mut memory, mut file) = (0, image.headers.len() as u64);
    for section in image.sections() {
        let raw_start = u64::from(section.raw_offset);
        if section.virtual_address < memory || (section.raw_size > 0 && raw_start < file) {
            return Err(PeError::Order(section.name()));
        }
        memory = memory_end(section)?;
        if section.raw_size > 0 {
            file = raw_start + u64::from(section.raw_size);
        }
    }
    Ok(())
}

fn build_header(
    image: &Image,
    planned: &[Planned<'_>],
    header_size: u32,
    section_alignment: u32,
    nx_compat: bool,
) -> Result<Vec<u8>, PeError> {
    let mut header = image.headers.clone();
    let old_table = image.table..image.table + image.sections().len() * SECTION_HEADER;
    header[old_table.clone()].fill(0);
    let table_end = image.table + planned.len() * SECTION_HEADER;
    if table_end > header.len() || header[image.table..table_end].iter().any(|&b| b != 0) {
        let last = planned.last().map(|entry| entry.section.name());
        return Err(PeError::NoSlot(last.unwrap_or_default()));
    }
    header.resize(header_size as usize, 0);

    let mut sums = [0u32; 2];
    let mut memory = 0;
    for (index, Planned { section, .. }) in planned.iter().enumerate() {
        let at = image.table + index * SECTION_HEADER;
        header[at..at + 8].copy_from_slice(&section.raw_name);
        let fields = [
            (8, section.virtual_size),
            (12, section.virtual_address),
            (16, section.raw_size),
            (20, section.raw_offset),
            (36, section.characteristics),
        ];
        for (field, value) in fields {
            put(&mut header, at + field, value);
        }
        let sum = &mut sums[usize::from(section.characteristics & CONTAINS_CODE == 0)];
        *sum = sum.checked_add(section.raw_size).ok_or(PeError::TooLarge)?;
        memory = memory.max(memory_end(section)?);
    }

    let (coff, optional) = (image.coff, image.optional);
    let count = u16::try_from(planned.len()).map_err(|_| PeError::TooLarge)?;
    header[coff + 2..coff + 4].copy_from_slice(&count.to_le_bytes());
    put(&mut header, coff + 8, 0);
    put(&mut header, coff + 12, 0);
    header[coff + 18] |= SYMBOLS_STRIPPED;
    put(&mut header, optional + 4, sums[0]);
    put(&mut header, optional + 8, sums[1]);
    put(&mut header, optional + 56, round_up(memory, section_alignment)?);
    put(&mut header, optional + 60, header_size);
    put(&mut header, optional + CHECKSUM, 0);
    if !nx_compat {
        // Bit 0x0100 of the little-endian field at 70.
        header[optional + 71] &= !0x01;
    }
    let (directories, entries) = image.directories;
    if entries > CERTIFICATES {
        header[directories + CERTIFICATES * 8..][..8].fill(0);
    }
    Ok(header)
}

fn write_section(entry: &Planned<'_>, out: &impl WriteAt, sum: &mut Checksum) -> Result<(), PeError> {
    let mut at = u64::from(entry.section.raw_offset);
    // An even piece: the checksum is made of 16-bit words.
    entry.content.for_each_piece::<PeError>(1 << 20, |piece| {
        sum.add(piece);
        out.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })?;
    let end = u64::from(entry.section.raw_offset) + u64::from(entry.section.raw_size);
    if at < end {
        out.write_all_at(&vec![0; (end - at) as usize], at)?;
    }
    Ok(())
}

/// The image checksum: the 16-bit ones' complement sum of the file, plus its length.
#[derive(Default)]
struct Checksum(u64);

impl Checksum {
    /// Takes in `bytes` that begin at an even position of the file; their order does not matter.
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<2>();
        let words: u64 = words
            .iter()
            .map(|&word| u64::from(u16::from_le_bytes(word)))
            .sum();
        self.0 += words + rest.first().map_or(0, |&byte| u64::from(byte));
    }

    fn finish(self, size: u32) -> u32 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u32).wrapping_add(size)
    }
}

fn alignment(image: &Image, field: usize) -> Result<u32, PeError> {
    let value = u32_at(&image.headers, image.optional + field);
    if !value.is_power_of_two() || value > 1 << 24 {
        return Err(PeError::NotPe("its alignments are impossible"));
    }
    Ok(value)
}

fn memory_end(section: &Section) -> Result<u32, PeError> {
    section
        .virtual_address
        .checked_add(section.virtual_size)
        .ok_or(PeError::TooLarge)
}

fn round_up(value: u32, alignment: u32) -> Result<u32, PeError> {
    value.checked_next_multiple_of(alignment).ok_or(PeError::TooLarge)
}

fn to_u32(value: usize) -> Result<u32, PeError> {
    u32::try_from(value).map_err(|_| PeError::TooLarge)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pe::tests::sample_stub;

    #[test]
    fn any_header_gives_an_error_or_a_sound_image() {
        let stub = sample_stub("sbat,1\n");
        let out = tempfile::tempfile().unwrap();
        let sections = [
            NewSection::data(".sbat", Content::bytes(b"sbat,1\nx,1\n")),
            NewSection::data(".new", Content::bytes(&[1; 1000])),
        ];
        let mut written = 0;
        for at in 0x3c..0x300 {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bad = stub.clone();
                bad[at] = value;
                let Ok(image) = append(&bad, &sections, true, &out) else {
                    continue;
                };
                written += 1;
                let read = Image::read(&out, image.size).unwrap();
                assert_eq!(read.sections(), image.sections, "{value:#x} at {at:#x}");
                let content = read.content(&out, ".new", 1000).unwrap();
                assert_eq!(content.as_deref(), Some(&[1; 1000][..]));
            }
        }
        assert!(written > 1000, "{written}");
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let out = tempfile::tempfile().unwrap();
        for name in ["", "ninechars", ".a b", ".ä"] {
            let sections = [NewSection::data(name, Content::bytes(b"x"))];
            let error = append(&sample_stub("sbat,1\n"), &sections, true, &out).unwrap_err();
            assert!(matches!(error, PeError::Name(found) if found == name));
        }
    }
}
