//! XML as libxml2 would have it in memory, as far as databases of MIME types need it.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

/// The namespace of the specification.
pub const NAMESPACE: &str = "http://www.freedesktop.org/standards/shared-mime-info";
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Without prefix.
    pub name: String,
    /// Whether it is of [`NAMESPACE`].
    pub ours: bool,
    pub prefixed: bool,
    /// Names as they are written, `xml:lang` among them; declarations of namespaces left out.
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Child>,
    /// Where it begins.
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child {
    Element(Element),
    Text(String),
    /// A comment, a CDATA section or an instruction.
    Other,
}

/// What is wrong with a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    Malformed { at: u64, what: String },
    Unsupported(String),
}

impl Element {
    /// The attribute `name` without a namespace.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|child| match child {
            Child::Element(element) => Some(element),
            _ => None,
        })
    }
}

/// The root element of the document in `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Element, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| Problem::Malformed {
        at: error.valid_up_to() as u64,
        what: "it is not UTF-8 text".to_owned(),
    })?;
    if let Some(at) = text.find('\0') {
        let (at, what) = (at as u64, "there is a NUL in it".to_owned());
        return Err(Problem::Malformed { at, what });
    }
    let mut reader = NsReader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let at = reader.buffer_position();
        let malformed = |what: String| Problem::Malformed { at, what };
        let (found, event) = reader
            .read_resolved_event()
            .map_err(|error| malformed(error.to_string()))?;
        let child = match event {
            Event::Start(start) => {
                if root.is_some() && open.is_empty() {
                    return Err(malformed("there is a second root element".to_owned()));
                }
                if open.len() >= DEEPEST {
                    return Err(malformed(format!("elements are nested more than {DEEPEST} deep")));
                }
                let ours = match found {
                    ResolveResult::Bound(Namespace(namespace)) => namespace == NAMESPACE,
                    ResolveResult::Unbound => false,
                    ResolveResult::Unknown(prefix) => {
                        return Err(malformed(format!("the prefix `{prefix}` is declared nowhere")));
                    }
                };
                open.push(element(&start, ours, at)?);
                continue;
            }
            Event::End(_) => {
                let Some(element) = open.pop() else {
                    return Err(malformed("an element ends that has not begun".to_owned()));
                };
                if open.is_empty() {
                    root = Some(element);
                    continue;
                }
                Child::Element(element)
            }
            Event::Text(text) => Child::Text(text.replace("\r\n", "\n").replace('\r', "\n")),
            Event::GeneralRef(name) => Child::Text(reference(&name, at)?.to_string()),
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose();
                let encoding = encoding.map_err(|error| malformed(error.to_string()))?;
                let encoding = encoding.map(|name| name.to_ascii_lowercase());
                match encoding.as_deref() {
                    None | Some("utf-8" | "us-ascii" | "ascii") => continue,
                    Some(name) => {
                        return Err(Problem::Unsupported(format!(
                            "it is written in {name}, not in UTF-8"
                        )));
                    }
                }
            }
            Event::DocType(text) => {
                // Defaults of attributes count for programs that ask for them only.
                if text.contains("<!ENTITY") {
                    return Err(Problem::Unsupported("it declares entities of its own".to_owned()));
                }
                continue;
            }
            Event::Comment(_) | Event::CData(_) | Event::PI(_) => Child::Other,
            Event::Empty(_) => continue,
            Event::Eof => break,
        };
        match (open.last_mut(), child) {
            (Some(parent), Child::Text(text)) => {
                // Text around a reference is one piece.
                if let Some(Child::Text(before)) = parent.children.last_mut() {
                    before.push_str(&text);
                } else {
                    parent.children.push(Child::Text(text));
                }
            }
            (Some(parent), child) => parent.children.push(child),
            (None, Child::Text(text)) if !text.trim().is_empty() => {
                return Err(malformed("there is text outside of the root element".to_owned()));
            }
            (None, _) => {}
        }
    }
    let at = reader.buffer_position();
    match root {
        Some(root) if open.is_empty() => Ok(root),
        _ => Err(Problem::Malformed {
            at,
            what: "it ends before its root element does".to_owned(),
        }),
    }
}

fn element(start: &BytesStart<'_>, ours: bool, at: u64) -> Result<Element, Problem> {
    let malformed = |what: String| Problem::Malformed { at, what };
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| malformed(error.to_string()))?;
        let key: &str = attribute.key.as_ref();
        if key == "xmlns" || key.starts_with("xmlns:") {
            continue;
        }
        attributes.push((key.to_owned(), unescape(&attribute.value, at)?));
    }
    let name = start.name();
    Ok(Element {
        name: start.local_name().as_ref().to_owned(),
        ours,
        prefixed: name.prefix().is_some(),
        attributes,
        children: Vec::new(),
        at,
    })
}

/// The character that `&name;` stands for.
fn reference(name: &str, at: u64) -> Result<char, Problem> {
    let number = match name {
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "amp" => return Ok('&'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        _ => match (name.strip_prefix("#x"), name.strip_prefix('#')) {
            (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
            (None, Some(digits)) => digits.parse().ok(),
            (None, None) => None,
        },
    };
    let found = number.and_then(char::from_u32);
    let found = found.filter(|&c| c >= ' ' || "\t\n\r".contains(c));
    found.ok_or_else(|| Problem::Malformed {
        at,
        what: format!("`&{name};` stands for nothing"),
    })
}

/// An attribute's value: white space that is written plainly counts as blanks.
fn unescape(raw: &str, at: u64) -> Result<String, Problem> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find(['&', '<', '\t', '\n', '\r']) {
        value.push_str(&rest[..place]);
        let special = rest.as_bytes()[place];
        rest = &rest[place + 1..];
        match special {
            b'&' => {
                let Some((name, tail)) = rest.split_once(';') else {
                    let what = "a reference has no end".to_owned();
                    return Err(Problem::Malformed { at, what });
                };
                value.push(reference(name, at)?);
                rest = tail;
            }
            b'<' => {
                let what = "there is `<` in an attribute".to_owned();
                return Err(Problem::Malformed { at, what });
            }
            b'\r' if rest.starts_with('\n') => {}
            _ => value.push(' '),
        }
    }
    value.push_str(rest);
    Ok(value)
}
