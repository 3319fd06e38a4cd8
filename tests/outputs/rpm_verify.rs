//! What the manifest says that `rpm -V --all` will find, held against what it finds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::run::{answer, output, program, scratch};
use crate::support::image::{output_file, sample_image};
use crate::support::rpm_verify;

/// Files as a machine has them after its first boot: `/usr` from the sealed volume, `/etc` from `/usr/etc`, state from
/// tmpfiles.d. `None` (said as a skip) where a tool is missing.
fn boot_into(place: &Path, image: &Path) -> Option<()> {
    let usr = place.join("usr");
    fs::create_dir(&usr).unwrap();
    let mut extract = program("fsck.erofs", ["--preserve", "--overwrite"])?;
    extract.arg(format!("--extract={}", usr.display()));
    answer(extract.arg(output_file(image, ".usr.erofs")));
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), place.join(name)).unwrap();
    }
    for (name, target) in [
        ("home", "var/home"),
        ("root", "var/roothome"),
        ("opt", "var/opt"),
        ("srv", "var/srv"),
        ("mnt", "var/mnt"),
        ("media", "run/media"),
    ] {
        symlink(target, place.join(name)).unwrap();
    }
    for name in ["boot", "dev", "proc", "run", "sys", "tmp", "var"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    answer(
        program("chmod", ["555"])?
            .arg(place.join("proc"))
            .arg(place.join("sys")),
    );
    answer(program("chmod", ["1777"])?.arg(place.join("tmp")));
    answer(program("cp", ["-a"])?.arg(usr.join("etc")).arg(place.join("etc")));
    // systemd 252 does not know the modifier `$` of 257, which means nothing for creation.
    for entry in fs::read_dir(usr.join("lib/tmpfiles.d")).unwrap() {
        let path = entry.unwrap().path();
        let (text, metadata) = (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap());
        let plain = |line: &str| match line.split_once(char::is_whitespace) {
            Some((kind, rest)) => format!("{} {rest}\n", kind.replace('$', "")),
            None => format!("{line}\n"),
        };
        fs::write(&path, text.lines().map(plain).collect::<String>()).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(metadata.modified().unwrap()).unwrap();
    }
    let mut create = program("systemd-tmpfiles", ["--create", "--boot"])?;
    // Some lines name what only a machine has.
    let _ = output(create.arg(format!("--root={}", place.display())));
    // systemd itself: the machine's id, the boot partition, the directory of a service of the sample.
    fs::remove_file(place.join("etc/machine-id")).unwrap();
    fs::write(place.join("etc/machine-id"), format!("{:032}\n", 7)).unwrap();
    answer(program("chmod", ["444"])?.arg(place.join("etc/machine-id")));
    answer(program("chmod", ["700"])?.arg(place.join("boot")));
    let passwd = fs::read_to_string(place.join("etc/passwd")).unwrap();
    let chrony = passwd.lines().find(|line| line.starts_with("_chrony:")).unwrap();
    let ids: Vec<_> = chrony.split(':').skip(2).take(2).collect();
    answer(program("chown", [ids.join(":").as_str()])?.arg(place.join("var/lib/chrony")));
    answer(program("chmod", ["750"])?.arg(place.join("var/lib/chrony")));
    Some(())
}

#[test]
fn rpm_finds_what_the_manifest_says() {
    let (Some(image), Some(mut rpm)) = (
        sample_image(),
        program("rpm", ["-V", "--all", "--nodeps", "--noscripts"]),
    ) else {
        return;
    };
    let place = scratch();
    if boot_into(place.path(), &image).is_none() {
        return;
    }
    rpm.args(["--dbpath", "/usr/lib/sysimage/rpm", "--root"])
        .arg(place.path());
    let found = output(&mut rpm);
    let found = rpm_verify::found(&String::from_utf8(found.stdout).unwrap());

    let manifest = fs::read_to_string(image.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let said = rpm_verify::said(&manifest);
    // fsck.erofs does not extract capabilities.
    let capability = |(code, ..): &&(String, String, String)| code.as_str() != "........P";
    let found: BTreeSet<_> = found.iter().filter(capability).cloned().collect();
    // tmpfiles.d of packages is written for the test above.
    let changed = |(_, _, path): &&(String, String, String)| !path.starts_with("/usr/lib/tmpfiles.d/");
    let found: BTreeSet<_> = found.iter().filter(changed).cloned().collect();
    assert_eq!(found, said);
    assert!(said.len() >= 10, "{said:?}");
    let listed = manifest["rpm_verify"].as_array().unwrap();
    for it in listed {
        assert!(it["reason"].as_str().unwrap().len() > 10, "{it}");
        assert!(it["package"].as_str().unwrap().contains('-'), "{it}");
    }
    let of = |path: &str| listed.iter().find(|it| it["path"] == path).unwrap();
    assert_eq!(of("/etc/passwd")["reason"], "users are numbered by the composer");
    assert_eq!(
        of("/etc/credstore")["reason"],
        "`/usr/lib/tmpfiles.d/credstore.conf` gives it another owner or mode at boot"
    );
    assert_eq!(
        of("/var/lib/chrony")["reason"],
        "`/usr/lib/systemd/system/chrony.service` gives it another owner or mode at boot"
    );
    assert_eq!(
        of("/boot")["reason"],
        "the EFI system partition, while systemd has it mounted there"
    );
}
