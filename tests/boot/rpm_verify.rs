//! RPM's own verdict on a booted machine, by an RPM that it is given for the purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hullwright::vm::Machine;
use tempfile::TempDir;

use crate::lab::{GROW, Lab, PATIENCE, variant};
use crate::support::{rpm_verify, skip, tool};

/// Where the machine gets RPM: gone at its next boot, owned by no package.
const PLACE: &str = "/run/rpm-4.20";

/// RPM 4.20 with its loader, libraries and configuration, as a tar file. `None` (said as a skip) without it.
fn rpm_to_take_along() -> Option<(TempDir, PathBuf)> {
    let Some(root) = std::env::var_os("HULLWRIGHT_TRIXIE_TOOLS").map(|tools| Path::new(&tools).join("root"))
    else {
        skip("HULLWRIGHT_TRIXIE_TOOLS is not set");
        return None;
    };
    let (loader, rpm) = (
        root.join("usr/lib64/ld-linux-x86-64.so.2"),
        root.join("usr/bin/rpm"),
    );
    if !rpm.exists() {
        skip("rpm is not among the newer tools");
        return None;
    }
    let place = TempDir::new().unwrap();
    let bundle = place.path().join("rpm-4.20");
    fs::create_dir_all(bundle.join("lib")).unwrap();
    fs::copy(&loader, bundle.join("ld.so")).unwrap();
    fs::copy(&rpm, bundle.join("rpm")).unwrap();
    let list = Command::new(&loader)
        .arg("--library-path")
        .arg(root.join("usr/lib/x86_64-linux-gnu"))
        .arg("--list")
        .arg(&rpm)
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for line in list.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [name, "=>", path, _] = words[..]
            && !name.starts_with('/')
        {
            fs::copy(path, bundle.join("lib").join(name)).unwrap();
        }
    }
    let copied = Command::new("cp")
        .arg("-r")
        .arg(root.join("usr/lib/rpm"))
        .arg(bundle.join("config"))
        .status();
    assert!(copied.unwrap().success());
    let archive = place.path().join("rpm.tar");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(place.path())
        .arg("-cf")
        .arg(&archive)
        .arg("rpm-4.20")
        .status();
    assert!(packed.unwrap().success());
    Some((place, archive))
}

/// The sample image with a `/usr` whose files share clusters, for the guest's kernel to tell apart.
fn image() -> Option<PathBuf> {
    let erofs = "level = 1\nfragments = true\ndedupe = true\n";
    variant("shared", &format!("[outputs.erofs]\n{erofs}"))
}

#[test]
#[ignore = "builds another image and reads every file of an emulated machine"]
fn rpm_finds_in_the_guest_what_the_manifest_says() {
    let (Some(_), Some((_place, archive)), Some(lab)) =
        (tool("tar"), rpm_to_take_along(), Lab::enter_with(image))
    else {
        return;
    };
    let mut vm = Machine::new(lab.disk()).grow(GROW).ssh(true).start().unwrap();
    vm.wait_healthy(PATIENCE)
        .unwrap_or_else(|error| panic!("{error:?}"));
    vm.wait_ssh(PATIENCE).unwrap();
    let unpack = vm
        .ssh_command(&["tar", "-C", "/run", "-xf", "-"])
        .unwrap()
        .stdin(Stdio::from(fs::File::open(&archive).unwrap()))
        .output()
        .unwrap();
    assert!(unpack.status.success(), "{unpack:?}");
    let verify = format!(
        "RPM_CONFIGDIR={PLACE}/config {PLACE}/ld.so --inhibit-cache --library-path {PLACE}/lib {PLACE}/rpm \
         --dbpath /usr/lib/sysimage/rpm"
    );
    let all = vm.ssh(&[format!("{verify} -qa | wc -l")]).unwrap();
    let packages = lab.manifest["packages"].as_array().unwrap().len();
    assert_eq!(
        String::from_utf8_lossy(&all.stdout).trim(),
        packages.to_string(),
        "{all:?}"
    );
    // From within, so that the boot partition stays mounted: systemd takes it away after two minutes without use.
    let found = vm.ssh(&[format!("cd /boot && {verify} -V --all")]).unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stderr), "");
    let found = rpm_verify::found(&String::from_utf8(found.stdout).unwrap());
    assert_eq!(found, rpm_verify::said(&lab.manifest));
}
