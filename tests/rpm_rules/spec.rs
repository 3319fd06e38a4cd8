//! Packages of a test, made by rpmbuild.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::tool;

/// A directory in which packages are built.
pub struct Bench {
    directory: TempDir,
    rpmbuild: PathBuf,
}

/// What a package is made of: shell lines that run in its root, and its `%files`.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    pub name: &'a str,
    pub arch: &'a str,
    /// More lines of the preamble.
    pub head: &'a str,
    pub install: &'a str,
    pub files: &'a str,
}

impl<'a> Spec<'a> {
    pub fn new(name: &'a str, install: &'a str, files: &'a str) -> Self {
        Self {
            name,
            arch: "noarch",
            head: "",
            install,
            files,
        }
    }
}

/// What every `install` may use. `elf32` and `elf64` write the smallest file that `file(1)` takes for an executable of
/// that class; `put` writes a file and the directories above it.
const SHELL: &str = r#"
put() { mkdir -p "$(dirname "./$1")"; printf '%s' "$2" > "./$1"; }
elf() {
  mkdir -p "$(dirname "./$2")"
  { printf '\177ELF'"$1"'\001\001\000\000\000\000\000\000\000\000\000\002\000'"$3"'\000\001\000\000\000'; head -c 100 /dev/zero; printf '%s' "$4"; } > "./$2"
  chmod 755 "./$2"
}
elf32() { elf '\001' "$1" '\003' "$2"; }
elf64() { elf '\002' "$1" '\076' "$2"; }
"#;

impl Bench {
    /// `None` (said as a skip) without rpmbuild.
    pub fn new() -> Option<Self> {
        Self::with("rpmbuild")
    }

    /// With another rpmbuild.
    pub fn with(rpmbuild: &str) -> Option<Self> {
        Some(Self {
            rpmbuild: tool(rpmbuild)?,
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Builds `spec`; `macros` are defined for it.
    pub fn build(&self, spec: &Spec<'_>, macros: &[(&str, &str)]) -> PathBuf {
        let Spec {
            name,
            arch,
            head,
            install,
            files,
        } = spec;
        // RPM would strip the binaries, and ask ldd of them.
        let text = format!(
            "%global __os_install_post %{{nil}}\n%global debug_package %{{nil}}\nName: {name}\nVersion: 1\nRelease: 1\n\
             Summary: A package of a test\nLicense: MIT\nAutoReqProv: no\n{noarch}{head}\n\
             %description\nA package of a test.\n%install\nmkdir -p %{{buildroot}}\ncd %{{buildroot}}\n{SHELL}\n\
             {install}\n%files\n{files}\n",
            noarch = if *arch == "noarch" {
                "BuildArch: noarch\n"
            } else {
                ""
            },
        );
        let file = self.path().join(format!("{name}.{arch}.spec"));
        fs::write(&file, text).unwrap();
        let place = |what: &str| self.path().join(what).to_str().unwrap().to_owned();
        let mut command = Command::new(&self.rpmbuild);
        command.args(["-bb", "--quiet", "--target", arch, "--buildroot"]);
        command.arg(self.path().join(format!("root-{name}.{arch}")));
        let (top, rpms) = (place("top"), place("rpms"));
        let all = [
            ("_topdir", top.as_str()),
            ("_rpmdir", &rpms),
            ("_rpmfilename", "%%{NAME}.%%{ARCH}.rpm"),
            ("_binary_payload", "w3.gzdio"),
            ("_invalid_encoding_terminates_build", "0"),
            ("__arch_install_post", "%{nil}"),
        ];
        for (name, value) in all.iter().chain(macros) {
            command.arg("--define").arg(format!("{name} {value}"));
        }
        let output = command.arg(&file).env("LC_ALL", "C.UTF-8").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        self.path().join("rpms").join(format!("{name}.{arch}.rpm"))
    }

    /// Builds a noarch package of `install` and `files`.
    pub fn package(&self, name: &str, install: &str, files: &str) -> PathBuf {
        self.build(&Spec::new(name, install, files), &[])
    }
}
