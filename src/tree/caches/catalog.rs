//! `journalctl --update-catalog`: the message catalog of the journal.
//!
//! The database is state: it lies in `/var/lib/systemd/catalog`. systemd-journal-catalog-update.service compiles it at
//! the first boot and after every update of `/usr`, so an image that starts this unit needs none: what it brought
//! would be written over at once, and only the unit follows updates. Where the unit is absent or masked, the database
//! is made here, and a tmpfiles.d line copies it into an empty `/var`.

use super::{CacheError, Report, drop_ins, program, put, read_all};
use crate::formats::catalog::{self, Source};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Tree};

pub const COMMAND: &str = "journalctl --update-catalog";
const DIRECTORIES: [&str; 2] = ["/usr/local/lib/systemd/catalog", "/usr/lib/systemd/catalog"];
const PLACE: &str = "/var/lib/systemd/catalog/database";
const UNIT: &[u8] = b"systemd-journal-catalog-update.service";
/// Where systemd looks for units, what counts most first.
const UNITS: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];

/// Compiles the catalog, unless the booting machine does.
///
/// # Errors
/// Where a file cannot be read, or systemd would refuse it.
pub fn run(tree: &mut Tree, time: i64) -> Result<Option<Report>, CacheError> {
    if program(tree, "journalctl").is_none() {
        return Ok(None);
    }
    let files = drop_ins(tree, &DIRECTORIES, ".catalog");
    if files.is_empty() {
        return Ok(None);
    }
    let mut report = Report {
        command: COMMAND,
        written: Vec::new(),
        remarks: Vec::new(),
        not_done: None,
    };
    if unit_starts(tree) {
        return Ok(Some(report));
    }
    let texts = read_all(&files, "a message catalog")?;
    let sources: Vec<_> = files
        .iter()
        .zip(&texts)
        .map(|((path, _), text)| Source {
            name: path.as_bytes(),
            text,
        })
        .collect();
    let Some(bytes) = catalog::compile(&sources)? else {
        return Ok(None);
    };
    let place = TreePath::literal(PLACE);
    put(tree, &place, 0o644, time, bytes, "the journal's message catalog")?;
    report.written.push(place);
    Ok(Some(report))
}

/// Whether sysinit.target pulls the unit in, and nothing masks it.
fn unit_starts(tree: &Tree) -> bool {
    let unit = UNITS.iter().find_map(|directory| {
        let path = TreePath::literal(directory).join_name(UNIT);
        tree.get(&tree.resolve(&path.parent()?)?.join_name(UNIT))
    });
    let masked = unit.is_none_or(|unit| match &unit.kind {
        Kind::Symlink(target) => &**target == b"/dev/null",
        Kind::File(file) => file.blob.size() == 0,
        _ => true,
    });
    let wanted = UNITS.iter().any(|directory| {
        let wants = TreePath::literal(directory).join_name(b"sysinit.target.wants");
        let children = tree.resolve(&wants).and_then(|real| tree.get(&real)?.children());
        children.is_some_and(|children| children.contains_key(UNIT))
    });
    wanted && !masked
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    type Files<'a> = &'a [(&'a str, &'a [u8])];

    const ENTRY: &[u8] = b"-- 0123456789abcdef0123456789abcdef\nSubject: s\n\ntext\n";
    const PROGRAM: (&str, &[u8]) = ("/usr/bin/journalctl", b"ELF");
    const FILE: (&str, &[u8]) = ("/usr/lib/systemd/catalog/x.catalog", ENTRY);
    const SERVICE: (&str, &[u8]) = (
        "/usr/lib/systemd/system/systemd-journal-catalog-update.service",
        b"[Service]\n",
    );
    const WANTED: (&str, &[u8]) = (
        "/usr/lib/systemd/system/sysinit.target.wants/systemd-journal-catalog-update.service",
        b"->../systemd-journal-catalog-update.service",
    );
    const MASK: (&str, &[u8]) = (
        "/etc/systemd/system/systemd-journal-catalog-update.service",
        b"->/dev/null",
    );

    #[test]
    fn the_database_is_made_where_no_unit_does() {
        let place = TreePath::literal(PLACE);
        let table: [(Files<'_>, Option<usize>); 6] = [
            (&[FILE, SERVICE, WANTED], None),
            (&[PROGRAM, SERVICE, WANTED], None),
            (&[PROGRAM, FILE, SERVICE, WANTED], Some(0)),
            (&[PROGRAM, FILE, SERVICE, WANTED, MASK], Some(1)),
            (&[PROGRAM, FILE, SERVICE], Some(1)),
            (&[PROGRAM, FILE], Some(1)),
        ];
        for (files, expected) in table {
            let mut tree = tree(files);
            let report = run(&mut tree, 9).unwrap();
            assert_eq!(report.map(|report| report.written.len()), expected, "{files:?}");
            let made = tree.get(&place);
            assert_eq!(made.is_some(), expected == Some(1), "{files:?}");
            if let Some(made) = made {
                assert_eq!((made.meta.mode, made.meta.mtime), (0o644, 9));
                let bytes = tree.file(&place).unwrap().blob.read_all().unwrap();
                assert!(bytes.starts_with(b"RHHHKSLP"));
                assert!(bytes.ends_with(b"Subject: s\n\ntext\n\0"));
            }
        }
    }
}
