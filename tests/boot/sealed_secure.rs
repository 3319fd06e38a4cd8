//! Secure Boot and TPM together, as an image is meant to run: keys of its own in firmware, a root that is bound to them, an update, and
//! what even the holder of firmware's trust cannot do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hullwright::formats::efi::VariableStore;
use serde_json::{Value, json};

use crate::lab::{Answers, script};
use crate::measured;
use crate::sealed_lab::{Kept, SealedLab};
use crate::sealed_root::header;
use crate::support::image::{hullwright, said};
use crate::support::tool;

const SECURE_BOOT: &str =
    "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// A user of the machine's own, which makes its `/etc/passwd` another file than the image's.
const LOCAL: &str = "echo 'local:x:1234:1234::/:/bin/sh' >>/etc/passwd";

/// `hullwright boot` of the machine's disk, as people start it.
fn boot(machine: &Kept, options: &[&str]) -> Output {
    let mut command = hullwright();
    command.arg("boot").arg(machine.disk());
    command.args(["--secure-boot", "--tpm", "--grow", "--timeout", "1200"]);
    let output = command.args(options).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

fn enforced(answers: &Answers) {
    assert_eq!(answers.get("secure boot").trim(), "1");
    assert!(answers.get("lockdown").contains("[integrity]"));
    assert_eq!(answers.get("failed"), "");
}

fn questions(own: &[(&str, &str)]) -> String {
    let common = [
        ("secure boot", SECURE_BOOT),
        ("lockdown", "cat /sys/kernel/security/lockdown"),
        ("failed", "systemctl --failed --plain --no-legend"),
        ("cmdline", "cat /proc/cmdline"),
    ];
    script(&[&measured::QUESTIONS[..], &common, own].concat())
}

/// An archive with the settings of the initrd's scripts, and this PCR 12 as the expected one.
fn settings(place: &Path, pcr_12: &str) -> PathBuf {
    let tree = place.join("settings");
    fs::create_dir_all(tree.join("etc/hullwright")).unwrap();
    let text = format!("PCR12={pcr_12}\nRECOVERY=none\n");
    fs::write(tree.join("etc/hullwright/root.conf"), text).unwrap();
    let archive = place.join("settings.cpio");
    let command = format!(
        "cd {} && echo etc/hullwright/root.conf | cpio --quiet -o -H newc >{}",
        tree.display(),
        archive.display()
    );
    assert!(
        Command::new("sh")
            .arg("-c")
            .arg(command)
            .status()
            .unwrap()
            .success()
    );
    archive
}

#[test]
#[ignore = "builds another image and boots five machines"]
fn a_sealed_machine_under_secure_boot_lives_on_and_is_updated() {
    let tools = ["ukify", "sbsign", "cpio"].map(tool);
    let ([Some(ukify), Some(_), Some(_)], Some(lab)) = (tools, SealedLab::enter()) else {
        return;
    };
    let update = lab.update();
    let unsigned = lab.addon(&ukify);
    let signed = lab.sign(&unsigned);

    let machine = lab.secure_machine("first");
    let first = boot(&machine, &["--until-healthy"]);
    assert!(said(&first).contains("Secure boot enabled"), "{}", said(&first));
    let made = header(&machine.root_head());
    let token = &made["tokens"]["0"];
    assert_eq!(token["tpm2-pcrs"], json!([7, 12, 15]));
    assert_eq!(token["tpm2_pubkey_pcrs"], json!([11]));

    // The second boot opens the root by the TPM; registers and event log are what was told.
    let own = [("local", LOCAL), ("volume", "cryptsetup status root")];
    let second = boot(&machine, &["--ssh", "--", &questions(&own)]);
    let answers = Answers::read(&second.stdout);
    enforced(&answers);
    assert!(answers.get("volume").contains("aes-xts-plain64"));
    measured::agree(&answers, &lab.built, "ovmf-secure-boot-on");
    assert_eq!(header(&machine.root_head()), made);

    // Firmware takes an add-on that db's key has signed; the root stays shut.
    let victim = lab.copy(&machine, "signed-addon");
    victim.plant("/loader/addons", &signed);
    let console = victim.refused(|machine| machine);
    let (_, rest) = console
        .split_once("PCR 12 is ")
        .unwrap_or_else(|| panic!("{console}"));
    let pcr_12 = &rest[..64];
    assert_ne!(pcr_12, "0".repeat(64));

    // Were the initrd's own look at PCR 12 not there, the TPM itself would refuse: this UKI, signed with both keys, expects
    // the add-on.
    let expecting = settings(lab.place.path(), pcr_12);
    let uki = lab.other_uki(&ukify, &lab.keys.join("pcr.key"), "quiet", Some(&expecting));
    victim.replace_uki(&lab.sign(&uki));
    let console = victim.refused(|machine| machine);
    assert!(!console.contains("PCR 12 is "), "{console}");
    assert!(
        console.contains("The TPM does not give the key of the root"),
        "{console}"
    );

    // An add-on that nobody signed is not loaded at all. The update has a user more, which the used root's own
    // `/etc/passwd` does not hide.
    machine.plant("/loader/addons", &unsigned);
    machine.install(&update);
    let own = [
        ("users", "getent passwd local newcomer"),
        (
            "version",
            "grep ^IMAGE_VERSION= /etc/os-release || grep . /etc/hullwright-version",
        ),
    ];
    // A clone of the disk is attached, and of the two, one is known as the machine's own.
    let clone = lab.copy(&machine, "clone").overlay();
    let (answers, _) = machine.ask(|machine| machine.second_disk(&clone), &questions(&own));
    enforced(&answers);
    let manifest: Value = serde_json::from_slice(&fs::read(update.join("manifest.json")).unwrap()).unwrap();
    let cmdline = answers.get("cmdline");
    let hash = manifest["usr_root_hash"].as_str().unwrap();
    assert!(cmdline.contains(&format!("usrhash={hash}")), "{cmdline}");
    assert!(!cmdline.contains("planted"), "{cmdline}");
    let users = answers.get("users");
    assert!(users.starts_with("local:x:1234:"), "{users}");
    assert!(users.contains("\nnewcomer:x:870:870:Came later:/:"), "{users}");
    assert_eq!(header(&machine.root_head()), made);
}

/// `secure-boot.auto-enroll`: a new machine's firmware has no keys, and takes the image's from its boot loader.
#[test]
#[ignore = "builds another image and boots a machine twice"]
fn firmware_in_setup_mode_gets_the_images_keys() {
    let Some(lab) = SealedLab::enter() else { return };
    let built = lab.update();
    let machine = lab.machine_of(&built, "new");
    let (answers, console) = machine.ask(|plan| plan.setup_mode(true).reboots(true), &questions(&[]));
    assert!(
        console.contains("Custom Secure Boot keys successfully enrolled"),
        "{console}"
    );
    enforced(&answers);
    measured::agree(&answers, &built, "ovmf-secure-boot-auto-enrolled");
    let kept = fs::read(machine.disk().with_file_name("disk.raw.kept/variables")).unwrap();
    assert!(VariableStore::parse(kept).unwrap().enforces_secure_boot());
}
