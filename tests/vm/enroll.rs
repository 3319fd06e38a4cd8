//! `hullwright keys enroll-ovmf` and `boot --secure-boot`: what they write, and what they say when something is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use hullwright::vm::Ovmf;
use serde_json::Value;

use super::testing;

fn hullwright(place: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hullwright"))
        .current_dir(place)
        .args(arguments)
        .output()
        .unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn stores_and_files_are_written() {
    let Some(virt) = testing::tool("virt-fw-vars") else {
        return;
    };
    if let Err(error) = Ovmf::find(true) {
        testing::skip(&error.to_string());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    done(&hullwright(place, &["keys", "init", "keys"]));
    let enroll = ["keys", "enroll-ovmf", "--keys", "keys"];
    let digest = format!("sha256:{}", "0a".repeat(32));
    let options = [
        "--dbx",
        &digest,
        "--time",
        "2026-11-21",
        "-o",
        "vars.fd",
        "--files",
        "out",
    ];
    let said = done(&hullwright(place, &[&enroll[..], &options].concat()));
    assert!(said.contains("vars.fd") && said.contains("dbx.auth"), "{said}");

    let output = Command::new(virt)
        .args(["-i", "vars.fd", "--output-json", "-"])
        .current_dir(place)
        .output();
    let dumped: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let variables = dumped["variables"].as_array().unwrap();
    let names: Vec<_> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["PK", "KEK", "db", "dbx", "SecureBootEnable", "CustomMode"]
    );
    for variable in &variables[..4] {
        let list = fs::read(place.join(format!("out/{}.esl", variable["name"].as_str().unwrap()))).unwrap();
        let hex: String = list.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(variable["data"], hex);
        // 2026 is 0x07ea.
        assert_eq!(variable["time"], "ea070b15000000000000000000000000");
    }
    assert!(variables[3]["data"].as_str().unwrap().ends_with(&"0a".repeat(32)));
    let settings: Value =
        serde_json::from_slice(&fs::read(place.join("out/uefi-settings.json")).unwrap()).unwrap();
    assert_eq!(settings["additionalSignatures"]["dbx"][0]["type"], "sha256");

    // What was written can be read again, and is the same; without private keys there is nothing signed.
    let again = [
        "keys",
        "enroll-ovmf",
        "--keys",
        "out",
        "--time",
        "2026-11-21",
        "-o",
        "again.fd",
        "--files",
        "again",
    ];
    let output = hullwright(place, &again);
    done(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the private key of PK was not given"));
    assert_eq!(
        fs::read(place.join("vars.fd")).unwrap(),
        fs::read(place.join("again.fd")).unwrap()
    );
    assert!(!place.join("again/PK.auth").exists() && place.join("again/PK.esl").exists());
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    done(&hullwright(place, &["keys", "init", "keys"]));
    fs::write(place.join("os.raw"), [0; 4096]).unwrap();
    fs::create_dir(place.join("empty")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (
            &["keys", "enroll-ovmf", "--pk", "keys/PK.pem", "--files", "out"],
            "no certificate for KEK is given",
        ),
        (
            &["keys", "enroll-ovmf", "--keys", "empty", "--files", "out"],
            "empty holds no keys",
        ),
        (
            &[
                "keys",
                "enroll-ovmf",
                "--keys",
                "keys",
                "--dbx",
                "sha256:12",
                "--files",
                "out",
            ],
            "is no SHA-256 digest",
        ),
        (
            &[
                "keys",
                "enroll-ovmf",
                "--keys",
                "keys",
                "--pk-key",
                "keys/KEK.key",
                "--files",
                "out",
            ],
            "does not belong to the certificate",
        ),
        (
            &[
                "keys",
                "enroll-ovmf",
                "--keys",
                "keys",
                "--vars",
                "os.raw",
                "-o",
                "out.fd",
            ],
            "does not begin with a firmware volume",
        ),
        (
            &["boot", "os.raw", "--secure-boot"],
            "the build left no Secure Boot keys beside the image",
        ),
        (
            &["boot", "os.raw", "--secure-boot", "--keys", "empty"],
            "empty holds no keys",
        ),
    ];
    for (arguments, part) in cases {
        let said = refused(&hullwright(place, arguments));
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert!(!place.join("out.fd").exists() && !place.join("out").exists());
}
