//! What is said of the machine's measurements, by systemd-measure.

use std::fs;

use serde_json::Value;

use crate::run::{answer, bytes, program, scratch};
use crate::support::image::{output_file, sample_image};
use crate::support::tool;

/// The sections of the sample image's UKI that are measured.
const SECTIONS: [&str; 6] = ["linux", "osrel", "cmdline", "initrd", "uname", "sbat"];

#[test]
fn manifest_and_commit_name_what_systemd_measure_calculates() {
    let Some(directory) = sample_image() else { return };
    if tool("systemd-measure").is_none() {
        return;
    }
    let scratch = scratch();
    let content = |section: &str| scratch.path().join(section);
    let Some(mut objcopy) = program("objcopy", ["-O", "binary"]) else {
        return;
    };
    for section in SECTIONS {
        let dump = format!(".{section}={}", content(section).display());
        objcopy.args(["--dump-section", &dump]);
    }
    bytes(objcopy.arg(output_file(&directory, ".efi")).arg(content("rest")));

    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let told = manifest["pcrs"]["uki"].as_array().unwrap();
    assert_eq!(told.len(), 5);
    for moment in told {
        // A colon is systemd-measure's word for no phase.
        let phase = match moment["phase"].as_str().unwrap() {
            "" => ":",
            phase => phase,
        };
        let options = ["calculate", "--bank=sha256", "--bank=sha384"];
        let mut measure = program("systemd-measure", options).unwrap();
        measure.args(SECTIONS.map(|section| format!("--{section}={}", content(section).display())));
        let calculated = answer(measure.arg(format!("--phase={phase}")));
        let value = |bank: &str| format!("11:{bank}={}\n", moment[bank].as_str().unwrap());
        assert_eq!(calculated, value("sha256") + &value("sha384"), "{phase}");
        assert!(moment["profile"].is_null());
    }

    let repo = format!("--repo={}", directory.join("repo").display());
    let reference = manifest["commit"]["ref"].as_str().unwrap();
    for bank in ["sha256", "sha384"] {
        let key = format!("--print-metadata-key=hullwright.uki-pcr-11.{bank}");
        let Some(mut show) = program("ostree", [repo.as_str(), "show", &key, reference]) else {
            return;
        };
        let expected = told[0][bank].as_str().unwrap();
        assert_eq!(answer(&mut show), format!("'{expected}'\n"));
    }
}
