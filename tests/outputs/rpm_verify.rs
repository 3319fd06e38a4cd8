//! What the manifest says that `rpm -V --all` will find, held against what it finds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::run::{answer, output, program, scratch};
use crate::support::image::{output_file, said, sample_image};

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
    Some(())
}

/// Lines of `rpm -V`: code, mark, path.
fn lines(text: &str) -> BTreeSet<(String, String, String)> {
    text.lines()
        .map(|line| {
            let (code, rest) = line.split_once(char::is_whitespace).unwrap();
            let path = &rest[rest.find('/').unwrap()..];
            let mark = rest[..rest.len() - path.len()].trim();
            (code.to_owned(), mark.to_owned(), path.to_owned())
        })
        .collect()
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
    let found = lines(&String::from_utf8(found.stdout.clone()).unwrap_or_else(|_| said(&found)));

    let manifest = fs::read_to_string(image.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let listed = manifest["rpm_verify"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let said: BTreeSet<_> = listed
        .iter()
        .map(|it| (text(&it["code"]), text(&it["mark"]), text(&it["path"])))
        .collect();
    // fsck.erofs does not extract capabilities.
    let capability = |(code, ..): &&(String, String, String)| code.as_str() != "........P";
    let found: BTreeSet<_> = found.iter().filter(capability).cloned().collect();
    // tmpfiles.d of packages is written for the test above.
    let changed = |(_, _, path): &&(String, String, String)| !path.starts_with("/usr/lib/tmpfiles.d/");
    let found: BTreeSet<_> = found.iter().filter(changed).cloned().collect();
    assert_eq!(found, said);
    assert!(said.len() >= 10, "{said:?}");
    for it in listed {
        assert!(text(&it["reason"]).len() > 10, "{it}");
        assert!(text(&it["package"]).contains('-'), "{it}");
    }
    let of = |path: &str| listed.iter().find(|it| it["path"] == path).unwrap();
    assert_eq!(of("/etc/passwd")["reason"], "users are numbered by the composer");
    assert_eq!(
        of("/etc/credstore")["reason"],
        "`/usr/lib/tmpfiles.d/credstore.conf` gives it another owner or mode at boot"
    );
}
