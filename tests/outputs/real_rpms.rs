//! RPMs of real distributions, laid out as rpm2cpio and cpio lay them out.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hullwright::rpmset::{Package, RpmSet};
use hullwright::store::{Digest, Store};
use hullwright::tree::Kind;
use hullwright::tree::merge::{Options, merge};
use rayon::prelude::*;

use crate::rpms::{plain, says};
use crate::run::{answer, output, program, scratch};
use crate::support::{real_rpms, tool};

/// A path of a tree: what both sides can say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: char,
    mode: u32,
    /// Of regular files.
    content: Option<(u64, Digest)>,
    target: Option<Vec<u8>>,
    /// The first path, in byte order, of the same inode.
    inode: Option<Vec<u8>>,
    /// Of regular files.
    mtime: Option<i64>,
}

type Seens = BTreeMap<Vec<u8>, Seen>;

/// The packages that `rpm --checksig` finds whole, or those that it does not.
fn cases(directory: &Path, whole: bool) -> Vec<PathBuf> {
    let table = fs::read_to_string(directory.join("CASES.tsv")).unwrap();
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[3].starts_with("digests") == whole)
        .map(|row| directory.join(row[0]))
        .collect()
}

/// Unpacks `package` by rpm's own tools: rpm2cpio and cpio; what is in the stripped form, which
/// rpm2cpio refuses, by rpm2archive and tar.
fn unpack(package: &Path, root: &Path) -> Option<()> {
    let cpio = ["-idm", "--quiet", "--no-absolute-filenames"];
    let tar = ["-xp", "--no-same-owner"];
    let by_cpio = pipe(
        program("rpm2cpio", [])?.arg(package),
        program("cpio", cpio)?.current_dir(root),
    );
    if by_cpio.is_err() {
        let package = File::open(package).unwrap();
        let mut archive = program("rpm2archive", ["--nocompression"])?;
        pipe(archive.stdin(package), program("tar", tar)?.current_dir(root)).unwrap();
    }
    Some(())
}

/// Runs `from`, its output the input of `into`; what went wrong otherwise.
fn pipe(from: &mut Command, into: &mut Command) -> Result<(), String> {
    let mut writer = from.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = output(into.stdin(writer.stdout.take().unwrap()));
    let written = writer.wait().unwrap();
    if written.success() && said.status.success() {
        return Ok(());
    }
    Err(format!("{from:?}: {written}; {into:?}: {said:?}"))
}

/// What rpm's own tools make of `package`.
fn extracted(package: &Path) -> Option<Seens> {
    let root = scratch();
    unpack(package, root.path())?;
    let mut seen = Seens::new();
    let mut inodes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut todo = vec![root.path().to_owned()];
    let mut found: Vec<(Vec<u8>, PathBuf, Metadata)> = Vec::new();
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let below = path.strip_prefix(root.path()).unwrap().as_os_str().as_bytes();
        if !below.is_empty() {
            found.push(([b"/", below].concat(), path, metadata));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, path, metadata) in found {
        let regular = metadata.is_file();
        let linked = regular && metadata.nlink() > 1;
        let inode = linked.then(|| {
            inodes
                .entry(metadata.ino())
                .or_insert_with(|| name.clone())
                .clone()
        });
        let link = metadata.is_symlink();
        let entry = Seen {
            kind: if link {
                'l'
            } else if regular {
                '-'
            } else {
                'd'
            },
            mode: metadata.mode() & 0o7777,
            content: regular.then(|| (metadata.len(), Digest::of(&fs::read(&path).unwrap()))),
            target: link.then(|| fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()),
            inode,
            mtime: regular.then(|| metadata.mtime()),
        };
        seen.insert(name, entry);
    }
    Some(seen)
}

/// Owner and group of every path, and whether it has capabilities, as rpm says; ghosts left out.
fn by_rpm(package: &Path) -> Option<BTreeMap<String, (String, String, u32, bool)>> {
    let format = "[%{FILENAMES}\\t%{FILEUSERNAME}\\t%{FILEGROUPNAME}\\t%{FILEMODES:octal}\\t\
                  %{FILECAPS}\\t%{FILEFLAGS:fflags}\\n]";
    let mut rpm = program("rpm", ["-qp", "--nosignature", "--nodigest", "--qf", format])?;
    let said = answer(rpm.arg(package));
    let rows = said.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    Some(
        rows.filter(|row| row.len() == 6 && !row[5].contains('g'))
            .map(|row| {
                let mode = u32::from_str_radix(row[3], 8).unwrap();
                let capabilities = !matches!(row[4], "" | "(none)") && mode & 0o170_000 == 0o100_000;
                let mode = mode & 0o7777;
                let owner = (row[1].to_owned(), row[2].to_owned());
                (row[0].to_owned(), (owner.0, owner.1, mode, capabilities))
            })
            .collect(),
    )
}

fn compare(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy();
    let place = scratch();
    let store = Store::open(&place.path().join("store")).unwrap();
    let set = RpmSet::open(&[path.to_owned()]).unwrap();
    let contents = set.contents(&store).unwrap();
    let merged = merge(&set, &contents, &Options::DEFAULT);
    let tree = merged.unwrap_or_else(|errors| panic!("{name}: {errors}")).tree;
    let (Some(expected), Some(owners)) = (extracted(path), by_rpm(path)) else {
        return;
    };

    let mut seen = Seens::new();
    let mut links: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for (at, node) in tree.walk().filter(|(at, _)| !at.is_root()) {
        let at = at.as_bytes().to_vec();
        let mut entry = Seen {
            kind: 'd',
            mode: u32::from(node.meta.mode),
            content: None,
            target: None,
            inode: None,
            mtime: None,
        };
        match &node.kind {
            Kind::Dir(_) => {}
            Kind::Symlink(target) => (entry.kind, entry.target) = ('l', Some(target.to_vec())),
            Kind::File(file) => {
                entry.kind = '-';
                let content = file.blob.read_all().unwrap();
                entry.content = Some((file.blob.size(), Digest::of(&content)));
                entry.mtime = Some(node.meta.mtime);
                if let Some(link) = file.link {
                    links.entry(link.0).or_default().push(at.clone());
                }
            }
            other => panic!("{name}: {}", other.noun()),
        }
        seen.insert(at, entry);
    }
    for mut group in links.into_values().filter(|group| group.len() > 1) {
        group.sort();
        for at in &group {
            seen.get_mut(at).unwrap().inode = Some(group[0].clone());
        }
    }
    for at in seen.keys().chain(expected.keys()) {
        let (ours, theirs) = (seen.get(at), expected.get(at).cloned());
        // What the payload lacks, cpio makes with the umask that it was started with.
        let owned = std::str::from_utf8(at).is_ok_and(|at| owners.contains_key(at));
        let theirs = theirs.map(|mut theirs| {
            if !owned {
                theirs.mode = 0o755;
            }
            theirs
        });
        assert_eq!(ours, theirs.as_ref(), "{name}: {}", at.escape_ascii());
    }

    let root = || "root".to_owned();
    for (at, node) in tree.walk().filter(|(at, _)| !at.is_root()) {
        let Some((user, group, mode, capabilities)) = owners.get(&at.to_string()) else {
            assert!(matches!(node.kind, Kind::Dir(_)), "{name}: {at} is not rpm's");
            continue;
        };
        let text = |name: &Option<std::sync::Arc<str>>| name.as_deref().map_or_else(root, str::to_owned);
        let ours = (
            text(&node.meta.user),
            text(&node.meta.group),
            !node.meta.xattrs.is_empty(),
        );
        assert_eq!(ours, (user.clone(), group.clone(), *capabilities), "{name}: {at}");
        if !matches!(node.kind, Kind::Symlink(_)) {
            assert_eq!(u32::from(node.meta.mode), *mode, "{name}: {at}");
        }
    }
    let present = |at: &str| seen.contains_key(at.as_bytes());
    let lost: Vec<_> = owners.keys().filter(|at| !present(at)).collect();
    assert!(lost.is_empty(), "{name}: {lost:?}");
}

#[test]
fn every_whole_package_is_laid_out_as_rpm2cpio_does() {
    let (Some(directory), Some(_)) = (real_rpms(), tool("rpm2cpio")) else {
        return;
    };
    let whole = cases(&directory, true);
    assert!(whole.len() > 35, "{}", whole.len());
    whole.par_iter().for_each(|path| compare(path));
}

#[test]
fn every_broken_package_is_refused() {
    let Some(directory) = real_rpms() else { return };
    let broken = cases(&directory, false);
    assert_eq!(broken.len(), 3);
    for path in broken {
        let place = scratch();
        let store = Store::open(&place.path().join("store")).unwrap();
        let said = match Package::open(&path) {
            Err(error) => error.to_string(),
            Ok(_) => {
                let set = RpmSet::open(std::slice::from_ref(&path)).unwrap();
                let error = set.contents(&store).unwrap_err();
                format!("{:?}", miette::Report::new(error))
            }
        };
        let name = path.file_name().unwrap().to_str().unwrap();
        let reason = match name {
            "hello-2.0-1.x86_64-corrupted.rpm" => "its payload's digest is e3b0c44298fc1c14",
            "unsigned_broken_header.rpm" => "its header's SHA-256 is 4a9410db7131cead",
            "signed_broken.rpm" => "its payload's length in bytes is 117, but its signature header says 116",
            other => panic!("{other} is broken in a way that this test does not know"),
        };
        says(&plain(&said), &[name, reason]);
    }
}
