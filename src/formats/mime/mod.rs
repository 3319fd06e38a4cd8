//! The database of MIME types: what `update-mime-database` makes of the XML files in `/usr/share/mime/packages`.
//!
//! By the Shared MIME-info specification 0.21; what it leaves open, the order of lines and strings above all, is as in
//! shared-mime-info 2.2, byte for byte.

mod cache;
mod document;
mod read;
mod text;
mod types;
mod value;

use super::glib_table::GlibTable;
use document::Element;
pub use read::MEDIA;

/// A source of the database.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// For messages.
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// The files of a database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Names below `/usr/share/mime`, and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the tool would have complained of, while it goes on.
    pub remarks: Vec<String>,
}

/// A source that no database is made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MimeError {
    #[error("{file}, byte {at}: {what}")]
    Malformed { file: String, at: u64, what: String },
    #[error("{file}: {what}")]
    Unsupported { file: String, what: String },
    #[error("together the types take more room than a file's offsets can name")]
    TooLarge,
}

/// `media/subtype`, with a slash in it.
type TypeName = String;

/// All that the sources say.
#[derive(Debug, Default)]
struct Database {
    /// The elements that each type's own file repeats.
    types: GlibTable<Vec<Element>>,
    globs: GlibTable<Vec<Glob>>,
    /// By `namespace localName`.
    namespaces: GlibTable<TypeName>,
    magics: Vec<Magic>,
    tree_magics: Vec<TreeMagic>,
    parents: GlibTable<Vec<TypeName>>,
    aliases: GlibTable<TypeName>,
    icons: GlibTable<String>,
    generic_icons: GlibTable<String>,
}

#[derive(Debug, Clone)]
struct Glob {
    pattern: String,
    mime: TypeName,
    weight: i32,
    case_sensitive: bool,
    /// It takes away the patterns of others.
    deletes: bool,
}

#[derive(Debug)]
struct Magic {
    priority: i32,
    mime: TypeName,
    deletes: bool,
    matches: Vec<Match>,
}

#[derive(Debug)]
struct Match {
    start: i64,
    /// How many offsets from `start` on.
    range: i32,
    word_size: u8,
    data: Vec<u8>,
    mask: Option<Vec<u8>>,
    matches: Vec<Match>,
}

#[derive(Debug)]
struct TreeMagic {
    priority: i32,
    mime: TypeName,
    matches: Vec<TreeMatch>,
}

#[derive(Debug)]
struct TreeMatch {
    path: String,
    kind: &'static str,
    match_case: bool,
    executable: bool,
    non_empty: bool,
    mime: Option<String>,
    matches: Vec<TreeMatch>,
}

/// Makes the database of `sources`, in the order in which the tool takes them: by name, `Override.xml` last. `version` is
/// that of the tool, as the file `version` has it.
///
/// # Errors
/// Where a source is malformed, or uses what is not supported here.
pub fn compile(sources: &[Source<'_>], version: &str) -> Result<Compiled, MimeError> {
    let mut database = Database::default();
    let mut remarks = Vec::new();
    for source in sources {
        read::read(source, &mut database, &mut remarks)?;
    }
    // Stable sorts, as GLib's are.
    database.magics.sort_by(|a, b| {
        let rank = |magic: &Magic| (!magic.deletes, std::cmp::Reverse(magic.priority));
        if a.deletes && b.deletes {
            return std::cmp::Ordering::Equal;
        }
        rank(a).cmp(&rank(b)).then_with(|| by_parts(&a.mime, &b.mime))
    });
    database.tree_magics.sort_by(|a, b| {
        let by_priority = b.priority.cmp(&a.priority);
        by_priority.then_with(|| by_parts(&a.mime, &b.mime))
    });
    let mut files = types::files(&database);
    files.extend(text::files(&database, &mut remarks));
    files.push(("mime.cache".to_owned(), cache::write(&database)?));
    files.push(("version".to_owned(), format!("{version}\n").into_bytes()));
    Ok(Compiled { files, remarks })
}

/// First by the part before the slash, then by that after it.
fn by_parts(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |name: &str| name.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests;
