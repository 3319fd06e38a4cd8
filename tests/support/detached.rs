//! Keys that are elsewhere, in the hands of plain openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::image::said;

/// What a definition says of the keys of a development set in `keys` beside it: that they are elsewhere, or at hand.
pub fn tables(at_hand: bool) -> String {
    // A private key stands before its certificate, or in the place of its public key.
    let before = |name: &str, end: &str| match at_hand {
        true => format!("key = \"keys/{name}.key\"{end}"),
        false => String::new(),
    };
    let alone = |name: &str| match at_hand {
        true => before(name, ""),
        false => format!("public = \"keys/{name}.pem\""),
    };
    format!(
        r#"
[secure-boot]
db = {{ {}cert = "keys/db.pem" }}
pk = "keys/PK.pem"
kek = "keys/KEK.pem"
[verity]
signature = "kernel"
{}cert = "keys/verity.pem"
[measured-boot]
{}
[commit]
{}
[release]
{}cert = "keys/db.pem"
[[uki.addons]]
name = "console"
cmdline = ["console=ttyS1"]
place = "beside"
"#,
        before("db", ", "),
        before("verity", "\n"),
        alone("pcr"),
        alone("commit"),
        before("db", "\n"),
    )
}

/// Private keys by the fingerprint that requests name them by: SHA-256 of the public key.
pub fn keys(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for name in ["db", "verity", "pcr", "commit"] {
        let key = directory.join(format!("keys/{name}.key"));
        let der = directory.join("spki.der");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-pubout", "-outform", "DER", "-in"]);
        answer(openssl.arg(&key).arg("-out").arg(&der));
        let sum = answer(Command::new("sha256sum").arg("--").arg(&der));
        found.push((sum[..64].to_owned(), key));
    }
    found
}

/// Signs all of the request in `place` by the commands that it gives.
pub fn sign(place: &Path, keys: &[(String, PathBuf)]) -> Vec<String> {
    let request: Value = serde_json::from_slice(&fs::read(place.join("request.json")).unwrap()).unwrap();
    let entries = request["signatures"].as_array().unwrap();
    let mut signed = Vec::new();
    for entry in entries {
        let (_, key) = keys.iter().find(|(print, _)| *print == entry["key"]).unwrap();
        let command = entry["openssl"]
            .as_str()
            .unwrap()
            .replace("KEY", key.to_str().unwrap());
        let words: Vec<&str> = command.split(' ').collect();
        answer(Command::new(words[0]).args(&words[1..]).current_dir(place));
        signed.push(entry["of"].as_str().unwrap().to_owned());
    }
    signed
}

fn answer(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}
