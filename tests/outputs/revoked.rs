//! Keys that are revoked by the definition, and nothing else about it, change: what is made for firmware follows.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{answer, bytes, program};
use crate::signed::{build, definition, hullwright};
use crate::support::image::{output_directory, output_file, sample_image};
use crate::support::tool;

/// What differs from the sample is only sealed.
const TABLES: &str = r#"
[outputs]
formats = ["raw"]
[secure-boot]
db = { key = "keys/db.key", cert = "keys/db.pem" }
pk = "keys/PK.pem"
kek = "keys/KEK.pem"
dbx = ["revoked.pem"]
"#;

/// PCR 7 (SHA-256) as firmware with the image's keys measures it.
fn register(directory: &Path) -> String {
    let manifest: Value =
        serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    let firmware = manifest["pcrs"]["firmware"].as_array().unwrap();
    let on = firmware
        .iter()
        .find(|one| one["firmware"] == "ovmf-secure-boot-on");
    on.unwrap()["sha256"]["7"].as_str().unwrap().to_owned()
}

#[test]
fn another_revoked_certificate_alone_is_followed() {
    if tool("openssl").is_none() || sample_image().is_none() {
        return;
    }
    let directory = crate::run::scratch();
    let at = |name: &str| directory.path().join(name);
    let path = definition(directory.path(), TABLES);
    let unchanged = "Nothing has changed since it was built";
    let mut registers = Vec::new();
    let mut kernels = Vec::new();
    for name in ["verity", "KEK"] {
        let certificate = at("keys").join(format!("{name}.pem"));
        fs::copy(&certificate, at("revoked.pem")).unwrap();
        let said = answer(&mut build(&path, &at("out")).unwrap());
        assert!(!said.contains(unchanged), "{name}: {said}");
        let out = output_directory(&at("out"));
        let mut der = program("openssl", ["x509", "-outform", "DER", "-in"]).unwrap();
        let der = bytes(der.arg(&certificate));
        let revoked = fs::read(out.join("secure-boot/dbx.esl")).unwrap();
        assert!(revoked.ends_with(&der), "{name}");
        // One list of one certificate: its head, and the owner.
        assert_eq!(revoked.len(), 28 + 16 + der.len(), "{name}");
        registers.push(register(&out));
        kernels.push(fs::read(output_file(&out, ".efi")).unwrap());
        let said = answer(hullwright().arg("verify").arg(&out));
        assert!(!said.contains("not computed"), "{said}");

        let said = answer(&mut build(&path, &at("out")).unwrap());
        assert!(said.contains(unchanged), "{name}: {said}");
    }
    assert_ne!(registers[0], registers[1]);
    assert!(kernels[0] == kernels[1]);
}
