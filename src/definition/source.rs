//! Definition files: reading them, their text, and places in it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Longest definition that is read.
const MAX_BYTES: u64 = 4 << 20;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    File,
    Directory,
}

/// Where definitions come from; tests give their own.
pub trait Loader {
    /// The text of the definition at `path`.
    ///
    /// # Errors
    /// Where it cannot be read, is not UTF-8 or too long.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// What lies at `path`, symbolic links followed; `None` where nothing does.
    fn found(&self, path: &Path) -> Option<Found>;

    /// Whether what a definition names must be there when it is read.
    fn demands_presence(&self) -> bool {
        true
    }
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("it is longer than the 4 MiB of a definition"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            io::Error::other(format!("it is not UTF-8: byte {at} begins no character"))
        })
    }

    fn found(&self, path: &Path) -> Option<Found> {
        let kind = std::fs::metadata(path).ok()?;
        if kind.is_dir() {
            Some(Found::Directory)
        } else {
            Some(Found::File)
        }
    }
}

/// The file system, for definitions whose sources have done their part and may be gone.
#[derive(Debug, Clone, Copy)]
pub struct SpentDisk;

impl Loader for SpentDisk {
    fn read(&self, path: &Path) -> io::Result<String> {
        Disk.read(path)
    }

    fn found(&self, path: &Path) -> Option<Found> {
        Disk.found(path)
    }

    fn demands_presence(&self) -> bool {
        false
    }
}

/// A place in one of the files of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// Index into [`Sources`].
    pub source: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(source: usize, range: Range<usize>) -> Self {
        Self {
            source,
            start: range.start,
            end: range.end,
        }
    }
}

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: Arc<str>,
    /// The item of `extends` that named it first.
    pub included_at: Option<Span>,
}

/// The files of a definition, the one asked for first.
#[derive(Debug, Default)]
pub(super) struct Sources(pub Vec<Source>);

impl Sources {
    /// Line and column, both from 1, the column in characters.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let text = self.0.get(span.source).map_or("", |source| &*source.text);
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or("");
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    /// `file:line:column`.
    pub fn place(&self, span: Span) -> String {
        let (line, column) = self.line_column(span);
        let path = self.0.get(span.source).map(|source| source.path.display());
        path.map_or_else(String::new, |path| format!("{path}:{line}:{column}"))
    }
}

/// Where the lock of user and group numbers lies unless the definition at `path` names another place.
pub fn ids_beside(path: &Path) -> PathBuf {
    path.with_extension("ids.lock")
}

/// `path` taken from the directory of the file `from`, `.` and `..` worked out in the text (a
/// symbolic link does not change what `..` means).
pub(super) fn beside(from: &Path, path: &str) -> PathBuf {
    normalised(&from.parent().unwrap_or(Path::new("")).join(path))
}

/// Without `.` components, and without `..` where a name stands before it.
pub(super) fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir) => {}
                _ => out.push(".."),
            },
            part => out.push(part),
        }
    }
    out
}

/// `path` as seen from directory `from`, both normalised and both absolute or both relative to
/// one directory; `path` itself where no way leads there.
pub(super) fn relative(path: &Path, from: &Path) -> PathBuf {
    let (mut there, mut here) = (path.components().peekable(), from.components().peekable());
    while there.peek().is_some() && there.peek() == here.peek() {
        there.next();
        here.next();
    }
    let mut out = PathBuf::new();
    for part in here {
        match part {
            Component::Normal(_) => out.push(".."),
            _ => return path.to_path_buf(),
        }
    }
    out.extend(there);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_file_that_names_them() {
        let cases = [
            ("image-defs/a.toml", "../kernel-configs/x", "kernel-configs/x"),
            ("a.toml", "../x", "../x"),
            ("/a/b/c.toml", "./../../../../x", "/x"),
            ("/a/b.toml", "/srv/x", "/srv/x"),
        ];
        for (from, path, want) in cases {
            assert_eq!(
                beside(Path::new(from), path),
                Path::new(want),
                "{path} from {from}"
            );
        }
    }

    #[test]
    fn a_path_is_shown_from_the_definition() {
        let cases = [
            ("kernel-configs/x", "image-defs", "../kernel-configs/x"),
            ("image-defs/common/x", "image-defs", "common/x"),
            ("/p/x", "/p/image-defs", "../x"),
            ("../x", "", "../x"),
            ("x", "..", "x"),
        ];
        for (path, from, want) in cases {
            assert_eq!(
                relative(Path::new(path), Path::new(from)),
                Path::new(want),
                "{path} from {from}"
            );
        }
    }

    #[test]
    fn places_count_characters() {
        let source = Source {
            path: "d.toml".into(),
            text: "a = 1\nü = \"x\"\n".into(),
            included_at: None,
        };
        let sources = Sources(vec![source]);
        assert_eq!(sources.place(Span::new(0, 11..14)), "d.toml:2:5");
    }
}
