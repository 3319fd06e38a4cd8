//! Held against virt-firmware, efitools and sbsigntool, with certificates that openssl makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::variable::attribute;
use super::*;
use crate::testing::{skip, tool};

const OWNER: &str = "11111111-2222-3333-4444-123456789abc";
const OWNER_GUID: Uuid = uuid::uuid!("11111111-2222-3333-4444-123456789abc");

/// Runs `command`, which must succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// A directory with `PK`, `KEK` and `db`: `.key`, `.crt` (PEM) and `.der`. `None` (said as a skip) without openssl.
fn keys() -> Option<TempDir> {
    let openssl = tool("openssl")?;
    let dir = tempfile::tempdir().unwrap();
    for name in ["PK", "KEK", "db"] {
        run(Command::new(&openssl)
            .current_dir(dir.path())
            .args([
                "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
            ])
            .args(["-subj", &format!("/CN=test {name}")])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]));
        run(Command::new(&openssl)
            .current_dir(dir.path())
            .args(["x509", "-outform", "DER"])
            .args(["-in", &format!("{name}.crt"), "-out", &format!("{name}.der")]));
    }
    Some(dir)
}

fn templates() -> Vec<PathBuf> {
    let names = [
        "OVMF_VARS_4M.fd",
        "OVMF_VARS_4M.ms.fd",
        "OVMF_VARS.fd",
        "OVMF_VARS.ms.fd",
    ];
    let found: Vec<_> = names
        .iter()
        .map(|name| Path::new("/usr/share/OVMF").join(name))
        .filter(|path| path.is_file())
        .collect();
    if found.is_empty() {
        skip("OVMF's variable stores are missing");
    }
    found
}

/// What virt-fw-vars reads out of a store, by name.
fn dump(virt: &Path, store: &Path) -> serde_json::Map<String, Value> {
    let output = run(Command::new(virt)
        .arg("-i")
        .arg(store)
        .args(["--output-json", "-"]));
    let parsed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let variables = parsed["variables"].as_array().unwrap().iter();
    variables
        .map(|variable| (variable["name"].as_str().unwrap().to_owned(), variable.clone()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_dumped(store: &VariableStore, dumped: &serde_json::Map<String, Value>) {
    assert_eq!(store.variables().len(), dumped.len());
    for variable in store.variables() {
        let seen = &dumped[&variable.name];
        assert_eq!(seen["guid"], variable.vendor.to_string(), "{}", variable.name);
        assert_eq!(seen["attr"], variable.attributes, "{}", variable.name);
        assert_eq!(seen["data"], hex(&variable.data), "{}", variable.name);
        let time = (variable.time != Time::ZERO).then(|| hex(&variable.time.0));
        assert_eq!(seen["time"].as_str(), time.as_deref(), "{}", variable.name);
    }
}

#[test]
fn stores_of_ovmf_are_read_as_virt_firmware_reads_them() {
    let Some(virt) = tool("virt-fw-vars") else { return };
    let mut seen = 0;
    for template in templates() {
        let store = VariableStore::parse(fs::read(&template).unwrap()).unwrap();
        assert_dumped(&store, &dump(&virt, &template));
        for name in ["PK", "KEK", "db", "dbx"] {
            let variable = store.variables().iter().find(|variable| variable.name == name);
            if let Some(variable) = variable {
                let database = SignatureDatabase::parse(&variable.data).unwrap();
                assert!(!database.is_empty());
                assert_eq!(database.to_bytes(), variable.data);
            }
        }
        // Written again, it says the same to both.
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), store.to_bytes().unwrap()).unwrap();
        assert_dumped(&store, &dump(&virt, file.path()));
        seen += store.variables().len();
    }
    assert!(seen > 20, "{seen}");
}

/// Variables added to an empty store stand as virt-firmware puts them there, but for their order.
#[test]
fn enrolled_stores_equal_those_of_virt_firmware() {
    let (Some(virt), Some(keys)) = (tool("virt-fw-vars"), keys()) else {
        return;
    };
    for template in templates() {
        let theirs = keys.path().join("theirs.fd");
        let pair = |name: &str| [OWNER.to_owned(), keys.path().join(name).display().to_string()];
        run(Command::new(&virt)
            .arg("-i")
            .arg(&template)
            .arg("--set-pk")
            .args(pair("PK.crt"))
            .arg("--add-kek")
            .args(pair("KEK.crt"))
            .arg("--add-db")
            .args(pair("db.crt"))
            .args(["--add-db-hash", OWNER, &"ab".repeat(32)])
            .arg("--sb")
            .arg("-o")
            .arg(&theirs));
        let theirs = VariableStore::parse(fs::read(theirs).unwrap()).unwrap();

        let mut store = VariableStore::parse(fs::read(&template).unwrap()).unwrap();
        let der = |name: &str| fs::read(keys.path().join(name)).unwrap();
        let mut put = |vendor: Uuid, name: &str, change: &dyn Fn(&mut SignatureDatabase), anew: bool| {
            let known = store.get(vendor, name).filter(|_| !anew);
            let mut database = known.map_or_else(SignatureDatabase::default, |known| {
                SignatureDatabase::parse(&known.data).unwrap()
            });
            change(&mut database);
            store.set(Variable {
                time: theirs.get(vendor, name).unwrap().time,
                ..Variable::new(vendor, name, attribute::SECURE_BOOT, database.to_bytes())
            });
        };
        let global = guid::GLOBAL_VARIABLE;
        put(
            global,
            "PK",
            &|list| list.add_certificate(OWNER_GUID, &der("PK.der")),
            true,
        );
        put(
            global,
            "KEK",
            &|list| list.add_certificate(OWNER_GUID, &der("KEK.der")),
            false,
        );
        let database = guid::IMAGE_SECURITY_DATABASE;
        let both = |list: &mut SignatureDatabase| {
            list.add_certificate(OWNER_GUID, &der("db.der"));
            list.add_image(OWNER_GUID, [0xab; 32]);
        };
        put(database, "db", &both, false);
        for name in ["PK", "KEK", "db"] {
            let of = |store: &VariableStore| {
                let found = store.variables().iter().find(|variable| variable.name == name);
                found.unwrap().clone()
            };
            assert_eq!(of(&store), of(&theirs), "{name} in {}", template.display());
        }
        assert_eq!(
            theirs
                .get(guid::SECURE_BOOT_ENABLE, "SecureBootEnable")
                .unwrap()
                .data,
            [1]
        );
        assert_eq!(theirs.get(guid::CUSTOM_MODE, "CustomMode").unwrap().data, [0]);
    }
}

#[test]
fn lists_equal_those_of_efitools() {
    let (Some(keys), Some(certificates), Some(images), Some(back)) = (
        keys(),
        tool("cert-to-efi-sig-list"),
        tool("hash-to-efi-sig-list"),
        tool("sig-list-to-certs"),
    ) else {
        return;
    };
    let place = |name: &str| keys.path().join(name);
    run(Command::new(certificates)
        .args(["-g", OWNER])
        .arg(place("db.crt"))
        .arg(place("cert.esl")));
    let mut database = SignatureDatabase::default();
    database.add_certificate(OWNER_GUID, &fs::read(place("db.der")).unwrap());
    assert_eq!(database.to_bytes(), fs::read(place("cert.esl")).unwrap());

    // Two images, whose digests share a list; and the digest is the one that sbsigntool and we sign.
    if let Some(stub) = find_stub() {
        run(Command::new(images).arg(&stub).arg(place("hash.esl")));
        let read = SignatureDatabase::parse(&fs::read(place("hash.esl")).unwrap()).unwrap();
        assert_eq!(read.images().count(), 1);
        assert_eq!(read.to_bytes(), fs::read(place("hash.esl")).unwrap());
        database.add_all(&read);
    }
    database.add_image(OWNER_GUID, [3; 32]);
    fs::write(place("all.esl"), database.to_bytes()).unwrap();
    run(Command::new(back).arg(place("all.esl")).arg(place("out")));
    assert_eq!(
        fs::read(place("out-0.der")).unwrap(),
        fs::read(place("db.der")).unwrap()
    );
}

fn find_stub() -> Option<PathBuf> {
    let stub = Path::new("/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let found = stub.is_file().then(|| stub.to_owned());
    if found.is_none() {
        skip("systemd's stub is missing");
    }
    found
}

/// `.auth` files of both signing tools are read, and what we would sign is what they signed, says openssl.
#[test]
fn updates_of_other_tools_are_read() {
    let (Some(keys), Some(openssl)) = (keys(), tool("openssl")) else {
        return;
    };
    let place = |name: &str| keys.path().join(name);
    let mut database = SignatureDatabase::default();
    database.add_certificate(OWNER_GUID, &fs::read(place("db.der")).unwrap());
    fs::write(place("db.esl"), database.to_bytes()).unwrap();
    for (program, options) in [
        (
            "sbvarsign",
            &[
                "--key", "KEK.key", "--cert", "KEK.crt", "--output", "db.auth", "db", "db.esl",
            ][..],
        ),
        (
            "sign-efi-sig-list",
            &[
                "-k",
                "KEK.key",
                "-c",
                "KEK.crt",
                "-t",
                "2026-01-02 03:04:05",
                "db",
                "db.esl",
                "db.auth",
            ][..],
        ),
    ] {
        let Some(program) = tool(program) else { return };
        run(Command::new(&program).current_dir(keys.path()).args(options));
        let bytes = fs::read(place("db.auth")).unwrap();
        let update = AuthenticatedUpdate::parse(&bytes).unwrap();
        assert_eq!(update.to_bytes(), bytes);
        assert_eq!(update.data, database.to_bytes());
        let attributes = match program.ends_with("sbvarsign") {
            true => attribute::SECURE_BOOT | attribute::APPEND,
            false => attribute::SECURE_BOOT,
        };
        if !program.ends_with("sbvarsign") {
            assert_eq!(update.time.to_string(), "2026-01-02T03:04:05Z");
        }
        let signed = AuthenticatedUpdate::signed_bytes(
            "db",
            guid::IMAGE_SECURITY_DATABASE,
            attributes,
            update.time,
            &update.data,
        );
        fs::write(place("signed"), signed).unwrap();
        fs::write(place("p7"), content_info(&update.signature)).unwrap();
        run(Command::new(&openssl)
            .current_dir(keys.path())
            .args([
                "smime", "-verify", "-binary", "-inform", "DER", "-in", "p7", "-content", "signed",
            ])
            .args(["-CAfile", "KEK.crt", "-purpose", "any", "-out", "/dev/null"]));
    }
}

/// `ContentInfo { signedData, [0] content }`, without which openssl reads nothing.
fn content_info(signed_data: &[u8]) -> Vec<u8> {
    use crate::formats::der::{OID, SEQUENCE, encode};
    let kind = encode(OID, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2]);
    encode(SEQUENCE, &[kind, encode(0xa0, signed_data)].concat())
}
