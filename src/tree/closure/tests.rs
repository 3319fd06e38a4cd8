//! Tests of [`super`].

use std::process::Command;

use super::{ClosureOptions, elf_closure};
use crate::formats::elf::DlopenPriority;
use crate::formats::elf::fixture::Object;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

fn put(tree: &mut Tree, path: &str, kind: Kind) {
    let node = Node::new(Meta::root(0o755, 0), kind, Origin::Composer("test"));
    tree.insert(&TreePath::new(path).unwrap(), node).unwrap();
}

fn object(tree: &mut Tree, path: &str, object: Object<'_>) {
    put(tree, path, Kind::file(object.build()));
}

fn link(tree: &mut Tree, path: &str, target: &str) {
    put(tree, path, Kind::Symlink(target.as_bytes().into()));
}

fn sample() -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let tree_ = &mut tree;
    let none = Object::default();
    link(tree_, "/lib64", "usr/lib64");
    link(tree_, "/bin", "usr/bin");
    object(
        tree_,
        "/usr/lib64/ld-linux-x86-64.so.2",
        Object {
            soname: Some("ld-linux-x86-64.so.2"),
            ..none
        },
    );
    object(
        tree_,
        "/usr/lib64/libc.so.6",
        Object {
            soname: Some("libc.so.6"),
            needed: &["ld-linux-x86-64.so.2"],
            ..none
        },
    );
    object(
        tree_,
        "/usr/lib64/libreal.so.1.2",
        Object {
            soname: Some("libreal.so.1"),
            needed: &["libc.so.6"],
            ..none
        },
    );
    link(tree_, "/usr/lib64/libreal.so.1", "libreal.so.1.2");
    let notes = r#"[{"soname":["libnew.so.2","libreal.so.1"],"feature":"real","priority":"recommended"},
        {"soname":["libabsent.so.1"],"feature":"absent","priority":"recommended"},
        {"soname":["libtpm.so.0"],"feature":"tpm","priority":"suggested"}]"#;
    object(
        tree_,
        "/usr/lib/prog/libpriv.so",
        Object {
            soname: Some("libpriv.so"),
            dlopen: Some(notes),
            ..none
        },
    );
    object(
        tree_,
        "/usr/lib64/libuser.so.1",
        Object {
            needed: &["libpriv.so"],
            ..none
        },
    );
    object(
        tree_,
        "/usr/bin/prog",
        Object {
            needed: &["libpriv.so", "libuser.so.1", "libc.so.6"],
            runpath: Some("$ORIGIN/../lib/prog"),
            interpreter: Some(LINKER),
            ..none
        },
    );
    object(
        tree_,
        "/usr/bin/sh",
        Object {
            needed: &["libc.so.6"],
            interpreter: Some(LINKER),
            ..none
        },
    );
    object(
        tree_,
        "/usr/bin/env",
        Object {
            needed: &["libc.so.6"],
            interpreter: Some(LINKER),
            ..none
        },
    );
    object(
        tree_,
        "/usr/bin/broken",
        Object {
            needed: &["libmissing.so.3"],
            interpreter: Some(LINKER),
            ..none
        },
    );
    put(tree_, "/usr/bin/script", Kind::file(*b"#! /bin/sh -e\n"));
    put(
        tree_,
        "/usr/bin/indirect",
        Kind::file(*b"#!/usr/bin/env -S A=1 prog\n"),
    );
    put(tree_, "/usr/bin/orphan", Kind::file(*b"#!/usr/bin/nothing\n"));
    put(tree_, "/usr/share/data", Kind::file(*b"plain"));
    tree
}

fn closure(starts: &[&str], options: &ClosureOptions) -> Result<Vec<String>, String> {
    let starts: Vec<TreePath> = starts.iter().map(|path| TreePath::new(path).unwrap()).collect();
    let paths = elf_closure(&sample(), &starts, options).map_err(|error| error.to_string())?;
    Ok(paths.iter().map(ToString::to_string).collect())
}

#[test]
fn a_script_brings_its_interpreter_and_every_link() {
    let found = closure(
        &["/usr/bin/script", "/usr/share/data"],
        &ClosureOptions::default(),
    )
    .unwrap();
    let expected = [
        "/bin",
        "/lib64",
        "/usr",
        "/usr/bin",
        "/usr/bin/script",
        "/usr/bin/sh",
        "/usr/lib64",
        "/usr/lib64/ld-linux-x86-64.so.2",
        "/usr/lib64/libc.so.6",
        "/usr/share",
        "/usr/share/data",
    ];
    assert_eq!(found, expected);
}

#[test]
fn runpath_loaded_names_and_dlopen_notes_are_followed() {
    let libraries = |options: &ClosureOptions| -> Vec<String> {
        let found = closure(&["/usr/bin/indirect"], options).unwrap();
        let names = found.iter().filter_map(|path| path.rsplit('/').next());
        names
            .filter(|name| name.starts_with("lib") && name.contains(".so"))
            .map(str::to_owned)
            .collect()
    };
    let base = [
        "libpriv.so",
        "libc.so.6",
        "libreal.so.1",
        "libreal.so.1.2",
        "libuser.so.1",
    ];
    assert_eq!(libraries(&ClosureOptions::default()), base);
    let required = ClosureOptions {
        dlopen: DlopenPriority::Required,
        ..ClosureOptions::default()
    };
    assert_eq!(libraries(&required), ["libpriv.so", "libc.so.6", "libuser.so.1"]);
}

#[test]
fn what_is_missing_is_named_with_what_wants_it() {
    let with_tpm = ClosureOptions {
        features: ["tpm".to_owned()].into(),
        ..ClosureOptions::default()
    };
    let table = [
        (
            "/usr/bin/broken",
            "library `libmissing.so.3` is not in the tree; `/usr/bin/broken` needs it (64-bit ELF, machine 62)",
        ),
        (
            "/usr/bin/orphan",
            "`/usr/bin/nothing` is not in the tree; `/usr/bin/orphan` asks for it",
        ),
        ("/usr/bin/absent", "`/usr/bin/absent` is not in the tree"),
        (
            "/usr/bin/prog",
            "library `libtpm.so.0` is not in the tree; `/usr/lib/prog/libpriv.so` needs it (64-bit ELF, machine 62)",
        ),
    ];
    for (start, message) in table {
        assert_eq!(closure(&[start], &with_tpm).unwrap_err(), message);
    }
}

#[test]
fn the_hosts_programs_need_what_ldd_says() {
    if Command::new("ldd").arg("--version").output().is_err() {
        crate::testing::skip("ldd is missing");
        return;
    }
    // Only what the programs need is put into the tree, so that nothing else is read.
    let mut tree = Tree::new(Meta::root(0o755, 0));
    for dir in ["bin", "lib", "lib64"] {
        if let Ok(target) = std::fs::read_link(format!("/{dir}")) {
            link(&mut tree, &format!("/{dir}"), &target.to_string_lossy());
        }
    }
    let mut expected = std::collections::BTreeSet::new();
    let programs = ["/usr/bin/bash", "/usr/bin/tar", "/usr/bin/ls"];
    let copy = |tree: &mut Tree, path: &str| {
        let real = std::fs::canonicalize(path).unwrap();
        let at = TreePath::new(real.to_str().unwrap()).unwrap();
        put(
            tree,
            real.to_str().unwrap(),
            Kind::file(std::fs::read(&real).unwrap()),
        );
        let dir = std::fs::canonicalize(std::path::Path::new(path).parent().unwrap()).unwrap();
        let dir = TreePath::new(dir.to_str().unwrap()).unwrap();
        let name = path.rsplit('/').next().unwrap();
        if dir.join_name(name.as_bytes()) != at {
            link(
                tree,
                &dir.join_name(name.as_bytes()).to_string(),
                real.to_str().unwrap(),
            );
        }
        at
    };
    for program in programs {
        expected.insert(copy(&mut tree, program));
        let output = Command::new("ldd").arg(program).output().unwrap();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let path = line.split_whitespace().find(|word| word.starts_with('/'));
            if let Some(path) = path {
                expected.insert(copy(&mut tree, path));
            }
        }
    }
    let starts: Vec<TreePath> = programs.iter().map(|path| TreePath::new(path).unwrap()).collect();
    let found = elf_closure(&tree, &starts, &ClosureOptions::default()).unwrap();
    let files = found
        .into_iter()
        .filter(|path| matches!(tree.get(path).unwrap().kind, Kind::File(_)));
    assert_eq!(files.collect::<std::collections::BTreeSet<_>>(), expected);
    assert!(expected.len() > 5, "{expected:?}");
}
