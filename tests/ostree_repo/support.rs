//! A sample directory, the same as a tree, and the `ostree` program.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use hullwright::ostree::{Commit, CommitOptions, RepoMode, Value, write_commit};
use hullwright::store::{Digest, hex};
use hullwright::tree::{Children, Kind, Meta, Node, Origin, Tree, Xattrs};

pub const REF: &str = "sample/1/x86_64";
pub const TIMESTAMP: u64 = 1_795_219_200;
pub const ARCHIVE: RepoMode = RepoMode::Archive { level: 3 };
pub const MODES: [RepoMode; 2] = [ARCHIVE, RepoMode::BareUser];

/// Whether `name` can be run; says so where it cannot.
pub fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        crate::testing::skip(&format!("{name} is missing"));
    }
    found
}

/// Runs a program that must succeed; what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
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

pub fn ostree(repo: &Path, arguments: &[&str]) -> String {
    let repo = format!("--repo={}", repo.display());
    run("ostree", &[&[arguments[0], &repo], &arguments[1..]].concat())
}

pub fn mode_name(mode: RepoMode) -> &'static str {
    match mode {
        RepoMode::Archive { .. } => "archive",
        RepoMode::BareUser => "bare-user",
    }
}

pub fn options(mode: RepoMode) -> CommitOptions {
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
pub fn init(repo: &Path, mode: RepoMode) {
    ostree(repo, &["init", &format!("--mode={}", mode_name(mode))]);
    ostree(repo, &["config", "set", "core.fsync", "false"]);
}

/// The commit that the `ostree` program makes of `source` (`dir=…` or `tar=…`) with [`options`].
pub fn commit_by_ostree(repo: &Path, mode: RepoMode, source: &str) -> Digest {
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

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Makes a directory with one of everything that ostree can hold.
pub fn make_sample(root: &Path) {
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
pub fn load(path: &Path) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    *tree.root_mut() = load_node(path);
    tree
}

pub fn load_node(path: &Path) -> Node {
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

pub fn load_xattrs(path: &Path) -> Xattrs {
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
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, String)> {
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
pub fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
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

/// A directory in memory where that takes user extended attributes, else beside the built tests.
pub fn scratch() -> tempfile::TempDir {
    let takes_attributes = |directory: &tempfile::TempDir| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(directory.path(), "user.test", b"1", flags).is_ok()
            && rustix::fs::lremovexattr(directory.path(), "user.test").is_ok()
    };
    let memory = tempfile::tempdir_in("/dev/shm").ok().filter(takes_attributes);
    memory.unwrap_or_else(|| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
}

pub struct Sample {
    pub directory: tempfile::TempDir,
    pub tree: Tree,
}

impl Sample {
    pub fn new() -> Self {
        let directory = scratch();
        make_sample(&directory.path().join("root"));
        let tree = load(&directory.path().join("root"));
        Self { directory, tree }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, mode: RepoMode) -> (PathBuf, Commit) {
        let repo = self.path(&format!("ours-{}", mode_name(mode)));
        let commit = write_commit(&self.tree, &options(mode), &repo).unwrap();
        (repo, commit)
    }
}
