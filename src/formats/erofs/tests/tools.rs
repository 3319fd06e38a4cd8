//! Against erofs-utils and the kernel.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::testing::tool;

/// What a version of fsck.erofs knows: deflate, fragments and equal clusters came with 1.6, Zstandard with 1.8.
fn knows(fsck: &Path, options: &Options) -> bool {
    let version = Command::new(fsck).arg("-V").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let since = |minor: &[&str]| !minor.iter().any(|minor| version.contains(&format!(" 1.{minor}")));
    match options.compression {
        Compression::Zstd(_) => since(&["4", "5", "6", "7"]),
        Compression::Deflate(_) => since(&["4", "5"]),
        _ => since(&["4", "5"]) || !(options.fragments || options.dedupe),
    }
}

#[test]
fn erofs_utils_find_no_fault() {
    let Some(newer) = tool("fsck.erofs") else { return };
    let older = Path::new("/usr/bin/fsck.erofs");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume");
    for (options, volume) in all_volumes() {
        fs::write(&path, volume).unwrap();
        for fsck in [newer.as_path(), older] {
            if !fsck.is_file() || !knows(fsck, options) {
                continue;
            }
            // `--extract` without a path unpacks everything without keeping it.
            let output = Command::new(fsck).arg("--extract").arg(&path).output().unwrap();
            assert!(output.status.success(), "{fsck:?} {options:?}: {output:?}");
        }
    }
}

#[test]
fn erofs_utils_extract_what_was_written() {
    let Some(fsck) = tool("fsck.erofs") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (path, place) = (
        directory.path().join("volume"),
        directory.path().join("extracted"),
    );
    let expected = flatten(&everything_shared(), Clone::clone);
    // Not chunks: fsck.erofs 1.8 gives a file that ends in a hole no length.
    let shares = |options: &Options| {
        let lz4hc_or_zstd = matches!(options.compression, Compression::Lz4hc(_) | Compression::Zstd(_));
        lz4hc_or_zstd && (options.fragments || options.dedupe)
    };
    for (options, volume) in all_volumes() {
        if !shares(options) || !knows(&fsck, options) {
            continue;
        }
        fs::write(&path, volume).unwrap();
        let output = Command::new(&fsck)
            .arg(format!("--extract={}", place.display()))
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}: {output:?}");
        let mut files = 0;
        for (path, line) in expected.iter().filter(|(path, _)| !path.starts_with("links of")) {
            let (found, _) = shown(&place.join(path.trim_start_matches('/')));
            // Owners, devices and modes are given by root alone.
            let (kind, _) = found.rsplit_once(" (").unwrap();
            assert!(
                line.starts_with(kind),
                "{path} with {options:?}: {found} is not {line}"
            );
            files += usize::from(kind.starts_with("Array(["));
        }
        assert!(files > 40, "{files}");
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn the_reader_reads_what_mkfs_writes() {
    let Some(mkfs) = tool("mkfs.erofs") else { return };
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
    let output = Command::new(&mkfs).arg("-V").output().unwrap();
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
        let output = Command::new(&mkfs)
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

/// What a file system shows of a path, in the form of [`flatten`]; without extended
/// attributes, which the standard library cannot read.
fn shown(path: &Path) -> (String, u64) {
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
    let point = directory.path().join("mount");
    fs::create_dir(&point).unwrap();
    let expected = flatten(&everything_shared(), Clone::clone);
    for (number, (options, volume)) in all_volumes().iter().enumerate() {
        // Each a file of its own: the kernel lets go of a loop device some time after its file system, and mount(8) refuses a file
        // that still has one.
        let path = directory.path().join(format!("volume-{number}"));
        fs::write(&path, volume).unwrap();
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
            let (found, _) = shown(&point.join(path.trim_start_matches('/')));
            assert!(
                line.starts_with(&found),
                "{path} with {options:?}: {found} is not {line}"
            );
        }
        assert_eq!(shown(&point.join("linked")).1, 2);
        assert_eq!(shown(&point).1, 3);
        let names = fs::read_dir(point.join("+sub/many")).unwrap().count();
        assert_eq!(names, 2000);
    }
}
