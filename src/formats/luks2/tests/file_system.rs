//! A file system of which only what it uses is encrypted.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::formats::at::ReadAt;
use crate::formats::testing::{run, tool};

const BLOCK: u64 = 4096;
const SIZE: u64 = 32 * MIB;

/// What lies between the free blocks that `dumpe2fs` lists.
fn used(path: &str) -> Vec<Range<u64>> {
    let listed = run("dumpe2fs", [path]);
    let lists = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "));
    let ranges = lists
        .flat_map(|list| list.split(", "))
        .filter(|range| !range.is_empty());
    let mut used = Vec::new();
    let mut next = 0;
    for range in ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last] = [first, last].map(|block| block.trim().parse::<u64>().unwrap());
        used.push(next * BLOCK..first * BLOCK);
        next = last + 1;
    }
    used.push(next * BLOCK..SIZE);
    used
}

#[test]
fn ext4_is_whole_though_its_free_blocks_were_not_written() {
    if !["mke2fs", "dumpe2fs", "e2fsck", "debugfs"].into_iter().all(tool) {
        return;
    }
    let plain = Image::empty(SIZE);
    let tree = plain.directory.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    let content = noise(12, 3_000_001);
    std::fs::write(tree.join("a/b/file"), &content).unwrap();
    run(
        "mke2fs",
        [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-d",
            &text(&tree),
            &plain.text(),
        ],
    );
    let extents = used(&plain.text());

    let image = Image::made(SIZE + MIB, 2, &params(QUICK));
    let header = image.header().unwrap();
    let key = image.unlock(PASSPHRASE).unwrap().key;
    let volume = header.open(image.file(), &key, &Limits::default()).unwrap();
    let written = volume.encrypt(&plain.file(), &extents).unwrap();
    assert_eq!(
        written,
        extents
            .iter()
            .map(|extent| extent.end - extent.start)
            .sum::<u64>()
    );
    assert!(written < 12 * MIB, "{written}");
    let on_disk = image.file().metadata().unwrap().blocks() * 512;
    assert!(on_disk < written + MIB, "{on_disk} for {written}");

    let mut decrypted = vec![0; SIZE as usize];
    volume.read_exact_at(&mut decrypted, 0).unwrap();
    let decrypted = image.beside("decrypted", &decrypted);
    run("e2fsck", ["-f", "-n", &decrypted]);
    let copy = image.beside("copy", &[]);
    run("debugfs", ["-R", &format!("dump /a/b/file {copy}"), &decrypted]);
    assert!(std::fs::read(copy).unwrap() == content);
}
