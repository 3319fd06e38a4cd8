//! The hardware database of udev: `*.hwdb` text, compiled into the `hwdb.bin` that hwdb(7) looks modaliases up in.
//!
//! Text: records apart by empty lines; lines at the margin are matches (globs over modaliases), indented ones
//! `KEY=value`. A later file's value for the same match and key replaces an earlier one's. What a line lacks to be
//! either makes a remark, as systemd-hwdb warns and goes on.
//!
//! Binary (little endian): header, then nodes of a radix tree, children before their parents, then the strings. Every
//! node: its prefix, children by byte, properties by key; every property names its file, line and the file's rank.
//! Bytes are those of `systemd-hwdb update` (systemd 257).

#[cfg(test)]
mod tests;
mod trie;

use super::strbuf::StrbufFull;
use trie::{Property, Trie};

/// Bytes of one line at most, as systemd takes them.
const MAX_LINE: usize = 1 << 20;
/// Properties of all matches together: some ten times what systemd's and all known packages' files make.
const MAX_PROPERTIES: usize = 1 << 20;

/// A `.hwdb` file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path in the image, which properties name as their origin.
    pub name: &'a [u8],
    pub text: &'a [u8],
}

/// The compiled database.
#[derive(Debug)]
pub struct Compiled {
    pub bytes: Vec<u8>,
    pub properties: usize,
    /// Lines that count for nothing.
    pub remarks: Vec<Remark>,
}

/// A line that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub file: String,
    /// From 1.
    pub line: u32,
    pub what: &'static str,
}

/// The database cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HwdbError {
    #[error("{file}:{line}: a line of more than 1 MiB")]
    LongLine { file: String, line: u32 },
    #[error("{file}:{line}: more than {MAX_PROPERTIES} properties in all")]
    TooMany { file: String, line: u32 },
    #[error("{file}: more than 65535 files")]
    TooManyFiles { file: String },
    #[error("{file}:{line}: {source}")]
    Strings {
        file: String,
        line: u32,
        #[source]
        source: StrbufFull,
    },
}

/// Compiles `sources`, lesser ones first. `version` is systemd's, which the header tells.
///
/// # Errors
/// What is too large.
pub fn compile(sources: &[Source<'_>], version: u64) -> Result<Compiled, HwdbError> {
    let mut trie = Trie::default();
    let mut remarks = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let rank = u16::try_from(index + 1).map_err(|_| HwdbError::TooManyFiles {
            file: shown(source.name),
        })?;
        import(&mut trie, source, rank, &mut remarks)?;
    }
    Ok(Compiled {
        bytes: trie.to_bytes(version),
        properties: trie.properties(),
        remarks,
    })
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

enum State {
    /// Between records.
    Nothing,
    Matches,
    Properties,
}

fn import<'a>(
    trie: &mut Trie,
    source: &Source<'a>,
    rank: u16,
    remarks: &mut Vec<Remark>,
) -> Result<(), HwdbError> {
    let mut state = State::Nothing;
    let mut matches: Vec<&'a [u8]> = Vec::new();
    let mut number = 0u32;
    let mut rest = source.text;
    while let Some((line, after)) = next_line(rest) {
        rest = after;
        number = number.saturating_add(1);
        if line.len() >= MAX_LINE {
            let file = shown(source.name);
            return Err(HwdbError::LongLine { file, line: number });
        }
        if line.starts_with(b"#") {
            continue;
        }
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let line = trim_end(line);
        let mut remark = |what| {
            remarks.push(Remark {
                file: shown(source.name),
                line: number,
                what,
            });
        };
        let is_property = line.starts_with(b" ");
        match state {
            State::Nothing if line.is_empty() => {}
            State::Nothing if is_property => remark("a property without a match above it"),
            State::Nothing => {
                state = State::Matches;
                matches.push(line);
            }
            State::Matches if line.is_empty() => {
                remark("the record above has no properties");
                state = State::Nothing;
                matches.clear();
            }
            State::Matches if !is_property => matches.push(line),
            State::Properties if line.is_empty() => {
                state = State::Nothing;
                matches.clear();
            }
            State::Properties if !is_property => {
                remark("a match right below properties: an empty line must stand between records");
                state = State::Nothing;
                matches.clear();
            }
            State::Matches | State::Properties => {
                state = State::Properties;
                match key_and_value(line) {
                    Ok((key, value)) => {
                        let property = Property {
                            key,
                            value,
                            file: source.name,
                            line: number,
                            rank,
                        };
                        insert(trie, &matches, &property)?;
                    }
                    Err(what) => remark(what),
                }
            }
        }
    }
    if matches!(state, State::Matches) {
        remarks.push(Remark {
            file: shown(source.name),
            line: number,
            what: "the record above has no properties",
        });
    }
    Ok(())
}

fn insert(trie: &mut Trie, matches: &[&[u8]], property: &Property<'_>) -> Result<(), HwdbError> {
    let place = || (shown(property.file), property.line);
    for pattern in matches {
        trie.insert(pattern, property).map_err(|source| {
            let (file, line) = place();
            HwdbError::Strings { file, line, source }
        })?;
        if trie.properties() > MAX_PROPERTIES {
            let (file, line) = place();
            return Err(HwdbError::TooMany { file, line });
        }
    }
    Ok(())
}

/// ` KEY=value`, the key with the one blank before it by which readers tell properties of this form.
fn key_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
        return Err("a property is written KEY=value");
    };
    let (mut key, value) = (&line[..equals], &line[equals + 1..]);
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    while blank(key.first()) && blank(key.get(1)) {
        key = &key[1..];
    }
    if key.len() <= 1 {
        return Err("the property's key is empty");
    }
    Ok((key, value))
}

fn trim_end(line: &[u8]) -> &[u8] {
    let kept = line
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r'));
    &line[..kept.map_or(0, |last| last + 1)]
}

/// The next line, and what follows it. Ends of lines are LF, CR and NUL, or a sequence of different ones of them that
/// NUL closes.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    let len = text.iter().position(is_end).unwrap_or(text.len());
    let mut end = len;
    while let Some(byte) = text.get(end).filter(|byte| is_end(byte)) {
        let ends = &text[len..end];
        if ends.contains(&0) || ends.contains(byte) {
            break;
        }
        end += 1;
    }
    Some((&text[..len], &text[end..]))
}
