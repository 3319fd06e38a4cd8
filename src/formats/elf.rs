//! ELF files, as much as finding and sorting them needs: headers, the dynamic section, notes,
//! sections by name and the symbol table.
//!
//! Both classes and both byte orders. Every offset is checked against the file; a file that
//! contradicts itself is an error or reads as lacking the part in question, never a panic.
//!
//! Specifications: System V ABI (gabi), "dlopen() Metadata for ELF Files" (UAPI/systemd).

#[cfg(test)]
pub(crate) mod fixture;
mod notes;
#[cfg(test)]
mod tests;

pub use notes::{Dlopen, DlopenPriority};

/// `ET_REL`: an object file (kernel modules are such).
pub const ET_REL: u16 = 1;
/// `ET_EXEC`: a program at a fixed address.
pub const ET_EXEC: u16 = 2;
/// `ET_DYN`: a shared library or a position-independent program.
pub const ET_DYN: u16 = 3;

/// Values of `e_machine`.
pub mod machine {
    pub const I386: u16 = 3;
    pub const ARM: u16 = 40;
    pub const X86_64: u16 = 62;
    pub const AARCH64: u16 = 183;
    pub const RISCV: u16 = 243;
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const SHT_NOBITS: u32 = 8;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const SHN_LORESERVE: u16 = 0xff00;
const MAX_NAME: usize = 16 << 10;

/// Why bytes are not a usable ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("the ELF header is damaged: {0}")]
    Header(&'static str),
    #[error("the {what} at offset {offset} reaches beyond the end of the file ({size} bytes)")]
    Truncated {
        what: &'static str,
        offset: u64,
        size: u64,
    },
    #[error("the dlopen note is not the JSON that the specification asks for: {0}")]
    DlopenNote(String),
}

/// A parsed ELF file that borrows its bytes.
#[derive(Debug, Clone)]
pub struct Elf<'a> {
    data: Data<'a>,
    /// Whether it is ELFCLASS64.
    pub is_64: bool,
    /// `e_machine`, see [`machine`].
    pub machine: u16,
    /// `e_type`, see [`ET_DYN`] and its neighbours.
    pub kind: u16,
    /// `e_flags`.
    pub flags: u32,
    segments: Vec<Segment>,
    sections: Vec<Section<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Data<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

#[derive(Debug, Clone)]
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    size: u64,
    align: u64,
}

#[derive(Debug, Clone)]
struct Section<'a> {
    name: &'a [u8],
    kind: u32,
    offset: u64,
    size: u64,
    align: u64,
}

/// What the dynamic section says. Names as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dynamic<'a> {
    pub soname: Option<&'a [u8]>,
    pub needed: Vec<&'a [u8]>,
    /// `DT_RPATH`, without meaning where `runpath` is present.
    pub rpath: Option<&'a [u8]>,
    pub runpath: Option<&'a [u8]>,
}

/// An entry of `.symtab`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    pub name: &'a [u8],
    pub value: u64,
    /// The section it lies in; 0 (`SHN_UNDEF`) where it is undefined.
    pub section: u16,
    /// `STB_WEAK`.
    pub weak: bool,
}

impl<'a> Data<'a> {
    fn get(&self, offset: u64, size: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.bytes.get(start..end)
    }

    fn uint(&self, offset: u64, size: u64) -> Option<u64> {
        let bytes = self.get(offset, size)?.iter();
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.big_endian {
            bytes.fold(0, add)
        } else {
            bytes.rev().fold(0, add)
        })
    }

    fn u16(&self, offset: u64) -> Option<u16> {
        self.uint(offset, 2)?.try_into().ok()
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        self.uint(offset, 4)?.try_into().ok()
    }

    /// The bytes from `offset` to the next NUL (exclusive). Names have a limit, so that a file
    /// of many references to one huge name cannot cost the square of its size.
    fn string(&self, offset: u64) -> Option<&'a [u8]> {
        let rest = self.bytes.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().take(MAX_NAME).position(|&b| b == 0)?;
        Some(&rest[..end])
    }
}

impl<'a> Elf<'a> {
    /// Whether `bytes` begin as an ELF file does.
    pub fn has_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x7fELF")
    }

    /// Reads the header, the program headers and the section headers.
    ///
    /// # Errors
    /// [`ElfError::NotElf`] without the magic number; the others where the header or a table that
    /// it names is cut off or nonsensical. Section headers that cannot be read are taken as absent:
    /// the loader does not need them.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        if !Self::has_magic(bytes) {
            return Err(ElfError::NotElf);
        }
        let is_64 = match bytes.get(4) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(ElfError::Header("its class is neither 32-bit nor 64-bit")),
        };
        let big_endian = match bytes.get(5) {
            Some(1) => false,
            Some(2) => true,
            _ => {
                return Err(ElfError::Header(
                    "its byte order is neither little nor big endian",
                ));
            }
        };
        let data = Data { bytes, big_endian };
        let header = if is_64 { 64 } else { 52 };
        if bytes.len() < header {
            return Err(ElfError::Header("it is cut off"));
        }
        let cut = ElfError::Header("it is cut off");
        let word = if is_64 { 8 } else { 4 };
        let after = 24 + 3 * word;
        let field = |offset| data.u16(offset).ok_or(cut.clone());
        let mut elf = Self {
            data,
            is_64,
            machine: field(18)?,
            kind: field(16)?,
            flags: data.u32(after).ok_or(cut.clone())?,
            segments: Vec::new(),
            sections: Vec::new(),
        };
        let phoff = data.uint(24 + word, word).ok_or(cut.clone())?;
        let shoff = data.uint(24 + 2 * word, word).ok_or(cut.clone())?;
        let (phentsize, phnum) = (field(after + 6)?, field(after + 8)?);
        let (shentsize, shnum, shstrndx) = (field(after + 10)?, field(after + 12)?, field(after + 14)?);
        elf.segments = elf.read_segments(phoff, phentsize, phnum)?;
        elf.sections = elf
            .read_sections(shoff, shentsize, shnum, shstrndx)
            .unwrap_or_default();
        Ok(elf)
    }

    fn read_segments(&self, start: u64, entry: u16, count: u16) -> Result<Vec<Segment>, ElfError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if entry != if self.is_64 { 56 } else { 32 } {
            return Err(ElfError::Header("its program headers have an unknown size"));
        }
        let truncated = || self.truncated("program header table", start);
        (0..u64::from(count))
            .map(|index| {
                let at = index
                    .checked_mul(u64::from(entry))
                    .and_then(|below| start.checked_add(below))?;
                let fields = self.data.get(at, u64::from(entry))?;
                let entry = Data {
                    bytes: fields,
                    big_endian: self.data.big_endian,
                };
                let kind = entry.u32(0)?;
                let [offset, vaddr, size, align] = if self.is_64 {
                    [8, 16, 32, 48]
                } else {
                    [4, 8, 16, 28]
                };
                let word = |at| entry.uint(at, if self.is_64 { 8 } else { 4 });
                Some(Segment {
                    kind,
                    offset: word(offset)?,
                    vaddr: word(vaddr)?,
                    size: word(size)?,
                    align: word(align)?,
                })
            })
            .collect::<Option<_>>()
            .ok_or_else(truncated)
    }

    fn read_sections(&self, start: u64, entry: u16, count: u16, names: u16) -> Option<Vec<Section<'a>>> {
        let expected: u16 = if self.is_64 { 64 } else { 40 };
        if start == 0 || entry != expected {
            return None;
        }
        let header = |index: u64| {
            let at = start.checked_add(index.checked_mul(u64::from(entry))?)?;
            let bytes = self.data.get(at, u64::from(entry))?;
            let fields = Data {
                bytes,
                big_endian: self.data.big_endian,
            };
            let [offset, size, align] = if self.is_64 { [24, 32, 48] } else { [16, 20, 32] };
            let word = |at| fields.uint(at, if self.is_64 { 8 } else { 4 });
            let section = Section {
                name: b"",
                kind: fields.u32(4)?,
                offset: word(offset)?,
                size: word(size)?,
                align: word(align)?,
            };
            let link = fields.u32(if self.is_64 { 40 } else { 24 })?;
            Some((fields.u32(0)?, link, section))
        };
        // Large counts stand in section 0, whose own fields are otherwise unused.
        let (_, link, zero) = header(0)?;
        let count = if count == 0 { zero.size } else { u64::from(count) };
        let names = if names == u16::MAX {
            u64::from(link)
        } else {
            u64::from(names)
        };
        if count > self.data.bytes.len() as u64 / u64::from(entry) {
            return None;
        }
        let (_, _, table) = header(names)?;
        (0..count)
            .map(|index| {
                let (name, _, mut section) = header(index)?;
                let at = table.offset.checked_add(u64::from(name))?;
                section.name = self.data.string(at).unwrap_or_default();
                Some(section)
            })
            .collect()
    }

    fn truncated(&self, what: &'static str, offset: u64) -> ElfError {
        ElfError::Truncated {
            what,
            offset,
            size: self.data.bytes.len() as u64,
        }
    }

    fn segments(&self, kind: u32) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |segment| segment.kind == kind)
    }

    /// The program that loads it (`PT_INTERP`), such as `/lib64/ld-linux-x86-64.so.2`.
    pub fn interpreter(&self) -> Option<&'a [u8]> {
        let segment = self.segments(PT_INTERP).next()?;
        let bytes = self.data.get(segment.offset, segment.size)?;
        bytes.split(|&b| b == 0).next().filter(|path| !path.is_empty())
    }

    /// The dynamic section; `None` where there is none, as in static programs.
    ///
    /// # Errors
    /// Where it, its string table or a name in it lies outside the file.
    pub fn dynamic(&self) -> Result<Option<Dynamic<'a>>, ElfError> {
        let Some(segment) = self.segments(PT_DYNAMIC).find(|segment| segment.size > 0) else {
            return Ok(None);
        };
        let word: u64 = if self.is_64 { 8 } else { 4 };
        let table = self
            .data
            .get(segment.offset, segment.size)
            .ok_or_else(|| self.truncated("dynamic section", segment.offset))?;
        let table = Data {
            bytes: table,
            big_endian: self.data.big_endian,
        };
        let entries: Vec<(u64, u64)> = (0..segment.size / (2 * word))
            .map_while(|index| {
                let at = index * 2 * word;
                Some((table.uint(at, word)?, table.uint(at + word, word)?))
            })
            .take_while(|&(tag, _)| tag != 0)
            .collect();
        let Some(&(_, strings)) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB) else {
            return Ok(None);
        };
        let strings = self.file_offset(strings);
        let text = |offset: u64| {
            strings
                .checked_add(offset)
                .and_then(|at| self.data.string(at))
                .ok_or_else(|| self.truncated("name in the dynamic section", strings))
        };
        let mut dynamic = Dynamic::default();
        for (tag, value) in entries {
            match tag {
                DT_NEEDED => dynamic.needed.push(text(value)?),
                DT_SONAME if dynamic.soname.is_none() => dynamic.soname = Some(text(value)?),
                DT_RPATH => dynamic.rpath = Some(text(value)?),
                DT_RUNPATH => dynamic.runpath = Some(text(value)?),
                _ => {}
            }
        }
        Ok(Some(dynamic))
    }

    /// Where the byte at address `vaddr` lies in the file; the address itself where no segment
    /// holds it.
    fn file_offset(&self, vaddr: u64) -> u64 {
        self.segments(PT_LOAD)
            .find(|s| vaddr.checked_sub(s.vaddr).is_some_and(|below| below < s.size))
            .map_or(vaddr, |s| (vaddr - s.vaddr).saturating_add(s.offset))
    }

    /// The bytes of the first section called `name`.
    pub fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        self.content(section)
    }

    /// The bytes of section number `index`.
    pub fn section_at(&self, index: u16) -> Option<&'a [u8]> {
        if index >= SHN_LORESERVE {
            return None;
        }
        self.content(self.sections.get(usize::from(index))?)
    }

    fn content(&self, section: &Section<'a>) -> Option<&'a [u8]> {
        if section.kind == SHT_NOBITS {
            return None;
        }
        self.data.get(section.offset, section.size)
    }

    /// An unsigned integer of up to eight bytes in the file's byte order.
    pub fn uint(&self, bytes: &[u8]) -> u64 {
        let data = Data {
            bytes,
            big_endian: self.data.big_endian,
        };
        data.uint(0, bytes.len().min(8) as u64).unwrap_or(0)
    }

    /// `.symtab`, without its empty first entry and in the file's order; empty where the table is
    /// absent or damaged.
    pub fn symbols(&self) -> Vec<Symbol<'a>> {
        let (Some(table), Some(names)) = (self.section(b".symtab"), self.section(b".strtab")) else {
            return Vec::new();
        };
        let size = if self.is_64 { 24 } else { 16 };
        if table.len() % size != 0 {
            return Vec::new();
        }
        let names = Data {
            bytes: names,
            big_endian: self.data.big_endian,
        };
        let entries = table.chunks_exact(size).skip(1);
        entries
            .filter_map(|bytes| {
                let entry = Data {
                    bytes,
                    big_endian: self.data.big_endian,
                };
                let (value, word, info, section) = if self.is_64 { (8, 8, 4, 6) } else { (4, 4, 12, 14) };
                Some(Symbol {
                    name: names.string(u64::from(entry.u32(0)?))?,
                    value: entry.uint(value, word)?,
                    section: entry.u16(section)?,
                    weak: bytes.get(info)? >> 4 == 2,
                })
            })
            .collect()
    }
}
