//! What is read is what was written, and damage is seen.

use std::fs;
use std::io::Read;
use std::path::Path;

use hullwright::ostree::{EntryKind, Error, Repo, RepoMode, write_commit};
use hullwright::store::Digest;
use hullwright::tree::path::TreePath;
use hullwright::tree::{Kind, Meta, Node, Origin, Tree};

use crate::support::*;

#[test]
fn what_is_written_is_read_back() {
    let sample = Sample::new();
    for mode in MODES {
        let (repo, commit) = sample.write(mode);
        assert_reads_as(&repo, &commit.checksum, &sample.tree);
        let repo = Repo::open(&repo).unwrap();
        let object = repo.commit(&commit.checksum).unwrap();
        assert_eq!(object.subject, options(mode).subject);
        assert_eq!(object.timestamp, TIMESTAMP);
        assert_eq!(object.metadata["version"].as_str(), Some("4.0.20261121"));
        assert_eq!(object.metadata["a.bytes"].as_bytes(), Some(&[1, 2, 255][..]));
        assert_eq!(repo.refs().unwrap(), [(REF.to_owned(), commit.checksum)]);
        let verified = repo.verify(&commit.checksum).unwrap();
        assert_eq!(verified.files, commit.tree.files);
        assert_eq!(verified.content_objects, commit.tree.content_objects);
    }
}

#[test]
fn what_ostree_writes_is_read() {
    if !tool("ostree") {
        return;
    }
    let sample = Sample::new();
    let source = format!("dir={}", sample.path("root").display());
    for mode in MODES {
        let repo = sample.path(mode_name(mode));
        let commit = commit_by_ostree(&repo, mode, &source);
        assert_reads_as(&repo, &commit, &sample.tree);
    }
}

/// Holds the walk of `commit`, and every content, against `tree`.
fn assert_reads_as(repo: &Path, commit: &Digest, tree: &Tree) {
    let repo = Repo::open(repo).unwrap();
    assert_eq!(repo.resolve(REF).unwrap(), *commit);
    let mut walk = repo.walk(commit).unwrap();
    for (path, node) in tree.walk() {
        let entry = walk.next().unwrap().unwrap();
        assert_eq!(entry.path, path);
        assert_eq!(entry.mode, u32::from(node.st_mode()), "{path}");
        assert_eq!((entry.uid, entry.gid), (node.meta.uid, node.meta.gid), "{path}");
        assert_eq!(entry.xattrs, node.meta.xattrs, "{path}");
        match (&node.kind, entry.kind) {
            (Kind::Dir(_), EntryKind::Directory) => {}
            (Kind::Symlink(expected), EntryKind::Symlink { target, .. }) => assert_eq!(target, *expected),
            (Kind::File(file), EntryKind::File { checksum, size }) => {
                let mut bytes = Vec::new();
                repo.open_file(&checksum)
                    .unwrap()
                    .reader
                    .read_to_end(&mut bytes)
                    .unwrap();
                assert_eq!(size, file.blob.size());
                assert_eq!(Digest::of(&bytes), file.blob.sha256(), "{path}");
            }
            (expected, found) => panic!("{path}: {found:?} instead of {}", expected.noun()),
        }
    }
    assert!(walk.next().is_none());
}

/// A small tree whose commit has one object of each kind.
fn small_tree() -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let mut put = |at: &'static str, kind| {
        let node = Node::new(Meta::root(0o644, 0), kind, Origin::Composer("test"));
        tree.insert(&TreePath::literal(at), node).unwrap();
    };
    put("/a/file", Kind::file(*b"some content, some more content"));
    put("/a/link", Kind::Symlink((*b"file").into()));
    tree
}

#[test]
fn no_damage_to_an_object_goes_unseen() {
    let directory = scratch();
    for mode in MODES {
        let path = directory.path().join(mode_name(mode));
        let commit = write_commit(&small_tree(), &options(mode), &path).unwrap();
        let repo = Repo::open(&path).unwrap();
        assert_eq!(repo.verify(&commit.checksum).unwrap().content_objects, 2);
        let objects = snapshot(&path.join("objects"));
        let objects: Vec<_> = objects
            .keys()
            .filter(|object| object.extension().is_some())
            .collect();
        assert_eq!(objects.len(), 6);
        for object in objects {
            let object = path.join("objects").join(object);
            let good = fs::read(&object).unwrap();
            let refused = |damage: &str| match repo.verify(&commit.checksum) {
                Ok(_) => panic!("{}: {damage}", object.display()),
                Err(error) => error,
            };
            // The last bits of a deflate stream mean nothing.
            let padding = object.extension().is_some_and(|e| e == "filez") && good.len() > 40;
            for at in 0..good.len() - usize::from(padding) {
                for bit in [0x01, 0x80] {
                    let mut bad = good.clone();
                    bad[at] ^= bit;
                    fs::write(&object, &bad).unwrap();
                    refused(&format!("bit {bit:#x} of byte {at} flipped"));
                }
                fs::write(&object, &good[..at]).unwrap();
                // libostree reads a symbolic link with and without its last NUL byte.
                let link = mode == RepoMode::BareUser && good == b"file\0" && at == 4;
                if !link {
                    refused(&format!("cut at {at}"));
                }
            }
            fs::write(&object, [&*good, b"x"].concat()).unwrap();
            refused("a byte more");
            fs::remove_file(&object).unwrap();
            assert!(matches!(refused("removed"), Error::NoSuchObject { .. }));
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &object,
                rustix::fs::FileType::Fifo,
                0o644.into(),
                0,
            )
            .unwrap();
            refused("a FIFO in its place");
            fs::remove_file(&object).unwrap();
            // Written again because it is missing.
            write_commit(&small_tree(), &options(mode), &path).unwrap();
            repo.verify(&commit.checksum).unwrap();
        }
    }
}

#[test]
fn damaged_owners_of_bare_user_files_are_seen() {
    let directory = scratch();
    let commit = write_commit(&small_tree(), &options(RepoMode::BareUser), directory.path()).unwrap();
    let repo = Repo::open(directory.path()).unwrap();
    for entry in repo.walk(&commit.checksum).unwrap().map(Result::unwrap) {
        let EntryKind::File { checksum, .. } = entry.kind else {
            continue;
        };
        let name = checksum.to_string();
        let (fan, rest) = name.split_at(2);
        let object = directory
            .path()
            .join("objects")
            .join(fan)
            .join(format!("{rest}.file"));
        let flags = rustix::fs::XattrFlags::empty();
        let owner = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x81, 0xa4];
        rustix::fs::lsetxattr(&object, "user.ostreemeta", &owner, flags).unwrap();
        let error = repo.verify(&commit.checksum).unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        rustix::fs::lremovexattr(&object, "user.ostreemeta").unwrap();
        assert!(matches!(
            repo.verify(&commit.checksum).unwrap_err(),
            Error::Io { .. }
        ));
        return;
    }
    panic!("the commit holds no file");
}
