use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::*;
use crate::formats::file_contexts::testing::{DISTRIBUTION, LOCAL, RULES};
use crate::rpmset::RpmSet;
use crate::testing::{sample_rpms, selinux_policy};
use crate::tree::{FileData, Meta, Node, Origin};

fn put(tree: &mut Tree, path: &str, kind: Kind) {
    let node = Node::new(Meta::root(0o644, 0), kind, Origin::Composer("test"));
    tree.insert(&TreePath::new(path).unwrap(), node).unwrap();
}

fn tree(etc: &str) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let files = format!("{etc}/selinux/test/contexts/files/file_contexts");
    put(&mut tree, &files, Kind::file(RULES[0].as_bytes()));
    put(
        &mut tree,
        &format!("{files}.homedirs"),
        Kind::file(RULES[1].as_bytes()),
    );
    put(
        &mut tree,
        &format!("{files}.local"),
        Kind::file(RULES[2].as_bytes()),
    );
    put(&mut tree, &format!("{files}.subs"), Kind::file(LOCAL.as_bytes()));
    put(
        &mut tree,
        &format!("{files}.subs_dist"),
        Kind::file(DISTRIBUTION.as_bytes()),
    );
    tree
}

fn label_of(tree: &Tree, path: &str) -> Option<Vec<u8>> {
    let node = tree.get(&TreePath::new(path).unwrap()).unwrap();
    node.meta.xattrs.get(XATTR).map(|value| value.to_vec())
}

#[test]
fn every_node_gets_the_label_of_where_it_is_mounted() {
    let mut tree = tree("/usr/etc");
    put(&mut tree, "/usr/etc/a/conf", Kind::file(*b""));
    put(&mut tree, "/usr/etcetera/conf", Kind::file(*b""));
    put(&mut tree, "/usr/lib/literal", Kind::Fifo);
    put(&mut tree, "/opt/a", Kind::Fifo);
    let stale = tree.get_mut(&TreePath::literal("/opt/a")).unwrap();
    stale.meta.xattrs.insert(XATTR.into(), (*b"old\0").into());
    let report = label(&mut tree, "test").unwrap();
    assert_eq!(label_of(&tree, "/usr/etc/a/conf").unwrap(), b"u:o:conf:s0\0");
    assert_eq!(label_of(&tree, "/usr/etcetera/conf").unwrap(), b"u:o:usr:s0\0");
    assert_eq!(label_of(&tree, "/usr/etc").unwrap(), b"u:o:any:s0\0");
    assert_eq!(label_of(&tree, "/").unwrap(), b"u:o:any:s0\0");
    assert_eq!(label_of(&tree, "/opt/a"), None);
    let unlabelled: Vec<_> = report.unlabelled.iter().map(TreePath::to_string).collect();
    assert_eq!(unlabelled, ["/opt/a", "/usr/lib/literal"]);
    assert_eq!(report.labelled + 2, tree.walk().count());
}

#[test]
fn names_of_one_file_have_one_label() {
    let mut tree = tree("/etc");
    let file = Kind::File(FileData {
        blob: crate::store::Blob::from_bytes(*b""),
        link: Some(LinkId(1)),
    });
    put(&mut tree, "/a", file.clone());
    put(&mut tree, "/usr/b", file);
    let report = label(&mut tree, "test").unwrap();
    assert_eq!(label_of(&tree, "/usr/b").unwrap(), b"u:o:any:s0\0");
    let pair = (TreePath::literal("/a"), TreePath::literal("/usr/b"));
    assert_eq!(report.conflicts, [pair]);
}

#[test]
fn a_policy_that_is_absent_or_broken_is_refused() {
    let mut tree = tree("/etc");
    let error = label(&mut tree, "targeted").unwrap_err();
    let wanted = "the image has no SELinux policy `targeted`: `/etc/selinux/targeted/contexts/files/file_contexts` is absent";
    assert_eq!(error.to_string(), wanted);
    for name in ["", "..", "a/b"] {
        assert!(
            matches!(label(&mut tree, name), Err(SelinuxError::PolicyName(_))),
            "{name}"
        );
    }
    let local = "/etc/selinux/test/contexts/files/file_contexts.local";
    put(&mut tree, local, Kind::file(*b"\n/a(?!b) u:o:t\n"));
    let error = label(&mut tree, "test").unwrap_err();
    let wanted = format!("`{local}`, line 2: the pattern `/a(?!b)` looks ahead, at its byte 2");
    assert_eq!(error.to_string(), wanted);
    put(
        &mut tree,
        local,
        Kind::file(*b"/a u:o:t\n/(.{1000}){1000} u:o:t\n"),
    );
    let error = label(&mut tree, "test").unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("`{local}`: line 2: the pattern")),
        "{error}"
    );
    assert_eq!(label_of(&tree, "/etc"), None);
}

const KINDS: [(FileKind, &str); 7] = [
    (FileKind::Regular, "file"),
    (FileKind::Directory, "dir"),
    (FileKind::Symlink, "lnk_file"),
    (FileKind::CharDevice, "chr_file"),
    (FileKind::BlockDevice, "blk_file"),
    (FileKind::Fifo, "pipe"),
    (FileKind::Socket, "sock_file"),
];

/// What matchpathcon says of `paths`, all of one type.
fn matchpathcon(program: &Path, contexts: &Path, kind: &str, paths: &[&str]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for some in paths.chunks(4000) {
        let mut command = Command::new(program);
        command.arg("-f").arg(contexts).arg("-m").arg(kind).args(some);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines.len(),
            some.len(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for (line, path) in lines.iter().zip(some) {
            let label = line
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix('\t'))
                .unwrap();
            found.push((label != "<<none>>").then(|| label.to_owned()));
        }
    }
    found
}

/// Compares answers for `paths`, as files of every type, with those of libselinux 3.8.
fn compare(tools: &Path, directory: &Path, contexts: &FileContexts, paths: &[&str]) -> usize {
    let program = tools.join("bin/matchpathcon");
    let mut compared = 0;
    for (kind, name) in KINDS {
        let wanted = matchpathcon(&program, &directory.join("file_contexts"), name, paths);
        for (path, wanted) in paths.iter().zip(wanted) {
            let found = contexts.lookup(path.as_bytes(), kind);
            assert_eq!(found.map(|label| &**label), wanted.as_deref(), "{path} {name}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn libselinux_follows_the_rules_that_are_tested() {
    let Some(tools) = selinux_policy() else { return };
    let directory = tempfile::tempdir().unwrap();
    let texts = [RULES[0], RULES[1], RULES[2], LOCAL, DISTRIBUTION];
    for (suffix, text) in ["", ".homedirs", ".local", ".subs", ".subs_dist"]
        .iter()
        .zip(texts)
    {
        fs::write(directory.path().join(format!("file_contexts{suffix}")), text).unwrap();
    }
    let contexts = load(&tree("/etc"), "test").unwrap();
    let paths: Vec<_> = crate::formats::file_contexts::testing::ANSWERS
        .iter()
        .map(|(path, ..)| *path)
        .collect();
    compare(&tools, directory.path(), &contexts, &paths);
}

/// The paths and types of all packages, with the policy laid into the tree.
fn sample_tree(rpms: &Path, policy: &Path) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let set = RpmSet::load(rpms).unwrap();
    let mut files: Vec<_> = set.packages().iter().flat_map(|package| &package.files).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        let kind = match file.format() {
            0o040_000 => continue,
            0o120_000 => Kind::Symlink((*b"x").into()),
            _ => Kind::file(*b""),
        };
        // Some packages ship a file where others have a directory's link: the first is as good.
        let node = Node::new(Meta::root(0o644, 0), kind, Origin::Composer("test"));
        let _ = tree.insert(&file.path, node);
    }
    for entry in fs::read_dir(policy).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        put(
            &mut tree,
            &format!("/etc/selinux/default/contexts/files/{name}"),
            Kind::file(bytes),
        );
    }
    tree
}

#[test]
fn the_sample_tree_is_labelled_as_by_libselinux() {
    let (Some(tools), Some(rpms)) = (selinux_policy(), sample_rpms()) else {
        return;
    };
    let policy = tools.join("policy/etc/selinux/default/contexts/files");
    let mut tree = sample_tree(&rpms, &policy);
    let begun = Instant::now();
    let contexts = load(&tree, "default").unwrap();
    let loaded = begun.elapsed();
    let report = apply(&mut tree, &contexts);
    let labelled = begun.elapsed() - loaded;
    let paths: Vec<_> = tree.walk().map(|(path, _)| path.to_string()).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    assert!(paths.len() > 10_000, "{}", paths.len());
    for (kind, name) in KINDS {
        let of_kind: Vec<_> = tree
            .walk()
            .filter(|(_, node)| self::kind(&node.kind) == kind)
            .collect();
        let names: Vec<_> = of_kind.iter().map(|(path, _)| path.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let wanted = matchpathcon(
            &tools.join("bin/matchpathcon"),
            &policy.join("file_contexts"),
            name,
            &names,
        );
        for ((path, node), wanted) in of_kind.iter().zip(wanted) {
            let wanted = wanted.map(|label| format!("{label}\0").into_bytes());
            let found = node.meta.xattrs.get(XATTR).map(|value| value.to_vec());
            assert_eq!(found, wanted, "{path} {name}");
        }
    }
    let compared = compare(&tools, &policy, &contexts, &paths);
    eprintln!(
        "{} paths, {} without a label; {compared} answers compared; policy read in {loaded:?}, tree labelled in {labelled:?}",
        paths.len(),
        report.unlabelled.len()
    );
}
