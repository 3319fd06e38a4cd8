//! For tests only: packages made by rpmbuild, and what rpm itself does with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rpmset::{Package, RpmSet};
use crate::testing::{skip, tool};

/// Builds every package of `spec`, whose preamble names package `set`, and reads them as a set. `None` where rpmbuild is
/// missing.
pub fn build(directory: &Path, sections: &str) -> Option<RpmSet> {
    let rpmbuild = tool("rpmbuild")?;
    let spec = directory.join("set.spec");
    let preamble =
        "Name: set\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%description\nd\n";
    fs::write(&spec, format!("{preamble}{sections}")).unwrap();
    let built = Command::new(rpmbuild)
        .args(["-bb", "--quiet", "--define", "_build_id_links none", "--define"])
        .arg(format!("_topdir {}", directory.join("top").display()))
        .arg(&spec)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    Some(RpmSet::load(&directory.join("top/RPMS/noarch")).unwrap())
}

/// A root with nothing but a shell, in which scriptlets can run.
pub fn root_with_shell(directory: &Path) -> Option<PathBuf> {
    let busybox = tool("busybox")?;
    let bytes = fs::read(&busybox).unwrap();
    if bytes.windows(14).any(|window| window == b"/ld-linux-x86-") {
        skip("busybox is not static");
        return None;
    }
    let root = directory.join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(busybox, root.join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("sh", root.join("bin/cat")).unwrap();
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::create_dir_all(root.join("var/tmp")).unwrap();
    Some(root)
}

/// Installs `packages` into `root` by rpm 4.20, all in one transaction, in the order in which they are given.
pub fn install(root: &Path, packages: &[Package]) -> Option<()> {
    // Older ones order by wishes as by needs, and tell file triggers nothing.
    let rpm = tool("rpm-4.20")?;
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(&rpm)
    } else {
        let mut command = Command::new(tool("unshare")?);
        command.arg("--map-root-user").arg(&rpm);
        command
    };
    let done = command
        .arg("--root")
        .arg(root)
        .args(["-i", "--nosignature", "--nodeps"])
        .args(packages.iter().map(|package| &package.path))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    Some(())
}
