//! Keys that openssl makes, enrolled beside virt-firmware, and told to Azure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;
use uuid::{Uuid, uuid};

use super::*;
use crate::formats::at::Content;
use crate::formats::authenticode;
use crate::formats::efi::{SignatureDatabase, Time, Variable, VariableStore, guid};
use crate::formats::pe::tests::sample_stub;
use crate::signing::{Credential, DevelopmentSet, KeySource};
use crate::testing::{skip, tool};

const OWNER_TEXT: &str = "11111111-2222-3333-4444-123456789abc";
const OWNER_GUID: Uuid = uuid!("11111111-2222-3333-4444-123456789abc");
const TEMPLATE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// `PK.crt`, `kek.pem` and `db.der`, valid from three days on. `None` (said as a skip) without tools.
fn keys() -> Option<TempDir> {
    let (openssl, faketime) = (tool("openssl")?, tool("faketime")?);
    let dir = tempfile::tempdir().unwrap();
    for (name, form, day) in [("PK.crt", "PEM", 1), ("kek.pem", "PEM", 2), ("db.der", "DER", 3)] {
        let made = Command::new(&faketime)
            .arg(format!("2025-03-0{day} 04:05:06"))
            .arg(&openssl)
            .current_dir(dir.path())
            .env("TZ", "UTC")
            .args([
                "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
            ])
            .args([
                "-subj",
                "/CN=test",
                "-keyout",
                "private.key",
                "-outform",
                form,
                "-out",
                name,
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    Some(dir)
}

fn template() -> Option<PathBuf> {
    let found = Path::new(TEMPLATE).is_file().then(|| PathBuf::from(TEMPLATE));
    if found.is_none() {
        skip(&format!("{TEMPLATE} is missing"));
    }
    found
}

fn sorted(store: &[u8]) -> Vec<Variable> {
    let mut variables = VariableStore::parse(store.to_vec()).unwrap().variables().to_vec();
    variables.sort_by(|one, other| one.name.cmp(&other.name));
    variables
}

#[test]
fn an_enrolled_store_is_the_one_that_virt_firmware_makes() {
    let (Some(keys), Some(template), Some(virt)) = (keys(), template(), tool("virt-fw-vars")) else {
        return;
    };
    let theirs = keys.path().join("theirs.fd");
    let mut command = Command::new(virt);
    command
        .arg("-i")
        .arg(&template)
        .arg("-o")
        .arg(&theirs)
        .arg("--sb");
    for (option, name) in [
        ("--set-pk", "PK.crt"),
        ("--add-kek", "kek.pem"),
        ("--add-db", "db.der"),
    ] {
        command.args([option, OWNER_TEXT]).arg(keys.path().join(name));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let theirs = fs::read(theirs).unwrap();

    let databases = read_directory(keys.path(), OWNER_GUID).unwrap();
    let time = databases.time(Database::Db).to_string();
    assert!(time.starts_with("2025-03-03T04:05:"), "{time}");
    let mut enrolment = Enrolment {
        databases,
        ..Enrolment::default()
    };
    let ours = enroll(&template, &enrolment).unwrap();
    assert_eq!(sorted(&ours), sorted(&theirs));
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours[0x40000..], theirs[0x40000..], "journal and spare area");
    assert!(VariableStore::parse(ours).unwrap().enforces_secure_boot());
    assert!(
        !VariableStore::parse(fs::read(&template).unwrap())
            .unwrap()
            .enforces_secure_boot()
    );

    // The same once more on top of it changes nothing; another time does.
    let place = keys.path().join("enrolled.fd");
    fs::write(&place, &theirs).unwrap();
    enrolment.append = true;
    assert_eq!(sorted(&enroll(&place, &enrolment).unwrap()), sorted(&theirs));
    enrolment.time = Some(Time::from_unix(1_800_000_000));
    let later = sorted(&enroll(&place, &enrolment).unwrap());
    assert!(
        later
            .iter()
            .any(|variable| variable.name == "dbx" && variable.time.fields().0 == 2027)
    );
}

#[test]
fn appending_keeps_what_the_template_has() {
    let (Some(keys), Some(_)) = (keys(), template()) else {
        return;
    };
    let template = Path::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    let databases = read_directory(keys.path(), OWNER_GUID).unwrap();
    let count = |append: bool, database: Database| {
        let enrolment = Enrolment {
            databases: databases.clone(),
            append,
            time: None,
        };
        let store = VariableStore::parse(enroll(template, &enrolment).unwrap()).unwrap();
        let variable = store.get(database.vendor(), database.name()).unwrap();
        SignatureDatabase::parse(&variable.data)
            .unwrap()
            .entries()
            .count()
    };
    assert_eq!(Database::ALL.map(|database| count(false, database)), [1, 1, 1, 1]);
    let before = VariableStore::parse(fs::read(template).unwrap()).unwrap();
    let known = |database: Database| {
        let data = &before.get(database.vendor(), database.name()).unwrap().data;
        SignatureDatabase::parse(data).unwrap().entries().count()
    };
    assert_eq!(count(true, Database::Pk), 1);
    assert_eq!(count(true, Database::Kek), known(Database::Kek) + 1);
    assert_eq!(count(true, Database::Db), known(Database::Db) + 1);
    assert_eq!(count(true, Database::Dbx), known(Database::Dbx));
}

#[test]
fn azure_is_told_what_it_takes() {
    let Some(keys) = keys() else { return };
    let mut databases = read_directory(keys.path(), OWNER).unwrap();
    databases.dbx.add_image(OWNER, [0xff; 32]);
    let der = databases.db.certificates().next().unwrap().to_vec();
    assert_eq!(der, fs::read(keys.path().join("db.der")).unwrap());
    let settings = uefi_settings(&databases, SignatureTemplate::None).unwrap();
    assert_eq!(settings["signatureTemplateNames"][0], "NoSignatureTemplate");
    let signatures = &settings["additionalSignatures"];
    assert_eq!(signatures["pk"]["type"], "x509");
    let pk = signatures["pk"]["value"][0].as_str().unwrap();
    assert_eq!(
        BASE64.decode(pk).unwrap(),
        databases.pk.certificates().next().unwrap()
    );
    assert_eq!(signatures["kek"][0]["type"], "x509");
    assert_eq!(signatures["db"][0]["value"][0], BASE64.encode(&der));
    assert_eq!(
        signatures["dbx"],
        serde_json::json!([{ "type": "sha256", "value": ["//////////////////////////////////////////8="] }])
    );

    let beside = uefi_settings(&databases, SignatureTemplate::MicrosoftUefi).unwrap();
    assert_eq!(
        beside["signatureTemplateNames"][0],
        "MicrosoftUefiCertificateAuthorityTemplate"
    );
    assert!(beside["additionalSignatures"].get("pk").is_none());
    assert_eq!(beside["additionalSignatures"]["db"], signatures["db"]);

    let entry = [&[1; 32][..], &[0; 16]].concat();
    let mut list = guid::CERT_X509_SHA256.to_bytes_le().to_vec();
    list.extend([92, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0]);
    list.extend(OWNER.to_bytes_le());
    list.extend(entry);
    databases.dbx = SignatureDatabase::parse(&list).unwrap();
    let error = uefi_settings(&databases, SignatureTemplate::None).unwrap_err();
    assert!(
        error.to_string().contains("the digest of a certificate"),
        "{error}"
    );
}

#[test]
fn keys_that_cannot_be_enrolled_are_refused() {
    let Some(keys) = keys() else { return };
    let whole = read_directory(keys.path(), OWNER).unwrap();
    let with = |change: &dyn Fn(&mut Databases)| {
        let mut databases = whole.clone();
        change(&mut databases);
        databases.check().unwrap_err().to_string()
    };
    let none = SignatureDatabase::default;
    let db = whole.db.certificates().next().unwrap();
    let cases = [
        (with(&|it| it.pk = none()), "no certificate for PK"),
        (with(&|it| it.kek = none()), "no certificate for KEK"),
        (with(&|it| it.db = none()), "no certificate for db"),
        (with(&|it| it.pk.add_certificate(OWNER, db)), "PK holds 2 entries"),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message}");
    }

    let place = |name: &str| keys.path().join(name);
    let error = || read_directory(keys.path(), OWNER).unwrap_err().to_string();
    fs::write(place("KEK.pem"), "").unwrap();
    assert!(error().contains("are both for KEK"), "{}", error());
    fs::remove_file(place("KEK.pem")).unwrap();
    fs::write(place("dbx.esl"), "what").unwrap();
    assert!(error().contains("neither a certificate nor"), "{}", error());
    fs::write(place("dbx.esl"), whole.db.to_bytes()).unwrap();
    assert_eq!(read_directory(keys.path(), OWNER).unwrap().dbx, whole.db);
    let empty = tempfile::tempdir().unwrap();
    let error = read_directory(empty.path(), OWNER).unwrap_err();
    assert!(error.to_string().contains("holds no keys"), "{error}");

    let enrolment = Enrolment {
        databases: whole,
        ..Enrolment::default()
    };
    let error = enroll(&place("db.der"), &enrolment).unwrap_err();
    assert!(matches!(error, FirmwareError::Store { .. }), "{error}");
}

/// As `sign-efi-sig-list` signs it, byte for byte.
#[test]
fn updates_are_those_of_efitools() {
    let Some(tool) = tool("sign-efi-sig-list") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let set = DevelopmentSet {
        name: "Test".into(),
        bits: 2048,
        ec: false,
        now: 1_750_000_000,
    };
    set.write(dir.path()).unwrap();
    let databases = read_directory(dir.path(), OWNER).unwrap();
    let place = |name: &str| dir.path().join(name);
    let open = |name: &str| {
        let key = KeySource::File(place(&format!("{name}.key")));
        Credential::open(&key, &place(&format!("{name}.pem"))).unwrap().0
    };
    let (pk, kek) = (open("PK"), open("KEK"));
    let signers = UpdateSigners {
        pk: Some(&pk),
        kek: Some(&kek),
    };
    let files = key_files(&databases, signers, None, SignatureTemplate::None).unwrap();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "PK.esl",
        "PK.auth",
        "KEK.esl",
        "KEK.auth",
        "db.esl",
        "db.auth",
        "uefi-settings.json",
    ];
    assert_eq!(names, expected);
    for (name, bytes) in &files {
        fs::write(place(name), bytes).unwrap();
    }
    for (database, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
        let time = databases.time(Database::Db).to_string();
        let signed = Command::new(&tool)
            .current_dir(dir.path())
            .env("TZ", "UTC")
            .args(["-k", &format!("{signer}.key"), "-c", &format!("{signer}.pem")])
            .args(["-t", &time.replace('T', " ").replace('Z', "")])
            .args([database, &format!("{database}.esl"), "theirs.auth"])
            .output()
            .unwrap();
        assert!(signed.status.success(), "{signed:?}");
        let ours = fs::read(place(&format!("{database}.auth"))).unwrap();
        assert!(ours == fs::read(place("theirs.auth")).unwrap(), "{database}");
    }
    // What was signed is read as what it was made of.
    for ending in ["pem", "esl"] {
        for name in ["PK", "KEK", "db"] {
            fs::remove_file(place(&format!("{name}.{ending}"))).unwrap();
        }
    }
    assert_eq!(read_directory(dir.path(), OWNER_GUID).unwrap(), databases);

    let swapped = UpdateSigners {
        pk: Some(&kek),
        kek: None,
    };
    let error = key_files(&databases, swapped, None, SignatureTemplate::None).unwrap_err();
    assert!(error.to_string().contains("is not in PK"), "{error}");
}

#[test]
fn a_build_leaves_what_firmware_needs() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let set = DevelopmentSet {
        name: "Test".into(),
        bits: 2048,
        ec: false,
        now: 1_750_000_000,
    };
    set.write(&place("own")).unwrap();
    set.write(&place("foreign")).unwrap();
    let credential = |set: &str, name: &str| {
        let file = |ending: &str| place(set).join(format!("{name}.{ending}"));
        Credential::open(&KeySource::File(file("key")), &file("pem"))
            .unwrap()
            .0
    };
    let databases = read_directory(&place("own"), OWNER).unwrap();
    let (pk, kek) = (credential("own", "PK"), credential("own", "KEK"));
    let signers = UpdateSigners {
        pk: Some(&pk),
        kek: Some(&kek),
    };
    fs::create_dir(place("auto")).unwrap();
    for (name, bytes) in key_files(&databases, signers, None, SignatureTemplate::None).unwrap() {
        fs::write(place("auto").join(name), bytes).unwrap();
    }

    let (own, foreign) = (place("own"), place("foreign"));
    let certificate = |set: &Path, name: &str| set.join(format!("{name}.pem"));
    let (db, pk, kek) = (
        certificate(&own, "db"),
        certificate(&own, "PK"),
        certificate(&own, "KEK"),
    );
    let auto = place("auto");
    let keys = ImageKeys {
        db: Some(&db),
        pk: Some(&pk),
        kek: Some(&kek),
        ..ImageKeys::default()
    };
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let plain = keys.files().unwrap();
    assert_eq!(
        names(&plain.output),
        ["KEK.esl", "PK.esl", "db.esl", "uefi-settings.json"].map(|name| format!("secure-boot/{name}"))
    );
    assert!(plain.esp.is_empty());
    let enrolled = ImageKeys {
        auto_enroll: Some(&auto),
        ..keys
    };
    let files = enrolled.files().unwrap();
    assert_eq!(
        names(&files.esp),
        ["PK.auth", "KEK.auth", "db.auth"].map(|name| format!("loader/keys/auto/{name}"))
    );
    assert!(plain.output.iter().all(|file| files.output.contains(file)));
    assert_eq!(files.output.len(), plain.output.len() + 3);
    assert!(ImageKeys { kek: None, ..keys }.files().unwrap().output.is_empty());

    // The kernel believes what firmware's db has.
    let verity = certificate(&own, "verity");
    let by_kernel = ImageKeys {
        verity: Some(&verity),
        ..keys
    };
    let believed = by_kernel.files().unwrap().databases.db;
    let certificates =
        [&db, &verity].map(|path| crate::signing::certificates(path).unwrap()[0].der().to_vec());
    assert!(believed.certificates().eq(certificates.iter().map(Vec::as_slice)));

    let other = certificate(&foreign, "db");
    let revoked = [db.as_path()];
    let cases = [
        (
            ImageKeys {
                db: Some(&other),
                ..enrolled
            },
            "lacks a key that the definition names for db",
        ),
        (
            ImageKeys {
                verity: Some(&verity),
                ..enrolled
            },
            "lacks a key that the definition names for db",
        ),
        (
            ImageKeys {
                auto_enroll: Some(&own),
                ..keys
            },
            "PK.auth cannot be read",
        ),
        (
            ImageKeys {
                dbx: &revoked,
                ..keys
            },
            "revokes the certificate",
        ),
        (
            ImageKeys {
                dbx: &revoked,
                ..enrolled
            },
            "dbx.auth cannot be read",
        ),
    ];
    for (keys, part) in cases {
        let error = keys.files().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    fs::write(auto.join("db.auth"), "what").unwrap();
    let error = enrolled.files().unwrap_err().to_string();
    assert!(error.contains("db.auth cannot be enrolled"), "{error}");
}

/// What PCR 7 is told to hold depends on both.
#[test]
fn the_entry_of_db_that_vouches_for_a_program_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let set = DevelopmentSet {
        name: "Test".into(),
        bits: 2048,
        ec: false,
        now: 1_750_000_000,
    };
    set.write(&place("own")).unwrap();
    let credential = |name: &str| {
        let file = |ending: &str| place("own").join(format!("{name}.{ending}"));
        let key = KeySource::File(file("key"));
        Credential::open(&key, &file("pem")).unwrap().0
    };
    let (own, other) = (credential("db"), credential("KEK"));
    let mut databases = Databases::default();
    databases.db.add_certificate(OWNER, other.certificate().der());
    databases.db.add_image(OWNER, [7; 32]);
    databases.db.add_certificate(OWNER_GUID, own.certificate().der());

    let program = sample_stub("program");
    let scanned = authenticode::scan(program.as_slice(), program.len() as u64).unwrap();
    let prepared = authenticode::prepare(&scanned.sha256, own.certificate(), own.chain());
    let message = prepared.attach(&own.sign(prepared.to_sign()).unwrap());
    let signed = place("signed");
    fs::write(&signed, &program).unwrap();
    let file = fs::File::options().read(true).write(true).open(&signed).unwrap();
    authenticode::append(&scanned, &message, &file).unwrap();
    let signed = fs::read(signed).unwrap();

    let entry = [&OWNER_GUID.to_bytes_le()[..], own.certificate().der()].concat();
    assert_eq!(databases.voucher(&Content::bytes(&signed)), Some(entry.clone()));
    assert_eq!(databases.voucher(&Content::bytes(&program)), None);
    assert_eq!(databases.entry_of(own.certificate().der()), Some(entry));
    databases.db = SignatureDatabase::default();
    databases.db.add_certificate(OWNER, other.certificate().der());
    assert_eq!(databases.voucher(&Content::bytes(&signed)), None);

    let enrolled = databases.enrolled();
    assert!(databases.dbx.is_empty() && enrolled.dbx.images().count() == 1);
    assert_eq!(enrolled.contents()[2], databases.db.to_bytes());
    assert_eq!(enrolled.enrolled(), enrolled);
}
