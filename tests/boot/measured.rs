//! What a TPM holds after a boot, beside what was said of it before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hullwright::vm::Machine;
use serde_json::Value;

use crate::lab::{Answers, GROW, Lab, PATIENCE, script};
use crate::support::image::{
    build_command, hullwright, output_directory, output_file, said, sample_definition, sample_store,
};
use crate::support::{sample_rpms, tool};

/// The registers that are predicted; PCR 11 is further on by the time that one can log in.
const PREDICTED: [&str; 5] = ["4", "7", "9", "12", "13"];

/// Profiles, add-ons, and policies signed by the key in `key`.
fn definition(key: &Path) -> String {
    format!(
        r#"
extends = ["{}"]

[measured-boot]
key = "{}"

[[uki.profiles]]
id = "quiet"
title = "Quiet"
cmdline = ["quiet"]

[[uki.addons]]
name = "one"
cmdline = ["hullwright.addon=one"]
place = "uki"

[[uki.addons]]
name = "every"
cmdline = ["hullwright.addon=every"]
place = "loader"
bound = true

[[uki.addons]]
name = "other"
cmdline = ["hullwright.addon=other"]
"#,
        sample_definition().display(),
        key.display()
    )
}

/// Builds the image in `place`.
fn build(place: &Path, rpms: &Path) -> PathBuf {
    let key = place.join("pcr.key");
    let made = Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(&key)
        .arg("2048")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let path = place.join("measured.toml");
    fs::write(&path, definition(&key)).unwrap();
    let out = place.join("out");
    let output = build_command(&path, rpms, &out, &sample_store())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output_directory(&out)
}

/// The policies of each profile's `.pcrsig`, by ukify.
fn signatures(ukify: &Path, uki: &Path) -> String {
    let output = Command::new(ukify).arg("inspect").arg(uki).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What to ask a machine, for [`agree`].
pub const QUESTIONS: [(&str, &str); 4] = [
    // The last word is measured when the machine is up.
    ("up", "systemctl is-system-running --wait"),
    ("log", "base64 /sys/kernel/security/tpm0/binary_bios_measurements"),
    ("sha256", "cd /sys/class/tpm/tpm0/pcr-sha256 && grep . *"),
    ("sha384", "cd /sys/class/tpm/tpm0/pcr-sha384 && grep . *"),
];

/// A register of the machine that gave `answers`.
fn held(answers: &Answers, bank: &str, pcr: &str) -> String {
    let lines = answers.get(bank).lines();
    let mut lines = lines.filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(number, _)| *number == pcr).unwrap();
    value.to_lowercase()
}

/// Holds what a machine says of its TPM against what the manifest of the image in `built` told for `firmware`, and its event
/// log against both.
pub fn agree(answers: &Answers, built: &Path, firmware: &str) {
    let manifest = fs::read(built.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let known = manifest["pcrs"]["firmware"].as_array().unwrap();
    let told = known.iter().find(|known| known["firmware"] == firmware).unwrap();
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    fs::write(&log, BASE64.decode(answers.get("log").replace('\n', "")).unwrap()).unwrap();
    let replayed = |options: &[&str]| {
        let mut command = hullwright();
        command.args(["pcr", "replay", "--json"]).arg(&log).args(options);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let out = built.to_str().unwrap();
    let replay = replayed(&["--image", out]);
    assert_eq!(replay["differences"], serde_json::json!([]));
    let again = replayed(&["--image", out, "--predict"]);
    for bank in ["sha256", "sha384"] {
        let told = &told[bank];
        for pcr in PREDICTED {
            let held = held(answers, bank, pcr);
            assert_eq!(told[pcr], held, "PCR {pcr} of {bank}");
            assert_eq!(again["pcrs"][bank][pcr], held, "PCR {pcr} of {bank}");
        }
        for pcr in ["0", "1", "2", "3", "4", "5", "6", "7", "9", "12"] {
            let held = held(answers, bank, pcr);
            assert_eq!(
                replay["pcrs"][bank].get(pcr).map_or_else(
                    || "0".repeat(held.len()),
                    |value| value.as_str().unwrap().to_owned()
                ),
                held,
                "PCR {pcr} of {bank}"
            );
        }
        assert_eq!(told["11"], replay["pcrs"][bank]["11"]);
        // Every word of the boot was measured, those of the initrd too.
        let moments = manifest["pcrs"]["uki"].as_array().unwrap();
        let end = "enter-initrd:leave-initrd:sysinit:ready";
        let first = |moment: &&Value| moment["phase"] == end && moment["profile"].as_u64().unwrap_or(0) == 0;
        let moment = moments.iter().find(first).unwrap();
        assert_eq!(moment[bank], held(answers, bank, "11"));
    }
}

#[test]
#[ignore = "builds an image of its own and boots it"]
fn what_was_predicted_is_what_the_tpm_holds() {
    let (Some(rpms), Some(ukify), Some(lab)) = (sample_rpms(), tool("ukify"), Lab::enter()) else {
        return;
    };
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let built = build(place.path(), &rpms);
    let manifest = fs::read(built.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let pcrs = &manifest["pcrs"];
    let uki = output_file(&built, "13.20261121.efi");
    let inspected = signatures(&ukify, &uki);
    for part in ["ID=quiet", "BEGIN PUBLIC KEY", "\"sha384\": [{\"pcrs\""] {
        let inspected = inspected.replace("\"sha384\":[{\"pcrs\"", "\"sha384\": [{\"pcrs\"");
        assert!(inspected.contains(part), "{part}: {inspected}");
    }

    let mut vm = Machine::new(output_file(&built, ".raw"))
        .grow(GROW)
        .tpm(true)
        .ssh(true)
        .start()
        .unwrap();
    vm.wait_ssh(PATIENCE).unwrap();
    let own = [
        ("command line", "cat /proc/cmdline"),
        ("key", "cat /run/systemd/tpm2-pcr-public-key.pem"),
        ("signature", "cat /run/systemd/tpm2-pcr-signature.json"),
    ];
    let questions = script(&[&QUESTIONS[..], &own].concat());
    let output = vm.ssh(&[questions.as_str()]).unwrap();
    vm.power_off(PATIENCE).unwrap();
    drop(lab);
    let answers = Answers::read(&output.stdout);

    let cmdline = answers.get("command line");
    assert!(
        cmdline.ends_with(" hullwright.addon=every hullwright.addon=one"),
        "{cmdline}"
    );
    assert!(answers.get("key").starts_with("-----BEGIN PUBLIC KEY-----\n"));
    let signed: Value = serde_json::from_str(answers.get("signature")).unwrap();
    assert_eq!(signed["sha256"].as_array().unwrap().len(), 1);

    agree(&answers, &built, "ovmf-secure-boot-off");
    // Both profiles have their values.
    assert_eq!(pcrs["uki"].as_array().unwrap().len(), 10);
    let twelve = held(&answers, "sha256", "12");
    assert_ne!(twelve, "0".repeat(twelve.len()));
}
