//! `mime.cache`, version 1.2: big-endian, offsets from its beginning, strings first.

use super::{Database, Glob, Match, MimeError};
use crate::formats::glib_table::GlibTable;

const MAJOR: u16 = 1;
const MINOR: u16 = 2;
const HEADER: usize = 44;
const CASE_SENSITIVE: u32 = 0x100;

/// The cache of `database`.
///
/// # Errors
/// Where it is larger than offsets of 32 bits can say.
pub fn write(database: &Database) -> Result<Vec<u8>, MimeError> {
    let mut writer = Writer {
        bytes: vec![0; HEADER],
        offsets: GlibTable::default(),
    };
    writer.strings(database);
    let mut sections = Vec::with_capacity(10);
    let mut section = |writer: &Writer| sections.push(writer.here());
    section(&writer);
    writer.pairs(&database.aliases);
    section(&writer);
    writer.parents(database);
    section(&writer);
    writer.globs(database, Pattern::Literal);
    section(&writer);
    writer.suffixes(database);
    section(&writer);
    writer.globs(database, Pattern::Full);
    section(&writer);
    writer.magics(database);
    section(&writer);
    writer.namespaces(database);
    section(&writer);
    writer.pairs(&database.icons);
    section(&writer);
    writer.pairs(&database.generic_icons);
    section(&writer);
    // The tool looks for the types with a line break after them, finds none, and writes zeros.
    writer.number(database.types.len());
    writer
        .bytes
        .resize(writer.bytes.len() + 4 * database.types.len(), 0);

    let mut bytes = writer.bytes;
    if u32::try_from(bytes.len()).is_err() {
        return Err(MimeError::TooLarge);
    }
    bytes[..2].copy_from_slice(&MAJOR.to_be_bytes());
    bytes[2..4].copy_from_slice(&MINOR.to_be_bytes());
    for (place, offset) in bytes[4..HEADER].chunks_exact_mut(4).zip(sections) {
        place.copy_from_slice(&offset.to_be_bytes());
    }
    Ok(bytes)
}

/// How a pattern is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Literal,
    /// `*` and then only plain characters.
    Suffix,
    Full,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let rest = text.strip_prefix('*');
        match rest.unwrap_or(text).contains(['\\', '[', '?', '*']) {
            true => Self::Full,
            false if rest.is_some() => Self::Suffix,
            false => Self::Literal,
        }
    }
}

fn weight(glob: &Glob) -> u32 {
    let flags = if glob.case_sensitive { CASE_SENSITIVE } else { 0 };
    (glob.weight.cast_unsigned() & 0xff) | flags
}

/// What lies beside each other on one level of the tree of suffixes, by its character; a leaf has none.
#[derive(Debug, Default)]
struct Suffix {
    character: u32,
    leaf: Option<(String, u32)>,
    children: Vec<Suffix>,
}

struct Writer {
    bytes: Vec<u8>,
    offsets: GlibTable<u32>,
}

impl Writer {
    /// Too large a file is found out in the end.
    fn here(&self) -> u32 {
        narrow(self.bytes.len())
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    fn number(&mut self, number: usize) {
        self.word(narrow(number));
    }

    fn string(&mut self, text: &str) {
        let offset = self.offsets.get(text).copied().unwrap_or(0);
        self.word(offset);
    }

    fn padded(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn strings(&mut self, database: &Database) {
        let mut pool = GlibTable::default();
        let mut add = |text: &str| pool.insert(text, ());
        for (alias, mime) in database.aliases.iter() {
            add(alias);
            add(mime);
        }
        for (mime, parents) in database.parents.iter() {
            add(mime);
            parents.iter().for_each(|parent| add(parent));
        }
        for (pattern, globs) in database.globs.iter() {
            if Pattern::of(pattern) != Pattern::Suffix {
                add(pattern);
            }
            globs.iter().for_each(|glob| add(&glob.mime));
        }
        database.magics.iter().for_each(|magic| add(&magic.mime));
        for (key, mime) in database.namespaces.iter() {
            add(mime);
            let (namespace, local) = key.split_once(' ').unwrap_or((key, ""));
            add(namespace);
            add(local);
        }
        for (mime, icon) in database.generic_icons.iter().chain(database.icons.iter()) {
            add(mime);
            add(icon);
        }
        let mut offsets = GlibTable::default();
        for (text, ()) in pool.iter() {
            offsets.insert(text, self.here());
            self.padded(&[text.as_bytes(), &[0]].concat());
        }
        self.offsets = offsets;
    }

    fn pairs(&mut self, table: &GlibTable<String>) {
        self.number(table.len());
        for (key, value) in sorted(table) {
            self.string(key);
            self.string(value);
        }
    }

    fn namespaces(&mut self, database: &Database) {
        self.number(database.namespaces.len());
        for (key, mime) in sorted(&database.namespaces) {
            let (namespace, local) = key.split_once(' ').unwrap_or((key, ""));
            self.string(namespace);
            self.string(local);
            self.string(mime);
        }
    }

    fn parents(&mut self, database: &Database) {
        let all = sorted(&database.parents);
        self.number(all.len());
        let mut offset = self.bytes.len() + 8 * all.len();
        for (mime, parents) in &all {
            self.string(mime);
            self.number(offset);
            offset += 4 + 4 * parents.len();
        }
        for (_, parents) in all {
            self.number(parents.len());
            parents.iter().for_each(|parent| self.string(parent));
        }
    }

    fn globs(&mut self, database: &Database, kind: Pattern) {
        let all = sorted(&database.globs).into_iter();
        let globs: Vec<_> = all
            .filter(|(pattern, _)| Pattern::of(pattern) == kind)
            .flat_map(|(_, globs)| globs)
            .collect();
        self.number(globs.len());
        for glob in globs {
            self.string(&glob.pattern);
            self.string(&glob.mime);
            self.word(weight(glob));
        }
    }

    fn suffixes(&mut self, database: &Database) {
        let mut level = Vec::new();
        for (pattern, globs) in database.globs.iter() {
            if Pattern::of(pattern) == Pattern::Suffix {
                let characters: Vec<_> = pattern[1..].chars().rev().map(u32::from).collect();
                globs
                    .iter()
                    .for_each(|glob| insert(&mut level, &characters, glob));
            }
        }
        self.number(level.len());
        let mut level: Vec<_> = level.iter().collect();
        let mut children = self.bytes.len() + 4;
        self.number(children);
        children += 12 * level.len();
        while !level.is_empty() {
            for entry in &level {
                self.word(entry.character);
                match &entry.leaf {
                    Some((mime, weight)) => {
                        self.string(mime);
                        self.word(*weight);
                    }
                    None => {
                        self.number(entry.children.len());
                        self.number(children);
                    }
                }
                children += 12 * entry.children.len();
            }
            level = level.into_iter().flat_map(|entry| &entry.children).collect();
        }
    }

    fn magics(&mut self, database: &Database) {
        let magics = &database.magics;
        let mut all = Vec::new();
        for magic in magics {
            in_order(&magic.matches, &mut all);
        }
        let extent = |it: &&Match| {
            let range = it.range.cast_unsigned();
            // In 32 bits, as the tool counts.
            (it.start.cast_unsigned() as u32)
                .wrapping_add(narrow(it.data.len()))
                .wrapping_add(range)
        };
        self.number(magics.len());
        self.word(all.iter().map(extent).max().unwrap_or(0));
        self.number(self.bytes.len() + 4);
        let base = self.bytes.len() + 16 * magics.len();
        let places: std::collections::HashMap<_, _> = all
            .iter()
            .enumerate()
            .map(|(number, &it)| (std::ptr::from_ref(it), base + 32 * number))
            .collect();
        let place = |matches: &[Match]| {
            let first = matches.first().map(std::ptr::from_ref);
            first.and_then(|first| places.get(&first)).copied().unwrap_or(0)
        };
        for magic in magics {
            self.word(magic.priority.cast_unsigned());
            self.string(&magic.mime);
            self.number(magic.matches.len());
            self.number(place(&magic.matches));
        }
        let mut data = base + 32 * all.len();
        for it in &all {
            self.word(it.start.cast_unsigned() as u32);
            self.word(it.range.cast_unsigned());
            self.word(it.word_size.into());
            self.number(it.data.len());
            self.number(data);
            data = (data + it.data.len()).next_multiple_of(4);
            if let Some(mask) = &it.mask {
                self.number(data);
                data = (data + mask.len()).next_multiple_of(4);
            } else {
                self.word(0);
            }
            self.number(it.matches.len());
            self.number(place(&it.matches));
        }
        for it in &all {
            self.padded(&it.data);
            if let Some(mask) = &it.mask {
                self.padded(mask);
            }
        }
    }
}

/// All of a list first, then what is below each.
fn in_order<'a>(matches: &'a [Match], all: &mut Vec<&'a Match>) {
    all.extend(matches);
    for it in matches {
        in_order(&it.matches, all);
    }
}

/// Wraps where the file is too large to be written at all.
fn narrow(number: usize) -> u32 {
    number as u32
}

fn sorted<V>(table: &GlibTable<V>) -> Vec<(&str, &V)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn insert(level: &mut Vec<Suffix>, characters: &[u32], glob: &Glob) {
    let Some((&character, rest)) = characters.split_first() else {
        // Leaves come before what goes on, those of one type are one.
        let leaves = level.iter().take_while(|entry| entry.leaf.is_some()).count();
        let weight = weight(glob);
        for (mime, known) in level[..leaves].iter_mut().filter_map(|entry| entry.leaf.as_mut()) {
            if *mime == glob.mime {
                if (*known & 0xff) < (weight & 0xff) {
                    *known = (*known & CASE_SENSITIVE) | (weight & 0xff);
                }
                return;
            }
        }
        let leaf = Some((glob.mime.clone(), weight));
        level.insert(
            leaves,
            Suffix {
                leaf,
                ..Suffix::default()
            },
        );
        return;
    };
    let place = level.partition_point(|entry| entry.leaf.is_some() || entry.character < character);
    if level.get(place).is_none_or(|entry| entry.character != character) {
        level.insert(
            place,
            Suffix {
                character,
                ..Suffix::default()
            },
        );
    }
    insert(&mut level[place].children, rest, glob);
}
