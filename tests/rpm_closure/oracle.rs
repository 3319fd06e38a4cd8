//! The verdicts of `hullwright rpm closure` and of `rpm`, in one form.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Lines such as `libx is needed by y-1-1.noarch`.
pub type Verdict = BTreeSet<String>;

/// A directory with links to `packages`.
pub fn directory(packages: &[PathBuf]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for package in packages {
        let name = package.file_name().unwrap();
        symlink(package, directory.path().join(name)).unwrap();
    }
    directory
}

/// What `hullwright rpm closure --json` says of `source`, as it stands.
pub fn closure(source: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hullwright"))
        .args(["rpm", "closure", "--json"])
        .arg(source)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    assert_eq!(output.status.code(), Some(i32::from(value["closed"] != true)));
    value
}

/// What `hullwright` says, in RPM's words.
pub fn hullwright(source: &Path) -> Verdict {
    let report = closure(source);
    let mut verdict = Verdict::new();
    for problem in report["problems"].as_array().unwrap() {
        let text = |key: &str| problem[key].as_str().unwrap().to_owned();
        match problem["kind"].as_str().unwrap() {
            "open" => {
                for wanter in problem["wanted_by"].as_array().unwrap() {
                    let package = wanter["package"].as_str().unwrap();
                    verdict.insert(format!("{} is needed by {package}", text("requirement")));
                }
            }
            "conflict" => {
                verdict.insert(format!("{} conflicts with {}", text("conflict"), text("package")));
            }
            "obsoleted" => {
                verdict.insert(format!("{} left out for {}", text("package"), text("by")));
            }
            kind => {
                verdict.insert(format!("{kind}: {}", text("reason")));
            }
        }
    }
    verdict
}

/// What `rpm` says of installing `packages` into an empty root. Packages that it leaves out in favour of others are
/// lines, too.
pub fn rpm(rpm: &Path, packages: &[PathBuf]) -> Verdict {
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], packages: &[PathBuf]| {
        let output = Command::new(rpm)
            .arg("--root")
            .arg(root.path())
            .args(arguments)
            .args(packages)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    run(&["--initdb"], &[]);
    let said = run(
        &["-iv", "--test", "--nosignature", "--nodigest", "--replacefiles"],
        packages,
    );
    let mut verdict = Verdict::new();
    for line in said.lines().map(str::trim) {
        if [" is needed by ", " conflicts with ", " is obsoleted by "]
            .iter()
            .any(|words| line.contains(words))
        {
            verdict.insert(line.to_owned());
        } else if let Some((first, second)) = replaced(line) {
            verdict.insert(format!("{first} left out for {second}"));
        } else {
            let known = ["error: Failed dependencies:", "rpm: "];
            assert!(known.iter().any(|known| line.starts_with(known)), "{line}");
        }
    }
    verdict
}

/// Of `warning: package A was already added, skipping B` (or `replacing with B`): what goes, and for what.
fn replaced(line: &str) -> Option<(&str, &str)> {
    let (first, rest) = line
        .strip_prefix("warning: package ")?
        .split_once(" was already added, ")?;
    match rest.strip_prefix("skipping ") {
        Some(second) => Some((second, first)),
        None => Some((first, rest.strip_prefix("replacing with ")?)),
    }
}

/// The packages of a directory, sorted.
pub fn packages(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut packages: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect();
    packages.sort();
    packages
}
