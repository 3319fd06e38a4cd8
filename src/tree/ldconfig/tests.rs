//! Tests of [`super`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::run;
use crate::formats::elf::fixture::Object;
use crate::formats::ldcache::Cache;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Tree};

const LIB: &str = "usr/lib/x86_64-linux-gnu";

fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn library(root: &Path, path: &str, soname: &str) {
    let soname = Some(soname).filter(|name| !name.is_empty());
    let object = Object {
        soname,
        isa: Some(3),
        ..Object::default()
    };
    put(root, path, object.build());
}

/// A small system in Debian's layout.
fn system(root: &Path, etc: &str) {
    put(
        root,
        &format!("{etc}/ld.so.conf"),
        "include /etc/ld.so.conf.d/*.conf # all\n\n/opt/x/lib/  \n/absent\n",
    );
    put(
        root,
        &format!("{etc}/ld.so.conf.d/b.conf"),
        format!("/{LIB}\n/lib/x86_64-linux-gnu\n"),
    );
    put(
        root,
        &format!("{etc}/ld.so.conf.d/a.conf"),
        "/usr/local/lib\nhwcap 0 nosegneg\n",
    );
    put(root, &format!("{etc}/ld.so.conf.d/a.txt"), "/usr/never\n");
    fs::create_dir_all(root.join("usr/lib64")).unwrap();
    for dir in ["lib", "lib64", "sbin"] {
        symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
    }
    library(root, &format!("{LIB}/libc.so.6"), "libc.so.6");
    library(
        root,
        &format!("{LIB}/ld-linux-x86-64.so.2"),
        "ld-linux-x86-64.so.2",
    );
    library(root, &format!("{LIB}/liba.so.1.9"), "liba.so.1");
    library(root, &format!("{LIB}/liba.so.1.10"), "liba.so.1");
    library(root, &format!("{LIB}/libnoname.so"), "");
    library(root, &format!("{LIB}/libb.so.2.0"), "libb.so.2");
    symlink("libb.so.2.0", root.join(LIB).join("libb.so.2")).unwrap();
    symlink("libb.so.2", root.join(LIB).join("libb.so")).unwrap();
    symlink("libb.so.2.0", root.join(LIB).join("libodd.so.7")).unwrap();
    library(root, &format!("{LIB}/libfile.so.1"), "libfile.so.1");
    library(root, &format!("{LIB}/libfile.so.1.1"), "libfile.so.1");
    library(
        root,
        &format!("{LIB}/glibc-hwcaps/x86-64-v3/libhw.so.1.2"),
        "libhw.so.1",
    );
    library(
        root,
        &format!("{LIB}/glibc-hwcaps/x86-64-v2/libhw.so.1.2"),
        "libhw.so.1",
    );
    fs::create_dir_all(root.join(LIB).join("glibc-hwcaps/x86-64-v4")).unwrap();
    library(root, "usr/local/lib/liba.so.1.1", "liba.so.1");
    library(root, "opt/x/lib/libopt.so.3", "libopt.so.3");
    library(root, "usr/lib/libplain.so.1.#prelink#", "libplain.so.1");
    put(root, "usr/lib/libscript.so", "GROUP ( libc.so.6 )");
    put(root, "usr/lib/libshort.so.1", "\x7fELF");
}

fn links(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in [LIB, "usr/lib", "usr/local/lib", "opt/x/lib"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(target) = fs::read_link(&path) {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, target.display().to_string()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn cache_and_links_are_those_of_ldconfig() {
    let Some(tool) = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .into_iter()
        .find(|tool| Path::new(tool).exists())
    else {
        crate::testing::skip("ldconfig is missing");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    system(dir.path(), "etc");
    put(dir.path(), "usr/sbin/ldconfig", fs::read(tool).unwrap());
    let mut tree = Tree::from_dir(dir.path()).unwrap();
    let report = run(&mut tree, &TreePath::literal("/etc"), 5).unwrap();

    let output = Command::new(tool).arg("-r").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = fs::read(dir.path().join("etc/ld.so.cache")).unwrap();
    let written = tree.file(&TreePath::literal("/etc/ld.so.cache")).unwrap();
    let written = written.blob.read_all().unwrap();
    assert_eq!(Cache::parse(&written), Cache::parse(&expected));
    assert_eq!(written, expected, "bytes");
    assert_eq!(report.libraries, Cache::parse(&expected).unwrap().entries.len());
    let mut ours: Vec<(String, String)> = tree
        .walk()
        .filter_map(|(path, node)| match &node.kind {
            Kind::Symlink(target) if path.as_bytes().iter().filter(|&&b| b == b'/').count() > 1 => Some((
                path.to_string()[1..].to_owned(),
                String::from_utf8_lossy(target).into_owned(),
            )),
            _ => None,
        })
        .collect();
    ours.sort();
    assert_eq!(ours, links(dir.path()));
}

#[test]
fn the_layout_of_ostree_and_of_fedora() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, "usr/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n");
    put(root, "usr/etc/ld.so.conf.d/x.conf", "/usr/lib64/x\n");
    for dir in ["lib", "lib64"] {
        symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
    }
    library(root, "usr/lib64/libc.so.6", "libc.so.6");
    library(root, "usr/lib64/x/libx.so.1.2", "libx.so.1");
    library(root, "usr/lib/libevil.so.1", "../../etc/passwd");
    symlink("/gone/libgone.so.1", root.join("usr/lib64/libgone.so.1")).unwrap();
    let mut tree = Tree::from_dir(root).unwrap();
    let report = run(&mut tree, &TreePath::literal("/usr/etc"), 5).unwrap();
    let cache = tree.file(&TreePath::literal("/usr/etc/ld.so.cache")).unwrap();
    let cache = Cache::parse(&cache.blob.read_all().unwrap()).unwrap();
    let paths: Vec<_> = cache
        .entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.path))
        .collect();
    assert_eq!(paths, ["/usr/lib64/x/libx.so.1", "/lib64/libc.so.6"]);
    assert_eq!(cache.generator, b"ldconfig");
    assert_eq!(
        report.links,
        [(
            TreePath::literal("/usr/lib64/x/libx.so.1"),
            b"libx.so.1.2".to_vec()
        )]
    );
    assert_eq!(report.dangling, [TreePath::literal("/usr/lib64/libgone.so.1")]);
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
    assert!(
        report.remarks[0].contains("../../etc/passwd"),
        "{:?}",
        report.remarks
    );
}

#[test]
fn bad_configurations_are_named() {
    let table = [
        (
            "\n/usr/../..\n",
            "/etc/ld.so.conf:2: `/usr/../..` is not an absolute path inside the image",
        ),
        (
            "lib\n",
            "/etc/ld.so.conf:1: `lib` is not an absolute path inside the image",
        ),
        (
            "include ld.so.conf\n",
            "/etc/ld.so.conf:1: `include` goes deeper than 16 files",
        ),
    ];
    for (conf, message) in table {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "etc/ld.so.conf", conf);
        let mut tree = Tree::from_dir(dir.path()).unwrap();
        let error = run(&mut tree, &TreePath::literal("/etc"), 0).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
