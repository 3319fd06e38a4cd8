//! What cannot be written is refused in plain words.

use hullwright::ostree::{CommitOptions, Error, RepoMode, Value, write_commit};
use hullwright::tree::path::TreePath;
use hullwright::tree::{Kind, Meta, Node, Origin, Tree};

use crate::support::*;

#[test]
fn what_ostree_cannot_hold_is_refused_before_anything_is_written() {
    let directory = scratch();
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
