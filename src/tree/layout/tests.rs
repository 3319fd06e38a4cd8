use super::*;

fn tree(entries: &[(&'static str, Kind)]) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    for (path, kind) in entries {
        let mut meta = Meta::root(0o640, 5);
        if matches!(kind, Kind::Dir(_)) {
            meta.mode = 0o750;
            meta.user = Some("app".into());
        }
        let node = Node::new(meta, kind.clone(), Origin::Packages(vec![0]));
        tree.insert(&TreePath::literal(path), node).unwrap();
    }
    tree
}

fn name(_: &Origin) -> String {
    "pkg-1-1.noarch".to_owned()
}

fn read(tree: &Tree, path: &'static str) -> String {
    String::from_utf8(
        tree.file(&TreePath::literal(path))
            .unwrap()
            .blob
            .read_all()
            .unwrap(),
    )
    .unwrap()
}

fn dir() -> Kind {
    Kind::Dir(Children::new())
}

fn link(target: &str) -> Kind {
    Kind::Symlink(target.as_bytes().into())
}

#[test]
fn state_becomes_tmpfiles_lines() {
    let mut tree = tree(&[
        ("/usr/bin/app", Kind::file(*b"x")),
        ("/bin", link("usr/bin")),
        ("/etc/app.conf", Kind::file(*b"y")),
        ("/var/lib/app", dir()),
        ("/var/lib/app/seed file", Kind::file(*b"z")),
        ("/var/lib/known", dir()),
        ("/var/run", link("../run")),
        ("/root/.bashrc", Kind::file(*b"rc")),
        ("/opt", dir()),
        ("/usr/local/bin", dir()),
        (
            "/usr/lib/tmpfiles.d/app.conf",
            Kind::file(*b"d /var/lib/known 0755 - - -\n"),
        ),
    ]);
    to_ostree(&mut tree, 9, &name).unwrap();
    let lines = read(&tree, "/usr/lib/tmpfiles.d/hullwright-state.conf");
    let expected = [
        "d /var/home 0755 root root -",
        "d /var/lib 0755 root root -",
        "d /var/lib/app 0750 app root -",
        "C \"/var/lib/app/seed file\" 0640 root root - \"/usr/share/factory/var/lib/app/seed file\"",
        "d /var/mnt 0755 root root -",
        "d /var/opt 0755 root root -",
        "d /var/roothome 0700 root root -",
        "C /var/roothome/.bashrc 0640 root root - /usr/share/factory/var/roothome/.bashrc",
        "L /var/run - - - - ../run",
        "d /var/srv 0755 root root -",
        "d /var/usrlocal 0755 root root -",
        "d /var/usrlocal/bin 0750 app root -",
    ];
    assert_eq!(lines.lines().skip(1).collect::<Vec<_>>(), expected);
    assert_eq!(read(&tree, "/usr/share/factory/var/lib/app/seed file"), "z");
    assert_eq!(read(&tree, "/usr/etc/app.conf"), "y");
    assert_eq!(read(&tree, "/usr/etc/machine-id"), "uninitialized\n");
    let top: Vec<_> = tree
        .root()
        .children()
        .unwrap()
        .keys()
        .map(|name| name.escape_ascii().to_string())
        .collect();
    assert_eq!(
        top.join(" "),
        "bin boot dev home media mnt opt ostree proc root run srv sys sysroot tmp usr var"
    );
    assert!(
        tree.get(&TreePath::literal("/var"))
            .unwrap()
            .children()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn kernels_in_boot_find_their_modules() {
    let mut tree = tree(&[
        ("/boot/vmlinuz-6.1", Kind::file(*b"kernel")),
        ("/boot/config-6.1", Kind::file(*b"config")),
        ("/usr/lib/modules/6.1/config", Kind::file(*b"config")),
    ]);
    to_ostree(&mut tree, 0, &name).unwrap();
    assert_eq!(read(&tree, "/usr/lib/modules/6.1/vmlinuz"), "kernel");
    assert_eq!(read(&tree, "/usr/lib/modules/6.1/config"), "config");
}

#[test]
fn what_has_no_place_is_refused_unless_a_rule_says_more() {
    let cases: [(&'static str, Kind, &str); 6] = [
        (
            "/tmp/lost",
            Kind::file(*b""),
            "`/tmp/lost` (pkg-1-1.noarch) is neither",
        ),
        (
            "/opt/vendor/tool",
            Kind::file(*b""),
            "`/opt/vendor/tool` (pkg-1-1.noarch) is neither",
        ),
        ("/data", dir(), "`/data` (pkg-1-1.noarch) is neither"),
        (
            "/boot/efi/EFI/shim.efi",
            Kind::file(*b""),
            "`/boot/efi/EFI/shim.efi` (pkg",
        ),
        (
            "/lib/x",
            Kind::file(*b""),
            "`/lib` is a directory, not a link to `usr/lib`",
        ),
        (
            "/usr/lib/fifo",
            Kind::Fifo,
            "`/usr/lib/fifo` (pkg-1-1.noarch) is a FIFO",
        ),
    ];
    for (path, kind, expected) in cases {
        let error = to_ostree(&mut tree(&[(path, kind)]), 0, &name)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut tree = tree(&[("/opt/vendor/tool", Kind::file(*b"t")), ("/data", dir())]);
    let rules = [
        (
            TreePath::literal("/opt/vendor"),
            Rule::Move(TreePath::literal("/usr/lib/vendor")),
        ),
        (TreePath::literal("/data"), Rule::Drop),
        (TreePath::literal("/idle"), Rule::Drop),
    ];
    let idle = apply_rules(&mut tree, &rules, &name).unwrap();
    assert_eq!(idle, [TreePath::literal("/idle")]);
    to_ostree(&mut tree, 0, &name).unwrap();
    assert_eq!(read(&tree, "/usr/lib/vendor/tool"), "t");
}
