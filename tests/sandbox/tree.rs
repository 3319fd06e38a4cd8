//! A small tree with programs of this machine and their libraries, and scripts in it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hullwright::path::TreePath;
use hullwright::scriptlet::sandbox::{ChangeKind, End, Interpreter, Limits, Outcome, Sandbox, Script};
use hullwright::tree::{Children, Kind, Meta, Node, Origin};

use crate::support::tool;

pub const PROGRAMS: &[&str] = &[
    "bash", "cat", "chgrp", "chmod", "chown", "cp", "date", "dd", "echo", "env", "find", "getcap",
    "getfattr", "grep", "head", "id", "install", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv",
    "readlink", "rm", "rmdir", "setcap", "setfattr", "setpriv", "sleep", "stat", "tar", "touch", "true",
    "uname", "unshare",
];

pub struct Lab {
    pub sandbox: Sandbox,
    pub scratch: tempfile::TempDir,
}

pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

pub fn node(mode: u16, kind: Kind) -> Node {
    Node::new(Meta::root(mode, 0), kind, Origin::Composer("test"))
}

pub fn owned(uid: u32, gid: u32, mut node: Node) -> Node {
    node.meta.uid = uid;
    node.meta.gid = gid;
    node
}

pub fn dir() -> Kind {
    Kind::Dir(Children::new())
}

/// Limits that hostile scripts reach soon.
pub fn tight() -> Limits {
    Limits {
        time: Duration::from_secs(10),
        memory: 256 << 20,
        processes: 64,
        output_kept: 4096,
        output: 1 << 20,
        disk: 32 << 20,
        files: 2000,
    }
}

/// The built program, where whoever runs the tests may start it.
pub fn program() -> PathBuf {
    std::env::var_os("HULLWRIGHT_TEST_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_hullwright").into(), PathBuf::from)
}

/// A sandbox with the programs in it.
pub fn lab(limits: Limits) -> Lab {
    let scratch = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::new(&program(), scratch.path(), limits).unwrap();
    for (at, kind) in [
        ("/bin", Kind::Symlink((*b"usr/bin").into())),
        ("/sbin", Kind::Symlink((*b"usr/bin").into())),
        ("/lib64", Kind::Symlink((*b"usr/lib64").into())),
        ("/lib", Kind::Symlink((*b"usr/lib").into())),
        // As Fedora has it.
        ("/usr", dir()),
        ("/usr/bin", dir()),
        ("/usr/lib", dir()),
        ("/usr/lib64", dir()),
        ("/usr/bin/sh", Kind::Symlink((*b"bash").into())),
        ("/etc", dir()),
        ("/var", dir()),
        ("/data", dir()),
    ] {
        let mode = if at == "/usr/bin" { 0o555 } else { 0o755 };
        sandbox.put(&path(at), &node(mode, kind)).unwrap();
    }
    let programs: Vec<PathBuf> = PROGRAMS.iter().filter_map(|name| tool(name)).collect();
    let mut libraries = BTreeSet::new();
    for program in &programs {
        put_file(&mut sandbox, program, &format!("/usr/bin/{}", name_of(program)));
        libraries.extend(libraries_of(program));
    }
    for library in &libraries {
        // Where the program looks for it, by the tree's links.
        let place = library.to_str().unwrap();
        let place = match place.strip_prefix("/lib") {
            Some(rest) => format!("/usr/lib{rest}"),
            None => place.to_owned(),
        };
        put_file(&mut sandbox, library, &place);
    }
    for (at, text) in [
        (
            "/etc/passwd",
            "root:x:0:0::/root:/bin/bash\ndaemon:x:2:2::/:/sbin/nologin\n",
        ),
        ("/etc/group", "root:x:0:\ndaemon:x:2:\ndisk:x:6:\n"),
    ] {
        sandbox
            .put(&path(at), &node(0o644, Kind::file(text.as_bytes())))
            .unwrap();
    }
    Lab { sandbox, scratch }
}

fn name_of(program: &Path) -> &str {
    program.file_name().unwrap().to_str().unwrap()
}

pub fn put_file(sandbox: &mut Sandbox, from: &Path, to: &str) {
    let mode = from.metadata().unwrap().permissions().mode() as u16 & 0o755;
    let bytes = std::fs::read(from).unwrap();
    sandbox.put(&path(to), &node(mode, Kind::file(bytes))).unwrap();
}

fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let found = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    text.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

pub fn script(body: &str) -> Script {
    Script {
        name: "probe-1-1.x86_64 %post".into(),
        interpreter: Interpreter::Program(vec![b"/bin/sh".to_vec()]),
        body: body.as_bytes().to_vec(),
        args: vec![b"1".to_vec()],
        stdin: Vec::new(),
        env: Vec::new(),
    }
}

impl Lab {
    pub fn run(&mut self, body: &str) -> Outcome {
        self.sandbox.run(&script(body)).unwrap()
    }

    /// The output of a script that must end well.
    pub fn output(&mut self, body: &str) -> String {
        let outcome = self.run(body);
        let text = String::from_utf8_lossy(&outcome.output).into_owned();
        assert_eq!(outcome.end, End::Exit(0), "{body}\n{text}");
        text
    }

    pub fn changes(&mut self, body: &str) -> Vec<(String, ChangeKind)> {
        let outcome = self.run(body);
        let text = String::from_utf8_lossy(&outcome.output);
        assert_eq!(outcome.end, End::Exit(0), "{body}\n{text}");
        outcome
            .changes
            .into_iter()
            .map(|change| (change.path.to_string(), change.kind))
            .collect()
    }

    pub fn read(&self, at: &str) -> Node {
        self.sandbox.read(&path(at), 77).unwrap().unwrap()
    }
}
