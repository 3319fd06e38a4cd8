//! Forward error correction: what a `/usr` without it stops at, the kernel mends with it, up to what the parity can bear.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hullwright::formats::{
    fec,
    verity::{self, Algorithm},
};
use hullwright::store::hex;
use hullwright::vm::{FailureKind, Machine};
use sha2::{Digest as _, Sha256};

use crate::damage::{SUPERBLOCK, extents, failure};
use crate::lab::{Answers, Lab, PATIENCE, healthy, script, variant};
use crate::support::image::output_file;
use crate::support::tool;

const BLOCK: u64 = 4096;

/// The sample image with `verity.fec`, and a `/usr` in Zstandard.
fn image() -> Option<PathBuf> {
    let erofs = "compression = \"zstd\"\nlevel = 1\n";
    variant("fec", &format!("[verity]\nfec = true\n[outputs.erofs]\n{erofs}"))
}

#[test]
#[ignore = "builds another image and boots two machines"]
fn damaged_blocks_are_mended_as_far_as_the_parity_reaches() {
    let (Some(dump), Some(ostree), Some(lab)) = (tool("dump.erofs"), tool("ostree"), Lab::enter_with(image))
    else {
        return;
    };
    let extents = extents(&lab, &dump, "/bin/containerd");
    let (from, length) = extents[extents.len() / 2];
    // Read at each boot, and read by nobody before it is asked for.
    let places = [SUPERBLOCK, from + length / 2];
    let disk = lab.damaged_disk_at(&places);
    let mut vm = healthy(|| Machine::new(&disk).ssh(true));
    vm.wait_ssh(PATIENCE).unwrap();
    let questions = script(&[
        ("table", "dmsetup table usr"),
        ("before", "dmesg | grep -i verity"),
        ("size", "cat /usr/bin/containerd | wc -c"),
        ("listed", "stat -c %s /usr/bin/containerd"),
        ("content", "sha256sum </usr/bin/containerd"),
        ("after", "dmesg | grep -i verity"),
        ("status", "dmsetup status usr"),
    ]);
    let answers = Answers::read(&vm.ssh(&[questions]).unwrap().stdout);
    drop(vm);
    assert!(
        answers.get("table").contains("use_fec_from_device") && answers.get("table").contains("fec_roots 2"),
        "{}",
        answers.get("table")
    );
    // A code word has a byte of each of the columns that volume and hash tree are cut into; the kernel names blocks by their
    // place in their column.
    let size = fs::metadata(output_file(&lab.built, ".erofs")).unwrap().len();
    let column = fec::area_size(size, verity::hash_device_size(size, Algorithm::Sha256), 2) / 2;
    let mended = |name: &str, place: u64| {
        let line = format!("FEC {}: corrected 1 errors", place / BLOCK * BLOCK % column);
        answers.get(name).contains(&line)
    };
    assert!(mended("before", places[0]), "{}", answers.get("before"));
    assert_eq!(answers.get("size"), answers.get("listed"));
    let repo = format!("--repo={}", lab.built.join("repo").display());
    let commit = lab.text(&["commit", "checksum"]);
    let plain = Command::new(ostree)
        .args([&repo, "cat", commit, "/usr/bin/containerd"])
        .output()
        .unwrap();
    let sum = format!("{}  -", hex(&Sha256::digest(&plain.stdout)));
    assert!(plain.status.success() && answers.get("content") == sum, "{sum}");
    assert!(mended("after", places[1]), "{}", answers.get("after"));
    assert!(
        !answers.get("after").contains("is corrupted"),
        "{}",
        answers.get("after")
    );
    // The volume counts as whole.
    assert!(
        answers.get("status").contains(" verity V"),
        "{}",
        answers.get("status")
    );

    // Of three blocks of the same code words, with two bytes of parity each, none can be mended.
    let (kind, detail, console) =
        failure(&lab.damaged_disk_at(&[0, 1, 2].map(|index| SUPERBLOCK + index * column)));
    assert_eq!(kind, FailureKind::Verity, "{detail}\n{console}");
    assert!(detail.contains("data block 0 is corrupted"), "{detail}");
    assert!(console.contains("FEC 0: failed to correct"), "{console}");
}
