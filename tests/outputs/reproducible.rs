//! Two builds, as different as two builds can be, give the same bytes; and neither needs a privilege.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{bytes, program};
use crate::support::image::{output_directory, said, sample_image};
use crate::support::{sample_rpms, tool};

/// Everyone may read what is below `to`, a copy of `from`.
fn copy(from: &Path, to: &Path) {
    let metadata = fs::symlink_metadata(from).unwrap();
    if metadata.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if metadata.is_dir() {
        fs::create_dir_all(to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() | 0o444)).unwrap();
    }
}

/// Files and links below `directory`, by path.
fn files(directory: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(place) = todo.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned(), path);
            }
        }
    }
    found
}

fn equal(a: &Path, b: &Path) -> bool {
    let size = |path: &Path| fs::symlink_metadata(path).unwrap().len();
    if size(a) != size(b) {
        return false;
    }
    if size(a) < 1 << 30 {
        return fs::read(a).unwrap() == fs::read(b).unwrap();
    }
    // Disks are mostly holes, which qemu-img knows of. The footer of a VHD is part of the bytes.
    let Some(mut compare) = program("qemu-img", ["compare", "-s", "-f", "raw", "-F", "raw"]) else {
        return true;
    };
    compare.arg(a).arg(b);
    // A strict comparison says as well when only one has a hole.
    compare.output().unwrap().status.success()
}

/// Runs what follows as user 12345 without a single capability, now or later; as whoever runs the
/// test where that is not root.
fn ordinary_user() -> Option<Vec<String>> {
    if !nix::unistd::geteuid().is_root() {
        return Some(Vec::new());
    }
    let setpriv = tool("setpriv")?.to_str().unwrap().to_owned();
    let flags =
        "--reuid=12345 --regid=12345 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs";
    Some(
        [setpriv]
            .into_iter()
            .chain(flags.split(' ').map(str::to_owned))
            .collect(),
    )
}

#[test]
fn another_user_place_umask_zone_locale_clock_and_number_of_threads() {
    let (Some(rpms), Some(first), Some(user)) = (sample_rpms(), sample_image(), ordinary_user()) else {
        return;
    };
    let Some(faketime) = tool("faketime") else { return };
    // Below /var/tmp: on a disk, and open to other users than this one.
    let place = tempfile::Builder::new()
        .prefix("other build ")
        .tempdir_in("/var/tmp")
        .unwrap();
    let at = |name: &str| place.path().join(name);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy(&rpms, &at("packages"));
    copy(Path::new(env!("CARGO_BIN_EXE_hullwright")), &at("program"));
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["image-defs", "kernel-configs", "systemd-units"] {
        copy(&project.join(name), &at("definitions").join(name));
    }
    fs::create_dir(at("own")).unwrap();
    fs::set_permissions(at("own"), fs::Permissions::from_mode(0o777)).unwrap();

    let shell = "umask 077; grep -h '^Cap' /proc/self/status; id -u; exec \"$@\"";
    let words = ["sh", "-c", shell, "sh"].map(str::to_owned);
    let words: Vec<String> = user.into_iter().chain(words).collect();
    let mut build = Command::new(&words[0]);
    build.args(&words[1..]);
    build.arg(faketime).args(["-f", "+1000d"]);
    build.arg(at("program")).arg("build");
    build.arg(at("definitions/image-defs/sample-container-host.toml"));
    build.arg("--rpms").arg(at("packages"));
    build
        .arg("--key")
        .arg(at("packages/RPM-GPG-KEY-hullwright-sample"));
    build.args(["--jobs", "1", "--out", "out", "--store", "store"]);
    build.current_dir(at("own")).env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("TZ", "Pacific/Chatham"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("TMPDIR", "/nonexistent"),
    ]);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if nix::unistd::geteuid().is_root() {
        let none = "\t0000000000000000\n";
        let status: String = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"]
            .iter()
            .flat_map(|name| [name, none])
            .collect();
        assert!(text.starts_with(&format!("{status}12345\n")), "{text}");
    }

    let second = output_directory(&at("own/out"));
    let (a, b) = (files(&first), files(&second));
    let names = |files: &BTreeMap<PathBuf, PathBuf>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    assert!(a.len() > 10_000, "{}", a.len());
    let differ: Vec<_> = a
        .iter()
        .filter(|(name, path)| name.to_str() != Some("build-report.json") && !equal(path, &b[*name]))
        .map(|(name, _)| name)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");

    // Owners and modes of the repository's files are in their attributes, which ostree checks
    // against their names.
    let repo = format!("--repo={}", second.join("repo").display());
    let Some(mut fsck) = program("ostree", [repo.as_str(), "fsck", "-q"]) else {
        return;
    };
    bytes(&mut fsck);
    let stages = fs::read_to_string(second.join("build-report.json")).unwrap();
    assert!(stages.contains("seal /usr"), "{stages}");
}
