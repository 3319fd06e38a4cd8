//! Images that cannot be built from good packages, and what is said of each.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rpms::{Bench, Entry::File, Entry::Link, plain, refusal, says};
use crate::run::program;
use crate::support::image::{build_command, hullwright, said, sample_definition, sample_image, sample_store};
use crate::support::{sample_rpms, tool};

#[test]
fn definitions_that_the_packages_do_not_meet() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    fs::write(
        bench.path("need.config"),
        "CONFIG_EROFS_FS=y\nCONFIG_DM_VERITY=m\n",
    )
    .unwrap();
    let cases: [(&str, &[&str]); 9] = [
        (
            "[outputs]\nfromats = [\"raw\"]\n",
            &[
                "unknown key `fromats` in `[outputs]`",
                "image.toml:3:1",
                "`formats`",
            ],
        ),
        (
            "[kernel]\nrequire = [\"need.config\"]\n",
            &[
                "the kernel does not meet 2 requirements",
                "need.config:1",
                "CONFIG_EROFS_FS",
                "need.config:2",
                "CONFIG_DM_VERITY",
                "take a kernel package that does",
            ],
        ),
        (
            "[rpms]\nrequire = [\"bse\"]\n",
            &[
                "no package of the set provides `bse`; base-1-1.noarch provides base = 1-1",
                "image.toml:3",
                "add the package to the set",
            ],
        ),
        (
            "[initrd]\nmodules = [\"dm-verity\"]\n",
            &[
                "kernel 1 has no module `dm-verity`",
                "choose a kernel package that has it",
            ],
        ),
        (
            "[initrd]\nunits = [\"basic.target\"]\n",
            &[
                "`basic.target`, which `units` of [initrd] names, is not in the image",
                "add the package that has it",
            ],
        ),
        (
            "[os]\nenable = [\"sshd.service\"]\n",
            &[
                "`os.enable` names `sshd.service`, which the image does not have",
                "add the package that brings the unit",
            ],
        ),
        (
            "[disk]\nsize = \"100MiB\"\n",
            &["the disk of 100 MiB is too small", "make the disk at least"],
        ),
        (
            "[disk]\nsize = \"2TiB\"\n[outputs]\nformats = [\"vhd\"]\n",
            &[
                "image.toml:3:8",
                "`disk.size` is 2TiB, which Azure takes for no VHD",
                "1023GiB",
            ],
        ),
        (
            "[[paths]]\npath = \"/opt/none\"\naction = \"drop\"\nreason = \"none\"\n",
            &[
                "`/opt/none`",
                "matches nothing in the packages",
                "correct its path",
            ],
        ),
    ];
    for (more, expected) in cases {
        says(&bench.refused(&["base"], more), expected);
    }
}

#[test]
fn no_kernel() {
    let Some(bench) = Bench::new() else { return };
    bench.package("tool", &[("/usr/bin/tool", File("content"))]);
    let refused = bench.refused(&["tool"], "");
    says(
        &refused,
        &[
            "no package of the set provides `kernel`",
            "kernel.package",
            "add the package to the set",
        ],
    );
    let release = ("/usr/lib/os-release", File("ID=tiny\n"));
    bench.package("base", &[("/lib", Link("usr/lib")), release]);
    let refused = bench.refused(&["base", "tool"], "");
    says(
        &refused,
        &[
            "`base-1-1.noarch` holds no kernel: no file /usr/lib/modules/<version>/vmlinuz",
            "name the package that holds the kernel itself",
        ],
    );
}

#[test]
fn no_system() {
    let Some(bench) = Bench::new() else { return };
    bench.package("base", &[("/usr/lib/modules/1/vmlinuz", File("kernel"))]);
    let refused = bench.refused(&["base"], "");
    says(
        &refused,
        &["the image lacks `/usr/lib/os-release`", "add the package"],
    );
}

/// The sample with `more`, quickly compressed.
fn variant(bench: &Bench, more: &str) -> Option<Command> {
    let rpms = sample_rpms()?;
    // Unpacks the packages.
    sample_image()?;
    let definition = bench.path("variant.toml");
    let extends = sample_definition();
    let text = format!("extends = [{extends:?}]\n[outputs.erofs]\nlevel = 1\n{more}");
    fs::write(&definition, text).unwrap();
    Some(build_command(
        &definition,
        &rpms,
        &bench.path("out"),
        &sample_store(),
    ))
}

#[test]
fn partitions_that_are_too_small() {
    let Some(bench) = Bench::new() else { return };
    let cases: [(&str, &[&str]); 2] = [
        (
            "esp = \"48MiB\"",
            &[
                "the ESP of 48 MiB is too small: two kernel images of",
                "make the ESP at least",
            ],
        ),
        (
            "usr = \"128MiB\"",
            &[
                "the slot of 128 MiB does not hold /usr, whose file system has",
                "make `slot` at least",
            ],
        ),
    ];
    for (line, expected) in cases {
        let Some(mut build) = variant(&bench, &format!("[disk]\n{line}\n")) else {
            return;
        };
        says(&bench.check_refused(&build.output().unwrap()), expected);
    }
}

/// `command` where `place` is a file system of `size` bytes of its own, seen by nobody else.
fn on_small_file_system(place: &PathBuf, size: &str, command: &Command) -> Option<Command> {
    fs::create_dir_all(place).unwrap();
    let script = "mount -t tmpfs -o size=$1 none \"$2\" || exit 77; place=$2; shift 2; \"$@\"; code=$?; \
                  ls -A \"$place\" | sed 's/^/left: /'; exit $code";
    let mut unshare = program("unshare", ["-m"])?;
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("-r");
    }
    unshare.args(["sh", "-c", script, "sh", size]).arg(place);
    unshare.arg(command.get_program()).args(command.get_args());
    Some(unshare)
}

#[test]
fn no_space_on_the_device() {
    let Some(bench) = Bench::new() else { return };
    let Some(build) = variant(&bench, "") else { return };
    let out = bench.path("out");
    let Some(mut full) = on_small_file_system(&out, "50m", &build) else {
        return;
    };
    let output = full.output().unwrap();
    if output.status.code() == Some(77) {
        crate::support::skip("no file system can be mounted here, not even in a user namespace");
        return;
    }
    let said = refusal(&output, &out);
    says(
        &said,
        &[
            "out` has 50 MiB free; the images take about",
            "give another directory with `--out`",
        ],
    );
    assert!(!said.contains("left:"), "{said}");

    let rpms = sample_rpms().unwrap();
    let store = bench.path("small-store");
    let build = build_command(&sample_definition(), &rpms, &out, &store);
    let output = on_small_file_system(&store, "50m", &build)
        .unwrap()
        .output()
        .unwrap();
    let said = refusal(&output, &out);
    says(
        &said,
        &[
            "the store has room for",
            "make room, or name another store with `--store",
        ],
    );
}

#[test]
fn an_output_directory_that_cannot_be_written() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let definition = bench.definition(&["base"], "");
    fs::write(bench.path("file"), "").unwrap();
    let mut build = hullwright();
    build
        .arg("build")
        .arg(definition)
        .arg("--rpms")
        .arg(bench.path("rpms"));
    build.arg("--store").arg(bench.path("store"));
    let output = build.arg("--out").arg(bench.path("file/out")).output().unwrap();
    let said = bench.check_refused(&output);
    says(
        &said,
        &[
            "output directory",
            "file/out`: Not a directory",
            "choose another directory with `--out",
        ],
    );
}

#[test]
fn what_was_typed_wrongly_has_a_code_of_its_own() {
    let cases: [&[&str]; 4] = [
        &["build"],
        &["build", "x.toml", "--jobs", "0"],
        &["build", "x.toml", "--no-such"],
        &["no-such"],
    ];
    for arguments in cases {
        let output = hullwright().args(arguments).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("error: ") && said.contains("--help"), "{said}");
    }
    let absent = hullwright().args(["build", "absent.toml"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(1));
    let said = plain(&said(&absent));
    says(&said, &["absent.toml", "No such file or directory"]);
}

#[test]
fn a_killed_build_leaves_nothing_under_the_final_name() {
    let Some(bench) = Bench::new() else { return };
    let Some(mut build) = variant(&bench, "") else {
        return;
    };
    let Some(_) = tool("ostree") else { return };
    let out = bench.path("out");
    let mut running = build.spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(120);
    // Killed while it writes the file system of /usr.
    let writes = || {
        let entries = fs::read_dir(&out).into_iter().flatten();
        let files = entries.flat_map(|entry| fs::read_dir(entry.unwrap().path()).into_iter().flatten());
        let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
        sizes.sum::<u64>() > 1 << 20
    };
    while !writes() {
        assert!(Instant::now() < patience && running.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let hidden = |out: &std::path::Path| {
        let names = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name());
        names.partition::<Vec<_>, _>(|name| name.to_string_lossy().starts_with('.'))
    };
    let (left, visible) = hidden(&out);
    assert!(left.len() == 1 && visible.is_empty(), "{left:?} {visible:?}");

    let again = build.output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    let (_, visible) = hidden(&out);
    assert_eq!(visible, ["sample-container-host_13.20261121"]);
    let image = out.join("sample-container-host_13.20261121");
    let repo = format!("--repo={}", image.join("repo").display());
    crate::run::bytes(&mut program("ostree", [repo.as_str(), "fsck", "-q"]).unwrap());
    let mut sums = program("sha256sum", ["-c", "--quiet", "SHA256SUMS"]).unwrap();
    crate::run::bytes(sums.current_dir(&image));
}
