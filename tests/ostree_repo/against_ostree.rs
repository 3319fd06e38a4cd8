//! What is written is what `ostree` writes, and `ostree` reads it.

use std::fs;
use std::path::Path;

use hullwright::ostree::{Repo, RepoMode, write_commit, write_summary};
use hullwright::store::hex;
use hullwright::tree::path::TreePath;
use hullwright::tree::{Kind, Meta, Node, Origin};

use crate::support::*;

#[test]
fn the_commit_is_the_one_that_ostree_makes() {
    if !tool("ostree") {
        return;
    }
    let sample = Sample::new();
    let root = sample.path("root");
    let directory = format!("dir={}", root.display());
    for mode in MODES {
        let (repo, commit) = sample.write(mode);
        let theirs = sample.path(&format!("theirs-{}", mode_name(mode)));
        assert_eq!(
            commit.checksum,
            commit_by_ostree(&theirs, mode, &directory),
            "{mode:?}"
        );
        assert_eq!(commit.tree.directories, 89);
        assert_eq!(commit.tree.symlinks, 3);
        assert_eq!(commit.tree.files, 1500 + 40 + 13);
        assert!(repo.join("refs/heads").join(REF).is_file());

        // The same objects by name, and the metadata ones byte for byte.
        let (ours, theirs) = (snapshot(&repo.join("objects")), snapshot(&theirs.join("objects")));
        assert!(ours.keys().eq(theirs.keys()), "{mode:?}");
        let compressed = |path: &Path| path.extension().is_some_and(|e| e == "filez");
        for (path, found) in &ours {
            if !compressed(path) {
                assert_eq!(found, &theirs[path], "{}", path.display());
            }
        }
        let objects = ours.keys().filter(|path| path.extension().is_some()).count();
        assert_eq!(commit.tree.objects_written, objects as u64);
    }
}

#[test]
fn the_commit_is_the_one_that_ostree_makes_of_a_tar_file() {
    if !tool("ostree") || !tool("tar") {
        return;
    }
    let sample = Sample::new();
    let (root, tar) = (sample.path("root"), sample.path("root.tar"));
    // Attributes in tar files need an ostree newer than some distributions have.
    let mut bare = sample.tree.clone();
    bare.for_each_mut(|_, node| node.meta.xattrs.clear());
    run(
        "tar",
        &[
            "-C",
            root.to_str().unwrap(),
            "--numeric-owner",
            "-cf",
            tar.to_str().unwrap(),
            ".",
        ],
    );
    let commit = write_commit(&bare, &options(ARCHIVE), &sample.path("ours")).unwrap();
    let theirs = commit_by_ostree(&sample.path("theirs"), ARCHIVE, &format!("tar={}", tar.display()));
    assert_eq!(commit.checksum, theirs);
}

#[test]
fn ostree_reads_what_is_written() {
    if !tool("ostree") {
        return;
    }
    let sample = Sample::new();
    for mode in MODES {
        let (repo, commit) = sample.write(mode);
        let fsck = ostree(&repo, &["fsck"]);
        assert!(
            fsck.contains("object fsck of 1 commits completed successfully"),
            "{fsck}"
        );
        assert_eq!(
            ostree(&repo, &["rev-parse", REF]).trim(),
            commit.checksum.to_string()
        );
        let show = ostree(&repo, &["show", REF]);
        for expected in [
            "A sample – with more than ASCII",
            "2026-11-21 00:00:00 +0000",
            "Version: 4.0.20261121",
        ] {
            assert!(show.contains(expected), "{show}");
        }
        let key = |key: &str| {
            ostree(&repo, &["show", "--print-metadata-key", key, REF])
                .trim()
                .to_owned()
        };
        assert_eq!(
            key("ostree.ref-binding"),
            "['sample/1/stable', 'sample/1/x86_64']"
        );
        assert_eq!(key("a.number"), "uint64 1099511627776");
        assert_eq!(key("ostree.bootable"), "true");

        let list = ostree(&repo, &["ls", "-R", "-X", REF]);
        assert!(
            list.contains("{ [(b'user.a', [byte 0x00, 0x01, 0x02]), (b'user.b', [0x32])] } /usr/bin/tool\n")
        );
        assert!(list.contains("-06755 "), "{list}");
        assert!(list.contains(" /usr/dangling -> /nowhere/at all\n"));

        let checkout = sample.path(&format!("checkout-{}", mode_name(mode)));
        ostree(&repo, &["checkout", "-U", REF, checkout.to_str().unwrap()]);
        assert_eq!(contents(&checkout), contents(&sample.path("root")));

        let pulled = sample.path(&format!("pulled-{}", mode_name(mode)));
        init(&pulled, ARCHIVE);
        ostree(&pulled, &["pull-local", repo.to_str().unwrap(), REF]);
        ostree(&pulled, &["fsck"]);
        assert_eq!(
            ostree(&pulled, &["rev-parse", REF]).trim(),
            commit.checksum.to_string()
        );
    }
}

#[test]
fn an_archive_with_its_summary_is_pulled_by_url() {
    if !tool("ostree") {
        return;
    }
    let sample = Sample::new();
    let (repo, commit) = sample.write(ARCHIVE);
    write_summary(&repo).unwrap();

    // All but the time is what `ostree summary --update` writes.
    let ours = fs::read(repo.join("summary")).unwrap();
    fs::write(repo.join("summary.sig"), b"of an earlier one").unwrap();
    ostree(&repo, &["summary", "--update"]);
    let mut theirs = fs::read(repo.join("summary")).unwrap();
    let key = b"ostree.summary.last-modified\0";
    let at = theirs
        .windows(key.len())
        .position(|window| window == key)
        .unwrap();
    let at = (at + key.len()).next_multiple_of(8);
    theirs[at..at + 8].copy_from_slice(&TIMESTAMP.to_be_bytes());
    assert_eq!(hex(&ours), hex(&theirs));
    write_summary(&repo).unwrap();
    assert_eq!(fs::read(repo.join("summary")).unwrap(), ours);
    assert!(!repo.join("summary.sig").exists());

    let client = sample.path("client");
    init(&client, RepoMode::BareUser);
    let url = format!("file://{}", repo.display());
    ostree(&client, &["remote", "add", "--no-gpg-verify", "origin", &url]);
    assert_eq!(
        ostree(&client, &["remote", "refs", "origin"]).trim(),
        format!("origin:{REF}")
    );
    ostree(&client, &["pull", "origin", REF]);
    ostree(&client, &["fsck"]);
    let found = ostree(&client, &["rev-parse", &format!("origin:{REF}")]);
    assert_eq!(found.trim(), commit.checksum.to_string());
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let sample = Sample::new();
    for mode in MODES {
        let write = |threads: usize| {
            let repo = sample.path(&format!("{threads}-{}", mode_name(mode)));
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let commit = pool.install(|| write_commit(&sample.tree, &options(mode), &repo).unwrap());
            write_summary(&repo).unwrap();
            (commit, snapshot(&repo))
        };
        let first = write(1);
        assert!(first.1.len() > 1600);
        for threads in [2, 4] {
            assert!(write(threads) == first, "{threads} threads, {mode:?}");
        }
    }
}

#[test]
fn a_second_commit_writes_what_is_new() {
    let sample = Sample::new();
    for mode in MODES {
        let (repo, first) = sample.write(mode);
        let mut tree = sample.tree.clone();
        let at = TreePath::literal("/usr/share/new");
        tree.insert(
            &at,
            Node::new(
                Meta::root(0o644, 0),
                Kind::file(*b"new"),
                Origin::Composer("test"),
            ),
        )
        .unwrap();
        let mut later = options(mode);
        later.parent = Some(first.checksum);
        later.sync = true;
        let second = write_commit(&tree, &later, &repo).unwrap();
        // The file, the directories /usr/share, /usr and /, and the commit.
        assert_eq!(second.tree.objects_written, 5);
        assert_eq!(second.tree.files, first.tree.files + 1);
        let opened = Repo::open(&repo).unwrap();
        assert_eq!(opened.resolve(REF).unwrap(), second.checksum);
        assert_eq!(
            opened.commit(&second.checksum).unwrap().parent,
            Some(first.checksum)
        );
        if tool("ostree") {
            ostree(&repo, &["fsck"]);
            assert_eq!(ostree(&repo, &["log", REF]).matches("commit ").count(), 2);
        }
    }
}

#[test]
fn thousands_of_files_of_the_host_give_the_commit_that_ostree_gives() {
    if !tool("ostree") {
        return;
    }
    let candidates = ["/usr/lib/python3", "/usr/share/perl", "/usr/share/doc"];
    let Some(root) = candidates.into_iter().find(|path| Path::new(path).is_dir()) else {
        crate::testing::skip(&format!("none of {candidates:?} is on this machine"));
        return;
    };
    let directory = scratch();
    let tree = load(Path::new(root));
    for mode in MODES {
        let commit = write_commit(&tree, &options(mode), &directory.path().join(mode_name(mode))).unwrap();
        let theirs = directory.path().join(format!("theirs-{}", mode_name(mode)));
        assert_eq!(
            commit.checksum,
            commit_by_ostree(&theirs, mode, &format!("dir={root}"))
        );
        ostree(&directory.path().join(mode_name(mode)), &["fsck", "-q"]);
    }
}
