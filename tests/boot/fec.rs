//! Forward error correction: what a `/usr` without it stops at, the kernel mends with it, up to what the parity can bear.

use std::fs;
use std::path::{Path, PathBuf};

use hullwright::formats::{
    fec,
    verity::{self, Algorithm},
};
use hullwright::vm::{FailureKind, Machine};

use crate::damage::{SUPERBLOCK, extents, failure};
use crate::lab::{Answers, Lab, PATIENCE, healthy, script};
use crate::support::image::{built_image, output_file};
use crate::support::tool;

const BLOCK: u64 = 4096;

/// The sample image with `verity.fec`.
fn image() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fec-definition");
    fs::create_dir_all(&place).unwrap();
    let definition = place.join("fec.toml");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.toml");
    let ids = sample.with_extension("ids.lock");
    let text = format!(
        "extends = [{sample:?}]\n[image]\nid = \"sample-fec\"\n[os]\nids = {ids:?}\n[verity]\nfec = true\n\
         [outputs]\nformats = {{ replace = [\"raw\"] }}\n[outputs.erofs]\nlevel = 1\n"
    );
    if fs::read_to_string(&definition).ok().as_ref() != Some(&text) {
        fs::write(&definition, text).unwrap();
    }
    built_image("fec-image", &definition)
}

#[test]
#[ignore = "builds another image and boots two machines"]
fn damaged_blocks_are_mended_as_far_as_the_parity_reaches() {
    let (Some(dump), Some(lab)) = (tool("dump.erofs"), Lab::enter_with(image)) else {
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
