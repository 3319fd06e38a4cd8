//! Packages made by rpmbuild for one test.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::oracle::packages;

/// Built packages, in a directory that goes with it.
pub struct Built {
    pub directory: TempDir,
}

impl Built {
    pub fn packages(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for arch in ["noarch", "i686", "x86_64"] {
            let directory = self.directory.path().join("RPMS").join(arch);
            if directory.is_dir() {
                all.extend(packages(&directory));
            }
        }
        all
    }
}

/// A package: name, then lines of its preamble (`Requires: x`), where `File:`, `Dir:`, `Ghost:` and `Link: path target`
/// are what it holds.
pub type Recipe<'a> = (&'a str, &'a [&'a str]);

/// Builds `recipes`, all by one call of rpmbuild, for `target` (an architecture, or `noarch`).
pub fn build(rpmbuild: &Path, into: &Built, target: &str, recipes: &[Recipe<'_>]) {
    let top = into.directory.path();
    let mut spec = String::from(
        "Name: base\nVersion: 1\nRelease: 1\nSummary: s\nLicense: l\nAutoReqProv: no\n%description\nd\n",
    );
    let mut install = String::from("%install\n");
    let mut files = String::new();
    for (name, lines) in recipes {
        writeln!(spec, "%package -n {name}\nSummary: s\nAutoReqProv: no").unwrap();
        writeln!(files, "%files -n {name}").unwrap();
        for line in *lines {
            let (key, value) = line.split_once(": ").unwrap();
            let (path, target) = value.split_once(' ').unwrap_or((value, ""));
            let made = format!("%{{buildroot}}{path}");
            match key {
                "File" | "Ghost" => {
                    writeln!(install, "mkdir -p $(dirname {made}); echo x > {made}").unwrap();
                    let ghost = if key == "Ghost" { "%ghost " } else { "" };
                    writeln!(files, "{ghost}{path}").unwrap();
                }
                "Dir" => {
                    writeln!(install, "mkdir -p {made}").unwrap();
                    writeln!(files, "%dir {path}").unwrap();
                }
                "Link" => {
                    writeln!(install, "mkdir -p $(dirname {made}); ln -sfn {target} {made}").unwrap();
                    writeln!(files, "{path}").unwrap();
                }
                _ => writeln!(spec, "{line}").unwrap(),
            }
        }
        writeln!(spec, "%description -n {name}\nd").unwrap();
    }
    let path = top.join("test.spec");
    fs::write(&path, format!("{spec}{install}{files}")).unwrap();
    let output = Command::new(rpmbuild)
        .args(["-bb", "--target", target, "--quiet", "--nodeps"])
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .args(["--define", "__os_install_post %{nil}"])
        .args(["--define", "_unpackaged_files_terminate_build 0"])
        .arg(&path)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Nothing built yet.
pub fn empty() -> Built {
    Built {
        directory: tempfile::tempdir().unwrap(),
    }
}
