//! What e2fsprogs says of file systems that are written here. What is not written is noise, so that a reader who looked
//! there would see it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use uuid::uuid;

use super::*;
use crate::formats::at::{Content, WriteAt};
use crate::formats::testing::{noise, run, tool};

mod refusals;
mod tools;

const MIB: u64 = 1 << 20;
const TIME: i64 = 1_763_683_199;
const LABEL: &[u8] = b"system_u:object_r:root_t:s0\0";

fn params(size: u64) -> Params<'static> {
    Params {
        size,
        uuid: uuid!("7c1a4a20-4a3b-8c5d-9e6f-001122334455"),
        hash_seed: *b"0123456789abcdef",
        label: "root",
        time: TIME,
    }
}

type Entries<'a> = BTreeMap<Box<[u8]>, Inode<'a>>;

fn directory<'a>(entries: impl IntoIterator<Item = (&'a str, Inode<'a>)>) -> Inode<'a> {
    let entries: Entries<'a> = entries
        .into_iter()
        .map(|(name, inode)| (name.as_bytes().into(), inode))
        .collect();
    Inode::root(0o755, TIME, Kind::Directory(entries))
}

fn link(target: &str) -> Inode<'static> {
    Inode::root(0o777, TIME, Kind::Symlink(target.as_bytes().into()))
}

fn file(content: &[u8]) -> Inode<'_> {
    Inode::root(0o644, TIME, Kind::File(Content::bytes(content)))
}

impl<'a> Inode<'a> {
    fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.insert(name.as_bytes().into(), value.into());
        self
    }
}

/// Of everything some.
struct Tree {
    large: Vec<u8>,
    names: Vec<String>,
    long: String,
    value: Vec<u8>,
}

impl Tree {
    fn new() -> Self {
        Self {
            large: noise(7, 3_000_001),
            names: (0..300)
                .map(|n| format!("name-{n}-{}", "x".repeat(n % 50)))
                .collect(),
            long: "long/".repeat(100),
            value: noise(8, 1000),
        }
    }

    fn root(&self) -> Inode<'_> {
        let many = self.names.iter().map(|name| (name.as_str(), file(b"")));
        let owned = Inode {
            uid: 100_000,
            gid: 70_000,
            mode: 0o2750,
            ..directory([("deep", directory([("file", file(&self.large))]))])
        };
        directory([
            ("bin", link("usr/bin")),
            ("etc", directory([])),
            ("long", link(&self.long)),
            ("many", directory(many)),
            ("owned", owned),
            (
                "small",
                file(b"small\n")
                    .with("user.large", &self.value)
                    .with("user.a", b""),
            ),
            (
                "tmp",
                Inode {
                    mode: 0o1777,
                    ..directory([])
                },
            ),
            (
                "usr",
                directory([]).with("security.selinux", b"system_u:object_r:usr_t:s0\0"),
            ),
        ])
        .with("security.selinux", LABEL)
    }
}

/// A file system in a file.
struct Image {
    directory: tempfile::TempDir,
    size: u64,
}

impl Image {
    fn path(&self) -> PathBuf {
        self.directory.path().join("fs")
    }

    fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(self.path()).unwrap()
    }

    fn made(size: u64, root: &Inode<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fs");
        let out = File::create_new(&path).unwrap();
        out.set_len(size).unwrap();
        let size = write(&out, &params(size), root).unwrap();
        Self { directory, size }
    }

    fn debugfs(&self, command: &str) -> String {
        run("debugfs", ["-R", command, &self.text()])
    }
}

/// Blocks that were written.
#[derive(Default)]
struct Blocks(std::sync::Mutex<BTreeMap<u64, Vec<u8>>>);

impl WriteAt for Blocks {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        assert_eq!((offset % BLOCK_SIZE, bytes.len() as u64 % BLOCK_SIZE), (0, 0));
        for (number, block) in (offset / BLOCK_SIZE..).zip(bytes.chunks(BLOCK_SIZE as usize)) {
            let before = self.0.lock().unwrap().insert(number, block.to_vec());
            assert_eq!(before, None, "block {number} is written twice");
        }
        Ok(())
    }
}

#[test]
fn blocks_are_written_once_and_whole_and_equal_twice() {
    let tree = Tree::new();
    let write = |tree: &Inode<'_>| {
        let blocks = Blocks::default();
        write(&blocks, &params(5 << 29), tree).unwrap();
        blocks.0.into_inner().unwrap()
    };
    let (first, second) = (write(&tree.root()), write(&tree.root()));
    assert!(first == second);
    let mut other = tree.root();
    other.time += 1;
    assert!(write(&other) != first);
}
