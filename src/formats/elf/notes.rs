//! Notes of ELF files: libraries loaded by `dlopen`, and the ISA level.

use std::collections::BTreeSet;

use super::{Data, Elf, ElfError, machine};

const PT_NOTE: u32 = 4;
const PT_GNU_PROPERTY: u32 = 0x6474_e553;
const SHT_NOTE: u32 = 7;
const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const GNU_PROPERTY_X86_ISA_1_NEEDED: u32 = 0xc000_8002;
const NT_FDO_DLOPEN: u32 = 0x407c_0c0a;

/// One entry of a dlopen note.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Dlopen {
    /// Names that serve alike, the preferred one first.
    pub soname: Vec<String>,
    #[serde(default)]
    pub feature: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub priority: DlopenPriority,
}

/// How much a program misses a library that it loads by `dlopen`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DlopenPriority {
    Suggested,
    /// What an entry without a priority means.
    #[default]
    Recommended,
    Required,
}

impl<'a> Elf<'a> {
    /// Type, owner and content of every note in segments and sections of notes, each once.
    fn notes(&self) -> Vec<(u32, &'a [u8], &'a [u8])> {
        let segments = self.segments(PT_NOTE).map(|s| (s.offset, s.size, s.align));
        let sections = self.sections.iter().filter(|s| s.kind == SHT_NOTE);
        let places = segments.chain(sections.map(|s| (s.offset, s.size, s.align)));
        let mut seen = BTreeSet::new();
        let mut notes = Vec::new();
        for (offset, size, align) in places {
            let Some(bytes) = self.data.get(offset, size) else {
                continue;
            };
            let area = Data {
                bytes,
                big_endian: self.data.big_endian,
            };
            let pad = |size: u64| size.next_multiple_of(if align == 8 { 8 } else { 4 });
            let mut at = 0;
            while let (Some(name), Some(desc), Some(kind)) =
                (area.u32(at), area.u32(at + 4), area.u32(at + 8))
            {
                let (name, desc) = (u64::from(name), u64::from(desc));
                let start = pad(at + 12 + name);
                let (Some(owner), Some(content)) = (area.get(at + 12, name), area.get(start, desc)) else {
                    break;
                };
                if seen.insert(offset + at) {
                    notes.push((kind, owner, content));
                }
                at = pad(start + desc);
            }
        }
        notes
    }

    /// The libraries that it may load by `dlopen`, from its `.note.dlopen` notes.
    ///
    /// # Errors
    /// Where a note of that type does not hold what the specification says.
    pub fn dlopen(&self) -> Result<Vec<Dlopen>, ElfError> {
        let mut all = Vec::new();
        for (kind, owner, content) in self.notes() {
            if kind != NT_FDO_DLOPEN || owner != b"FDO\0" {
                continue;
            }
            let text = content.split(|&b| b == 0).next().unwrap_or_default();
            let entries: Vec<Dlopen> =
                serde_json::from_slice(text).map_err(|error| ElfError::DlopenNote(error.to_string()))?;
            all.extend(entries);
        }
        Ok(all)
    }

    /// The x86-64 ISA level that the file says it needs, as the dynamic linker's cache counts it
    /// (0 baseline, 1 v2, 2 v3, 3 v4), from its GNU property note.
    pub fn x86_isa_level(&self) -> u32 {
        if !matches!(self.machine, machine::X86_64 | machine::I386) {
            return 0;
        }
        let word: u64 = if self.is_64 { 8 } else { 4 };
        for segment in self.segments(PT_GNU_PROPERTY).filter(|s| s.align == word) {
            let Some(bytes) = self.data.get(segment.offset, segment.size) else {
                continue;
            };
            let note = Data {
                bytes,
                big_endian: self.data.big_endian,
            };
            let (Some(4), Some(size), Some(NT_GNU_PROPERTY_TYPE_0)) = (note.u32(0), note.u32(4), note.u32(8))
            else {
                continue;
            };
            let end = (16 + u64::from(size)).min(segment.size);
            let mut at = 16;
            while at + 8 <= end {
                let (Some(kind), Some(size)) = (note.u32(at), note.u32(at + 4)) else {
                    break;
                };
                if kind == GNU_PROPERTY_X86_ISA_1_NEEDED && size == 4 {
                    return note.u32(at + 8).and_then(u32::checked_ilog2).unwrap_or(0);
                }
                at += 8 + u64::from(size).next_multiple_of(word);
            }
        }
        0
    }
}
