//! Signatures of what firmware starts.

use std::fs;

use uuid::Uuid;

use super::fixture::{self, Parts};
use super::{Options, Outcome, Report, Subject, failing, findings, verify};
use crate::firmware::{Database, Databases, OWNER};
use crate::formats::authenticode::{append, digest, prepare, scan};
use crate::formats::efi::SignatureDatabase;
use crate::measure::Firmware;
use crate::signing::{Algorithm, Certificate, NewKey, Signer as _, generate, self_signed};

pub fn credential(name: &str) -> (NewKey, Certificate) {
    let key = generate(Algorithm::P256).unwrap();
    let certificate = self_signed(&key.key, name, (0, 4_000_000_000), true).unwrap();
    (key, certificate)
}

pub fn sign(program: &[u8], key: &NewKey, certificate: &Certificate) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), program).unwrap();
    let scanned = scan(file.as_file(), program.len() as u64).unwrap();
    let prepared = prepare(&scanned.sha256, certificate, &[]);
    let message = prepared.attach(&key.key.sign(prepared.to_sign()).unwrap());
    let out = fs::File::options()
        .read(true)
        .write(true)
        .open(file.path())
        .unwrap();
    append(&scanned, &message, &out).unwrap();
    fs::read(file.path()).unwrap()
}

fn outcome(report: &Report) -> Outcome {
    let mut checked = report.checked.iter();
    checked
        .find(|checked| checked.check.name == "signatures")
        .unwrap()
        .outcome()
}

#[test]
fn signatures_are_held_against_certificates() {
    let (key, db) = credential("db");
    let (_, other) = credential("other");
    let signer = db.clone();
    let image = fixture::build(move |parts: &mut Parts| {
        parts.sign = Box::new(move |program| sign(&program, &key, &signer));
    });
    let nothing = SignatureDatabase::default();
    let report = |certificates: &[&Certificate], forbidden: &SignatureDatabase| {
        let options = Options {
            certificates: certificates.iter().map(|one| (*one).clone()).collect(),
            forbidden: forbidden.clone(),
            ..Options::default()
        };
        verify(&Subject::open(&image.directory(), &options).unwrap())
    };

    let good = report(&[&other, &db], &nothing);
    assert_eq!(
        (failing(&good), outcome(&good)),
        (vec![], Outcome::Holds),
        "{good}"
    );
    assert!(
        good.to_string().contains("EFI/BOOT/BOOTX64.EFI by CN=db"),
        "{good}"
    );

    // Nobody is named to believe in: that is said.
    let open = report(&[], &nothing);
    assert_eq!((failing(&open), outcome(&open)), (vec![], Outcome::NotChecked));
    assert!(
        open.to_string()
            .contains("give the certificates of db with `--cert FILE`"),
        "{open}"
    );

    let foreign = report(&[&other], &nothing);
    assert_eq!(failing(&foreign), ["signatures"], "{foreign}");
    let text = findings(&foreign, "signatures");
    assert_eq!(
        text.matches("firmware with these certificates refuses it: none of its signatures counts")
            .count(),
        2,
        "{text}"
    );

    let mut dbx = SignatureDatabase::default();
    dbx.add_certificate(Uuid::nil(), db.der());
    let text = findings(&report(&[&db], &dbx), "signatures");
    assert_eq!(text.matches("dbx forbids the certificate").count(), 2, "{text}");

    let uki = fs::read(image.file("efi")).unwrap();
    let mut dbx = SignatureDatabase::default();
    dbx.add_image(Uuid::nil(), digest(&uki, uki.len() as u64).unwrap());
    let text = findings(&report(&[&db], &dbx), "signatures");
    assert!(
        text.contains("dbx forbids this image by its digest [image_1.raw, partition 1, EFI/Linux/"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");

    // A changed byte, with and without a certificate.
    let initrd = image.find("raw", &fixture::marker()[100..164]);
    image.flip("raw", initrd);
    for certificates in [&[&db][..], &[]] {
        let changed = report(certificates, &nothing);
        assert!(failing(&changed).contains(&"signatures"), "{changed}");
        let text = findings(&changed, "signatures");
        assert!(
            text.contains("was changed after it was signed") && text.contains("EFI/Linux/image_1+3.efi"),
            "{text}"
        );
    }
}

#[test]
fn an_unsigned_program_is_refused_where_a_certificate_is_given() {
    let (_, db) = credential("db");
    let image = fixture::build(|_| {});
    let options = Options {
        certificates: vec![db],
        ..Options::default()
    };
    let report = verify(&Subject::open(&image.directory(), &options).unwrap());
    assert_eq!(failing(&report), ["signatures"]);
    let text = findings(&report, "signatures");
    assert_eq!(text.matches("it is not signed").count(), 2, "{text}");
}

#[test]
fn registers_by_firmware_with_the_images_keys_are_computed_again() {
    let (key, db) = credential("db");
    let signer = db.clone();
    let image = fixture::build(move |parts: &mut Parts| {
        parts.sign = Box::new(move |program| sign(&program, &key, &signer));
        parts.manifest = |manifest| {
            let name = Firmware::SECURE_BOOT_ON;
            let wrong = serde_json::json!({ "firmware": name, "sha256": { "7": "00" }, "sha384": {} });
            manifest["pcrs"]["firmware"].as_array_mut().unwrap().push(wrong);
        };
    });
    let report = || verify(&Subject::open(&image.directory(), &Options::default()).unwrap());
    // Without the keys nobody can tell.
    let unknown = report();
    assert_eq!(failing(&unknown), [""; 0], "{unknown}");
    assert!(
        unknown.to_string().contains("`ovmf-secure-boot-on` not computed"),
        "{unknown}"
    );

    let keys = image.directory().join("secure-boot");
    fs::create_dir(&keys).unwrap();
    let mut databases = Databases::default();
    for database in [Database::Pk, Database::Kek, Database::Db] {
        databases.get_mut(database).add_certificate(OWNER, db.der());
        let path = keys.join(format!("{}.esl", database.name()));
        fs::write(path, databases.get(database).to_bytes()).unwrap();
    }
    let found = report();
    assert_eq!(failing(&found), ["pcrs"], "{found}");
    let text = findings(&found, "pcrs");
    assert!(
        text.contains("PCR 7 (sha256) comes to") && text.contains("by firmware `ovmf-secure-boot-on`"),
        "{text}"
    );
    assert!(!found.to_string().contains("not computed"), "{found}");
}
