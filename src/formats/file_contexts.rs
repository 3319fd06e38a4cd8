//! SELinux's `file_contexts` and its companions: which label a file gets by its path and type.
//!
//! The text formats are those of file_contexts(5) and selabel_file(5). Lookups answer as libselinux 3.8 does
//! (`selabel_lookup`); where an entry of a later file says the same literal path as one of an earlier file, the later
//! one wins, as from libselinux 3.9 on and before 3.8.

mod lookup;
mod pattern;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use lookup::{CompileError, Database, FileContexts};
pub use pattern::PatternError;

/// Longest pattern, in bytes, that libselinux compiles.
const MAX_PATTERN: usize = 4095;
/// Longest context that the kernel takes as an attribute is a page, with its NUL.
const MAX_CONTEXT: usize = 4095;
/// Longest line of a substitution file that libselinux reads as one.
const MAX_SUBSTITUTION_LINE: usize = 1021;

/// The type of a file, by which entries can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    Directory,
    CharDevice,
    BlockDevice,
    Socket,
    Fifo,
    Symlink,
    Regular,
}

/// One entry of a `file_contexts` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// A regular expression by the rules of PCRE2, as written: ASCII, without white space.
    pub pattern: String,
    /// The only type that it labels; `None`: any.
    pub kind: Option<FileKind>,
    /// The label, without a trailing NUL; `None` for `<<none>>`: the file gets no label.
    pub context: Option<String>,
    /// From 1.
    pub line: usize,
}

/// A line of a substitution file: paths at and below `from` are labelled as if they lay below `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// A line that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    #[source]
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("`{0}` has no context after it: lines are `PATTERN [TYPE] CONTEXT`")]
    NoContext(String),
    #[error("it holds a byte that is not ASCII, which libselinux refuses")]
    NotAscii,
    #[error("it holds a NUL byte")]
    Nul,
    #[error("a line of {0} bytes is longer than the {MAX_SUBSTITUTION_LINE} that libselinux reads")]
    LongLine(usize),
    #[error("a pattern of {0} bytes is longer than the {MAX_PATTERN} that libselinux takes")]
    LongPattern(usize),
    #[error("`{0}` is no file type: those are -- -d -l -c -b -p -s")]
    Kind(String),
    #[error("`{0}` is no context: those are `user:role:type` or `user:role:type:range`, or `<<none>>`")]
    Context(String),
    #[error("the pattern `{pattern}` {fault}")]
    Pattern { pattern: String, fault: PatternError },
}

/// What C's `isspace` takes in the locale "C".
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty())
}

/// Lines that say something, with their numbers.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered = (1..).zip(text.split(|&byte| byte == b'\n'));
    numbered.filter(|(_, line)| {
        line.iter()
            .find(|&&byte| !is_space(byte))
            .is_some_and(|&byte| byte != b'#')
    })
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}

/// The entries of a `file_contexts`, `file_contexts.homedirs` or `file_contexts.local`, in order. Like libselinux it
/// takes no notice of what follows the context.
///
/// # Errors
/// The first line that is not an entry. Patterns are not looked into.
pub fn parse(text: &[u8]) -> Result<Vec<Spec>, SyntaxError> {
    lines(text)
        .map(|(line, bytes)| spec(bytes, line).map_err(|fault| SyntaxError { line, fault }))
        .collect()
}

fn spec(bytes: &[u8], line: usize) -> Result<Spec, Fault> {
    let mut fields = words(bytes).take(3);
    let mut field = || -> Result<Option<&str>, Fault> {
        let Some(word) = fields.next() else {
            return Ok(None);
        };
        if word.contains(&0) {
            return Err(Fault::Nul);
        }
        let ascii = word.is_ascii().then(|| std::str::from_utf8(word).ok()).flatten();
        ascii.map(Some).ok_or(Fault::NotAscii)
    };
    let pattern = field()?.unwrap_or_default();
    if pattern.len() > MAX_PATTERN {
        return Err(Fault::LongPattern(pattern.len()));
    }
    let Some(second) = field()? else {
        return Err(Fault::NoContext(shown(pattern.as_bytes())));
    };
    let (kind, context) = match field()? {
        Some(context) => (Some(second), context),
        None => (None, second),
    };
    let kind = kind.map(|word| FileKind::from_flag(word).ok_or_else(|| Fault::Kind(shown(word.as_bytes()))));
    Ok(Spec {
        pattern: pattern.to_owned(),
        kind: kind.transpose()?,
        context: self::context(context)?,
        line,
    })
}

/// Whether the policy knows the context can be said by the policy only; its shape can be checked.
fn context(text: &str) -> Result<Option<String>, Fault> {
    if text == "<<none>>" {
        return Ok(None);
    }
    let mut parts = text.splitn(4, ':');
    let named = parts.by_ref().take(3).filter(|part| !part.is_empty()).count() == 3;
    let ranged = parts.next().is_none_or(|range| !range.is_empty());
    if named && ranged && text.len() < MAX_CONTEXT && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Some(text.to_owned()))
    } else {
        Err(Fault::Context(shown(text.as_bytes())))
    }
}

/// The lines of a `file_contexts.subs` or `file_contexts.subs_dist`, in order. Like libselinux it takes no notice of
/// lines with one word.
///
/// # Errors
/// Lines longer than libselinux reads as one, NUL bytes.
pub fn parse_substitutions(text: &[u8]) -> Result<Vec<Substitution>, SyntaxError> {
    let mut found = Vec::new();
    for (line, bytes) in lines(text) {
        let fault = if bytes.contains(&0) {
            Some(Fault::Nul)
        } else {
            (bytes.len() > MAX_SUBSTITUTION_LINE).then_some(Fault::LongLine(bytes.len()))
        };
        if let Some(fault) = fault {
            return Err(SyntaxError { line, fault });
        }
        let mut words = words(bytes);
        if let (Some(from), Some(to)) = (words.next(), words.next()) {
            found.push(Substitution {
                from: from.into(),
                to: to.into(),
            });
        }
    }
    Ok(found)
}

impl FileKind {
    /// The type field of an entry: `--`, `-d` …
    pub fn from_flag(flag: &str) -> Option<Self> {
        Some(match flag {
            "-d" => Self::Directory,
            "-c" => Self::CharDevice,
            "-b" => Self::BlockDevice,
            "-s" => Self::Socket,
            "-p" => Self::Fifo,
            "-l" => Self::Symlink,
            "--" => Self::Regular,
            _ => return None,
        })
    }
}
