//! Tests of [`super`] and [`crate::tree::modules`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{DepmodError, kernels, load, run};
use crate::formats::elf::fixture::module;
use crate::formats::kmodindex::Index;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

const KVER: &str = "6.12.0-test";
const DIR: &str = "usr/lib/modules/6.12.0-test";

fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(DIR).join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn kernel(root: &Path) {
    let base = [
        "license=GPL",
        "alias=pci:v*d-1*",
        "alias=char-major-10-229",
        "alias=devname:fuse",
    ];
    put(
        root,
        "kernel/a/base-mod.ko",
        module(&base, &["base_one", "base_two"], &["printk"]),
    );
    put(
        root,
        "kernel/b/mid.ko",
        module(
            &["alias=fs-mid", "firmware=mid/*.bin"],
            &["mid"],
            &["base_two", "printk"],
        ),
    );
    let top = [
        "softdep=pre: soft-one gone post: late",
        "weakdep=weak",
        "alias=fs-top",
    ];
    let top = module(&top, &[], &["mid", "base_one"]);
    put(
        root,
        "kernel/c/top.ko.zst",
        zstd::encode_all(&top[..], 3).unwrap(),
    );
    for name in ["soft_one", "late", "weak", "alone"] {
        put(
            root,
            &format!("kernel/d/{name}.ko"),
            module(&["alias=bad[", "alias=x[a-c]-y"], &[], &[]),
        );
    }
    put(
        root,
        "modules.order",
        "kernel/c/top.ko\nkernel/b/mid.ko\nkernel/a/base-mod.ko\nkernel/d/late.ko\nkernel/d/soft_one.ko\nkernel/d/weak.ko\nkernel/d/alone.ko\n",
    );
    put(
        root,
        "modules.builtin",
        "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme-core.ko\n",
    );
    put(
        root,
        "modules.builtin.modinfo",
        "ext4.license=GPL\0ext4.alias=fs-ext4\0ext4.file=fs/ext4\0nvme_core.alias=char-nvme*\0",
    );
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
}

fn tree() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    kernel(dir.path());
    Tree::from_dir(dir.path()).unwrap()
}

fn written(tree: &Tree, name: &str) -> Vec<u8> {
    let path = TreePath::new(format!("/{DIR}/{name}")).unwrap();
    tree.file(&path).unwrap().blob.read_all().unwrap()
}

#[test]
fn the_indexes_say_what_depmods_say() {
    if Command::new("depmod").arg("--version").output().is_err() {
        crate::testing::skip("depmod is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    kernel(dir.path());
    let mut tree = Tree::from_dir(dir.path()).unwrap();
    run(&mut tree, KVER, 5, None).unwrap();
    let output = Command::new("depmod")
        .arg("-b")
        .arg(dir.path())
        .arg(KVER)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let theirs = |name: &str| fs::read(dir.path().join(DIR).join(name)).unwrap();
    for name in [
        "modules.dep",
        "modules.alias",
        "modules.softdep",
        "modules.devname",
    ] {
        let (ours, theirs) = (written(&tree, name), theirs(name));
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&theirs),
            "{name}"
        );
    }
    let sorted =
        |bytes: &[u8]| -> BTreeSet<Vec<u8>> { bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect() };
    assert_eq!(
        sorted(&written(&tree, "modules.symbols")),
        sorted(&theirs("modules.symbols"))
    );
    // Versions of depmod lay the same tree out in different orders.
    for name in ["dep", "alias", "symbols", "builtin", "builtin.alias"] {
        let name = format!("modules.{name}.bin");
        let read = |bytes: Vec<u8>| {
            let mut records = Index::parse(&bytes).unwrap();
            records.sort();
            records
        };
        let ours = read(written(&tree, &name));
        assert!(!ours.is_empty(), "{name}");
        assert_eq!(ours, read(theirs(&name)), "{name}");
    }
}

#[test]
fn modprobe_reads_the_indexes() {
    if Command::new("modprobe").arg("--version").output().is_err() {
        crate::testing::skip("modprobe is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    kernel(dir.path());
    let mut tree = Tree::from_dir(dir.path()).unwrap();
    run(&mut tree, KVER, 5, None).unwrap();
    for name in [
        "dep.bin",
        "alias.bin",
        "symbols.bin",
        "builtin.bin",
        "builtin.alias.bin",
        "softdep",
    ] {
        let name = format!("modules.{name}");
        put(dir.path(), &name, written(&tree, &name));
    }
    let ask = |name: &str| {
        let mut modprobe = Command::new("modprobe");
        let output = modprobe
            .arg("-d")
            .arg(dir.path())
            .args(["-S", KVER, "--show-depends", name])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let files = text
            .lines()
            .map(|line| line.trim().rsplit(['/', ' ']).next().unwrap().to_owned());
        files.collect::<Vec<String>>()
    };
    assert_eq!(ask("fs-mid"), ["base-mod.ko", "mid.ko"]);
    assert_eq!(ask("pci:v1d-1"), ["base-mod.ko"]);
    assert_eq!(ask("symbol:mid"), ["base-mod.ko", "mid.ko"]);
    assert_eq!(ask("fs-ext4"), ["ext4"]);
    assert_eq!(
        ask("top"),
        ["base-mod.ko", "mid.ko", "soft_one.ko", "top.ko.zst", "late.ko"]
    );
}

#[test]
fn a_closure_has_all_that_loading_takes() {
    let set = load(&tree(), KVER).unwrap();
    let closure = set.closure(&["fs-top", "ext4", "char-nvme0"]).unwrap();
    let names: Vec<_> = closure
        .modules
        .iter()
        .map(|module| String::from_utf8_lossy(&module.name))
        .collect();
    assert_eq!(names, ["base_mod", "mid", "soft_one", "top", "late", "weak"]);
    let path = TreePath::literal("/usr/lib/modules/6.12.0-test/kernel/c/top.ko.zst");
    assert_eq!(set.get("top").unwrap().path, path);
    let strings = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(closure.builtin, strings(&["ext4", "nvme_core"]));
    assert_eq!(closure.firmware, strings(&["mid/*.bin"]));
    assert_eq!(closure.absent, strings(&["gone"]));
    assert!(set.is_builtin("nvme-core") && !set.is_builtin("mid"));
    let error = set.closure(&["mid", "base-mood"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel 6.12.0-test has no module `base-mood`, neither as a file nor built in; nearest: `base_mod`"
    );
}

#[test]
fn what_cannot_be_indexed_is_an_error() {
    let mut sample = tree();
    assert_eq!(kernels(&sample), [KVER]);
    let error = load(&sample, "6.1").unwrap_err().to_string();
    assert!(error.contains("no modules for kernel 6.1"), "{error}");
    assert!(matches!(load(&sample, "../x"), Err(DepmodError::BadVersion(_))));
    let mut add = |path: &str, bytes: Vec<u8>| {
        let node = Node::new(Meta::root(0o644, 0), Kind::file(bytes), Origin::Composer("test"));
        sample
            .insert(&TreePath::new(format!("/{DIR}/{path}")).unwrap(), node)
            .unwrap();
        run(&mut sample, KVER, 0, None)
            .err()
            .map(|error| error.to_string())
    };
    let broken = add("extra/broken.ko", b"nonsense".to_vec()).unwrap();
    assert!(
        broken.contains("extra/broken.ko` is not a usable kernel module: not an ELF file"),
        "{broken}"
    );
    assert_eq!(add("extra/broken.ko", module(&[], &["one"], &["two"])), None);
    let circle = add("extra/other.ko", module(&[], &["two"], &["one"]));
    assert_eq!(
        circle.as_deref(),
        Some("modules need each other in a circle: broken, other")
    );
}
