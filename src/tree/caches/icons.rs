//! `gtk-update-icon-cache DIRECTORY`: the index of an icon theme.

use super::{CacheError, Report, program, put};
use crate::formats::icon_cache::{self, Directory, Entry, IconCacheError};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Tree};

const COMMAND: &str = "gtk-update-icon-cache";
const NAME: &[u8] = b"icon-theme.cache";
const INDEX: &[u8] = b"index.theme";
const ORIGIN: &str = "the index of an icon theme";
/// Deeper than any theme; links may make a theme endless.
const DEEPEST: usize = 16;
const MOST: usize = 1 << 20;

/// A run of the tool that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Theme {
    /// `gtk-update-icon-cache` or `gtk4-update-icon-cache`.
    pub program: String,
    pub path: TreePath,
    /// Whether it may lack an `index.theme`.
    pub without_index: bool,
}

/// Makes the cache of `theme`, dated not earlier than the theme's directory: GTK would pass over it.
///
/// # Errors
/// Where the theme has what is not put into caches here.
pub fn run(tree: &mut Tree, theme: &Theme, time: i64) -> Result<Option<Report>, CacheError> {
    if program(tree, &theme.program).is_none() {
        return Ok(None);
    }
    let Some(real) = tree.resolve(&theme.path) else {
        return Ok(None);
    };
    let Some(node) = tree.get(&real).filter(|node| node.children().is_some()) else {
        return Ok(None);
    };
    if !theme.without_index && tree.file(&real.join_name(INDEX)).is_none() {
        return Ok(None);
    }
    let time = time.max(node.meta.mtime);
    let cannot = |source| CacheError::Icons {
        theme: theme.path.clone(),
        source,
    };
    let mut room = MOST;
    let found = scan(tree, &real, String::new(), 0, &mut room).map_err(cannot)?;
    let (bytes, remarks) = match icon_cache::write(&found) {
        Ok(bytes) => (bytes, Vec::new()),
        Err(error @ IconCacheError::Name(_)) => {
            (None, vec![format!("{} gets no cache: {error}", theme.path)])
        }
        Err(error) => return Err(cannot(error)),
    };
    let place = real.join_name(NAME);
    let mut written = Vec::new();
    match bytes {
        Some(bytes) => {
            put(tree, &place, 0o644, time, bytes, ORIGIN)?;
            written.push(place);
        }
        None => {
            tree.remove(&place);
        }
    }
    Ok(Some(Report {
        command: COMMAND,
        written,
        remarks,
        not_done: None,
    }))
}

/// What lies at `at`, `path` below the theme, links followed.
fn scan(
    tree: &Tree,
    at: &TreePath,
    path: String,
    depth: usize,
    room: &mut usize,
) -> Result<Directory, IconCacheError> {
    let mut entries = Vec::new();
    let children = tree.get(at).and_then(|node| node.children());
    for name in children.into_iter().flat_map(|children| children.keys()) {
        *room = room.checked_sub(1).ok_or(IconCacheError::TooLarge)?;
        let real = tree.resolve(&at.join_name(name));
        let node = real.as_ref().and_then(|real| tree.get(real));
        let (Some(real), Some(node)) = (real, node) else {
            continue;
        };
        // What is not UTF-8 is nothing that a cache can hold.
        let text = || String::from_utf8_lossy(name).into_owned();
        match node.kind {
            Kind::Dir(_) => {
                if depth == DEEPEST {
                    return Err(IconCacheError::TooLarge);
                }
                let below = if path.is_empty() {
                    text()
                } else {
                    format!("{path}/{}", text())
                };
                let below = scan(tree, &real, below, depth + 1, room)?;
                entries.push(Entry::Directory(below));
            }
            Kind::File(_) => entries.push(Entry::File(text())),
            _ => {}
        }
    }
    Ok(Directory { path, entries })
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn theme(without_index: bool) -> Theme {
        Theme {
            program: "gtk-update-icon-cache".to_owned(),
            path: TreePath::literal("/usr/share/icons/demo"),
            without_index,
        }
    }

    #[test]
    fn a_theme_is_indexed_where_it_is_one() {
        let tool = ("/usr/bin/gtk-update-icon-cache", b"ELF" as &[u8]);
        let icon = ("/usr/share/icons/demo/48x48/apps/a.png", b"PNG" as &[u8]);
        let link = ("/usr/share/icons/demo/64x64", b"->48x48" as &[u8]);
        let index = ("/usr/share/icons/demo/index.theme", b"[Icon Theme]" as &[u8]);
        let old = ("/usr/share/icons/demo/icon-theme.cache", b"old" as &[u8]);
        let place = TreePath::literal(old.0);
        assert_eq!(run(&mut tree(&[icon, index]), &theme(false), 9).unwrap(), None);
        assert_eq!(run(&mut tree(&[tool, icon]), &theme(false), 9).unwrap(), None);
        assert_eq!(run(&mut tree(&[tool]), &theme(true), 9).unwrap(), None);

        let mut made = tree(&[tool, icon, index, link, old]);
        let report = run(&mut made, &theme(false), 9).unwrap().unwrap();
        assert_eq!(report.written, std::slice::from_ref(&place));
        let bytes = made.file(&place).unwrap().blob.read_all().unwrap();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(
            has(b"48x48/apps\0") && has(b"64x64/apps\0") && has(b"a\0\0\0"),
            "{bytes:?}"
        );

        let mut empty = tree(&[tool, index, old]);
        let report = run(&mut empty, &theme(false), 9).unwrap().unwrap();
        assert_eq!((report.written.len(), empty.file(&place).is_none()), (0, true));
    }

    #[test]
    fn what_no_cache_can_hold_is_said() {
        let tool = ("/usr/bin/gtk-update-icon-cache", b"ELF" as &[u8]);
        let mut spaced = tree(&[tool, ("/usr/share/icons/demo/a/b c.png", b"")]);
        let report = run(&mut spaced, &theme(true), 9).unwrap().unwrap();
        let expected = "/usr/share/icons/demo gets no cache: `a/b c.png` is no name that a cache can hold: it needs printing \
                        ASCII characters, 1024 at the most";
        assert_eq!(report.remarks, [expected]);
        for (path, text, expected) in [
            (
                "/usr/share/icons/demo/a/b.icon",
                b"" as &[u8],
                "`a/b.icon` says where text goes",
            ),
            ("/usr/share/icons/demo/loop", b"->.", "it has more directories"),
        ] {
            let error = run(&mut tree(&[tool, (path, text)]), &theme(true), 9)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
