//! `hullwright verify` on the sample image: what was built holds, what was changed is found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;
use support::image::{hullwright, output_file, said, sample_image};

/// Exit status and JSON of `hullwright verify PATH --json`.
fn verify(path: &Path) -> (i32, Value) {
    let output = hullwright()
        .arg("verify")
        .arg(path)
        .arg("--json")
        .output()
        .unwrap();
    let json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    (output.status.code().unwrap(), json)
}

fn names(report: &Value, outcome: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let of = checks.filter(|check| check["outcome"] == outcome);
    of.map(|check| check["check"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_sample_image_is_what_it_claims() {
    let Some(directory) = sample_image() else { return };
    let (status, report) = verify(&directory);
    assert_eq!((status, &report["holds"]), (0, &Value::Bool(true)), "{report:#}");
    assert_eq!(names(&report, "fails"), [""; 0]);
    // The sample is not signed.
    assert_eq!(names(&report, "not-checked"), ["signatures"]);
    let equal = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"] == "usr-is-commit");
    let held = equal.unwrap()["held"].as_str().unwrap();
    let paths: u32 = held.split(' ').next().unwrap().parse().unwrap();
    assert!(held.ends_with(" paths are equal") && paths > 15_000, "{held}");
}

#[test]
fn a_changed_byte_of_the_disk_is_found_where_it_is() {
    let Some(directory) = sample_image() else { return };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = scratch.path().join("disk.raw");
    let copied = std::process::Command::new("cp")
        .arg("--sparse=always")
        .arg(output_file(&directory, ".raw"))
        .arg(&image)
        .status()
        .unwrap();
    assert!(copied.success());
    let manifest: Value =
        serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    let at = manifest["partitions"][1]["offset"].as_u64().unwrap() + 100_000_000;
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    let (status, report) = verify(&image);
    assert_eq!((status, &report["holds"]), (1, &Value::Bool(false)));
    assert_eq!(names(&report, "fails"), ["root-hash"], "{report:#}");
    let check = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"] == "root-hash")
        .unwrap();
    let place = &check["findings"][0]["where"];
    assert_eq!(
        (&place["partition"], &place["offset"]),
        (&2.into(), &(at / 4096 * 4096).into())
    );

    let output = hullwright().arg("verify").arg(&image).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "FAIL  root-hash",
        "where: disk.raw, partition 2, byte ",
        "why it matters: ",
        "way out: ",
        "not checked: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
