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

[initrd]
binaries-optional = [
    "/usr/lib64/libtss2-esys.so.0", "/usr/lib64/libtss2-rc.so.0", "/usr/lib64/libtss2-tcti-device.so.0",
    "/usr/lib/x86_64-linux-gnu/libtss2-esys.so.0", "/usr/lib/x86_64-linux-gnu/libtss2-rc.so.0",
    "/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0",
]
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
    let questions = script(&[
        // The last word is measured when the machine is up.
        ("up", "systemctl is-system-running --wait"),
        (
            "log",
            "base64 -w0 /sys/kernel/security/tpm0/binary_bios_measurements",
        ),
        ("sha256", "cd /sys/class/tpm/tpm0/pcr-sha256 && grep . *"),
        ("sha384", "cd /sys/class/tpm/tpm0/pcr-sha384 && grep . *"),
        ("command line", "cat /proc/cmdline"),
        ("key", "cat /run/systemd/tpm2-pcr-public-key.pem"),
        ("signature", "cat /run/systemd/tpm2-pcr-signature.json"),
    ]);
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

    let log = place.path().join("log");
    fs::write(&log, BASE64.decode(answers.get("log")).unwrap()).unwrap();
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
        let held = |pcr: &str| {
            let lines = answers.get(bank).lines();
            let mut lines = lines.filter_map(|line| line.split_once(':'));
            let (_, value) = lines.find(|(number, _)| *number == pcr).unwrap();
            value.to_lowercase()
        };
        let told = &pcrs["firmware"][0][bank];
        for pcr in PREDICTED {
            assert_eq!(told[pcr], held(pcr), "PCR {pcr} of {bank}");
            assert_eq!(again["pcrs"][bank][pcr], held(pcr), "PCR {pcr} of {bank}");
        }
        for pcr in ["0", "1", "2", "3", "4", "5", "6", "7", "9", "12"] {
            assert_eq!(replay["pcrs"][bank][pcr], held(pcr), "PCR {pcr} of {bank}");
        }
        assert_eq!(told["11"], replay["pcrs"][bank]["11"]);
        // Both profiles have their values; the first one booted, and came to the end.
        let moments = pcrs["uki"].as_array().unwrap();
        let end = "enter-initrd:leave-initrd:sysinit:ready";
        let moment = moments
            .iter()
            .find(|moment| moment["profile"] == 0 && moment["phase"] == end);
        assert_eq!(moment.unwrap()[bank], held("11"));
        assert_eq!(moments.len(), 10);
        assert_ne!(held("12"), "0".repeat(held("12").len()));
    }
}
