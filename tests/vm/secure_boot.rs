//! Firmware that enforces Secure Boot, with keys that we enrol, and programs that we sign: what it starts and what it refuses.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hullwright::firmware::{
    Database, Databases, Enrolment, OWNER, SignatureTemplate, UpdateSigners, enroll, key_files,
    read_directory,
};
use hullwright::formats::authenticode;
use hullwright::formats::efi::{SignatureDatabase, guid};
use hullwright::signing::{Credential, DevelopmentSet, KeySource};
use hullwright::vm::{Acceleration, Machine, Ovmf, Running, VmError};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::efi::{self, Then};
use super::signed::signed_program;
use super::{HEALTHY, testing, tools};

/// System management mode is slow where the host has other work: its processors wait for each other.
const PATIENCE: Duration = Duration::from_secs(600);

/// A place with two sets of keys, `own` and `foreign`.
struct Lab(TempDir);

impl Lab {
    /// `None`, said as a skip, without QEMU or firmware for Secure Boot.
    fn enter() -> Option<Self> {
        if !tools() {
            return None;
        }
        if let Err(error) = Ovmf::find(true) {
            testing::skip(&error.to_string());
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let set = DevelopmentSet {
            name: "Test".into(),
            bits: 2048,
            ec: false,
            now: 1_750_000_000,
        };
        for name in ["own", "foreign"] {
            set.write(&place.path().join(name)).unwrap();
        }
        Some(Self(place))
    }

    fn credential(&self, set: &str, name: &str) -> Credential {
        let place = |ending: &str| self.0.path().join(set).join(format!("{name}.{ending}"));
        let opened = Credential::open(&KeySource::File(place("key")), &place("pem"));
        opened.unwrap().0
    }

    fn databases(&self) -> Databases {
        read_directory(&self.0.path().join("own"), OWNER).unwrap()
    }

    /// Starts a machine whose firmware trusts `databases` and whose disk is `disk`.
    fn start(&self, databases: Databases, disk: &[u8]) -> Running {
        let enrolment = Enrolment {
            databases,
            ..Enrolment::default()
        };
        let store = enroll(&Ovmf::find(true).unwrap().vars, &enrolment).unwrap();
        let variables = self.0.path().join("variables.fd");
        fs::write(&variables, store).unwrap();
        self.machine(&variables, disk).start().unwrap()
    }

    fn machine(&self, variables: &Path, disk: &[u8]) -> Machine {
        let image = self.0.path().join("disk.raw");
        fs::write(&image, disk).unwrap();
        Machine::new(&image)
            .acceleration(Acceleration::Tcg)
            .memory_mib(256)
            .cpus(1)
            .secure_boot(true)
            .variables(variables)
    }
}

fn boot_path(program: &[u8]) -> Vec<u8> {
    efi::disk_of(&[("EFI/BOOT/BOOTX64.EFI", program)])
}

/// `dbx` with the SHA-256 of a certificate's signed part, revoked for all times.
fn revoked(certificate: &[u8]) -> SignatureDatabase {
    let mut list = guid::CERT_X509_SHA256.to_bytes_le().to_vec();
    list.extend([92, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0]);
    list.extend(OWNER.to_bytes_le());
    list.extend(Sha256::digest(certificate));
    list.extend([0; 16]);
    SignatureDatabase::parse(&list).unwrap()
}

#[test]
fn what_firmware_starts_and_what_it_refuses() {
    check(&["signed", "unsigned", "changed", "its digest in dbx"]);
}

#[test]
#[ignore = "boots five machines"]
fn what_else_firmware_starts_and_refuses() {
    check(&[
        "its digest in db",
        "foreign",
        "by the KEK",
        "its certificate in dbx",
        "its certificate's digest in dbx",
    ]);
}

fn check(wanted: &[&str]) {
    let Some(lab) = Lab::enter() else { return };
    let program = efi::program(HEALTHY, Then::Halt);
    let own = lab.credential("own", "db");
    let good = signed_program(&program, &own);
    let mut changed = good.clone();
    // Behind the text, where the program never looks.
    changed[0x1100] ^= 1;

    let trusted = lab.databases();
    let with = |change: &dyn Fn(&mut Databases)| {
        let mut databases = lab.databases();
        change(&mut databases);
        databases
    };
    let digest = authenticode::digest(good.as_slice(), good.len() as u64).unwrap();
    assert_eq!(
        digest,
        authenticode::digest(program.as_slice(), program.len() as u64).unwrap()
    );
    let signed_part = own.certificate().to_be_signed();
    let cases = [
        ("signed", good.clone(), trusted.clone(), true),
        (
            "its digest in db",
            program.clone(),
            with(&|it| it.db.add_image(OWNER, digest)),
            true,
        ),
        ("unsigned", program.clone(), trusted.clone(), false),
        (
            "foreign",
            signed_program(&program, &lab.credential("foreign", "db")),
            trusted.clone(),
            false,
        ),
        // Who may change db may not start programs.
        (
            "by the KEK",
            signed_program(&program, &lab.credential("own", "KEK")),
            trusted.clone(),
            false,
        ),
        ("changed", changed, trusted, false),
        (
            "its digest in dbx",
            good.clone(),
            with(&|it| it.dbx.add_image(OWNER, digest)),
            false,
        ),
        (
            "its certificate in dbx",
            good.clone(),
            with(&|it| it.dbx.add_certificate(OWNER, own.certificate().der())),
            false,
        ),
        (
            "its certificate's digest in dbx",
            good.clone(),
            with(&|it| it.dbx = revoked(signed_part)),
            false,
        ),
    ];
    let chosen = cases.into_iter().filter(|(name, ..)| wanted.contains(name));
    let chosen: Vec<_> = chosen.collect();
    assert_eq!(chosen.len(), wanted.len());
    for (name, program, databases, starts) in chosen {
        // What we say of it without a machine is what firmware does.
        let size = program.len() as u64;
        let said = authenticode::verify(program.as_slice(), size, &databases.trust());
        assert_eq!(said.is_ok(), starts, "{name}: {said:?}");
        let mut vm = lab.start(databases, &boot_path(&program));
        match vm.wait_healthy(PATIENCE) {
            Ok(_) => assert!(starts, "{name}: {}", vm.console()),
            Err(VmError::NotHealthy { failure, .. }) => {
                assert!(!starts, "{name}: {failure}");
                assert_eq!(failure.kind, super::FailureKind::Refused, "{name}: {failure}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// An ESP with `loader/keys/auto`: systemd-boot makes the keys the firmware's, restarts, and is then held to them itself.
#[test]
#[ignore = "boots a machine twice"]
fn systemd_boot_enrols_the_keys() {
    let loader =
        testing::trixie_tools().map(|tools| tools.join("root/usr/lib/systemd/boot/efi/systemd-bootx64.efi"));
    let Some(loader) = loader.filter(|loader| loader.is_file()) else {
        testing::skip("systemd-boot 257 is missing");
        return;
    };
    let Some(lab) = Lab::enter() else { return };
    let (pk, kek, db) = (
        lab.credential("own", "PK"),
        lab.credential("own", "KEK"),
        lab.credential("own", "db"),
    );
    let signers = UpdateSigners {
        pk: Some(&pk),
        kek: Some(&kek),
    };
    let files = key_files(&lab.databases(), signers, None, SignatureTemplate::None).unwrap();
    let file = |name: &str| &files.iter().find(|(known, _)| known == name).unwrap().1;
    let loader = signed_program(&fs::read(loader).unwrap(), &db);
    let program = signed_program(&efi::program(HEALTHY, Then::Halt), &db);
    let disk = efi::disk_of(&[
        ("EFI/BOOT/BOOTX64.EFI", &loader),
        ("EFI/guest.efi", &program),
        ("loader/loader.conf", b"timeout 0\nsecure-boot-enroll if-safe\n"),
        ("loader/entries/guest.conf", b"title guest\nefi /EFI/guest.efi\n"),
        ("loader/keys/auto/PK.auth", file("PK.auth")),
        ("loader/keys/auto/KEK.auth", file("KEK.auth")),
        ("loader/keys/auto/db.auth", file("db.auth")),
    ]);
    let image = lab.0.path().join("setup.raw");
    fs::write(&image, disk).unwrap();
    let mut vm = Machine::new(&image)
        .acceleration(Acceleration::Tcg)
        .memory_mib(256)
        .cpus(1)
        .setup_mode(true)
        .keep(true)
        .reboots(true)
        .start()
        .unwrap();
    vm.wait_healthy(PATIENCE)
        .unwrap_or_else(|error| panic!("{error:?}\n{}", vm.console()));
    drop(vm);
    let kept = fs::read(lab.0.path().join("setup.raw.kept/variables")).unwrap();
    let store = hullwright::formats::efi::VariableStore::parse(kept).unwrap();
    assert!(store.enforces_secure_boot());
    for database in [Database::Pk, Database::Kek, Database::Db] {
        let stored = store.get(database.vendor(), database.name()).unwrap();
        assert_eq!(
            stored.data,
            lab.databases().get(database).to_bytes(),
            "{}",
            database.name()
        );
        assert_eq!(stored.time, lab.databases().time(database));
    }
}

#[test]
fn variables_that_enforce_nothing_are_refused() {
    let Some(lab) = Lab::enter() else { return };
    let empty = Ovmf::find(true).unwrap().vars;
    let disk = boot_path(&efi::program(HEALTHY, Then::Halt));
    let error = lab.machine(&empty, &disk).start().err().unwrap();
    assert!(matches!(error, VmError::NotEnforced { .. }), "{error}");
    // Nor does it in the format that Fedora keeps it in.
    if testing::tool("qemu-img").is_none() {
        return;
    }
    let qcow2 = lab.0.path().join("empty.qcow2");
    let converted = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([&empty, &qcow2])
        .status()
        .unwrap();
    assert!(converted.success());
    let error = lab.machine(&qcow2, &disk).start().err().unwrap();
    assert!(matches!(error, VmError::NotEnforced { .. }), "{error}");
    let noise = lab.0.path().join("noise");
    fs::write(&noise, [7; 5000]).unwrap();
    let error = lab.machine(&noise, &disk).start().err().unwrap();
    assert!(matches!(error, VmError::Variables { .. }), "{error}");
}
