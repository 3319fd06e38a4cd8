//! What a source says of types.

use super::document::{self, Child, Element, Problem};
use super::value;
use super::{Database, Glob, Magic, Match, MimeError, Source, TreeMagic, TreeMatch};

/// Kinds of types that the specification knows; others are remarked on.
pub const MEDIA: [&str; 16] = [
    "all",
    "uri",
    "print",
    "text",
    "application",
    "image",
    "audio",
    "inode",
    "video",
    "message",
    "model",
    "multipart",
    "x-content",
    "x-epoc",
    "x-scheme-handler",
    "font",
];
/// Stands for the patterns and the contents of a type that is to have none.
const NO_GLOBS: &str = "__NOGLOBS__";
const NO_MAGIC: &str = "__NOMAGIC__";
const DEFAULT: i32 = 50;

/// What ends the reading of one type.
enum Stop {
    /// The tool remarks on it, and passes over the rest of the type.
    Remark(String),
    Unsupported(String),
}

impl From<String> for Stop {
    fn from(remark: String) -> Self {
        Self::Remark(remark)
    }
}

/// Adds to `database` what `source` says.
pub fn read(
    source: &Source<'_>,
    database: &mut Database,
    remarks: &mut Vec<String>,
) -> Result<(), MimeError> {
    let file = source.name;
    let unsupported = |what: String| MimeError::Unsupported {
        file: file.to_owned(),
        what,
    };
    let root = document::parse(source.bytes).map_err(|problem| match problem {
        Problem::Malformed { at, what } => MimeError::Malformed {
            file: file.to_owned(),
            at,
            what,
        },
        Problem::Unsupported(what) => unsupported(what),
    })?;
    if !root.ours || root.name != "mime-info" {
        remarks.push(format!(
            "{file}: its root is not `mime-info` of {}",
            document::NAMESPACE
        ));
        return Ok(());
    }
    for node in root.elements() {
        let name = node.get("type");
        let (known, name) = match name {
            Some(name) if node.ours && node.name == "mime-type" => (split(name).is_some(), name),
            _ => (false, node.name.as_str()),
        };
        if !known {
            remarks.push(format!("{file}: `{name}` is no MIME type"));
            continue;
        }
        if !is_safe(name) {
            return Err(unsupported(format!(
                "`{name}` is a type that no file can be named after"
            )));
        }
        if database.types.get(name).is_none() {
            let media = name.split('/').next().unwrap_or_default();
            if !MEDIA.contains(&media) {
                remarks.push(format!("{file}: `{name}` is of no known kind"));
            }
            database.types.entry(name);
        }
        match load(name, node, database) {
            Ok(()) => {}
            Err(Stop::Remark(what)) => {
                remarks.push(format!("{file}: `{name}`: {what}; the rest of it is passed over"))
            }
            Err(Stop::Unsupported(what)) => return Err(unsupported(format!("`{name}`: {what}"))),
        }
    }
    Ok(())
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(_, subtype)| !subtype.contains('/'))
}

fn is_safe(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() < 200;
    !name.contains(['\n', ' ']) && split(name).is_some_and(|(media, subtype)| part(media) && part(subtype))
}

fn load(name: &str, node: &Element, database: &mut Database) -> Result<(), Stop> {
    for field in node.elements() {
        if !field.ours {
            return Err(Stop::Unsupported(format!(
                "`{}` is of another namespace",
                field.name
            )));
        }
        if process(name, field, database)? {
            keep(database.types.entry(name), field)?;
        }
    }
    Ok(())
}

/// Puts a field among those that the type's own file repeats.
fn keep(fields: &mut Vec<Element>, field: &Element) -> Result<(), Stop> {
    let plain = |child: &Child| matches!(child, Child::Text(_));
    let foreign = |(key, _): &(String, String)| key.contains(':') && key != "xml:lang";
    if field.prefixed || !field.children.iter().all(plain) || field.attributes.iter().any(foreign) {
        let what = format!("there is more in `{}` than text and plain attributes", field.name);
        return Err(Stop::Unsupported(what));
    }
    if field.name == "comment" {
        let language = field.get("xml:lang");
        let same = |it: &Element| it.name == "comment" && it.get("xml:lang") == language;
        if let Some(old) = fields.iter().position(same) {
            fields.remove(old);
        }
    }
    fields.push(field.clone());
    Ok(())
}

/// Takes in one field. Whether the type's own file repeats it.
fn process(mime: &str, field: &Element, database: &mut Database) -> Result<bool, Stop> {
    let missing = |attribute: &str| Stop::Remark(format!("`{}` has no `{attribute}`", field.name));
    match field.name.as_str() {
        "glob" => {
            let weight = hundredth(field, "weight");
            let pattern = field
                .get("pattern")
                .filter(|it| !it.is_empty())
                .ok_or_else(|| missing("pattern"))?;
            if pattern == "*" {
                return Err(Stop::Unsupported("a pattern is `*`, which fits all".to_owned()));
            }
            let case_sensitive = is_true(field, "case-sensitive");
            let pattern = match case_sensitive {
                true => pattern.to_owned(),
                false => pattern.to_ascii_lowercase(),
            };
            database.globs.entry(&pattern).push(Glob {
                mime: mime.to_owned(),
                weight: weight.unwrap_or(-1),
                case_sensitive,
                deletes: false,
                pattern,
            });
            weight.ok_or_else(|| "a glob's weight is not 0 to 100".to_owned())?;
            Ok(true)
        }
        "glob-deleteall" => {
            database.globs.entry(NO_GLOBS).push(Glob {
                pattern: NO_GLOBS.to_owned(),
                mime: mime.to_owned(),
                weight: 0,
                case_sensitive: false,
                deletes: true,
            });
            Ok(true)
        }
        "magic" => {
            let priority = hundredth(field, "priority")
                .ok_or_else(|| "a magic's priority is not 0 to 100".to_owned())?;
            let matches = matches(field)?;
            if matches.is_empty() {
                return Err(Stop::Remark("a magic has no match".to_owned()));
            }
            let (mime, deletes) = (mime.to_owned(), false);
            database.magics.push(Magic {
                priority,
                mime,
                deletes,
                matches,
            });
            Ok(false)
        }
        "magic-deleteall" => {
            let nothing = Match {
                start: 0,
                range: 1,
                word_size: 1,
                data: NO_MAGIC.as_bytes().to_vec(),
                mask: None,
                matches: Vec::new(),
            };
            let (mime, deletes) = (mime.to_owned(), true);
            database.magics.push(Magic {
                priority: 0,
                mime,
                deletes,
                matches: vec![nothing],
            });
            Ok(false)
        }
        "treemagic" => {
            let priority = hundredth(field, "priority")
                .ok_or_else(|| "a treemagic's priority is not 0 to 100".to_owned())?;
            let (mime, matches) = (mime.to_owned(), tree_matches(field)?);
            database.tree_magics.push(TreeMagic {
                priority,
                mime,
                matches,
            });
            Ok(false)
        }
        "comment" | "acronym" | "expanded-acronym" => Ok(true),
        "alias" | "sub-class-of" => {
            let other = field
                .get("type")
                .filter(|it| it.contains('/'))
                .ok_or_else(|| missing("type"))?;
            if field.name == "alias" {
                database.aliases.insert(other, mime.to_owned());
            } else {
                database.parents.entry(mime).push(other.to_owned());
            }
            Ok(true)
        }
        "root-XML" => {
            let namespace = field.get("namespaceURI").ok_or_else(|| missing("namespaceURI"))?;
            let local = field.get("localName").ok_or_else(|| missing("localName"))?;
            if namespace.is_empty() && local.is_empty() {
                return Err(Stop::Remark("both names of a root-XML are empty".to_owned()));
            }
            if namespace.contains([' ', '\n']) || local.contains([' ', '\n']) {
                return Err(Stop::Remark("a name of a root-XML has a blank in it".to_owned()));
            }
            database
                .namespaces
                .insert(&format!("{namespace} {local}"), mime.to_owned());
            Ok(false)
        }
        "icon" | "generic-icon" => {
            let Some(icon) = field.get("name") else {
                return Ok(false);
            };
            let icons = match field.name.as_str() {
                "icon" => &mut database.icons,
                _ => &mut database.generic_icons,
            };
            icons.insert(mime, icon.to_owned());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// A number from 0 to 100; `None` for any other text.
fn hundredth(field: &Element, attribute: &str) -> Option<i32> {
    let Some(text) = field.get(attribute) else {
        return Some(DEFAULT);
    };
    let (number, rest) = value::decimal(text)?;
    let number = i32::try_from(number).ok()?;
    (!text.is_empty() && rest.is_empty() && (0..=100).contains(&number)).then_some(number)
}

fn is_true(field: &Element, attribute: &str) -> bool {
    field.get(attribute) == Some("true")
}

fn check(node: &Element, expected: &str) -> Result<(), Stop> {
    if node.ours && node.name == expected {
        return Ok(());
    }
    Err(Stop::Remark(format!(
        "`{}` stands where `{expected}` should",
        node.name
    )))
}

fn matches(parent: &Element) -> Result<Vec<Match>, Stop> {
    let mut found = Vec::new();
    for node in parent.elements() {
        check(node, "match")?;
        let offset = node.get("offset").filter(|it| !it.is_empty());
        let offset = offset.ok_or_else(|| "a match has no offset".to_owned())?;
        let (start, range) = value::range(offset).ok_or_else(|| format!("`{offset}` is no offset"))?;
        let kind = node.get("type").ok_or_else(|| "a match has no type".to_owned())?;
        let text = node.get("value").filter(|it| !it.is_empty());
        let text = text.ok_or_else(|| "a match has no value".to_owned())?;
        let (data, mask) = value::value(kind, text, node.get("mask"))?;
        found.push(Match {
            start,
            range,
            word_size: match kind {
                "host16" => 2,
                "host32" => 4,
                _ => 1,
            },
            data,
            mask,
            matches: matches(node)?,
        });
    }
    Ok(found)
}

fn tree_matches(parent: &Element) -> Result<Vec<TreeMatch>, Stop> {
    let mut found = Vec::new();
    for node in parent.elements() {
        check(node, "treematch")?;
        let path = node
            .get("path")
            .ok_or_else(|| "a treematch has no path".to_owned())?;
        let kind = match node.get("type") {
            None => "any",
            Some("file") => "file",
            Some("directory") => "directory",
            Some("link") => "link",
            Some(other) => return Err(Stop::Remark(format!("`{other}` is no type of a treematch"))),
        };
        found.push(TreeMatch {
            path: path.to_owned(),
            kind,
            match_case: is_true(node, "match-case"),
            executable: is_true(node, "executable"),
            non_empty: is_true(node, "non-empty"),
            mime: node.get("mimetype").map(str::to_owned),
            matches: tree_matches(node)?,
        });
    }
    Ok(found)
}
