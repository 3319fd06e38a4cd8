//! The repository that is written in process, held against the `ostree` program.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use hullwright::ostree::{
    Commit, CommitOptions, EntryKind, Error, Repo, RepoMode, Value, write_commit, write_summary,
};
use hullwright::store::{Digest, hex};
use hullwright::tree::path::TreePath;
use hullwright::tree::{Children, Kind, Meta, Node, Origin, Tree, Xattrs};

const REF: &str = "sample/1/x86_64";
const TIMESTAMP: u64 = 1_795_219_200;
const ARCHIVE: RepoMode = RepoMode::Archive { level: 3 };
const MODES: [RepoMode; 2] = [ARCHIVE, RepoMode::BareUser];

/// Whether `name` can be run; says so where it cannot.
fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {name} is missing");
    }
    found
}

/// Runs a program that must succeed; what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn ostree(repo: &Path, arguments: &[&str]) -> String {
    let repo = format!("--repo={}", repo.display());
    run("ostree", &[&[arguments[0], &repo], &arguments[1..]].concat())
}

fn mode_name(mode: RepoMode) -> &'static str {
    match mode {
        RepoMode::Archive { .. } => "archive",
        RepoMode::BareUser => "bare-user",
    }
}

fn options(mode: RepoMode) -> CommitOptions {
    let metadata = [
        ("a.bytes", Value::Bytes(vec![1, 2, 255])),
        ("a.list", Value::StrArray(vec!["x".into(), "yz".into()])),
        ("a.number", Value::U64(1 << 40)),
        ("ostree.bootable", Value::Bool(true)),
        ("ostree.linux", Value::Str("6.12.0-cloud".into())),
        ("version", Value::Str("4.0.20261121".into())),
    ];
    CommitOptions {
        ref_name: REF.into(),
        bind_refs: vec!["sample/1/stable".into()],
        subject: "A sample – with more than ASCII".into(),
        body: "Two\n\nparagraphs.\n".into(),
        timestamp: TIMESTAMP,
        parent: None,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        mode,
        sync: false,
    }
}

/// A repository made by `ostree`, told not to wait for the disk at every object.
fn init(repo: &Path, mode: RepoMode) {
    ostree(repo, &["init", &format!("--mode={}", mode_name(mode))]);
    ostree(repo, &["config", "set", "core.fsync", "false"]);
}

/// The commit that the `ostree` program makes of `source` (`dir=…` or `tar=…`) with [`options`].
fn commit_by_ostree(repo: &Path, mode: RepoMode, source: &str) -> Digest {
    init(repo, mode);
    let tree = format!("--tree={source}");
    let arguments = [
        "commit",
        "--branch=sample/1/x86_64",
        "--bind-ref=sample/1/stable",
        "--subject=A sample – with more than ASCII",
        "--body=Two\n\nparagraphs.\n",
        "--timestamp=@1795219200",
        "--add-metadata=a.bytes=[byte 1, 2, 255]",
        "--add-metadata=a.list=['x', 'yz']",
        // ostree writes numbers as the machine has them, but shows them as big-endian.
        "--add-metadata=a.number=uint64 65536",
        "--add-metadata=ostree.bootable=true",
        "--add-metadata=ostree.linux='6.12.0-cloud'",
        "--add-metadata=version='4.0.20261121'",
        "--tar-autocreate-parents",
        &tree,
    ];
    ostree(repo, &arguments).trim().parse().unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Makes a directory with one of everything that ostree can hold.
fn make_sample(root: &Path) {
    let write = |name: &str, bytes: &[u8], mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("usr/bin/tool", b"#!/bin/sh\n", 0o755);
    write("usr/bin/set-id", b"s", 0o6755);
    write("usr/share/empty", b"", 0o644);
    write("usr/share/same-1", b"same", 0o644);
    write("usr/share/same-2", b"same", 0o644);
    write("usr/share/same-but-mode", b"same", 0o600);
    write("usr/share/wide", b"w", 0o666);
    write("usr/share/gr\u{fc}\u{df}e \u{1f980}", b"name", 0o444);
    let pattern: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    write("usr/lib/large", &pattern, 0o644);
    write("usr/lib/chunk", &pattern[..256 << 10], 0o644);
    write("usr/lib/two-chunks", &pattern[..512 << 10], 0o644);
    write("usr/lib/zeros", &vec![0; 5 << 20], 0o644);
    for n in 0..1500 {
        write(
            &format!("usr/share/many/file-with-a-longer-name-{n:04}"),
            &u32::to_le_bytes(n),
            0o644,
        );
    }
    for n in 0..40 {
        write(&format!("usr/share/dirs/{n}/{n}/x"), b"x", 0o644);
    }
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool-again")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/nowhere/at all", root.join("usr/dangling")).unwrap();
    symlink("usr/bin", root.join("usr/same-target")).unwrap();
    fs::create_dir_all(root.join("var/tmp")).unwrap();
    fs::set_permissions(root.join("var/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let attribute = |name: &str, key: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(root.join(name), key, value, flags).unwrap();
    };
    attribute("usr/bin/tool", "user.b", b"2");
    attribute("usr/bin/tool", "user.a", &[0, 1, 2]);
    attribute("var/tmp", "user.dir", &[7; 300]);
    if is_root() {
        let owner = |name: &str, uid, gid| {
            std::os::unix::fs::lchown(root.join(name), Some(uid), Some(gid)).unwrap();
        };
        owner("usr/share/same-2", 1000, 1001);
        owner("usr/dangling", 7, 70_000);
        owner("var", 0, 12);
        // cap_net_raw+ep, as files under /usr/bin have it.
        let mut capability = [0; 20];
        capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
        attribute("usr/bin/set-id", "security.capability", &capability);
    }
}

/// A directory of the host as a tree: types, modes, owners, attributes, contents.
fn load(path: &Path) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    *tree.root_mut() = load_node(path);
    tree
}

fn load_node(path: &Path) -> Node {
    let status = fs::symlink_metadata(path).unwrap();
    let mut meta = Meta::root((status.mode() & 0o7777) as u16, status.mtime());
    (meta.uid, meta.gid) = (status.uid(), status.gid());
    meta.xattrs = load_xattrs(path);
    let kind = if status.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let children = entries.map(|e| (e.file_name().as_bytes().into(), load_node(&e.path())));
        Kind::Dir(children.collect::<Children>())
    } else if status.is_symlink() {
        Kind::Symlink(fs::read_link(path).unwrap().as_os_str().as_bytes().into())
    } else {
        Kind::file(fs::read(path).unwrap())
    };
    Node::new(meta, kind, Origin::Composer("test"))
}

fn load_xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value[..length].into()
    };
    names.map(|name| (name.into(), value(name))).collect()
}

/// Every file below `root`: mode and bytes.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        let content = if status.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            let xattrs: Vec<_> = load_xattrs(&path)
                .into_iter()
                .map(|(k, v)| (hex(&k), hex(&v)))
                .collect();
            format!("{} {xattrs:?}", Digest::of(&fs::read(&path).unwrap()))
        };
        found.insert(
            path.strip_prefix(root).unwrap().to_owned(),
            (status.mode(), content),
        );
    }
    found
}

/// What a checkout as an ordinary user keeps: names, contents and targets.
fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let tree = load(root);
    let describe = |node: &Node| match &node.kind {
        Kind::File(file) => file.blob.sha256().to_string(),
        Kind::Symlink(target) => format!("-> {}", target.escape_ascii()),
        _ => String::new(),
    };
    let all = tree
        .walk()
        .map(|(path, node)| (PathBuf::from(path.to_string()), describe(node)));
    all.collect()
}

struct Sample {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Sample {
    fn new() -> Self {
        // Not under /tmp, which may be a tmpfs without user attributes.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        make_sample(&directory.path().join("root"));
        let tree = load(&directory.path().join("root"));
        Self { directory, tree }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, mode: RepoMode) -> (PathBuf, Commit) {
        let repo = self.path(&format!("ours-{}", mode_name(mode)));
        let commit = write_commit(&self.tree, &options(mode), &repo).unwrap();
        (repo, commit)
    }
}

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
        assert_eq!(commit.directories, 89);
        assert_eq!(commit.symlinks, 3);
        assert_eq!(commit.files, 1500 + 40 + 13);
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
        assert_eq!(commit.objects_written, objects as u64);
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
        assert_eq!(verified.files, commit.files);
        assert_eq!(verified.content_objects, commit.content_objects);
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
        assert_eq!(second.objects_written, 5);
        assert_eq!(second.files, first.files + 1);
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
fn what_ostree_cannot_hold_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let repo = directory.path().join("repo");
    let with = |name: &[u8], kind: Kind| {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let node = Node::new(Meta::root(0o644, 0), kind, Origin::Composer("test"));
        tree.insert(&TreePath::new(name).unwrap(), node).unwrap();
        write_commit(&tree, &options(ARCHIVE), &repo)
            .unwrap_err()
            .to_string()
    };
    let device = Kind::CharDevice { major: 1, minor: 3 };
    let cases = [
        (
            with(b"dev/null", device),
            "`/dev/null` is a character device, which an ostree commit cannot hold",
        ),
        (
            with(b"run/pipe", Kind::Fifo),
            "`/run/pipe` is a FIFO, which an ostree commit cannot hold",
        ),
        (
            with(b"", Kind::file(*b"x")),
            "`/` is a regular file, which an ostree commit cannot hold",
        ),
        (
            with(b"a/\xff", Kind::file(*b"x")),
            "the name of `/a/\\xff` is not UTF-8, which ostree demands",
        ),
        (
            with(b"link", Kind::Symlink((*b"\xff").into())),
            "the target of `/link` is not UTF-8, which ostree demands",
        ),
        (
            with(b"link", Kind::Symlink((*b"").into())),
            "`/link` has a target that is empty, holds a NUL byte or has more than 4095 bytes, \
             which no file system takes",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    let tree = Tree::new(Meta::root(0o755, 0));
    let refuse = |change: &dyn Fn(&mut CommitOptions)| {
        let mut options = options(ARCHIVE);
        change(&mut options);
        write_commit(&tree, &options, &repo).unwrap_err().to_string()
    };
    assert_eq!(
        refuse(&|o| o.ref_name = "../x".into()),
        "`../x` is not a name for an ostree ref"
    );
    assert_eq!(
        refuse(&|o| o.bind_refs = vec!["a b".into()]),
        "`a b` is not a name for an ostree ref"
    );
    assert_eq!(
        refuse(&|o| o.subject = "a\0b".into()),
        "the commit's subject holds a NUL byte"
    );
    let key = |o: &mut CommitOptions| drop(o.metadata.insert("ostree.ref-binding".into(), Value::Bool(true)));
    assert_eq!(
        refuse(&key),
        "commit metadata `ostree.ref-binding` is set by the ref that the commit is written to"
    );
    assert!(!repo.exists());

    write_commit(&tree, &options(ARCHIVE), &repo).unwrap();
    let error = write_commit(&tree, &options(RepoMode::BareUser), &repo).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ModeDiffers {
                found: "archive-z2",
                ..
            }
        ),
        "{error}"
    );
    let error = write_commit(&tree, &options(ARCHIVE), directory.path()).unwrap_err();
    assert!(matches!(error, Error::NotARepository { .. }), "{error}");
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
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
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
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
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

#[test]
fn thousands_of_files_of_the_host_give_the_commit_that_ostree_gives() {
    if !tool("ostree") {
        return;
    }
    let candidates = ["/usr/lib/python3", "/usr/share/perl", "/usr/share/doc"];
    let Some(root) = candidates.into_iter().find(|path| Path::new(path).is_dir()) else {
        eprintln!("SKIPPED: none of {candidates:?} is on this machine");
        return;
    };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
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
