//! The sample RPM set against the Debian packages it was made from, and against rpm.

// Helpers of tests are tests too: a failure to start a program is one of theirs.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new("python3")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sample-set"))
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    assert!(
        done.status.success(),
        "{program}:\n{}",
        String::from_utf8_lossy(&text)
    );
}

#[test]
fn every_rpm_equals_its_debian_package_and_the_set_is_closed() {
    if support::tool("rpm").is_none() || support::tool("dpkg-deb").is_none() {
        return;
    }
    let Some(rpms) = support::sample_rpms() else {
        return;
    };
    run("check", &[rpms.to_str().unwrap()]);
}

#[test]
fn versions_relations_licences_and_specs_are_translated() {
    if support::tool("python3").is_none() {
        return;
    }
    run("test_sampleset.py", &[]);
}

#[test]
fn trixie_tools_come_first_and_a_missing_tool_is_a_skip() {
    let Some(tools) = support::trixie_tools() else {
        support::skip("the trixie tools are missing: run make setup");
        return;
    };
    assert_eq!(support::tool("mkfs.erofs"), Some(tools.join("bin/mkfs.erofs")));
    let version = Command::new(tools.join("bin/mkfs.erofs"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&version.stdout).contains("1.8"),
        "{version:?}"
    );
}
