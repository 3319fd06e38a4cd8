//! A byte that changed, wherever it is.

use super::{failing, findings, fixture, report};
use crate::disk::Role;

const MIB: u64 = 1 << 20;

#[test]
fn a_changed_byte_is_found_and_placed() {
    let image = fixture::build(|_| {});
    let (esp, usr, verity) = (
        image.start(Role::Esp),
        image.start(Role::Usr),
        image.start(Role::UsrVerity),
    );
    let marker = image.find("usr.erofs", &fixture::marker()[..64]);
    let cmdline = image.find("raw", b"usrhash=") + 10;
    let loader = image.find("raw", b"boot,1");
    // The kernel image's initrd comes before the same bytes in /usr.
    let initrd = image.find("raw", &fixture::marker()[100..164]);
    let size = image.plan.spec.size;
    let block = |at: u64| at / 4096 * 4096;
    // What the raw disk, its digest and its manifest say, whatever was changed.
    let disk = ["manifest", "disk-images"];
    // What changes, in which file, where; the checks that fail beside those of `disk`; what one of them says.
    type Case = (
        &'static str,
        &'static str,
        u64,
        Vec<&'static str>,
        &'static str,
        String,
    );
    let cases: Vec<Case> = vec![
        (
            "a file's content in /usr",
            "raw",
            usr + marker + 5000,
            vec!["root-hash", "usr-is-commit", "manifest-facts"],
            "root-hash",
            format!("a block of /usr is not the one that was sealed [image_1.raw, partition 2, byte {}]", block(usr + marker + 5000)),
        ),
        (
            "the same, for the comparison with the commit",
            "raw",
            usr + marker + 5000,
            vec!["root-hash", "usr-is-commit", "manifest-facts"],
            "usr-is-commit",
            "its content differs from the commit's from byte 5000 on [image_1.raw, partition 2, /usr/bin/marker]".to_owned(),
        ),
        (
            "the hash tree",
            "raw",
            verity + 4096 + 100,
            vec!["root-hash", "manifest-facts"],
            "root-hash",
            format!("[image_1.raw, partition 3, byte {}]", verity + 4096),
        ),
        (
            "the superblock of the hash tree",
            "raw",
            verity + 3,
            vec!["root-hash", "manifest-facts"],
            "root-hash",
            format!("this is not a dm-verity superblock: it does not begin with `verity` [image_1.raw, partition 3, byte {verity}]"),
        ),
        (
            "the salt",
            "raw",
            verity + 90,
            vec!["root-hash", "manifest-facts"],
            "manifest-facts",
            "the salt of the hash tree is `0909180909".to_owned(),
        ),
        (
            "the primary GPT header",
            "raw",
            512 + 60,
            vec!["gpt"],
            "gpt",
            "the primary header has the CRC".to_owned(),
        ),
        (
            "the entries",
            "raw",
            1024 + 128 + 20,
            vec!["gpt"],
            "gpt",
            "the entries of the primary table give the CRC".to_owned(),
        ),
        (
            "the backup GPT header",
            "raw",
            size - 512 + 60,
            vec!["gpt"],
            "gpt",
            "the backup header has the CRC".to_owned(),
        ),
        (
            "the protective MBR",
            "raw",
            450,
            vec!["gpt"],
            "gpt",
            "the protective MBR has no partition of type EE over the whole disk [image_1.raw, byte 446]".to_owned(),
        ),
        (
            "the gap behind the table",
            "raw",
            MIB - 7,
            vec!["empty-space"],
            "empty-space",
            format!("something stands outside the partitions [image_1.raw, byte {}]", MIB - 7),
        ),
        (
            "the space behind the hash tree",
            "raw",
            verity + MIB - 1,
            vec!["empty-space", "manifest-facts"],
            "empty-space",
            format!("something stands behind the content of `image_1` [image_1.raw, partition 3, byte {}]", verity + MIB - 1),
        ),
        (
            "the empty slot",
            "raw",
            verity + MIB + 12_345,
            vec!["empty-space", "manifest-facts"],
            "empty-space",
            format!("something stands behind the content of `_empty` [image_1.raw, partition 4, byte {}]", verity + MIB + 12_345),
        ),
        (
            "where the root partition will be",
            "raw",
            size - 5 * MIB,
            vec!["empty-space"],
            "empty-space",
            format!("something stands outside the partitions [image_1.raw, byte {}]", size - 5 * MIB),
        ),
        (
            "the boot sector's copy on the ESP",
            "raw",
            esp + 6 * 512 + 100,
            vec!["esp", "manifest-facts"],
            "esp",
            format!("the boot sector and its copy differ [image_1.raw, partition 1, byte {}]", esp + 6 * 512),
        ),
        (
            "the boot loader",
            "raw",
            loader,
            vec!["boot-files", "manifest-facts", "pcrs"],
            "boot-files",
            "it is not /usr/lib/systemd/boot/efi/systemd-bootx64.efi [image_1.raw, partition 1, EFI/BOOT/BOOTX64.EFI".to_owned(),
        ),
        (
            "the root hash on the command line",
            "raw",
            cmdline,
            vec!["uki", "manifest-facts"],
            "uki",
            "the `usrhash=` of its command line is no hash".to_owned(),
        ),
        (
            "the initrd in the kernel image",
            "raw",
            initrd,
            vec!["manifest-facts", "pcrs"],
            "pcrs",
            "PCR 11 (sha256) at the kernel's start of profile 0 comes to ".to_owned(),
        ),
        (
            "the VHD's footer",
            "vhd",
            size + 40,
            vec!["disk-images"],
            "disk-images",
            format!("the VHD's footer is damaged: this is not the footer of a fixed VHD: its checksum is wrong [image_1.vhd, byte {size}]"),
        ),
        (
            "the VHD's disk",
            "vhd",
            usr + marker,
            vec!["disk-images"],
            "disk-images",
            format!("its disk differs from that of `image_1.raw` in 1 MiB, the first here [image_1.vhd, byte {usr}]"),
        ),
        (
            "the copy of /usr beside the disk",
            "usr.erofs",
            marker,
            vec!["sums"],
            "sums",
            "its SHA-256 is ".to_owned(),
        ),
    ];
    for (what, ending, at, expected, check, words) in cases {
        image.flip(ending, at);
        let report = report(&image.directory());
        image.flip(ending, at);
        let mut wanted = expected.clone();
        wanted.push("manifest");
        if ending == "raw" {
            wanted.extend(&disk);
        }
        let mut found = failing(&report);
        wanted.sort_unstable();
        wanted.dedup();
        found.sort_unstable();
        assert_eq!(found, wanted, "{what}: {report}");
        let text = findings(&report, check);
        assert!(text.contains(&words), "{what}: not `{words}` but {text}");
    }
    assert!(report(&image.directory()).holds(), "nothing is left behind");
}

#[test]
fn a_root_hash_of_another_usr_is_found() {
    // A digit for another digit: still a hash, of nothing on this disk.
    let image = fixture::build(|parts| {
        parts.cmdline = |hash| {
            let first = if hash.starts_with('0') { "1" } else { "0" };
            format!("usrhash={first}{} rw", &hash[1..])
        };
    });
    let report = report(&image.directory());
    let found = failing(&report);
    assert_eq!(
        found,
        ["root-hash", "partition-uuids", "commit", "manifest-facts"],
        "{report}"
    );
    assert!(findings(&report, "root-hash").contains("the top of the hash tree does not have the root hash"));
    let text = findings(&report, "partition-uuids");
    assert!(
        text.contains("no partition of type usr has the first half of"),
        "{text}"
    );
    assert!(
        text.contains("no kernel image names `image_1` with the UUID"),
        "{text}"
    );
    assert!(findings(&report, "commit").contains("and no kernel image has it"));
}

#[test]
fn a_damaged_object_of_the_commit_is_found() {
    let image = fixture::build(|_| {});
    let objects = image.directory().join("repo/objects");
    let mut seen = Vec::new();
    for fan in std::fs::read_dir(objects).unwrap() {
        for object in std::fs::read_dir(fan.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let kind = path.extension().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&path).unwrap();
            if bytes.is_empty() || seen.contains(&kind) {
                continue;
            }
            let mut bad = bytes.clone();
            let at = bad.len() - 1;
            bad[at] ^= 0x11;
            std::fs::write(&path, bad).unwrap();
            let damaged = report(&image.directory());
            std::fs::write(&path, bytes).unwrap();
            assert!(failing(&damaged).contains(&"commit"), "{kind}: {damaged}");
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = findings(&damaged, "commit");
            assert!(text.contains(name), "{kind} {name}: {text}");
            std::fs::remove_file(&path).unwrap();
            let absent = report(&image.directory());
            assert!(failing(&absent).contains(&"commit"), "{kind}: {absent}");
            let text = findings(&absent, "commit");
            assert!(text.contains("is not in repository"), "{kind}: {text}");
            return_object(&path, &image, name, &kind);
            seen.push(kind);
        }
    }
    seen.sort();
    assert_eq!(seen, ["commit", "dirmeta", "dirtree", "filez"]);
}

/// Puts back what was removed, from an image that is equal.
fn return_object(path: &std::path::Path, image: &fixture::Image, name: &str, kind: &str) {
    let twin = fixture::build(|_| {});
    assert_eq!(twin.root_hash, image.root_hash, "images are the same bytes");
    let from = twin.directory().join(format!(
        "repo/objects/{}/{}.{kind}",
        &path.parent().unwrap().file_name().unwrap().to_str().unwrap(),
        name
    ));
    std::fs::copy(from, path).unwrap();
}
