//! `systemd-hwdb update`: udev's hardware database.
//!
//! It is written to `/usr/lib/udev/hwdb.bin`, as with `--usr`, whatever scriptlets ask for: `/etc/udev/hwdb.bin` would
//! be state, and hide what an update of the image brings. systemd-hwdb-update.service then finds nothing to do, unless
//! `/etc/udev/hwdb.d` holds files: those a machine may change, and compiles for itself.

use sha2::{Digest as _, Sha256};

use super::{CacheError, Report, drop_ins, program, put, read_all};
use crate::formats::hwdb::{self, Source};
use crate::store::{Digest, Store};
use crate::tree::path::TreePath;
use crate::tree::{FileData, Node, Tree};

pub const COMMAND: &str = "systemd-hwdb update";
const DIRECTORIES: [&str; 2] = ["/etc/udev/hwdb.d", "/usr/lib/udev/hwdb.d"];
const PLACE: &str = "/usr/lib/udev/hwdb.bin";
/// Its name ends in systemd's version: `libsystemd-shared-257.13-1.so`.
const LIBRARY: &[u8] = b"libsystemd-shared-";

/// Compiles the database, with the version of the tree's own systemd in its header (0 where the tree does not tell):
/// the bytes are those that its `systemd-hwdb` would write. Where `store` has them from an earlier build of the same files,
/// they are taken from there.
///
/// # Errors
/// Where a file cannot be read, or is too large.
pub fn run(tree: &mut Tree, time: i64, store: Option<&Store>) -> Result<Option<Report>, CacheError> {
    if program(tree, "systemd-hwdb").is_none() {
        return Ok(None);
    }
    let files = drop_ins(tree, &DIRECTORIES, ".hwdb");
    if files.is_empty() {
        return Ok(None);
    }
    let version = version(tree);
    let key = key(&files, version);
    let made = match store.and_then(|store| kept(store, key)) {
        Some(made) => made,
        None => {
            let made = compile(&files, version)?;
            if let Some(store) = store {
                // That it is not kept costs time, nothing else.
                let _ = keep(store, key, &made);
            }
            made
        }
    };
    let (bytes, remarks) = made;
    let place = TreePath::literal(PLACE);
    put(tree, &place, 0o444, time, bytes, "udev's hardware database")?;
    Ok(Some(Report {
        command: COMMAND,
        written: vec![place],
        remarks,
        not_done: None,
    }))
}

/// The database, and what there is to remark on its sources.
type Made = (Vec<u8>, Vec<String>);

fn compile(files: &[(TreePath, &FileData)], version: u64) -> Result<Made, CacheError> {
    let texts = read_all(files, "a file of the hardware database")?;
    let sources: Vec<_> = files
        .iter()
        .zip(&texts)
        .map(|((path, _), text)| Source {
            name: path.as_bytes(),
            text,
        })
        .collect();
    let compiled = hwdb::compile(&sources, version)?;
    let remarks = compiled.remarks.iter();
    let remarks = remarks.map(|remark| format!("{}:{}: {}", remark.file, remark.line, remark.what));
    Ok((compiled.bytes, remarks.collect()))
}

/// Names the database of these files: changes with every change of how it is made.
fn key(files: &[(TreePath, &FileData)], version: u64) -> Digest {
    let mut hasher = Sha256::new_with_prefix(b"hullwright hwdb 1\0");
    hasher.update(version.to_le_bytes());
    for (path, file) in files {
        hasher.update((path.as_bytes().len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(file.blob.sha256().0);
    }
    Digest::finish(hasher)
}

fn kept(store: &Store, key: Digest) -> Option<Made> {
    let (digest, remarks): (Digest, Vec<String>) = serde_json::from_slice(&store.record(key).ok()??).ok()?;
    Some((store.content(digest).ok()??, remarks))
}

fn keep(store: &Store, key: Digest, (bytes, remarks): &Made) -> Option<()> {
    let digest = store.keep_content(bytes).ok()?;
    let record = serde_json::to_vec(&(digest, remarks)).ok()?;
    store.keep_record(key, &record).ok()
}

/// The major version of the tree's systemd.
fn version(tree: &Tree) -> u64 {
    let children = |path: &TreePath| tree.resolve(path).and_then(|real| tree.get(&real)?.children());
    let mut directories = vec![];
    for above in ["/usr/lib64", "/usr/lib"].map(TreePath::literal) {
        directories.push(above.join_name(b"systemd"));
        // Debian's multiarch directories.
        for (name, node) in children(&above).into_iter().flatten() {
            if node.children().is_some() {
                directories.push(above.join_name(name).join_name(b"systemd"));
            }
        }
    }
    let names = directories.iter().filter_map(children).flatten();
    names
        .filter_map(|(name, _): (_, &Node)| {
            let rest = name.strip_prefix(LIBRARY)?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
        })
        .next()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn the_database_lies_in_usr_with_the_version_of_the_tree() {
        for (library, version) in [
            ("/usr/lib64/systemd/libsystemd-shared-258-1.fc43.so", 258),
            ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so", 257),
            ("/usr/lib/other", 0),
        ] {
            let mut tree = tree(&[
                ("/usr/bin/systemd-hwdb", b"ELF"),
                ("/usr/lib/udev/hwdb.d/20-a.hwdb", b"usb:*\n A=1\n B\n"),
                (library, b"ELF"),
            ]);
            let report = run(&mut tree, 9, None).unwrap().unwrap();
            assert_eq!(report.written, [TreePath::literal(PLACE)]);
            assert_eq!(
                report.remarks,
                ["/usr/lib/udev/hwdb.d/20-a.hwdb:3: a property is written KEY=value"]
            );
            let made = tree.get(&TreePath::literal(PLACE)).unwrap();
            assert_eq!((made.meta.mode, made.meta.uid, made.meta.mtime), (0o444, 0, 9));
            let bytes = tree
                .file(&TreePath::literal(PLACE))
                .unwrap()
                .blob
                .read_all()
                .unwrap();
            assert_eq!(bytes[8..16], u64::to_le_bytes(version), "{library}");
        }
    }

    #[test]
    fn what_a_store_has_is_that_of_the_same_files_and_whole() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let text: &[u8] = b"usb:*\n A=1\n B\n";
        let made = |name: &str, text: &[u8], library: &str, store: Option<&Store>| {
            let mut tree = tree(&[("/usr/bin/systemd-hwdb", b"ELF"), (name, text), (library, b"ELF")]);
            let report = run(&mut tree, 9, store).unwrap().unwrap();
            let file = tree.file(&TreePath::literal(PLACE)).unwrap();
            (report, file.blob.read_all().unwrap())
        };
        let library = "/usr/lib/systemd/libsystemd-shared-257.so";
        let name = "/usr/lib/udev/hwdb.d/20-a.hwdb";
        let objects = || walk(&place.path().join("objects"));
        for (number, (name, text, library)) in [
            (name, text, library),
            ("/usr/lib/udev/hwdb.d/30-b.hwdb", text, library),
            (name, b"usb:*\n A=2\n", library),
            (name, text, "/usr/lib/systemd/libsystemd-shared-258.so"),
        ]
        .into_iter()
        .enumerate()
        {
            let plain = made(name, text, library, None);
            for _ in 0..2 {
                assert_eq!(made(name, text, library, Some(&store)), plain);
            }
            assert_eq!(objects().len(), number + 1, "{name} {library}");
        }
        for object in objects() {
            std::fs::remove_file(&object).unwrap();
            std::fs::write(&object, b"rot").unwrap();
        }
        assert_eq!(
            made(name, text, library, Some(&store)),
            made(name, text, library, None)
        );
        assert_eq!(store.take_damage().len(), 1);
    }

    fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
        let fans = std::fs::read_dir(directory).unwrap();
        let files = fans.flat_map(|fan| std::fs::read_dir(fan.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn without_the_program_or_files_nothing_is_made() {
        for files in [
            [("/usr/lib/udev/hwdb.d/20-a.hwdb", b"usb:*\n A=1\n" as &[u8])],
            [("/usr/bin/systemd-hwdb", b"ELF")],
        ] {
            assert_eq!(run(&mut tree(&files), 9, None).unwrap(), None);
        }
    }
}
