//! Against erofs-utils and the kernel.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Whether a tool is there; says so where it is not.
fn tool(name: &str) -> bool {
    let found = Command::new(name)
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        crate::testing::skip(&format!("{name} is missing"));
    }
    found
}

#[test]
fn erofs_utils_find_no_fault() {
    if !tool("fsck.erofs") {
        return;
    }
    let version = Command::new("fsck.erofs").arg("-V").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    // Deflate and fragments came with 1.6, Zstandard with 1.8.
    let old = [" 1.4", " 1.5", " 1.6", " 1.7"]
        .iter()
        .any(|old| version.contains(old));
    let directory = tempfile::tempdir().unwrap();
    let tree = everything_shared();
    for options in all_options() {
        let is_new = matches!(
            options.compression,
            Compression::Deflate(_) | Compression::Zstd(_)
        );
        if old && (is_new || options.fragments || options.dedupe) {
            continue;
        }
        let path = directory.path().join("volume");
        fs::write(&path, volume(&tree, &options)).unwrap();
        // `--extract` without a path unpacks everything without keeping it.
        let output = Command::new("fsck.erofs")
            .arg("--extract")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}: {output:?}");
    }
}

#[test]
fn the_reader_reads_what_mkfs_writes() {
    if !tool("mkfs.erofs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir_all(source.join("sub/deeper")).unwrap();
    let files = [
        ("words", words(300_000, 1)),
        ("sub/random", random(200_001, 2)),
        ("sub/deeper/zeros", vec![0; 5_000_000]),
        ("small", b"small".to_vec()),
    ];
    for (name, bytes) in &files {
        fs::write(source.join(name), bytes).unwrap();
    }
    fs::hard_link(source.join("words"), source.join("sub/again")).unwrap();
    std::os::unix::fs::symlink("words", source.join("link")).unwrap();
    let output = Command::new("mkfs.erofs").arg("-V").output().unwrap();
    let mut choices = vec![
        &["-zlz4hc,9", "-C65536"][..],
        &["-zlz4", "-C16384", "-Eztailpacking"],
        &["--chunksize=4096"],
        &["--chunksize=8192", "-Eforce-chunk-indexes"],
        &[],
    ];
    // Usage, from 1.5.
    if output.status.success() {
        choices.push(&["-zlz4hc", "-C65536", "-Efragments"]);
        choices.push(&["-zlz4", "-C65536", "-Eall-fragments,dedupe"]);
    }
    for extra in choices {
        let path = directory.path().join("volume");
        let _ = fs::remove_file(&path);
        let output = Command::new("mkfs.erofs")
            .args(extra)
            .arg(&path)
            .arg(&source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let image = Image::open(fs::read(&path).unwrap()).unwrap();
        let tree = image.tree().unwrap();
        let found = flatten(&tree, |inode| {
            let mut bytes = Vec::new();
            image.read(inode, &mut bytes).unwrap();
            bytes
        });
        for (name, bytes) in &files {
            let digest = format!("{:x?} ", Sha256::digest(bytes));
            assert!(
                found[&format!("/{name}")].starts_with(&digest),
                "{name} with {extra:?}"
            );
        }
        assert_eq!(found["links of /sub/again"], r#"["/sub/again", "/words"]"#);
        assert!(found["/link"].starts_with("-> words"));
    }
}

/// What a mounted file system shows of a path, in the form of [`flatten`]; without extended
/// attributes, which the standard library cannot read.
fn mounted(path: &Path) -> (String, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    let device = || {
        (
            meta.rdev() >> 8 & 0xfff,
            meta.rdev() & 0xff | meta.rdev() >> 12 & 0xf_ff00,
        )
    };
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "directory".to_owned(),
        kind if kind.is_file() => format!("{:x?}", Sha256::digest(fs::read(path).unwrap())),
        kind if kind.is_symlink() => {
            let target = fs::read_link(path).unwrap();
            format!("-> {}", target.as_os_str().as_encoded_bytes().escape_ascii())
        }
        kind if kind.is_char_device() => format!("char {}:{}", device().0, device().1),
        kind if kind.is_block_device() => format!("block {}:{}", device().0, device().1),
        kind if kind.is_fifo() => "fifo".to_owned(),
        _ => "socket".to_owned(),
    };
    let mode = meta.mode() & 0o7777;
    let line = format!(
        "{kind} ({mode}, {}, {}, {}, ",
        meta.uid(),
        meta.gid(),
        meta.mtime()
    );
    (line, meta.nlink())
}

/// A mount that ends with the test.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn the_kernel_shows_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let (path, point) = (directory.path().join("volume"), directory.path().join("mount"));
    fs::create_dir(&point).unwrap();
    let tree = everything_shared();
    let expected = flatten(&tree, Clone::clone);
    for options in all_options() {
        fs::write(&path, volume(&tree, &options)).unwrap();
        let output = Command::new("mount")
            .args(["-t", "erofs", "-o", "loop,ro"])
            .args([&path, &point])
            .output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            crate::testing::skip(&format!(
                "mounting erofs needs root, a loop device and a kernel that has it: {output:?}"
            ));
            return;
        }
        let _mount = Mount(&point);
        for (path, line) in expected.iter().filter(|(path, _)| !path.starts_with("links of")) {
            let (shown, _) = mounted(&point.join(path.trim_start_matches('/')));
            assert!(
                line.starts_with(&shown),
                "{path} with {options:?}: {shown} is not {line}"
            );
        }
        assert_eq!(mounted(&point.join("linked")).1, 2);
        assert_eq!(mounted(&point).1, 3);
        let names = fs::read_dir(point.join("+sub/many")).unwrap().count();
        assert_eq!(names, 2000);
    }
}
