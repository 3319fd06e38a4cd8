use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value as Json, json};

use super::*;
use crate::store::Digest;

const EMPTY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The sealed sample, with `more` and an escrow key of OpenSSL's with `bits`.
fn plan(dir: &Path, more: &str) -> Plan {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs");
    let text = format!(
        "extends = [\"{0}/sample-container-host.toml\", \"{0}/common/encrypted-root.toml\"]\n\
         [measured-boot]\nkey = \"pcr.key\"\n\
         [encryption.root]\nrecovery = {{ escrow = \"escrow.pem\" }}\n{more}",
        images.display()
    );
    let path = dir.join("image.toml");
    fs::write(&path, text).unwrap();
    crate::definition::load(&path).unwrap().plan
}

fn escrow_key(dir: &Path, arguments: &str) -> PathBuf {
    let key = dir.join("key");
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments.split_whitespace())
            .current_dir(dir)
            .output();
        assert!(output.unwrap().status.success(), "{arguments}");
    };
    openssl(&format!("{arguments} -out {}", key.display()));
    openssl("pkey -in key -pubout -out escrow.pem");
    dir.join("escrow.pem")
}

fn settings(tree: &Tree) -> String {
    let file = tree
        .file(&TreePath::literal("/etc/hullwright/root.conf"))
        .unwrap();
    String::from_utf8(file.blob.read_all().unwrap()).unwrap()
}

#[test]
fn the_initrd_is_told_what_it_must_measure_and_wrap_to() {
    if crate::testing::tool("openssl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pem = escrow_key(dir.path(), "genrsa");
    let told = settings(&overlay(&plan(dir.path(), "")).unwrap().unwrap());
    let fingerprint = hex(&signing::public_key(&pem).unwrap().fingerprint());
    assert_eq!(
        told,
        format!("PCR12={EMPTY}\nRECOVERY=escrow\nESCROW_KEY={fingerprint}\n")
    );

    // What lies on the ESP is appended in this order, and measured at once.
    let addons = "[[uki.addons]]\nname = \"b\"\ncmdline = [\"quiet\", \"x=1\"]\nplace = \"uki\"\n\
                  [[uki.addons]]\nname = \"c\"\ncmdline = [\"y\"]\nplace = \"loader\"\n\
                  [[uki.addons]]\nname = \"a\"\ncmdline = [\"beside\"]\n";
    let told = settings(&overlay(&plan(dir.path(), addons)).unwrap().unwrap());
    let text: Vec<u8> = "y quiet x=1\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let event = Digest::of(&text);
    let register = Digest::of(&[&[0; 32][..], &event.0].concat());
    assert!(told.starts_with(&format!("PCR12={register}\n")), "{told}");
}

#[test]
fn keys_that_nothing_can_be_wrapped_to_are_refused() {
    if crate::testing::tool("openssl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    escrow_key(dir.path(), "ecparam -genkey -noout -name prime256v1");
    let error = overlay(&plan(dir.path(), "")).err().unwrap().to_string();
    assert!(
        error.ends_with("is ECDSA P-256: no recovery key can be wrapped to it"),
        "{error}"
    );
}

#[test]
fn an_initrd_without_the_way_to_the_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), "");
    let initrd = Tree::new(Meta::root(0o755, 0));
    let error = check_initrd(&plan, &initrd).err().unwrap().to_string();
    for missing in [
        UNIT,
        "/usr/bin/openssl",
        "/usr/bin/jq",
        "libtss2-tcti-device.so.0",
    ] {
        assert!(error.contains(missing), "{error}");
    }
    let arguments = arguments(&plan).join(" ");
    assert!(
        arguments
            .starts_with("root=/dev/mapper/root rootfstype=ext4 systemd.image_policy=swap=unused+absent:")
    );
}

/// What systemd-repart 257 writes, with secrets shortened; and the public key that it names.
fn header() -> (Json, &'static str) {
    let slot = |kdf: Json, hash: &str| {
        json!({
            "type": "luks2", "key_size": 64,
            "af": { "type": "luks1", "stripes": 4000, "hash": hash },
            "area": { "type": "raw", "offset": "32768", "size": "258048", "encryption": "aes-xts-plain64", "key_size": 64 },
            "kdf": kdf,
        })
    };
    let argon = json!({ "type": "argon2id", "time": 4, "memory": 65536, "cpus": 2, "salt": "e4w=" });
    let pbkdf = json!({ "type": "pbkdf2", "hash": "sha512", "iterations": 1000, "salt": "e4w=" });
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n";
    let header = json!({
        "keyslots": { "0": slot(argon, "sha256"), "1": slot(pbkdf, "sha512") },
        "tokens": { "0": {
            "type": "systemd-tpm2", "keyslots": ["1"], "tpm2-blob": "AJ4A", "tpm2-pcrs": [7, 12, 15], "tpm2-pcr-bank": "sha256",
            "tpm2-primary-alg": "ecc", "tpm2-policy-hash": "46f8", "tpm2-pin": false, "tpm2_pubkey_pcrs": [11],
            "tpm2_pubkey": "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUlJQgotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K", "tpm2_srk": "gQAA",
        } },
        "segments": { "0": {
            "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0", "encryption": "aes-xts-plain64", "sector_size": 512,
        } },
        "digests": { "0": {
            "type": "pbkdf2", "keyslots": ["0", "1"], "segments": ["0"], "hash": "sha256", "iterations": 3393, "salt": "c1M=", "digest": "Ay0=",
        } },
        "config": { "json_size": "12288", "keyslots_size": "16744448" },
    });
    (header, pem)
}

/// What the initrd's jq says of `header`; `None` where it is not of the form at all.
fn judged(header: &Json, pem: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let units = "systemd-units/initrd-root-first-boot/usr/lib/hullwright/luks-header.jq";
    let output = Command::new("jq")
        .args(["-r", "--rawfile", "public"])
        .arg(write("public.pem", pem))
        .arg("-f")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(units))
        .arg(write("header.json", &header.to_string()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| said.trim_end().to_owned())
}

#[test]
fn headers_that_repart_does_not_write_are_told_apart() {
    if crate::testing::tool("jq").is_none() {
        return;
    }
    let (header, pem) = header();
    assert_eq!(judged(&header, pem).as_deref(), Some(""));
    // Wrapped otherwise, it is the same key.
    assert_eq!(judged(&header, &pem.replace('\n', "\r\n")).as_deref(), Some(""));

    let null = json!("cipher_null-ecb");
    let cases = [
        (
            "/segments/0/encryption",
            null.clone(),
            "the cipher is \"cipher_null-ecb\"",
        ),
        (
            "/segments/0/encryption",
            json!("aes-cbc-essiv:sha256"),
            "the cipher is \"aes-cbc",
        ),
        ("/segments/0/type", json!("linear"), "the segment's type"),
        ("/segments/0/offset", json!("0"), "the segment's offset"),
        ("/segments/0/size", json!("4096"), "the segment's size"),
        ("/segments/0/flags", json!(["backup-final"]), "integrity is true"),
        (
            "/segments/0/integrity",
            json!({ "type": "none" }),
            "integrity is true",
        ),
        (
            "/segments/1",
            header["segments"]["0"].clone(),
            "the number of segments is 2",
        ),
        (
            "/keyslots/1/area/encryption",
            null,
            "a keyslot's cipher is \"cipher_null-ecb\"",
        ),
        ("/keyslots/0/key_size", json!(32), "the key's size is 32"),
        (
            "/keyslots/0/area/key_size",
            json!(32),
            "a keyslot's key size is 32",
        ),
        ("/keyslots/0/type", json!("reencrypt"), "a keyslot's type"),
        (
            "/keyslots/0/kdf/type",
            json!("none"),
            "a keyslot's KDF is \"none\"",
        ),
        ("/keyslots/0/af/stripes", json!(1), "a keyslot's stripes"),
        ("/digests/0/keyslots", json!(["0"]), "the digest's keyslots"),
        ("/digests/0/segments", json!([]), "the digest's segments"),
        (
            "/tokens/1",
            json!({ "type": "systemd-fido2", "keyslots": ["0"] }),
            "the tokens is",
        ),
        (
            "/tokens/0/type",
            json!("systemd-recovery"),
            "the tokens is [\"systemd-recovery\"]",
        ),
        ("/tokens/0/tpm2-pcrs", json!([]), "the token's PCRs is []"),
        ("/tokens/0/tpm2-pcrs", json!([7]), "the token's PCRs is [7]"),
        ("/tokens/0/tpm2-pcr-bank", json!("sha1"), "the token's PCR bank"),
        ("/tokens/0/tpm2_pubkey_pcrs", json!([]), "the token's signed PCRs"),
        ("/tokens/0/tpm2_pubkey", json!("LS0t"), "another PCR key"),
        (
            "/config/requirements",
            json!({ "mandatory": ["online-reencrypt"] }),
            "requirements is",
        ),
    ];
    for (place, value, expected) in cases {
        let mut altered = header.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        altered.pointer_mut(parent).unwrap()[name] = value;
        let said = judged(&altered, pem).unwrap();
        assert!(said.contains(expected), "{place}: {said}");
    }
    for gone in ["keyslots", "tokens", "segments", "digests"] {
        let mut altered = header.clone();
        altered.as_object_mut().unwrap().remove(gone);
        assert_ne!(judged(&altered, pem).as_deref(), Some(""), "{gone}");
        altered[gone] = json!({});
        assert_ne!(judged(&altered, pem).as_deref(), Some(""), "{gone}");
        altered[gone] = json!("text");
        assert_ne!(judged(&altered, pem).as_deref(), Some(""), "{gone}");
    }
}
