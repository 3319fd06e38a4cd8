//! Images of packages with scriptlets: shell, Lua, triggers, file triggers; run in the sandbox, replaced, left out, failing.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::image::{hullwright, output_directory, said};
use support::{sample_rpms, tool};
use tempfile::TempDir;

const PACKAGES: &str = r#"
%package -n scripted-shell
Summary: s
%description -n scripted-shell
d
%pre -n scripted-shell
getent group scripted >/dev/null || groupadd -r scripted
%post -n scripted-shell
echo "post $1" | tr a-z A-Z > /usr/share/scripted/shell.txt
chgrp scripted /usr/share/scripted/shell.txt
chmod 2640 /usr/share/scripted/shell.txt
date > /var/cache/scripted
id -u > /usr/share/scripted/id.txt
rm /usr/share/scripted/removed
%posttrans -n scripted-shell
systemctl daemon-reload || :
%preun -n scripted-shell
exit 1
%files -n scripted-shell
/usr/share/scripted

%package -n scripted-lua
Summary: s
%description -n scripted-lua
d
%post -n scripted-lua -p <lua>
local f = io.open("/usr/share/scripted-lua.txt", "w")
f:write(arg[2], " ", rpm.expand("%%{_bindir}"), " ", posix.stat("/usr/share/scripted/shell.txt", "mode"), "\n")
f:close()
local pid = posix.fork()
if pid == 0 then posix.exec("/bin/sh", "-c", "echo forked >> /usr/share/scripted-lua.txt") end
posix.wait(pid)
assert(posix.symlink("scripted-lua.txt", "/usr/share/scripted-link"))
%triggerin -n scripted-lua -- scripted-shell
echo "trigger $*" | tee /usr/share/scripted-trigger.txt
%transfiletriggerin -n scripted-lua -- /usr/share/scripted
while read -r path; do echo "$1 $path"; done > /usr/share/scripted-files.txt
%files -n scripted-lua

%install
mkdir -p %{buildroot}/usr/share/scripted
touch %{buildroot}/usr/share/scripted/removed
"#;

/// A directory with the sample set and packages of `sections`, and a definition of an image of all of them.
struct Bench {
    directory: TempDir,
}

impl Bench {
    /// `None` (said as a skip) without rpmbuild or the sample set.
    fn new(sections: &str, packages: &[&str], more: &str) -> Option<Self> {
        let (rpmbuild, sample) = (tool("rpmbuild")?, sample_rpms()?);
        let bench = Self {
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        };
        let preamble = "Name: set\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%description\nd\n";
        fs::write(bench.path("set.spec"), format!("{preamble}{sections}")).unwrap();
        let built = Command::new(rpmbuild)
            .args(["-bb", "--quiet", "--define"])
            .arg(format!("_topdir {}", bench.path("top").display()))
            .args(["--define", "_rpmfilename %%{NAME}.rpm", "--define"])
            .arg(format!("_rpmdir {}", bench.path("rpms").display()))
            .arg(bench.path("set.spec"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", said(&built));
        for entry in fs::read_dir(&sample).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rpm") {
                symlink(&path, bench.path("rpms").join(path.file_name().unwrap())).unwrap();
            }
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sample_definition = project.join("image-defs/sample-container-host.toml");
        let mut text = format!("extends = [{sample_definition:?}]\n");
        for package in packages {
            text.push_str(&format!(
                "[[rpms.unsigned]]\npackage = \"{package}\"\nreason = \"made by this test\"\n"
            ));
        }
        fs::write(bench.path("image.toml"), text + more).unwrap();
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn build(&self, out: &str, arguments: &[&str]) -> Output {
        let sample = sample_rpms().unwrap();
        hullwright()
            .arg("build")
            .arg(self.path("image.toml"))
            .arg("--rpms")
            .arg(self.path("rpms"))
            .arg("--key")
            .arg(sample.join("RPM-GPG-KEY-hullwright-sample"))
            .arg("--out")
            .arg(self.path(out))
            .arg("--store")
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("scriptlets-store"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// What `ostree` says of the commit in `image`.
fn ostree(image: &Path, arguments: &[&str]) -> String {
    let output = Command::new(tool("ostree").unwrap())
        .arg(format!("--repo={}", image.join("repo").display()))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_scriptlets_do_is_in_the_image_and_in_the_ledger() {
    let Some(bench) = Bench::new(PACKAGES, &["scripted-shell", "scripted-lua"], "") else {
        return;
    };
    if tool("ostree").is_none() {
        return;
    }
    let explained = bench.build("none", &["--explain", "scriptlets"]);
    assert!(explained.status.success(), "{}", said(&explained));
    let explained = String::from_utf8(explained.stdout).unwrap();
    let firsts: Vec<_> = explained.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        firsts,
        [
            "scripted-shell-1-1.noarch %pre 1: replaced",
            "scripted-shell-1-1.noarch %post 1: run: `|` is not understood",
            "scripted-lua-1-1.noarch %post 1: run: Lua is run, not read",
            "scripted-lua-1-1.noarch %triggerin[0] 1 1: run: `$*\"` is not understood",
            "scripted-shell-1-1.noarch %posttrans 1: replaced",
            "scripted-lua-1-1.noarch %transfiletriggerin[0] 1: run: `while` is not understood",
        ]
    );
    assert!(!bench.path("none").exists());

    let built = bench.build("one", &[]);
    assert!(built.status.success(), "{}", said(&built));
    let image = output_directory(&bench.path("one"));
    let reference = "sample/13/x86_64/container-host";
    let cat = |path: &str| ostree(&image, &["cat", reference, path]);
    assert_eq!(cat("/usr/share/scripted/shell.txt"), "POST 1\n");
    assert_eq!(cat("/usr/share/scripted/id.txt"), "0\n");
    assert_eq!(
        cat("/usr/share/scripted-lua.txt"),
        "1 /usr/bin rw-r-S---\nforked\n"
    );
    assert_eq!(
        cat("/usr/share/scripted-link"),
        cat("/usr/share/scripted-lua.txt")
    );
    assert_eq!(cat("/usr/share/scripted-trigger.txt"), "trigger 1 1\n");
    assert_eq!(
        cat("/usr/share/scripted-files.txt"),
        "1 /usr/share/scripted\n1 /usr/share/scripted/removed\n"
    );
    let listed = ostree(&image, &["ls", reference, "/usr/share/scripted/shell.txt"]);
    let group = cat("/usr/etc/group");
    let group = group
        .lines()
        .find_map(|line| line.strip_prefix("scripted:x:"))
        .unwrap();
    let group = group.trim_end_matches(':');
    let fields: Vec<_> = listed.split_whitespace().collect();
    assert_eq!(fields[..3], ["-02640", "0", group], "{listed}");
    let all = ostree(&image, &["ls", "-R", reference, "/usr/share/scripted"]);
    assert!(!all.contains("removed"), "{all}");

    let text = fs::read_to_string(image.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries = manifest["scriptlets"].as_array().unwrap();
    let outcomes: Vec<_> = entries
        .iter()
        .map(|entry| entry["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["replaced", "run", "run", "run", "replaced", "run"]);
    let post = &entries[1];
    assert_eq!(post["end"], "ended with exit status 0");
    let changes: Vec<_> = post["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let dropped = if change["dropped"].is_null() {
                ""
            } else {
                " dropped"
            };
            format!(
                "{} {}{dropped}",
                change["change"].as_str().unwrap(),
                change["path"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            "created /usr/share/scripted/id.txt",
            "removed /usr/share/scripted/removed",
            "created /usr/share/scripted/shell.txt",
            "created /var/cache/scripted dropped",
        ]
    );
    let report = fs::read_to_string(image.join("build-report.json")).unwrap();
    assert!(report.contains("scripted-lua-1-1.noarch %post"), "{report}");

    // The same again, byte for byte.
    let built = bench.build("two", &[]);
    assert!(built.status.success(), "{}", said(&built));
    let again = output_directory(&bench.path("two"));
    for name in ["manifest.json", "SHA256SUMS"] {
        assert_eq!(
            fs::read(image.join(name)).unwrap(),
            fs::read(again.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_scriptlet_that_fails_stops_the_build_unless_it_may_fail() {
    let sections = "%package -n failing\nSummary: s\n%description -n failing\nd\n%post -n failing\n\
                    echo this went wrong | cat >&2\nexit 3\n%files -n failing\n";
    let Some(bench) = Bench::new(sections, &["failing"], "") else {
        return;
    };
    let built = bench.build("out", &[]);
    let text = said(&built);
    assert!(!built.status.success(), "{text}");
    for part in [
        "failing-1-1.noarch %post",
        "exit status 3",
        "this went wrong",
        "failing:post",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(fs::read_dir(bench.path("out")).unwrap().next().is_none());
}

#[test]
fn exceptions_that_are_not_needed_are_refused() {
    let sections = "%package -n well\nSummary: s\n%description -n well\nd\n%post -n well\ntrue | true\n\
                    %files -n well\n";
    let rule =
        "[[rpms.scriptlets]]\nscriptlet = \"well:post\"\naction = \"may-fail\"\nreason = \"it is new\"\n";
    let Some(bench) = Bench::new(sections, &["well"], rule) else {
        return;
    };
    let built = bench.build("out", &[]);
    let text = said(&built);
    assert!(!built.status.success(), "{text}");
    assert!(text.contains("may fail: it is new"), "{text}");
    assert!(
        text.contains("`well:post` is not needed: the scriptlet does not fail"),
        "{text}"
    );
}

#[test]
fn a_command_is_not_called_replaced_where_its_work_was_not_done() {
    let sections = "%package -n trusting\nSummary: s\n%description -n trusting\nd\n%post -n trusting\n\
                    update-ca-trust extract\n%files -n trusting\n%attr(0755,root,root) /usr/bin/update-ca-trust\n\
                    %install\nmkdir -p %{buildroot}/usr/bin\n\
                    printf '#!/bin/sh\\necho trusted >/usr/share/trusted\\n' >%{buildroot}/usr/bin/update-ca-trust\n";
    let Some(bench) = Bench::new(sections, &["trusting"], "") else {
        return;
    };
    let refused = bench.build("out", &[]);
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("`trusting:post` runs `update-ca-trust`, whose work the composer could not do"),
        "{text}"
    );
    assert!(fs::read_dir(bench.path("out")).unwrap().next().is_none());

    // The way out that the message names.
    let mut definition = fs::read_to_string(bench.path("image.toml")).unwrap();
    definition.push_str(
        "[[rpms.scriptlets]]\nscriptlet = \"trusting:post\"\naction = \"run\"\nreason = \"a script of its own\"\n",
    );
    fs::write(bench.path("image.toml"), definition).unwrap();
    let built = bench.build("out", &[]);
    assert!(built.status.success(), "{}", said(&built));
    let image = output_directory(&bench.path("out"));
    let text = fs::read_to_string(image.join("manifest.json")).unwrap();
    assert!(text.contains("/usr/share/trusted"), "{text}");
}
