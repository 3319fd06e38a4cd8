//! Secure Boot with own keys: the signed image is healthy and says that Secure Boot is on; with another UKI, or a changed one,
//! firmware refuses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hullwright::firmware::{Enrolment, OWNER, enroll, read_directory};
use hullwright::signing::{Credential, DevelopmentSet, KeySource};
use hullwright::vm::{FailureKind, Machine, Ovmf, VmError};

use crate::lab::{Answers, Lab, PATIENCE, script};
use crate::support::image::output_file;
use crate::support::signed::signed_program;
use crate::support::{skip, tool};

const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";

/// The sample's disk with a boot loader that `own` signed, and the keys.
struct Signed {
    lab: Lab,
    place: PathBuf,
    disk: PathBuf,
    /// mtools' name of the ESP.
    esp: String,
    uki_path: String,
    uki: Vec<u8>,
    own: Credential,
}

impl Signed {
    fn make() -> Option<Self> {
        tool("mcopy")?;
        if let Err(error) = Ovmf::find(true) {
            skip(&error.to_string());
            return None;
        }
        let lab = Lab::enter()?;
        let place = lab.place().to_owned();
        let set = DevelopmentSet {
            name: "Test".into(),
            bits: 2048,
            ec: false,
            now: 1_750_000_000,
        };
        for name in ["own", "foreign"] {
            set.write(&place.join(name)).unwrap();
        }
        let disk = place.join("signed.raw");
        let copied = Command::new("cp")
            .arg("--sparse=always")
            .arg(output_file(&lab.built, ".raw"))
            .arg(&disk)
            .status();
        assert!(copied.unwrap().success());
        let esp = format!(
            "{}@@{}",
            disk.display(),
            lab.partition(1)["offset"].as_u64().unwrap()
        );
        let uki_path = format!(
            "EFI/Linux/{}_{}+3.efi",
            lab.text(&["image"]),
            lab.text(&["version"])
        );
        let uki = fs::read(output_file(&lab.built, ".efi")).unwrap();
        let own = credential(&place, "own");
        let signed = Self {
            lab,
            place,
            disk,
            esp,
            uki_path,
            uki,
            own,
        };
        let loader = signed.place.join("loader.efi");
        signed.mtools(&[
            "-n",
            "-i",
            &signed.esp,
            &format!("::{LOADER}"),
            loader.to_str().unwrap(),
        ]);
        let bytes = fs::read(&loader).unwrap();
        signed.put(LOADER, &signed_program(&bytes, &signed.own));
        Some(signed)
    }

    fn mtools(&self, arguments: &[&str]) {
        let output = Command::new("mcopy").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Puts a file into the ESP.
    fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.place.join("file.efi");
        fs::write(&file, bytes).unwrap();
        self.mtools(&[
            "-o",
            "-i",
            &self.esp,
            file.to_str().unwrap(),
            &format!("::{path}"),
        ]);
    }

    fn machine(&self) -> Machine {
        let enrolment = Enrolment {
            databases: read_directory(&self.place.join("own"), OWNER).unwrap(),
            ..Enrolment::default()
        };
        let variables = self.place.join("variables.fd");
        fs::write(
            &variables,
            enroll(&Ovmf::find(true).unwrap().vars, &enrolment).unwrap(),
        )
        .unwrap();
        Machine::new(&self.disk).secure_boot(true).variables(variables)
    }
}

fn credential(place: &Path, set: &str) -> Credential {
    let file = |ending: &str| place.join(set).join(format!("db.{ending}"));
    Credential::open(&KeySource::File(file("key")), &file("pem"))
        .unwrap()
        .0
}

/// `bytes` with the one place of `from` changed to `to`, which is as long.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<_> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert_eq!((places.len(), from.len()), (1, to.len()));
    let mut changed = bytes.to_vec();
    changed[places[0]..places[0] + to.len()].copy_from_slice(to);
    changed
}

#[test]
#[ignore = "boots five machines"]
fn own_keys() {
    let Some(signed) = Signed::make() else { return };
    let good = signed_program(&signed.uki, &signed.own);
    let mut byte = good.clone();
    let middle = byte.len() / 2;
    byte[middle] ^= 1;
    let bad = [
        ("unsigned", signed.uki.clone()),
        (
            "foreign",
            signed_program(&signed.uki, &credential(&signed.place, "foreign")),
        ),
        (
            "another command line",
            replaced(&good, b"mount.usrflags=ro", b"mount.usrflags=rw"),
        ),
        ("another byte", byte),
    ];
    for (name, uki) in bad {
        signed.put(&signed.uki_path, &uki);
        let mut vm = signed.machine().start().unwrap();
        match vm.wait_healthy(PATIENCE) {
            Err(VmError::NotHealthy { failure, .. }) => {
                assert_eq!(failure.kind, FailureKind::Refused, "{name}: {failure}");
                let uki = failure.detail.contains("Error loading \\EFI\\Linux\\");
                assert!(
                    uki && failure.detail.ends_with(": Access denied"),
                    "{name}: {failure}"
                );
            }
            other => panic!("{name}: {other:?}\n{}", vm.console()),
        }
        assert!(!vm.console().contains("Linux version"), "{name}");
    }

    signed.put(&signed.uki_path, &good);
    let mut vm = signed.machine().ssh(true).start().unwrap();
    vm.wait_healthy(PATIENCE)
        .unwrap_or_else(|error| panic!("{error:?}\n{}", vm.console()));
    assert!(vm.console().contains("Secure boot enabled"));
    let variable = |name: &str| {
        format!("od -An -tu1 /sys/firmware/efi/efivars/{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    };
    let questions = script(&[
        ("enabled", &variable("SecureBoot")),
        ("setup", &variable("SetupMode")),
        ("lockdown", "cat /sys/kernel/security/lockdown"),
        ("keys", "cat /proc/keys"),
        ("bootctl", "bootctl status --no-pager"),
    ]);
    let answers = Answers::read(&vm.ssh(&[questions]).unwrap().stdout);
    let values = |name: &str| answers.get(name).split_whitespace().last().map(str::to_owned);
    assert_eq!(values("enabled").as_deref(), Some("1"));
    assert_eq!(values("setup").as_deref(), Some("0"));
    assert!(
        answers.get("lockdown").contains("[integrity]"),
        "{}",
        answers.get("lockdown")
    );
    // The certificate of db is what the kernel checks root hashes with.
    assert!(
        answers.get("keys").contains("Test Signature Database"),
        "{}",
        answers.get("keys")
    );
    let (bootctl, status) = answers.whole("bootctl");
    if status == 0 {
        assert!(bootctl.contains("Secure Boot: enabled (user)"), "{bootctl}");
    }
    drop(vm);
    drop(signed.lab);
}
