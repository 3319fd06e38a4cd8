//! An encrypted root: made at the first boot, bound to the TPM and to signed policy, recovered with
//! the escrow key, and never replaced by what somebody planted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::sealed_lab::{Kept, SealedLab, run};
use crate::support::image::{hullwright, said};
use crate::support::tool;

const MIB: u64 = 1 << 20;
const RECOVERY: &str = "/EFI/hullwright/recovery";

/// Whether cryptsetup opens the volume in `head` with `secret`.
fn opens(head: &Path, secret: &[u8]) -> bool {
    let key = head.with_extension("secret");
    fs::write(&key, secret).unwrap();
    let opened = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--key-file"])
        .args([&key, head])
        .stderr(Stdio::null())
        .status();
    fs::remove_file(key).unwrap();
    opened.unwrap().success()
}

pub fn header(head: &Path) -> Value {
    let dump = [
        "luksDump".as_ref(),
        "--dump-json-metadata".as_ref(),
        head.as_os_str(),
    ];
    serde_json::from_slice(&run("cryptsetup", dump).stdout).unwrap()
}

/// The recovery key of a machine after its first boot, as `hullwright recover` gives it.
fn recovered(lab: &SealedLab, machine: &Kept, head: &Path) -> Vec<u8> {
    let uuid = run("cryptsetup", ["luksUUID".as_ref(), head.as_os_str()]).stdout;
    let uuid = String::from_utf8(uuid).unwrap();
    let path = format!("{RECOVERY}/{}.json", uuid.trim());
    assert_eq!(machine.esp_names(RECOVERY), [format!("::{path}")]);
    let record = lab.place.path().join("record.json");
    fs::write(&record, machine.esp_file(&format!("::{path}"))).unwrap();
    let recover = |key: &str| {
        let mut command = hullwright();
        command
            .arg("recover")
            .arg("--key")
            .arg(lab.keys.join(key))
            .arg(&record);
        command.output().unwrap()
    };
    let other = recover("pcr.key");
    assert!(
        !other.status.success() && other.stdout.is_empty(),
        "{}",
        said(&other)
    );
    assert!(
        said(&other).contains("wrapped to another escrow key"),
        "{}",
        said(&other)
    );
    let output = recover("escrow.key");
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

#[test]
fn first_boot_makes_a_volume_for_this_tpm_and_the_escrow_key() {
    let Some(lab) = SealedLab::enter() else { return };
    let machine = lab.machine("first");
    let console = machine.boot();

    let head = machine.root_head();
    let metadata = header(&head);
    let segment = &metadata["segments"]["0"];
    assert_eq!(segment["encryption"], "aes-xts-plain64");
    assert_eq!(segment["offset"], "16777216");
    assert_eq!(metadata["keyslots"].as_object().unwrap().len(), 2);
    for slot in metadata["keyslots"].as_object().unwrap().values() {
        assert_eq!(slot["key_size"], 64, "{slot}");
    }
    let tokens: Vec<_> = metadata["tokens"].as_object().unwrap().values().collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0]["type"], "systemd-tpm2");
    assert_eq!(tokens[0]["tpm2-pcrs"], json!([7, 12, 15]));
    assert_eq!(tokens[0]["tpm2-pcr-bank"], "sha256");
    assert_eq!(tokens[0]["tpm2_pubkey_pcrs"], json!([11]));
    let public = run("base64", ["-w0".as_ref(), lab.keys.join("pcr.pem").as_os_str()]).stdout;
    assert_eq!(tokens[0]["tpm2_pubkey"], *String::from_utf8(public).unwrap());

    let key = recovered(&lab, &machine, &head);
    assert!(opens(&head, &key));
    let mut other = key.clone();
    other[0] = if other[0] == b'c' { b'b' } else { b'c' };
    assert!(!opens(&head, &other));
    assert!(!console.contains(std::str::from_utf8(&key).unwrap()));
}

#[test]
#[ignore = "boots up to five machines"]
fn later_boots_open_it_by_tpm_and_signed_policy_alone() {
    let (Some(ukify), Some(lab)) = (tool("ukify"), SealedLab::enter()) else {
        return;
    };
    let machine = lab.booted("first");
    let made = header(&machine.root_head());
    let partitions = machine.partitions();

    let console = machine.boot();
    assert!(!console.contains("Please enter"), "{console}");
    assert_eq!(header(&machine.root_head()), made);
    assert_eq!(machine.partitions(), partitions);

    let updated = lab.copy(&machine, "updated");
    updated.replace_uki(&lab.other_uki(&ukify, &lab.keys.join("pcr.key"), "quiet", None));
    updated.boot();
    assert_eq!(header(&updated.root_head()), made);

    // A UKI that another key signed, and which brings that key as its own.
    let foreign = lab.copy(&machine, "foreign");
    foreign.replace_uki(&lab.other_uki(&ukify, &lab.keys.join("db.key"), "quiet", None));
    let console = foreign.refused(|machine| machine);
    assert!(
        console.contains("it is bound to another PCR key than this UKI's"),
        "{console}"
    );

    let elsewhere = lab.copy(&machine, "elsewhere");
    elsewhere.forget_tpm();
    let console = elsewhere.refused(|machine| machine);
    assert!(
        console.contains("The TPM does not give the key of the root"),
        "{console}"
    );
    let head = elsewhere.root_head();
    assert!(opens(&head, &recovered(&lab, &elsewhere, &head)));
}

/// A file with an ext4 file system of `size` bytes.
fn plaintext(lab: &SealedLab, size: u64) -> PathBuf {
    let path = lab.place.path().join("plain.ext4");
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    run("mkfs.ext4", ["-q".as_ref(), path.as_os_str()]);
    path
}

/// A LUKS2 volume of somebody else's, with whatever `options` say.
fn volume(lab: &SealedLab, name: &str, options: &[&str]) -> PathBuf {
    let path = lab.place.path().join(format!("{name}.luks"));
    fs::File::create(&path).unwrap().set_len(17 * MIB).unwrap();
    let key = lab.place.path().join("key");
    fs::write(&key, "theirs").unwrap();
    let mut command = Command::new("cryptsetup");
    command.args([
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
    ]);
    let output = command.args(options).arg(&path).arg(&key).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    path
}

const NULL: &str = "cipher_null-ecb";

/// Changes the metadata in both copies of a LUKS2 header, and their checksums with it. cryptsetup formats no such volume
/// without a device mapper.
fn edit_metadata(volume: &Path, edit: impl Fn(&mut Value)) {
    const JSON: usize = 4096;
    const CHECKSUM: std::ops::Range<usize> = 448..512;
    let mut bytes = fs::read(volume).unwrap();
    let size = u64::from_be_bytes(bytes[8..16].try_into().unwrap()) as usize;
    for copy in bytes[..2 * size].chunks_mut(size) {
        let text = copy[JSON..].split(|byte| *byte == 0).next().unwrap();
        let mut metadata: Value = serde_json::from_slice(text).unwrap();
        edit(&mut metadata);
        let text = metadata.to_string();
        copy[JSON..].fill(0);
        copy[JSON..JSON + text.len()].copy_from_slice(text.as_bytes());
        copy[CHECKSUM].fill(0);
        let checksum = Sha256::digest(&copy);
        copy[CHECKSUM][..32].copy_from_slice(&checksum);
    }
    fs::write(volume, bytes).unwrap();
    assert!(
        Command::new("cryptsetup")
            .arg("isLuks")
            .arg(volume)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
#[ignore = "boots up to six machines"]
fn planted_roots_are_refused() {
    let Some(lab) = SealedLab::enter() else { return };
    let plain = plaintext(&lab, 17 * MIB);
    let foreign = volume(&lab, "foreign", &["--key-size=512"]);
    let machine = lab.booted("first");
    let root = machine.root_offset();
    let token = header(&machine.root_head())["tokens"]["0"].clone();
    // With the machine's own token, whose key its TPM would give.
    let null = |name: &str, edit: fn(&mut Value)| {
        let path = volume(&lab, name, &["--key-size=512"]);
        edit_metadata(&path, |metadata| {
            metadata["tokens"] = json!({ "0": token });
            metadata["tokens"]["0"]["keyslots"] = json!(["0"]);
            edit(metadata);
        });
        path
    };
    let data = null("data", |metadata| {
        metadata["segments"]["0"]["encryption"] = json!(NULL)
    });
    let slot = null("slot", |metadata| {
        metadata["keyslots"]["0"]["area"]["encryption"] = json!(NULL);
    });

    for (name, planted, reason) in [
        ("plain", &plain, "is no LUKS2 volume"),
        ("foreign", &foreign, "the tokens is [], not [\"systemd-tpm2\"]"),
        (
            "data",
            &data,
            "the cipher is \"cipher_null-ecb\", not \"aes-xts-plain64\"",
        ),
        (
            "slot",
            &slot,
            "a keyslot's cipher is \"cipher_null-ecb\", not \"aes-xts-plain64\"",
        ),
    ] {
        let victim = lab.copy(&machine, name);
        victim.write(root, planted);
        let console = victim.refused(|machine| machine);
        assert!(console.contains(reason), "{name}: {console}");
        assert!(!console.contains("EXT4-fs"), "{name}: {console}");
    }

    let victim = lab.copy(&machine, "two");
    let console = victim.refused(|machine| machine.second_disk(lab.machine("clone").disk()));
    assert!(
        console.contains("One of the disks is a clone of the other"),
        "{console}"
    );
}

#[test]
#[ignore = "boots up to five machines"]
fn what_is_added_to_the_boot_shuts_the_root() {
    let (Some(ukify), Some(lab)) = (tool("ukify"), SealedLab::enter()) else {
        return;
    };
    let addon = lab.addon(&ukify);
    let credential = lab.place.path().join("x.cred");
    fs::write(&credential, "planted").unwrap();
    let machine = lab.booted("first");
    let refused = |machine: &Kept, extra: Option<&str>| {
        let console = machine.refused(|machine| match extra {
            Some(text) => machine.oem_string(text),
            None => machine,
        });
        assert!(console.contains("PCR 12 is "), "{console}");
    };

    let victim = lab.copy(&machine, "addon");
    victim.plant("/loader/addons", &addon);
    refused(&victim, None);

    let victim = lab.copy(&machine, "credential");
    victim.plant("/loader/credentials", &credential);
    refused(&victim, None);

    let extra = "io.systemd.stub.kernel-cmdline-extra=planted";
    refused(&lab.copy(&machine, "smbios"), Some(extra));
    // Nor is a root made in such a boot.
    let fresh = lab.machine("fresh");
    refused(&fresh, Some(extra));
    assert!(fresh.partitions().len() < machine.partitions().len());
}
