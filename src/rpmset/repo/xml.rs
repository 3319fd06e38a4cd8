//! XML of repositories, read as a stream within bounds.

use std::io::{self, BufRead, Read};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

/// Most bytes of one tag or one piece of text.
const LONGEST: u64 = 1 << 20;
const DEEPEST: usize = 32;

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("at byte {at}: {problem}")]
    Content { at: u64, problem: String },
}

/// An element's beginning or end.
#[derive(Debug)]
pub enum Token<'a> {
    Start(&'a Attributes),
    /// With the text that stood directly in it, blanks at both ends removed.
    End(&'a str),
}

/// Attributes by their names without prefix.
#[derive(Debug)]
pub struct Attributes(Vec<(String, String)>);

impl Attributes {
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// # Errors
    /// Where it is absent: in words.
    pub fn need(&self, name: &str) -> Result<&str, String> {
        self.get(name)
            .ok_or_else(|| format!("the attribute `{name}` is absent"))
    }
}

/// Goes through the document in `source`, and gives `take` each element of `namespace` with the names from the root
/// to it (`metadata/package/name`). Elements of other namespaces and what is in them are passed over. Entities are not
/// expanded, but for XML's own; a document type is refused.
///
/// # Errors
/// Where the document is malformed, goes beyond the bounds, or `take` refuses it.
pub fn read<R: BufRead>(
    source: R,
    namespace: &str,
    take: &mut dyn FnMut(&str, Token<'_>) -> Result<(), String>,
) -> Result<R, XmlError> {
    let mut reader = NsReader::from_reader(Bounded { source, since: 0 });
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    let mut path = String::new();
    // Lengths of the path before each open element, and the element's text.
    let mut open: Vec<(usize, String)> = Vec::new();
    loop {
        buffer.clear();
        reader.get_mut().since = 0;
        let at = reader.buffer_position();
        let content = |problem: String| XmlError::Content { at, problem };
        let (found, event) = match reader.read_resolved_event_into(&mut buffer) {
            Ok(read) => read,
            Err(quick_xml::Error::Io(error)) => {
                return Err(XmlError::Io(io::Error::new(error.kind(), error.to_string())));
            }
            Err(error) => return Err(content(error.to_string())),
        };
        match event {
            Event::Start(start) => {
                if open.len() >= DEEPEST {
                    return Err(content(format!(
                        "elements lie more than {DEEPEST} deep in each other"
                    )));
                }
                open.push((path.len(), String::new()));
                if !path.is_empty() {
                    path.push('/');
                }
                // No path that is looked for has this mark.
                let known = found == ResolveResult::Bound(Namespace(namespace));
                if !known {
                    path.push('?');
                }
                path.push_str(start.local_name().into_inner());
                if known {
                    let attributes = attributes(&start).map_err(content)?;
                    take(&path, Token::Start(&attributes)).map_err(content)?;
                }
            }
            Event::End(_) => {
                let Some((length, text)) = open.pop() else {
                    return Err(content("an element ends that has not begun".to_owned()));
                };
                if !path[length..].contains('?') {
                    take(&path, Token::End(text.trim())).map_err(content)?;
                }
                path.truncate(length);
            }
            Event::Text(text) => add(&mut open, &text.xml10_content()).map_err(content)?,
            Event::CData(text) => add(&mut open, &text.xml10_content()).map_err(content)?,
            Event::GeneralRef(reference) => {
                let text = resolve(&reference).map_err(content)?;
                add(&mut open, &text).map_err(content)?;
            }
            Event::DocType(_) => {
                return Err(content(
                    "it has a document type, which no repository has".to_owned(),
                ));
            }
            Event::Eof if open.is_empty() => return Ok(reader.into_inner().source),
            Event::Eof => return Err(content(format!("it ends within `{path}`"))),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn add(open: &mut [(usize, String)], piece: &str) -> Result<(), String> {
    let Some((_, text)) = open.last_mut() else {
        return Ok(());
    };
    if text.len() as u64 + piece.len() as u64 > LONGEST {
        return Err(format!("a text is longer than {LONGEST} bytes"));
    }
    text.push_str(piece);
    Ok(())
}

fn attributes(start: &BytesStart<'_>) -> Result<Attributes, String> {
    let mut found = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| error.to_string())?;
        let name = attribute.key.local_name().into_inner().to_owned();
        found.push((name, value.into_owned()));
    }
    Ok(Attributes(found))
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string());
    }
    let name = reference.xml10_content();
    match name.as_ref() {
        "amp" => Ok("&".to_owned()),
        "lt" => Ok("<".to_owned()),
        "gt" => Ok(">".to_owned()),
        "quot" => Ok("\"".to_owned()),
        "apos" => Ok("'".to_owned()),
        other => Err(format!(
            "the entity `{}` is not one of XML's own",
            other.escape_debug()
        )),
    }
}

/// Refuses to read on where one tag or text takes too much, before memory does.
struct Bounded<R> {
    source: R,
    since: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.since > LONGEST {
            return Err(io::Error::other(format!(
                "a tag or text is longer than {LONGEST} bytes"
            )));
        }
        let left = usize::try_from(LONGEST + 1 - self.since).unwrap_or(usize::MAX);
        let buffer = self.source.fill_buf()?;
        Ok(&buffer[..buffer.len().min(left)])
    }

    fn consume(&mut self, count: usize) {
        self.since += count as u64;
        self.source.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        let read = read(text.as_bytes(), "urn:a", &mut |path, token| {
            seen.push(match token {
                Token::Start(attributes) => format!("{path} {:?}", attributes.0),
                Token::End(text) => format!("/{path} {text}"),
            });
            Ok(())
        });
        read.map(|_| seen).map_err(|error| error.to_string())
    }

    #[test]
    fn elements_of_the_namespace_are_seen_whatever_their_prefix() {
        let text = r#"<?xml version="1.0"?><x:r xmlns:x="urn:a" xmlns="urn:b"><!-- c -->
            <x:e xml:base="b&amp;&#x41;" h='1'/><x:t> a&lt;b<![CDATA[<&]]> </x:t><e><x:in/></e></x:r>"#;
        assert_eq!(
            tokens(text).unwrap(),
            [
                "r []",
                "r/e [(\"base\", \"b&A\"), (\"h\", \"1\")]",
                "/r/e ",
                "r/t []",
                "/r/t a<b<&",
                "r/?e/in []",
                "/r/?e/in ",
                "/r "
            ]
        );
    }

    #[test]
    fn hostile_documents_are_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\">]><r xmlns='urn:a'>&a;</r>";
        let deep = "<r xmlns='urn:a'>".repeat(DEEPEST + 1);
        let long = format!("<r xmlns='urn:a'>{}</r>", "x".repeat(3 << 20));
        let tag = format!("<r xmlns='urn:a' a='{}'/>", "x".repeat(3 << 20));
        let pieces = format!(
            "<r xmlns='urn:a'>{}</r>",
            format!("{}&lt;", "x".repeat(1000)).repeat(1100)
        );
        for (text, expected) in [
            (bomb, "document type"),
            ("<r xmlns='urn:a'>&a;</r>", "entity `a`"),
            (&deep, "deep"),
            (&long, "longer than"),
            (&tag, "longer than"),
            (&pieces, "longer than"),
            ("<r xmlns='urn:a'><b></r>", "at byte"),
            ("<r xmlns='urn:a'><b>", "ends within `r/b`"),
            ("<r xmlns='urn:a' a='1' a='2'/>", "at byte"),
            ("<r xmlns='urn:a'>\u{0}", "ends within"),
            ("</r>", "at byte"),
        ] {
            let error = tokens(text).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(&b"<r xmlns='urn:a'>\xff</r>"[..], "urn:a", &mut |_, _| Ok(())).is_err());
    }
}
