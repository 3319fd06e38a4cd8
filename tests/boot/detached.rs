//! An image that was built without any private key, and signed by plain openssl: firmware, loader and kernel take it.

use std::fs;
use std::path::{Path, PathBuf};

use hullwright::formats::efi::VariableStore;
use hullwright::vm::{Machine, Ovmf};

use crate::lab::{Answers, Lab, PATIENCE, healthy, script};
use crate::support::detached::{keys, sign, tables};
use crate::support::image::{build_command, hullwright, output_directory, output_file, said, sample_store};
use crate::support::{sample_rpms, skip, tool};

/// Builds, hands out requests, signs and attaches until nothing is awaited; what was signed, round by round.
fn build_and_sign(place: &Path) -> Option<(PathBuf, Vec<Vec<String>>)> {
    let rpms = sample_rpms()?;
    let succeed = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    succeed(hullwright().args(["keys", "init"]).arg(place.join("keys")));
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.toml");
    let ids = sample.with_extension("ids.lock");
    let definition = place.join("elsewhere.toml");
    let text = format!(
        "extends = [{sample:?}]\n[os]\nids = {ids:?}\n[outputs]\nformats = {{ replace = [\"raw\"] }}\n\
         [outputs.erofs]\nlevel = 1\n{}",
        tables(false)
    );
    fs::write(&definition, text).unwrap();
    let out = place.join("out");
    succeed(&mut build_command(&definition, &rpms, &out, &sample_store()));
    let built = output_directory(&out);
    // Where keys are, nothing is known of names given here.
    let keys = keys(place);
    let mut request = place.join("request-1");
    succeed(hullwright().args(["sign", "request"]).arg(&built).arg(&request));
    let mut rounds = Vec::new();
    while request.exists() {
        rounds.push(sign(&request, &keys));
        let next = place.join(format!("request-{}", rounds.len() + 1));
        let mut attach = hullwright();
        attach.args(["sign", "attach"]).arg(&built).arg(&request);
        succeed(attach.arg("--next").arg(&next));
        request = next;
    }
    Some((built, rounds))
}

#[test]
#[ignore = "builds another image and boots a machine"]
fn signed_elsewhere_it_boots_under_secure_boot() {
    if !["openssl", "sha256sum"].iter().all(|name| tool(name).is_some()) {
        return;
    }
    if let Err(error) = Ovmf::find(true) {
        skip(&error.to_string());
        return;
    }
    let place = tempfile::Builder::new()
        .prefix("elsewhere-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let mut rounds = Vec::new();
    let build = || {
        let (built, signed) = build_and_sign(place.path())?;
        rounds = signed;
        Some(built)
    };
    let Some(lab) = Lab::enter_with(build) else { return };
    assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1, 1]);
    let variables = lab.place().join("variables.fd");
    let enrolled = hullwright()
        .args(["keys", "enroll-ovmf", "--keys"])
        .arg(lab.built.join("secure-boot"))
        .arg("-o")
        .arg(&variables)
        .output()
        .unwrap();
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    assert!(
        VariableStore::parse(fs::read(&variables).unwrap())
            .unwrap()
            .enforces_secure_boot()
    );
    let disk = output_file(&lab.built, ".raw");
    let mut vm = healthy(|| {
        Machine::new(&disk)
            .secure_boot(true)
            .variables(&variables)
            .ssh(true)
    });
    assert!(vm.console().contains("Secure boot enabled"), "{}", vm.console());
    vm.wait_ssh(PATIENCE).unwrap();
    let questions = script(&[
        (
            "enabled",
            "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        ),
        // The kernel opens no volume without a signature that it believes.
        (
            "required",
            "cat /sys/module/dm_verity/parameters/require_signatures",
        ),
        ("table", "dmsetup table usr"),
        ("status", "dmsetup status usr"),
        ("policy", "cat /run/systemd/tpm2-pcr-signature.json"),
    ]);
    let answers = Answers::read(&vm.ssh(&[questions]).unwrap().stdout);
    drop(vm);
    assert!(
        answers.get("enabled").trim().ends_with(" 1"),
        "{}",
        answers.get("enabled")
    );
    assert_eq!(answers.get("required"), "Y");
    let table = answers.get("table");
    assert!(
        table.contains("root_hash_sig_key_desc") && table.contains(lab.text(&["usr_root_hash"])),
        "{table}"
    );
    assert!(
        answers.get("status").contains(" verity V"),
        "{}",
        answers.get("status")
    );
    let policy: serde_json::Value = answers.json("policy");
    for bank in ["sha256", "sha384"] {
        assert_eq!(policy[bank].as_array().map(Vec::len), Some(1), "{policy:#}");
    }
}
