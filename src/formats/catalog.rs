//! The message catalog of systemd's journal: `*.catalog` text, compiled into the `database` that journalctl reads.
//!
//! Text: entries that begin with `-- <message id> [language]` behind an empty line; what follows, header lines and a
//! message, is the entry's payload. A file `name.<language>.catalog` says the language of its entries. A second entry
//! of the same id and language is combined with the first: its headers and body go before the first's.
//!
//! Binary (little endian): header, items sorted by id and language, then the payloads. Bytes are those of
//! `journalctl --update-catalog` (systemd 252 to 257).

use std::collections::BTreeMap;

use super::strbuf::{Strbuf, StrbufFull};

const SIGNATURE: &[u8; 8] = b"RHHHKSLP";
const HEADER_SIZE: u64 = 40;
const ITEM_SIZE: u64 = 56;
/// Of a language, with its NUL.
const LANGUAGE: usize = 32;
/// Bytes of one line at most, as systemd takes them.
const MAX_LINE: usize = 1 << 20;

/// A `.catalog` file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path, for messages and for the language of its entries.
    pub name: &'a [u8],
    pub text: &'a [u8],
}

/// The catalog cannot be made: systemd would refuse it too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("{file}:{line}: {what}")]
    Syntax {
        file: String,
        line: usize,
        what: &'static str,
    },
    #[error(transparent)]
    Strings(#[from] StrbufFull),
}

type Key = ([u8; 16], Vec<u8>);

/// Compiles `sources`, in this order; `None` where they have no entry.
///
/// # Errors
/// A text before the first entry, an entry without text, a language that is none, too long a line.
pub fn compile(sources: &[Source<'_>]) -> Result<Option<Vec<u8>>, CatalogError> {
    let mut catalog = Catalog::default();
    for source in sources {
        catalog.import(source)?;
    }
    if catalog.order.is_empty() {
        return Ok(None);
    }
    let mut strings = Strbuf::default();
    let mut items = BTreeMap::new();
    for key in &catalog.order {
        let payload = catalog.payloads.get(key).map(Vec::as_slice).unwrap_or_default();
        items.insert(key, strings.add(payload)?);
    }
    let mut out = SIGNATURE.to_vec();
    // Compatible and incompatible flags: none.
    out.extend_from_slice(&[0; 8]);
    for field in [HEADER_SIZE, items.len() as u64, ITEM_SIZE] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for ((id, language), offset) in items {
        out.extend_from_slice(id);
        let mut field = [0; LANGUAGE];
        field[..language.len()].copy_from_slice(language);
        out.extend_from_slice(&field);
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.extend_from_slice(strings.as_bytes());
    Ok(Some(out))
}

#[derive(Default)]
struct Catalog {
    payloads: BTreeMap<Key, Vec<u8>>,
    /// Keys as they first came: offsets depend on it.
    order: Vec<Key>,
}

/// An entry that is being read.
struct Entry {
    key: Key,
    payload: Vec<u8>,
}

impl Catalog {
    fn import(&mut self, source: &Source<'_>) -> Result<(), CatalogError> {
        let language = file_language(source.name);
        let mut entry: Option<Entry> = None;
        let mut empty_line = true;
        let mut number = 0;
        for line in source.text.split_inclusive(|&byte| byte == b'\n') {
            number += 1;
            let refused = |what| CatalogError::Syntax {
                file: String::from_utf8_lossy(source.name).into_owned(),
                line: number,
                what,
            };
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if line.len() >= MAX_LINE {
                return Err(refused("a line of more than 1 MiB"));
            }
            if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
                return Err(refused("a carriage return or NUL: lines end in newlines alone"));
            }
            match line.first() {
                None => {
                    empty_line = true;
                    continue;
                }
                Some(b'#' | b';') => continue,
                Some(_) => {}
            }
            if empty_line && let Some((id, rest)) = entry_line(line) {
                if let Some(done) = entry.take() {
                    self.finish(done).map_err(refused)?;
                }
                let own = match rest {
                    Some(text) => entry_language(text.trim_ascii(), language).map_err(refused)?,
                    None => None,
                };
                let language = own.or(language).unwrap_or_default().to_vec();
                entry = Some(Entry {
                    key: (id, language),
                    payload: Vec::new(),
                });
                empty_line = false;
                continue;
            }
            let Some(entry) = &mut entry else {
                return Err(refused("text before the first `-- <message id>` line"));
            };
            if empty_line {
                entry.payload.push(b'\n');
            }
            entry.payload.extend_from_slice(line);
            entry.payload.push(b'\n');
            empty_line = false;
        }
        match entry {
            Some(done) => self.finish(done).map_err(|what| CatalogError::Syntax {
                file: String::from_utf8_lossy(source.name).into_owned(),
                line: number,
                what,
            }),
            None => Ok(()),
        }
    }

    fn finish(&mut self, entry: Entry) -> Result<(), &'static str> {
        if entry.payload.is_empty() {
            return Err("the entry above has no text");
        }
        match self.payloads.get_mut(&entry.key) {
            Some(first) => *first = combine(&entry.payload, first),
            None => {
                self.order.push(entry.key.clone());
                self.payloads.insert(entry.key, entry.payload);
            }
        }
        Ok(())
    }
}

/// Headers of both, then the body of `one`, or of `two` where `one` has none.
fn combine(one: &[u8], two: &[u8]) -> Vec<u8> {
    let split = |text: &[u8]| {
        let mut at = 0;
        while let Some(len) = text[at..].iter().position(|&byte| byte == b'\n')
            && len > 0
        {
            at += len + 1;
        }
        at
    };
    let ((head, body), (second_head, second_body)) = (one.split_at(split(one)), two.split_at(split(two)));
    let body = if body.is_empty() { second_body } else { body };
    [head, second_head, body].concat()
}

/// `-- <32 hexadecimal digits>`, and what follows a space behind them.
fn entry_line(line: &[u8]) -> Option<([u8; 16], Option<&[u8]>)> {
    let rest = line.strip_prefix(b"-- ")?;
    let (digits, rest) = rest.split_at_checked(32)?;
    let rest = match rest {
        [] => None,
        [b' ', rest @ ..] => Some(rest),
        _ => return None,
    };
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8;
    }
    Some((id, rest))
}

fn entry_language<'a>(text: &'a [u8], of_file: Option<&[u8]>) -> Result<Option<&'a [u8]>, &'static str> {
    match text.len() {
        0 | 1 => Err("a language has two letters at least"),
        LANGUAGE.. => Err("a language has 31 letters at most"),
        _ => Ok(Some(text).filter(|text| Some(*text) != of_file)),
    }
}

/// `de` of `/path/name.de.catalog`.
fn file_language(name: &[u8]) -> Option<&[u8]> {
    let stem = name.strip_suffix(b".catalog")?;
    let at = stem.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let language = &stem[at + 1..];
    (stem[at] == b'.' && (1..LANGUAGE).contains(&language.len())).then_some(language)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::formats::testing::{run, tool};
    use crate::testing;

    /// What `journalctl` makes of `files`, and what we make of them.
    fn both(files: &[(&str, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib/systemd/catalog");
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let option = format!("--root={}", root.path().display());
        run("journalctl", ["--update-catalog", &option]);
        let theirs = fs::read(root.path().join("var/lib/systemd/catalog/database")).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|(name, _)| format!("/usr/lib/systemd/catalog/{name}"))
            .collect();
        let sources: Vec<_> = names
            .iter()
            .zip(files)
            .map(|(name, (_, text))| Source {
                name: name.as_bytes(),
                text,
            })
            .collect();
        (theirs, compile(&sources).unwrap().unwrap())
    }

    #[test]
    fn databases_are_those_of_journalctl() {
        if !tool("journalctl") {
            return;
        }
        let id = |digit: &str| digit.repeat(32);
        let (a, b) = (id("a"), id("3"));
        let text = |text: &str| text.as_bytes().to_vec();
        let first = format!(
            "# c\n-- {b}\nSubject: b\n\nBody of\nb\n\n; c\n-- {a}\nSubject: a\nDefined-By: x\n\n\n  A\n"
        );
        let second = format!("\n-- {a} \nSupport: y\n\n-- {b}\nno new entry\n\nSubject: head only\n");
        let odd = format!(
            "-- {a} fr\nSubject: f\n\nF\n\n-- {b} de\nSubject: d\n\n-- nothing\n-- {b}x\n\n-- {a}\nS: e\n\nlast"
        );
        let second = second.replace(" \nSupport", " pt_BR\nSupport");
        for files in [
            vec![("1.catalog", text(&first))],
            vec![
                ("1.catalog", text(&first)),
                ("2.catalog", text(&first)),
                ("3.catalog", text(&second)),
            ],
            vec![
                ("1.catalog", text(&second)),
                ("2.catalog", text(&first)),
                ("3.de.catalog", text(&odd)),
            ],
        ] {
            let (theirs, ours) = both(&files);
            assert!(
                theirs == ours,
                "{}\n{}",
                theirs.escape_ascii(),
                ours.escape_ascii()
            );
        }

        let Some(tools) = testing::trixie_tools() else {
            return testing::skip("the newer tools are missing: run tests/setup");
        };
        let mut names: Vec<_> = fs::read_dir(tools.join("root/usr/lib/systemd/catalog"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        let files: Vec<_> = names
            .iter()
            .map(|path| {
                (
                    path.file_name().unwrap().to_str().unwrap(),
                    fs::read(path).unwrap(),
                )
            })
            .collect();
        let (theirs, ours) = both(&files);
        assert!(ours.len() > 100_000, "{} bytes", ours.len());
        assert!(theirs == ours);
    }

    #[test]
    fn what_systemd_refuses_is_refused() {
        let entry = format!("-- {}", "a".repeat(32));
        for (text, expected) in [
            (
                "text\n".to_owned(),
                "x.catalog:1: text before the first `-- <message id>` line",
            ),
            (format!("{entry}\n"), "x.catalog:1: the entry above has no text"),
            (
                format!("{entry}\n\n{entry}\nx\n"),
                "x.catalog:3: the entry above has no text",
            ),
            (
                format!("{entry} d\nx\n"),
                "x.catalog:1: a language has two letters at least",
            ),
            (
                format!("{entry} {}\nx\n", "d".repeat(32)),
                "x.catalog:1: a language has 31 letters at most",
            ),
            (
                format!("{entry}\nx\r\n"),
                "x.catalog:2: a carriage return or NUL: lines end in newlines alone",
            ),
        ] {
            let source = Source {
                name: b"x.catalog",
                text: text.as_bytes(),
            };
            assert_eq!(compile(&[source]).unwrap_err().to_string(), expected);
        }
        assert_eq!(compile(&[]).unwrap(), None);
    }
}
