//! Packages and keys of real distributions, and RPM's own verdict on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::fixture::file_name;
use crate::rpmset::Package;
use crate::rpmset::signature::{Keyring, Policy, Verdict, verify};
use crate::testing::{real_rpms, skip, tool};

/// The keys beside the packages; their absence is reported as a skipped test.
fn keys(real: &Path) -> Option<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(real.join("../keys")) else {
        skip("../shared/keys is not here");
        return None;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    Some(paths)
}

/// Our verdict in the words of `rpmkeys --checksig`.
fn in_words_of_rpm(path: &Path, keyring: &Keyring) -> &'static str {
    let verdict = Package::open(path).and_then(|package| {
        package.check_payload()?;
        verify(&package, keyring, &Policy::default())
    });
    match verdict {
        Ok(Verdict::Signed { .. }) => "digests signatures OK",
        Ok(Verdict::Unsigned) => "digests OK",
        Ok(_) => "digests SIGNATURES NOT OK",
        // It is damaged: no more is said of its signatures, though RPM does.
        Err(_) => "DIGESTS NOT OK",
    }
}

fn damaged(words: &str) -> bool {
    words.starts_with("DIGESTS")
}

#[test]
fn the_verdict_on_every_real_package_is_that_of_rpm() {
    let Some(real) = real_rpms() else { return };
    let Some(keys) = keys(&real) else { return };
    let keyring = Keyring::read(&keys).unwrap();
    assert_eq!(keyring.certificates().len(), 11, "two are in one file");
    let table = std::fs::read_to_string(real.join("CASES.tsv")).unwrap();
    let mut tally = BTreeMap::new();
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        let (file, expected) = (columns[0], columns[3]);
        let found = in_words_of_rpm(&real.join(file), &keyring);
        if damaged(expected) {
            assert!(damaged(found), "{file}: {found}, and RPM says {expected}");
        } else {
            assert_eq!(found, expected, "{file}");
        }
        *tally.entry(found).or_insert(0) += 1;
    }
    assert_eq!(tally.values().sum::<i32>(), table.lines().count() as i32 - 1);
    assert!(tally["digests signatures OK"] >= 14, "{tally:?}");
}

#[test]
fn without_its_key_no_real_package_is_signed() {
    let Some(real) = real_rpms() else { return };
    let keyring = Keyring::read(&[]).unwrap();
    let mut unknown = 0;
    for entry in std::fs::read_dir(real.join("distro")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(package) = Package::open(&path) else {
            continue;
        };
        match verify(&package, &keyring, &Policy::default()).unwrap() {
            Verdict::Unsigned => {}
            Verdict::Unknown { key_ids } => unknown += usize::from(!key_ids.is_empty()),
            other => panic!("{}: {other}", file_name(&path)),
        }
    }
    assert_eq!(unknown, 18);
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// Signs a real unsigned package with keys that `gpg` makes, changes bytes here and there, and asks both.
#[test]
fn rpm_agrees_on_packages_that_its_own_tools_sign() {
    let Some(real) = real_rpms() else { return };
    let (Some(gpg), Some(rpmsign)) = (tool("gpg"), tool("rpmsign")) else {
        return;
    };
    let (Some(rpmkeys), Some(newer)) = (tool("rpmkeys"), tool("rpmkeys-4.20")) else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let home = directory.path().join("gpg");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink("/dev/null", home.join("gpg-agent.conf")).unwrap();
    let gpg_command = || {
        let mut command = Command::new(&gpg);
        command.env("GNUPGHOME", &home).args([
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        command
    };
    // RPM 4.18 with its own parser knows RSA and DSA; it signs with Ed25519 without being able to
    // check that, and refuses to sign with ECDSA. 4.20 leaves it all to Sequoia.
    for (algorithm, rpmkeys) in [
        ("rsa2048", &rpmkeys),
        ("dsa2048", &rpmkeys),
        ("rsa3072", &newer),
        ("ed25519", &newer),
    ] {
        let name = format!("{algorithm}@example.org");
        run(gpg_command().args(["--quick-generate-key", &name, algorithm, "sign", "0"]));
        let key = directory.path().join(algorithm);
        run(gpg_command()
            .args(["--export", "--armor", "--output"])
            .arg(&key)
            .arg(&name));
        let keyring = Keyring::read(std::slice::from_ref(&key)).unwrap();
        assert_eq!(keyring.certificates()[0].user_id, name);
        let database = directory.path().join(format!("{algorithm}.db"));
        run(Command::new(rpmkeys)
            .arg("--dbpath")
            .arg(&database)
            .arg("--import")
            .arg(&key));
        let signed = directory.path().join(format!("{algorithm}.rpm"));
        std::fs::copy(real.join("features/rpm-basic-2.3.4-5.el9.noarch.rpm"), &signed).unwrap();
        let mut permissions = std::fs::metadata(&signed).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(&signed, permissions).unwrap();
        run(Command::new(&rpmsign)
            .args(["--define", &format!("__gpg {}", gpg.display())])
            .args(["--define", &format!("_gpg_path {}", home.display())])
            .args(["--define", &format!("_gpg_name {name}"), "--rpmv3", "--addsign"])
            .arg(&signed));
        assert_eq!(
            in_words_of_rpm(&signed, &keyring),
            "digests signatures OK",
            "{algorithm}"
        );

        let whole = std::fs::read(&signed).unwrap();
        let range = Package::open(&signed).unwrap().preamble.header_range;
        let changes = [
            None,
            Some(range.start + 40),
            Some(range.end - 9),
            Some(range.end + 3),
            Some(whole.len() as u64 - 1),
        ];
        for change in changes {
            let mut bytes = whole.clone();
            if let Some(at) = change {
                bytes[at as usize] ^= 0x10;
            }
            std::fs::write(&signed, bytes).unwrap();
            let ours = in_words_of_rpm(&signed, &keyring);
            assert_eq!(damaged(ours), change.is_some(), "{algorithm}, byte {change:?}");
            let output = Command::new(rpmkeys)
                .arg("--dbpath")
                .arg(&database)
                .arg("-K")
                .arg(&signed)
                .output();
            let theirs = String::from_utf8(output.unwrap().stdout).unwrap();
            let good = theirs.trim_end().ends_with("digests signatures OK");
            assert_eq!(
                ours == "digests signatures OK",
                good,
                "{algorithm}, byte {change:?}: {theirs}"
            );
        }
    }
    run(Command::new("gpgconf")
        .env("GNUPGHOME", &home)
        .args(["--kill", "all"]));
}
