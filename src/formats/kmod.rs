//! Kernel modules: `.ko` files, plain or compressed by xz, zstd or gzip.
//!
//! What the kernel's build puts into a module: `.modinfo` (NUL-separated `key=value`),
//! `__ksymtab_strings` and `__crc_*` symbols (exports), undefined symbols (needs) and `__versions`.

use std::collections::BTreeSet;
use std::io::{self, Read};

use super::elf::{self, Elf, ElfError};

/// The largest module that is read, after decompression. The largest that distributions ship
/// with debugging information stripped are some 30 MiB.
pub const MAX_SIZE: u64 = 256 << 20;

/// A file is not a usable kernel module.
#[derive(Debug, thiserror::Error)]
pub enum KmodError {
    #[error("the compressed module is damaged: {0}")]
    Compression(#[source] io::Error),
    #[error("the module is larger than {} MiB when decompressed", MAX_SIZE >> 20)]
    TooLarge,
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error("it is an ELF file, but not a relocatable object (type {0}): not a kernel module")]
    NotModule(u16),
}

/// What a module says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// `key=value` pairs of `.modinfo`, in the file's order. A string without `=` has no value.
    pub info: Vec<(Vec<u8>, Vec<u8>)>,
    /// Symbols that it offers to other modules, with their CRC (0 where the kernel has none).
    pub exports: Vec<(Vec<u8>, u64)>,
    /// Symbols that it needs, from the kernel or other modules, in the order of its symbol table.
    pub needs: Vec<Need>,
}

/// A symbol that a module needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub symbol: Vec<u8>,
    /// A weak reference may stay unresolved.
    pub weak: bool,
}

impl Module {
    /// The values of `.modinfo` under `key`, in order.
    pub fn info<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.info
            .iter()
            .filter(move |(name, _)| name == key.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// Reads a plain module.
    ///
    /// # Errors
    /// Where it is not a relocatable ELF file.
    pub fn parse(bytes: &[u8]) -> Result<Self, KmodError> {
        let elf = Elf::parse(bytes)?;
        if elf.kind != elf::ET_REL {
            return Err(KmodError::NotModule(elf.kind));
        }
        let symbols = elf.symbols();
        let mut module = Self {
            info: split_strings(elf.section(b".modinfo").unwrap_or_default())
                .map(|text| match text.iter().position(|&b| b == b'=') {
                    Some(at) => (text[..at].to_vec(), text[at + 1..].to_vec()),
                    None => (text.to_vec(), Vec::new()),
                })
                .collect(),
            ..Self::default()
        };
        for symbol in &symbols {
            if let Some(name) = symbol.name.strip_prefix(b"__crc_") {
                module.exports.push((name.to_vec(), crc(&elf, symbol)));
            }
        }
        if module.exports.is_empty() {
            let names = split_strings(elf.section(b"__ksymtab_strings").unwrap_or_default());
            module.exports = names.map(|name| (name.to_vec(), 0)).collect();
        }
        let undefined = symbols.iter().filter(|s| s.section == 0 && !s.name.is_empty());
        module.needs = undefined
            .map(|symbol| Need {
                symbol: symbol.name.to_vec(),
                weak: symbol.weak,
            })
            .collect();
        // Names with versions and without a symbol, such as `module_layout`.
        let known: BTreeSet<&[u8]> = module.needs.iter().map(|need| &*need.symbol).collect();
        let mut more = Vec::new();
        let crc_size = if elf.is_64 { 8 } else { 4 };
        for version in elf.section(b"__versions").unwrap_or_default().chunks_exact(64) {
            let name = version[crc_size..].split(|&b| b == 0).next().unwrap_or_default();
            if !name.is_empty() && !known.contains(name) {
                more.push(Need {
                    symbol: name.to_vec(),
                    weak: false,
                });
            }
        }
        module.needs.extend(more);
        Ok(module)
    }

    /// Decompresses (by magic number) and reads a module.
    ///
    /// # Errors
    /// As [`decompress`] and [`Module::parse`].
    pub fn read(file: impl Read) -> Result<Self, KmodError> {
        Self::parse(&decompress(file)?)
    }
}

/// The plain bytes of a module file, told by its first bytes: xz, zstd, gzip or none.
///
/// # Errors
/// Damaged compression; more than [`MAX_SIZE`] bytes.
pub fn decompress(mut file: impl Read) -> Result<Vec<u8>, KmodError> {
    let mut magic = Vec::with_capacity(6);
    file.by_ref()
        .take(6)
        .read_to_end(&mut magic)
        .map_err(KmodError::Compression)?;
    let whole = io::Cursor::new(magic.clone()).chain(file);
    let limited = match *magic.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => read_limited(liblzma::read::XzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::new(whole).map_err(KmodError::Compression)?;
            read_limited(decoder)
        }
        [0x1f, 0x8b, ..] => read_limited(flate2::read::MultiGzDecoder::new(whole)),
        _ => read_limited(whole),
    };
    limited
        .map_err(KmodError::Compression)?
        .ok_or(KmodError::TooLarge)
}

fn read_limited(reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_SIZE).then_some(bytes))
}

/// A CRC is the symbol's value, or stands where its value points in its section.
fn crc(elf: &Elf<'_>, symbol: &elf::Symbol<'_>) -> u64 {
    let stored = || {
        let at = usize::try_from(symbol.value).ok()?;
        elf.section_at(symbol.section)?.get(at..at.checked_add(4)?)
    };
    stored().map_or(symbol.value, |bytes| elf.uint(bytes))
}

fn split_strings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == 0).filter(|text| !text.is_empty())
}

/// The name of a module from its file name or as people write it: without `.ko` and what follows,
/// `-` as `_`.
pub fn module_name(file_name: &[u8]) -> Vec<u8> {
    let stem = file_name.split(|&b| b == b'.').next().unwrap_or_default();
    stem.iter().map(|&b| if b == b'-' { b'_' } else { b }).collect()
}

/// Whether a file's name is a module's: `.ko`, `.ko.gz`, `.ko.xz`, `.ko.zst`.
pub fn is_module_name(file_name: &[u8]) -> bool {
    let endings: [&[u8]; 4] = [b".ko", b".ko.gz", b".ko.xz", b".ko.zst"];
    endings
        .iter()
        .any(|ending| file_name.len() > ending.len() && file_name.ends_with(ending))
}

/// An alias with `-` as `_` outside brackets; `None` where brackets do not match.
pub fn normalize_alias(alias: &[u8]) -> Option<Vec<u8>> {
    let mut out = alias.to_vec();
    let mut inside = false;
    for byte in &mut out {
        match *byte {
            b'[' => inside = true,
            b']' if !inside => return None,
            b']' => inside = false,
            b'-' if !inside => *byte = b'_',
            _ => {}
        }
    }
    (!inside).then_some(out)
}

/// Whether `text` fits `pattern` as aliases are matched: `*`, `?` and `[…]` with ranges.
pub fn alias_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) if t == text.len() => return pattern[p..].iter().all(|&b| b == b'*'),
            Some(b'?') => Some(1),
            Some(b'[') => class_matches(&pattern[p..], text[t]),
            Some(&byte) => (byte == text[t]).then_some(1),
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            (None, _) => return false,
        }
    }
}

/// The length of the class at the start of `pattern` where `byte` is in it.
fn class_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|&b| b == b']')? + 2;
    let (negated, members) = match &pattern[1..end] {
        [b'!' | b'^', members @ ..] => (true, members),
        members => (false, members),
    };
    let mut found = false;
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        if let (Some(b'-'), Some(&high)) = (members.get(at + 1), members.get(at + 2)) {
            found |= (low..=high).contains(&byte);
            at += 3;
        } else {
            found |= low == byte;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn names_and_aliases_are_normalised() {
        assert_eq!(module_name(b"hv-net.vsc.ko.xz"), b"hv_net");
        assert!(is_module_name(b"a.ko.zst") && !is_module_name(b".ko") && !is_module_name(b"a.ko.bz2"));
        assert_eq!(normalize_alias(b"fs-ext4[a-z]-"), Some(b"fs_ext4[a-z]_".to_vec()));
        assert_eq!(normalize_alias(b"a]"), None);
        assert_eq!(normalize_alias(b"a[b"), None);
    }

    #[test]
    fn aliases_match_as_globs() {
        let table = [
            ("pci:v*d0001*", "pci:v00008086d00010203", true),
            ("pci:v*d0001", "pci:v00008086d00010203", false),
            ("a?c", "abc", true),
            ("a[0-3x]c", "a2c", true),
            ("a[0-3x]c", "a4c", false),
            ("a[!0-3]c", "a4c", true),
            ("*", "", true),
            ("a**", "a", true),
            ("", "a", false),
            ("*ab", "aab", true),
            ("a[", "a[", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(
                alias_matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let plain = b"\x7fELF and more of it".repeat(50);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(&plain).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&plain).unwrap();
        let files = [
            plain.clone(),
            xz.finish().unwrap(),
            gz.finish().unwrap(),
            zstd::encode_all(&plain[..], 3).unwrap(),
        ];
        for file in &files {
            assert_eq!(decompress(&file[..]).unwrap(), plain);
        }
        let cut = &files[1][..files[1].len() / 2];
        assert!(matches!(decompress(cut), Err(KmodError::Compression(_))));
        assert_eq!(decompress(&b""[..]).unwrap(), b"");
    }

    #[test]
    fn a_program_is_not_a_module() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        assert!(matches!(Module::parse(&program), Err(KmodError::NotModule(_))));
        assert!(matches!(
            Module::parse(b"#!/bin/sh"),
            Err(KmodError::Elf(ElfError::NotElf))
        ));
    }
}
