//! What ext4 does not hold.

use super::*;

fn refused(params: &Params<'_>, root: &Inode<'_>) -> String {
    write(&Blocks::default(), params, root).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let long = "x".repeat(256);
    let target = "t".repeat(4096);
    let value = vec![1; 4096];
    let cases = [
        (directory([("", file(b""))]), "`/` cannot be a name"),
        (
            directory([("a", directory([("..", file(b""))]))]),
            "`/a/..` cannot be a name",
        ),
        (directory([("a/b", file(b""))]), "`/a/b` cannot be a name"),
        (directory([(&*long, file(b""))]), "cannot be a name"),
        (
            directory([("l", link(&target))]),
            "the link `/l` has a target of 4096 bytes",
        ),
        (directory([("l", link(""))]), "target of 0 bytes"),
        (file(b""), "the root of a file system is a directory"),
        (directory([("lost+found", file(b""))]), "`/lost+found`"),
        (
            directory([("f", file(b"").with("system.posix_acl_access", b"x"))]),
            "`/f`: the extended attribute `system.posix_acl_access` cannot be written: only user.*",
        ),
        (
            directory([]).with("user.", b"x"),
            "`/`: the extended attribute `user.`",
        ),
        (directory([]).with("user.a", &value), "more than a block"),
        (
            Inode {
                time: 1 << 35,
                ..directory([])
            },
            "`/` has a time of 34359738368 s since 1970",
        ),
    ];
    for (root, expected) in cases {
        let error = refused(&params(64 * MIB), &root);
        assert!(error.contains(expected), "{error}");
    }
    let root = directory([]);
    assert!(refused(&params(64 * MIB - 1), &root).contains("has 64 MiB to 16 TiB"));
    let long = Params {
        label: "seventeen letters",
        ..params(64 * MIB)
    };
    assert!(refused(&long, &root).contains("17 bytes"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let bytes = vec![1; 60 << 20];
    let error = refused(&params(64 * MIB), &directory([("f", file(&bytes))]));
    assert!(error.contains("the files take 15360 blocks"), "{error}");
    let names: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let many = directory(names.iter().map(|name| (name.as_str(), file(b""))));
    let error = refused(&params(64 * MIB), &many);
    assert!(
        error.contains("the first group of the file system has 4096 inodes"),
        "{error}"
    );
}

#[test]
fn times_behind_2038_and_before_1970_are_held() {
    if !tool("debugfs") || !tool("e2fsck") {
        return;
    }
    for time in [-1, i64::from(i32::MAX) + 1, 5_000_000_000] {
        let root = Inode {
            time,
            ..directory([])
        };
        let image = Image::made(64 * MIB, &root);
        run("e2fsck", ["-f", "-n", &image.text()]);
        let stat = image.debugfs("stat /");
        let (low, epoch) = (time as u32, (time - i64::from(time as u32 as i32)) >> 32);
        assert!(
            stat.contains(&format!("mtime: 0x{low:08x}:{epoch:08x}")),
            "{stat}"
        );
    }
}
