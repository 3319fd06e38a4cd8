//! `hullwright rpm verify` and what a build says of signatures.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{real_rpms, tool};

fn hullwright(arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullwright"));
    command.args(arguments).output().unwrap()
}

/// A key and a package that it signed.
fn centos(real: &Path) -> (PathBuf, PathBuf) {
    let package = real.join("distro/zlib-1.2.7-17.el7.x86_64.rpm");
    (real.join("../keys/RPM-GPG-KEY-CentOS-7"), package)
}

#[test]
fn verify_says_what_holds_and_exits_by_it() {
    let Some(real) = real_rpms() else { return };
    let (key, package) = centos(&real);
    let verify = |more: &[&Path]| {
        let output = hullwright(&[&[Path::new("rpm"), Path::new("verify")], more].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = verify(&[&package, Path::new("--key"), &key]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("ok ") && text.contains("6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5"),
        "{text}"
    );

    let (code, text) = verify(&[&package]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("signed by key 24C6A8A7F4A80EB5, which is not listed"),
        "{text}"
    );

    let directory = real.join("features");
    let (code, text) = verify(&[
        &package,
        &directory,
        Path::new("--json"),
        Path::new("--key"),
        &key,
    ]);
    assert_eq!(code, Some(1));
    let values: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let count = fs::read_dir(&directory).unwrap().count();
    assert_eq!(values.len(), count + 1);
    assert_eq!(values[0]["ok"], true);
    assert_eq!(values[0]["verdict"], "signed");
    let of = |file: &str| {
        let mut values = values.iter();
        values
            .find(|value| value["file"].as_str().is_some_and(|path| path.ends_with(file)))
            .unwrap()
    };
    assert_eq!(of("signed_broken.rpm")["verdict"], "damaged");
    assert_eq!(of("capstest-1.0-1.noarch.rpm")["verdict"], "unsigned");
    assert_eq!(
        of("/signed.rpm")["key_ids"],
        serde_json::json!(["E279209BBB65A216"])
    );
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// Source packages, whole and damaged, before `hullwright` and before `rpmkeys -K`.
#[test]
fn source_packages_are_verified_as_rpm_verifies_them() {
    let (Some(build), Some(sign), Some(keys), Some(gpg)) =
        (tool("rpmbuild"), tool("rpmsign"), tool("rpmkeys"), tool("gpg"))
    else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let spec = "Name: demo\nVersion: 1\nRelease: 2\nSummary: s\nLicense: MIT\nSource0: text\n%description\nd\n%files\n";
    fs::write(at("demo.spec"), spec).unwrap();
    fs::write(at("text"), "a source\n".repeat(100)).unwrap();
    let define = |name: &str| format!("{name} {}", place.path().display());
    run(Command::new(build)
        .args(["-bs", "--quiet", "--define", &define("_topdir")])
        .args([
            "--define",
            &define("_sourcedir"),
            "--define",
            &define("_srcrpmdir"),
        ])
        .arg(at("demo.spec")));
    let package = at("demo-1-2.src.rpm");
    let verify = |path: &Path, key: &[&Path]| {
        let head: [&Path; 3] = [Path::new("rpm"), Path::new("verify"), path];
        let output = hullwright(&[&head, key].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = verify(&package, &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with("BAD ") && text.contains("it is not signed"),
        "{text}"
    );

    let home = at("gpg");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink("/dev/null", home.join("gpg-agent.conf")).unwrap();
    let unattended = [
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ];
    let gpg_command = || {
        let mut command = Command::new(&gpg);
        command.env("GNUPGHOME", &home).args(unattended);
        command
    };
    let name = "sources@example.org";
    run(gpg_command().args(["--quick-generate-key", name, "rsa2048", "sign", "0"]));
    let key = at("key");
    run(gpg_command()
        .args(["--export", "--armor", "--output"])
        .arg(&key)
        .arg(name));
    run(Command::new(&keys)
        .arg("--dbpath")
        .arg(at("db"))
        .arg("--import")
        .arg(&key));
    run(Command::new(&sign)
        .args(["--define", &format!("__gpg {}", gpg.display())])
        .args(["--define", &format!("_gpg_path {}", home.display())])
        .args(["--define", &format!("_gpg_name {name}"), "--addsign"])
        .arg(&package));
    let (code, text) = verify(&package, &[Path::new("--key"), &key]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(name), "{text}");

    let whole = fs::read(&package).unwrap();
    let header = whole
        .windows(4)
        .rposition(|bytes| bytes == [0x8e, 0xad, 0xe8, 1])
        .unwrap();
    for change in [None, Some(header + 300), Some(whole.len() - 1)] {
        let mut bytes = whole.clone();
        if let Some(at) = change {
            bytes[at] ^= 0x10;
        }
        fs::write(&package, bytes).unwrap();
        let (code, text) = verify(&package, &[Path::new("--key"), &key]);
        let theirs = Command::new(&keys)
            .arg("--dbpath")
            .arg(at("db"))
            .arg("-K")
            .arg(&package)
            .output()
            .unwrap();
        assert_eq!(
            code == Some(0),
            theirs.status.success(),
            "byte {change:?}: {text}"
        );
        assert_eq!(code == Some(0), change.is_none(), "byte {change:?}: {text}");
    }
    // It is no package of an image.
    let output = hullwright(&[Path::new("rpm"), Path::new("files"), &package]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_build_without_keys_is_refused() {
    let Some(real) = real_rpms() else { return };
    let (key, package) = centos(&real);
    let place = tempfile::TempDir::new().unwrap();
    let set = place.path().join("set");
    fs::create_dir(&set).unwrap();
    fs::copy(&package, set.join("zlib.rpm")).unwrap();
    fs::copy(
        real.join("features/capstest-1.0-1.noarch.rpm"),
        set.join("capstest.rpm"),
    )
    .unwrap();
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.toml");
    let build = |more: &[&Path]| {
        let out = place.path().join("out");
        let store = place.path().join("store");
        let fixed = [
            Path::new("build"),
            &definition,
            Path::new("--rpms"),
            &set,
            Path::new("--out"),
            &out,
            Path::new("--store"),
            &store,
        ];
        let output = hullwright(&[&fixed, more].concat());
        assert_eq!(output.status.code(), Some(1));
        let lines = String::from_utf8(output.stderr).unwrap();
        lines.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = build(&[]);
    assert!(
        text.contains("no key is listed that packages may be signed by"),
        "{text}"
    );
    let text = build(&[Path::new("--key"), &key]);
    assert!(text.contains("1 package is not signed: capstest.rpm"), "{text}");
    assert!(!text.contains("zlib.rpm"), "{text}");
}
