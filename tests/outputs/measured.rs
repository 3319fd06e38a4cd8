//! What is said of the machine's measurements, by systemd-measure; logs replayed.

use std::fs;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::run::{answer, bytes, program, scratch};
use crate::support::image::{hullwright, output_file, sample_image};
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

/// A log with SHA-256 alone and one event: `EV_SEPARATOR` in PCR 7.
fn log() -> Vec<u8> {
    let header = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0],
    ];
    let header = header.concat();
    let mut log = vec![0, 0, 0, 0, 3, 0, 0, 0];
    log.extend([0; 20]);
    log.extend((header.len() as u32).to_le_bytes());
    log.extend(header);
    log.extend([7, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0]);
    log.extend(Sha256::digest([0; 4]));
    log.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    log
}

#[test]
fn a_log_is_replayed_and_held_against_an_image() {
    let scratch = scratch();
    let path = scratch.path().join("log");
    let replay = |options: &[&str]| {
        let mut command = hullwright();
        let output = command.args(["pcr", "replay"]).arg(&path).args(options).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    fs::write(&path, log()).unwrap();
    let seven = Sha256::digest([[0; 32].as_slice(), &Sha256::digest([0; 4])].concat());
    let seven: String = seven.iter().map(|byte| format!("{byte:02x}")).collect();
    let (code, out, _) = replay(&["--events"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        format!(" 7  {:32}  separator\n7:sha256={seven}\n", "EV_SEPARATOR")
    );
    let (code, _, error) = replay(&["--bank", "sha512"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("the log has no digests of sha512"), "{error}");

    if let Some(directory) = sample_image() {
        let image = directory.to_str().unwrap();
        let (code, out, _) = replay(&["--image", image]);
        assert_eq!(code, Some(1));
        assert!(
            out.contains("PCR 4: the log lacks the image's boot loader ("),
            "{out}"
        );
        assert!(out.contains("PCR 9: the log lacks the image's initrd ("), "{out}");
        let (code, out, _) = replay(&["--image", image, "--predict", "--json"]);
        assert_eq!(code, Some(0));
        let predicted: Value = serde_json::from_str(&out).unwrap();
        let manifest = fs::read(directory.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let told = &manifest["pcrs"]["firmware"][0]["sha256"];
        let predicted = &predicted["pcrs"]["sha256"];
        assert_eq!(predicted["11"], told["11"]);
        assert_eq!(predicted["9"], told["9"]);
        assert_eq!(predicted["7"], seven);
    }

    fs::write(&path, &log()[..100]).unwrap();
    let (code, _, error) = replay(&[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("is no event log"), "{error}");
    assert!(
        error.contains("the log ends within its events at byte"),
        "{error}"
    );
}
