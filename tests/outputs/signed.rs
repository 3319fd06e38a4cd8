//! An image whose parts are all signed, by sbverify, osslsigncode, openssl, jq and ostree; and what is not signed with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{answer, json, program};
use crate::support::image::sample_store;
use crate::support::{sample_rpms, tool};

const STEM: &str = "sample-container-host_13.20261121";
const TOOLS: [&str; 7] = [
    "sbverify",
    "osslsigncode",
    "openssl",
    "ostree",
    "mcopy",
    "objcopy",
    "sfdisk",
];

pub fn hullwright() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullwright"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// A definition over the sample's with keys of a development set beside it.
pub fn definition(directory: &Path, tables: &str) -> PathBuf {
    let keys = directory.join("keys");
    if !keys.exists() {
        answer(hullwright().args(["keys", "init", "--name", "Test"]).arg(&keys));
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.toml");
    let path = directory.join("signed.toml");
    let ids = sample.with_extension("ids.lock");
    let text = format!("extends = [{sample:?}]\n[os]\nids = {ids:?}\n{tables}");
    fs::write(&path, text).unwrap();
    path
}

pub fn build(definition: &Path, out: &Path) -> Option<Command> {
    let rpms = sample_rpms()?;
    let mut command = hullwright();
    command.arg("build").arg(definition).arg("--rpms").arg(&rpms);
    command
        .arg("--key")
        .arg(rpms.join("RPM-GPG-KEY-hullwright-sample"))
        .arg("--out")
        .arg(out)
        .arg("--store")
        .arg(sample_store());
    Some(command)
}

const SIGNED: &str = r#"
[secure-boot]
db = { key = "keys/db.key", cert = "keys/db.pem" }
pk = "keys/PK.pem"
kek = "keys/KEK.pem"
[verity]
signature = "kernel"
corruption = "panic"
algorithm = "sha512"
key = "keys/verity.key"
cert = "keys/verity.pem"
[commit]
key = "keys/commit.key"
"#;

#[test]
#[ignore = "builds the sample image once more"]
fn everything_is_signed_and_independent_programs_agree() {
    if !TOOLS.iter().all(|name| tool(name).is_some()) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let definition = definition(directory.path(), SIGNED);
    let Some(mut command) = build(&definition, &at("out")) else {
        return;
    };
    answer(&mut command);
    let out = at("out").join(STEM);
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let signatures = manifest["signatures"].as_array().unwrap();
    let listed: Vec<_> = signatures
        .iter()
        .map(|signature| (signature["of"].as_str().unwrap(), signature["subject"].as_str()))
        .collect();
    let uki = format!("{STEM}.efi");
    assert_eq!(
        listed,
        [
            ("EFI/BOOT/BOOTX64.EFI", Some("CN=Test Signature Database")),
            (uki.as_str(), Some("CN=Test Signature Database")),
            ("usr-root-hash", Some("CN=Test Verity")),
            ("commit", None),
        ]
    );

    // Programs: the UKI, and the loader as it lies on the ESP.
    let raw = out.join(format!("{STEM}.raw"));
    let table = json(program("sfdisk", ["--json"]).unwrap().arg(&raw));
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let start = |index: usize| partitions[index]["start"].as_u64().unwrap() * 512;
    let image = format!("{}@@{}", raw.display(), start(0));
    let loader = at("loader.efi");
    answer(
        program("mcopy", ["-i", &image, "::EFI/BOOT/BOOTX64.EFI"])
            .unwrap()
            .arg(&loader),
    );
    for (name, file) in [("EFI/BOOT/BOOTX64.EFI", &loader), (uki.as_str(), &out.join(&uki))] {
        let text = answer(
            program("sbverify", ["--cert"])
                .unwrap()
                .arg(at("keys/db.pem"))
                .arg(file),
        );
        assert_eq!(text.trim(), "Signature verification OK", "{name}");
        let foreign = program("sbverify", ["--cert"])
            .unwrap()
            .arg(at("keys/PK.pem"))
            .arg(file)
            .output()
            .unwrap();
        assert!(!foreign.status.success(), "{name}");
        let text = program("osslsigncode", ["verify", "-CAfile"]).unwrap();
        let text = { text }
            .arg(at("keys/db.pem"))
            .arg("-in")
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&text.stdout).to_lowercase();
        let digest = signatures
            .iter()
            .find(|signature| signature["of"] == name)
            .unwrap()["digest"]
            .as_str()
            .unwrap();
        assert!(
            text.contains(digest) && text.contains("signature verification: ok"),
            "{name}: {text}"
        );
    }

    // The root hash: in the partition, and on the command line.
    let hash = manifest["usr_root_hash"].as_str().unwrap();
    assert_eq!(hash.len(), 128);
    fs::write(at("hash"), hash).unwrap();
    let types: Vec<_> = partitions
        .iter()
        .map(|partition| partition["type"].as_str().unwrap())
        .collect();
    assert_eq!(types[3], "E7BB33FB-06CF-4E81-8273-E543B413E2E2");
    let disk = fs::File::open(&raw).unwrap();
    let mut bytes = vec![0; 1 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&disk, &mut bytes, start(3)).unwrap();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    assert!(bytes[end..].iter().all(|&byte| byte == 0));
    let said: Value = serde_json::from_slice(&bytes[..end]).unwrap();
    assert_eq!(said["rootHash"], hash);
    fs::write(at("base64"), said["signature"].as_str().unwrap()).unwrap();
    answer(
        program("openssl", ["base64", "-d", "-A", "-in"])
            .unwrap()
            .arg(at("base64"))
            .arg("-out")
            .arg(at("p7")),
    );
    answer(
        program("openssl", ["x509", "-outform", "DER", "-in"])
            .unwrap()
            .arg(at("keys/verity.pem"))
            .arg("-out")
            .arg(at("der")),
    );
    let sum = answer(program("sha256sum", ["--"]).unwrap().arg(at("der")));
    assert_eq!(said["certificateFingerprint"], sum[..64]);
    for command in ["smime", "cms"] {
        let mut verify = program(
            "openssl",
            [
                command, "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-in",
            ],
        )
        .unwrap();
        verify.arg(at("p7")).arg("-content").arg(at("hash"));
        verify
            .arg("-certfile")
            .arg(at("keys/verity.pem"))
            .arg("-CAfile")
            .arg(at("keys/verity.pem"));
        assert_eq!(answer(&mut verify), hash, "{command}");
    }
    let cmdline = manifest["kernel"]["command_line"].as_str().unwrap();
    let option = format!(
        "systemd.verity_usr_options=panic-on-corruption,root-hash-signature=base64:{}",
        said["signature"].as_str().unwrap()
    );
    assert!(cmdline.split(' ').any(|argument| argument == option), "{cmdline}");
    assert!(cmdline.contains(" dm_verity.require_signatures=1 "), "{cmdline}");

    // The commit.
    let repo = out.join("repo");
    let commit = manifest["commit"]["checksum"].as_str().unwrap();
    answer(program("ostree", ["fsck", "--repo"]).unwrap().arg(&repo));
    let metadata = program(
        "ostree",
        [
            "show",
            "--print-detached-metadata-key=ostree.sign.ed25519",
            commit,
            "--repo",
        ],
    );
    let metadata = answer(metadata.unwrap().arg(&repo));
    assert!(
        metadata.starts_with("[[byte 0x") || metadata.starts_with("[b"),
        "{metadata}"
    );
    // How it is printed depends on its last byte. Of type `aay`, with one element: the bytes, and where they end.
    let object = |ending: &str| {
        let name = format!("{}.{ending}", &commit[2..]);
        repo.join("objects").join(&commit[..2]).join(name)
    };
    let bytes = fs::read(object("commitmeta")).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\0aay").unwrap() - 1;
    assert_eq!(bytes[end], 64);
    let bytes = &bytes[end - 64..end];
    fs::write(at("signature"), bytes).unwrap();
    let mut verify = program("openssl", ["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).unwrap();
    verify
        .arg(at("keys/commit.pem"))
        .arg("-in")
        .arg(object("commit"))
        .arg("-sigfile")
        .arg(at("signature"));
    assert_eq!(answer(&mut verify).trim(), "Signature Verified Successfully");
}

#[test]
fn keys_that_do_not_fit_stop_a_build_before_it_begins() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (tables, says) in [
        (
            "[secure-boot]\ndb = { key = 'keys/db.key', cert = 'keys/PK.pem' }\n",
            "does not belong to the certificate `CN=Test Platform Key`",
        ),
        (
            "[secure-boot]\ndb = { key = 'keys/absent.key', cert = 'keys/PK.pem' }\n",
            "absent.key cannot be read",
        ),
        (
            "[commit]\nkey = 'keys/db.key'\n",
            "ostree's signatures are Ed25519",
        ),
        (
            "[secure-boot]\ndb = { key = 'pkcs11:object=db?module-path=/nowhere.so', cert = 'keys/db.pem' }\n",
            "loading /nowhere.so",
        ),
        (
            "[image]\nreleased = 2010-01-01\nversion = '1'\n[secure-boot]\ndb = { key = 'keys/db.key', cert = 'keys/db.pem' }\n",
            "is valid from 20",
        ),
    ] {
        let definition = definition(directory.path(), tables);
        let Some(mut command) = build(&definition, &at("out")) else {
            return;
        };
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let words: Vec<_> = text.split_whitespace().filter(|word| *word != "│").collect();
        assert!(
            !output.status.success() && words.join(" ").contains(says),
            "{says}: {text}"
        );
        assert!(!at("out").join(STEM).exists());
    }
}
