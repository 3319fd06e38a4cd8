//! A root that was built with the image and is made the machine's own at the first boot: the second needs no key, and the
//! image's key opens nothing any more.

use std::fs;
use std::process::Command;

use crate::lab::{PATIENCE, healthy};
use crate::sealed_lab::{SealedLab, run};
use crate::support::image::{hullwright, output_file};

#[test]
#[ignore = "builds another image and boots a machine three times"]
fn the_images_key_opens_no_machine() {
    let Some(lab) = SealedLab::enter_with("rekeyed", &["rekeyed-root"], "") else {
        return;
    };
    let built_key = output_file(&lab.built, ".root.key");
    let key = fs::read(&built_key).unwrap();
    let machine = lab.machine("machine");
    let image = lab.place.path().join("image-head");
    let dump = |file: &std::path::Path| {
        let dumped = run(
            "cryptsetup",
            [
                "luksDump".as_ref(),
                "--dump-json-metadata".as_ref(),
                file.as_os_str(),
            ],
        );
        serde_json::from_slice::<serde_json::Value>(&dumped.stdout).unwrap()
    };

    // Without the key there is no first boot.
    let console = lab.machine("keyless").refused(|machine| machine);
    assert!(
        console.contains("needs the key that this image was built with"),
        "{console}"
    );

    let vm = healthy(|| machine.plan().secret("cryptsetup.passphrase", &key));
    assert!(vm.power_off(PATIENCE).unwrap());
    let head = machine.root_head();
    let header = dump(&head);
    assert_eq!(header["tokens"]["0"]["type"], "systemd-tpm2", "{header:#}");
    assert_eq!(header["tokens"]["0"]["tpm2-pcrs"], serde_json::json!([7, 12, 15]));
    assert_eq!(header["tokens"]["0"]["tpm2_pubkey_pcrs"], serde_json::json!([11]));
    // The TPM's and the recovery key's.
    assert_eq!(header["keyslots"].as_object().unwrap().len(), 2, "{header:#}");
    let opens = |file: &std::path::Path| {
        let mut command = Command::new("cryptsetup");
        command
            .args(["open", "--test-passphrase", "--key-file"])
            .arg(file)
            .arg(&head);
        command.output().unwrap().status.success()
    };
    assert!(!opens(&built_key));
    // Nor does the volume key of the image's header: it is another.
    fs::write(&image, golden_head(&lab)).unwrap();
    let golden = dump(&image);
    let digest = |header: &serde_json::Value| {
        let digests = header["digests"].as_object().unwrap();
        assert_eq!(digests.len(), 1, "{header:#}");
        digests.values().next().unwrap()["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_ne!(digest(&golden), digest(&header));
    let volume_key = lab.place.path().join("volume.key");
    let dumped = Command::new("cryptsetup")
        .args([
            "luksDump",
            "--batch-mode",
            "--dump-volume-key",
            "--volume-key-file",
        ])
        .arg(&volume_key)
        .arg("--key-file")
        .arg(&built_key)
        .arg(&image)
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let with_volume_key = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--volume-key-file"])
        .arg(&volume_key)
        .arg(&head)
        .output()
        .unwrap();
    assert!(!with_volume_key.status.success());

    // The TPM alone.
    machine.boot();
    // And the holder of the escrow key.
    let records = machine.esp_names("/EFI/hullwright/recovery");
    assert_eq!(records.len(), 1, "{records:?}");
    let record = lab.place.path().join("record.json");
    fs::write(&record, machine.esp_file(&records[0])).unwrap();
    let escrow = lab.keys.join("escrow.key");
    let recovered = hullwright()
        .arg("recover")
        .arg("--key")
        .arg(escrow)
        .arg(&record)
        .output()
        .unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    let recovery = lab.place.path().join("recovery.key");
    fs::write(&recovery, &recovered.stdout).unwrap();
    assert!(opens(&recovery));
}

/// The header of the root partition in the image.
fn golden_head(lab: &SealedLab) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.built.join("manifest.json")).unwrap()).unwrap();
    let partitions = manifest["partitions"].as_array().unwrap();
    let root = partitions
        .iter()
        .find(|partition| partition["label"] == "root")
        .unwrap();
    let mut bytes = vec![0; 17 << 20];
    let disk = fs::File::open(output_file(&lab.built, ".raw")).unwrap();
    disk.read_exact_at(&mut bytes, root["offset"].as_u64().unwrap())
        .unwrap();
    bytes
}
