//! `update-mime-database /usr/share/mime`: the database of MIME types, from the XML files of all packages.

use std::collections::BTreeSet;

use super::{CacheError, Report, program, put, read, read_all};
use crate::formats::mime::{self, Source};
use crate::tree::path::TreePath;
use crate::tree::{FileData, Node, Tree};

pub const COMMAND: &str = "update-mime-database /usr/share/mime";
const PROGRAM: &str = "update-mime-database";
const PLACE: &str = "/usr/share/mime";
/// What comes last, whatever its name.
const LAST: &[u8] = b"Override.xml";
/// Stands in the program before its version.
const BEFORE_VERSION: &[u8] = b"update-mime-database (shared-mime-info) ";
const ORIGIN: &str = "the database of MIME types";

/// Makes the database as the tree's own tool would, its version among it; files of types that there are no more go.
///
/// # Errors
/// Where a source cannot be taken.
pub fn run(tree: &mut Tree, time: i64) -> Result<Option<Report>, CacheError> {
    let Some((tool, data)) = program(tree, PROGRAM) else {
        return Ok(None);
    };
    let place = TreePath::literal(PLACE);
    let Some(files) = sources(tree, &place) else {
        return Ok(None);
    };
    let version = version(&read(&tool, data, "a program")?);
    let Some(version) = version else {
        return Ok(Some(Report {
            command: COMMAND,
            written: Vec::new(),
            remarks: Vec::new(),
            not_done: Some("the program does not tell its version, which it leaves beside the database"),
        }));
    };
    let names: Vec<_> = files.iter().map(|(path, _)| path.to_string()).collect();
    let texts = read_all(&files, "a file of MIME types")?;
    let sources = names.iter().zip(&texts);
    let sources: Vec<_> = sources.map(|(name, bytes)| Source { name, bytes }).collect();
    let compiled = mime::compile(&sources, &version)?;

    let mut written = Vec::with_capacity(compiled.files.len());
    for (name, bytes) in compiled.files {
        let path = name
            .split('/')
            .fold(place.clone(), |path, name| path.join_name(name.as_bytes()));
        put(tree, &path, 0o644, time, bytes, ORIGIN)?;
        written.push(path);
    }
    drop_old(tree, &place, &written);
    Ok(Some(Report {
        command: COMMAND,
        written,
        remarks: compiled.remarks,
        not_done: None,
    }))
}

/// The XML files in the tool's order; `None` without the directory that holds them.
fn sources<'a>(tree: &'a Tree, place: &TreePath) -> Option<Vec<(TreePath, &'a FileData)>> {
    let directory = place.join_name(b"packages");
    let children = tree.get(&tree.resolve(&directory)?)?.children()?;
    let mut names: Vec<_> = children.keys().filter(|name| name.ends_with(b".xml")).collect();
    names.sort_by_key(|name| (&***name == LAST, *name));
    let paths = names.into_iter().map(|name| directory.join_name(name));
    Some(
        paths
            .filter_map(|path| Some((path.clone(), tree.file(&path)?)))
            .collect(),
    )
}

/// What follows [`BEFORE_VERSION`] on its line.
fn version(program: &[u8]) -> Option<String> {
    let mut windows = program.windows(BEFORE_VERSION.len());
    let place = windows.position(|window| window == BEFORE_VERSION)?;
    let rest = &program[place + BEFORE_VERSION.len()..];
    let length = rest.iter().take(32).position(|&byte| byte == b'\n')?;
    let version = std::str::from_utf8(&rest[..length]).ok()?;
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    (!version.is_empty() && version.chars().all(digits)).then(|| version.to_owned())
}

/// Removes files of types that no source names, from the directories that the tool knows.
fn drop_old(tree: &mut Tree, place: &TreePath, written: &[TreePath]) {
    let written: BTreeSet<_> = written.iter().collect();
    for media in mime::MEDIA {
        let directory = place.join_name(media.as_bytes());
        let children = tree.get(&directory).and_then(Node::children);
        let names = children.into_iter().flat_map(|children| children.keys());
        let old: Vec<_> = names
            .filter(|name| name.ends_with(b".xml"))
            .map(|name| directory.join_name(name))
            .filter(|path| !written.contains(path))
            .collect();
        for path in old {
            tree.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    const XML: &[u8] = b"<mime-info xmlns='http://www.freedesktop.org/standards/shared-mime-info'>\
        <mime-type type='text/x-demo'><glob pattern='*.Demo'/></mime-type></mime-info>";
    const TOOL: &[u8] = b"\x7fELF\0update-mime-database (shared-mime-info) 2.4\nCopyright";

    #[test]
    fn the_database_is_made_with_the_version_of_the_trees_own_tool() {
        let mut tree = tree(&[
            ("/usr/bin/update-mime-database", TOOL),
            ("/usr/share/mime/packages/a.xml", XML),
            ("/usr/share/mime/packages/README", b"no XML"),
            ("/usr/share/mime/text/x-old.xml", b"old"),
            ("/usr/share/mime/chemical/x-kept.xml", b"kept"),
        ]);
        let report = run(&mut tree, 9).unwrap().unwrap();
        assert_eq!(report.remarks, [""; 0]);
        assert_eq!(report.written.len(), 13);
        let text = |path: &'static str| {
            let bytes = tree.file(&TreePath::literal(path))?.blob.read_all().unwrap();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        assert_eq!(text("/usr/share/mime/version").unwrap(), "2.4\n");
        assert_eq!(text("/usr/share/mime/types").unwrap(), "text/x-demo\n");
        assert!(
            text("/usr/share/mime/globs2")
                .unwrap()
                .ends_with("\n50:text/x-demo:*.demo\n")
        );
        assert!(
            text("/usr/share/mime/text/x-demo.xml")
                .unwrap()
                .contains("<glob pattern=\"*.Demo\"/>")
        );
        assert_eq!(text("/usr/share/mime/text/x-old.xml"), None);
        assert_eq!(text("/usr/share/mime/chemical/x-kept.xml").unwrap(), "kept");
    }

    #[test]
    fn what_is_missing_makes_nothing_and_what_is_broken_stops() {
        let source = ("/usr/share/mime/packages/a.xml", XML);
        assert_eq!(run(&mut tree(&[source]), 9).unwrap(), None);
        let tool = ("/usr/bin/update-mime-database", TOOL);
        assert_eq!(run(&mut tree(&[tool]), 9).unwrap(), None);
        let silent = ("/usr/bin/update-mime-database", b"\x7fELF" as &[u8]);
        let report = run(&mut tree(&[silent, source]), 9).unwrap().unwrap();
        assert!(report.not_done.unwrap().contains("does not tell its version"));
        let broken = ("/usr/share/mime/packages/b.xml", b"<mime-info" as &[u8]);
        let error = run(&mut tree(&[tool, source, broken]), 9)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/usr/share/mime/packages/b.xml"), "{error}");
    }
}
