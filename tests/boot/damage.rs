//! One bit turned in the sealed `/usr`: the machine does not come up healthy, and says why.

use std::path::Path;
use std::process::Command;

use hullwright::vm::{FailureKind, Machine, VmError};

use crate::lab::{Lab, PATIENCE};
use crate::support::image::{hullwright, output_file, said};
use crate::support::tool;

/// erofs keeps its superblock at this offset, with its magic number first.
pub const SUPERBLOCK: u64 = 1024;

/// Boots `disk`; the kind of failure, what it was known by, and the console.
pub fn failure(disk: &Path) -> (FailureKind, String, String) {
    let mut vm = Machine::new(disk).start().unwrap();
    match vm.wait_healthy(PATIENCE) {
        Err(VmError::NotHealthy { failure, .. }) => (failure.kind, failure.detail, vm.console()),
        other => panic!("{other:?}\n{}", vm.console()),
    }
}

/// Physical (offset, length) of every extent of `path` in the image's `/usr`, as erofs-utils see it.
pub fn extents(lab: &Lab, dump: &Path, path: &str) -> Vec<(u64, u64)> {
    let output = Command::new(dump)
        .arg(format!("--path={path}"))
        .arg("-e")
        .arg(output_file(&lab.built, ".erofs"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // "   4:   265257..  269353 |    4096 :    1843200..   1847296 |    4096"
    let rows = text.lines().filter(|line| line.matches("..").count() == 2);
    let extents = rows.map(|row| {
        let (_, physical) = row.rsplit_once(':').unwrap();
        let (from, length) = physical.split_once('|').unwrap();
        let from = from.split("..").next().unwrap();
        (from.trim().parse().unwrap(), length.trim().parse().unwrap())
    });
    let extents: Vec<_> = extents.collect();
    assert!(extents.len() > 100, "{text}");
    extents
}

#[test]
#[ignore = "boots one machine more"]
fn superblock() {
    let Some(lab) = Lab::enter() else { return };
    let disk = lab.damaged_disk(SUPERBLOCK);
    let output = hullwright()
        .args(["boot", "--until-healthy", "--timeout", "900"])
        .arg(&disk)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (_, tail) = stderr.split_once("The last lines of the console:").unwrap();
    assert!(tail.contains("device-mapper: verity"), "{tail}");
    assert!(tail.contains("data block 0 is corrupted"), "{tail}");
}

/// In the middle of the program, where no start of it may ever look.
#[test]
#[ignore = "boots one machine more"]
fn program_of_containerd() {
    let (Some(dump), Some(lab)) = (tool("dump.erofs"), Lab::enter()) else {
        return;
    };
    let extents = extents(&lab, &dump, "/bin/containerd");
    let (from, length) = extents[extents.len() / 2];
    let place = from + length / 2;
    let (kind, detail, console) = failure(&lab.damaged_disk(place));
    assert_eq!(kind, FailureKind::Verity, "{detail}\n{console}");
    assert!(
        detail.contains(&format!("data block {} is corrupted", place / 4096)),
        "{detail}"
    );
    assert!(!console.contains("hullwright-health: healthy"));
}

#[test]
#[ignore = "boots three machines"]
fn first_and_last_byte_of_containerd_and_the_hash_tree() {
    let (Some(dump), Some(lab)) = (tool("dump.erofs"), Lab::enter()) else {
        return;
    };
    let extents = extents(&lab, &dump, "/bin/containerd");
    let (first, _) = extents[0];
    let (last, length) = extents[extents.len() - 1];
    let number = |index: u64, key: &str| lab.partition(index)[key].as_u64().unwrap();
    // The root of the hash tree lies behind its superblock.
    let tree = number(3, "offset") - number(2, "offset") + 4096;
    for (place, sign) in [
        (first, format!("data block {} is corrupted", first / 4096)),
        (
            last + length - 1,
            format!("data block {} is corrupted", (last + length - 1) / 4096),
        ),
        (tree + 100, "is corrupted".to_owned()),
    ] {
        let (kind, detail, console) = failure(&lab.damaged_disk(place));
        assert_eq!(kind, FailureKind::Verity, "{place}: {detail}\n{console}");
        assert!(detail.contains(&sign), "{place}: {detail}");
    }
}
