//! Small packages, made by the real rpmbuild, and definitions of images made of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::run::{bytes, program, scratch};
use crate::support::image::{hullwright, said};

/// What a package has at a path.
pub enum Entry<'a> {
    File(&'a str),
    Link(&'a str),
}

use Entry::{File, Link};

/// A directory with packages, definitions and outputs of one test.
pub struct Bench {
    directory: TempDir,
}

impl Bench {
    /// `None` (said as a skip) without rpmbuild.
    pub fn new() -> Option<Self> {
        program("rpmbuild", [])?;
        let directory = scratch();
        fs::create_dir(directory.path().join("rpms")).unwrap();
        Some(Self { directory })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A package of version 1-1, noarch, with `entries`; gives its file.
    pub fn package(&self, name: &str, entries: &[(&str, Entry<'_>)]) -> PathBuf {
        self.package_with(name, "", entries)
    }

    /// As [`Self::package`], with more lines of the preamble (`Requires: x\n`).
    pub fn package_with(&self, name: &str, preamble: &str, entries: &[(&str, Entry<'_>)]) -> PathBuf {
        let (mut install, mut files) = (String::new(), String::new());
        for (path, entry) in entries {
            let place = format!("'%{{buildroot}}{path}'");
            writeln!(install, "mkdir -p \"$(dirname {place})\"").unwrap();
            match entry {
                File(content) => writeln!(install, "printf %s '{content}' > {place}"),
                Link(target) => writeln!(install, "ln -s '{target}' {place}"),
            }
            .unwrap();
            writeln!(files, "{path}").unwrap();
        }
        let provides = if name == "base" { "Provides: kernel\n" } else { "" };
        let spec = format!(
            "Name: {name}\nVersion: 1\nRelease: 1\nSummary: A package of a test\nLicense: MIT\n\
             BuildArch: noarch\n{provides}{preamble}%description\nA package of a test.\n\
             %install\n{install}\n%files\n{files}"
        );
        let file = self.path(&format!("{name}.spec"));
        fs::write(&file, spec).unwrap();
        let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
        let mut rpmbuild = program("rpmbuild", ["-bb", "--quiet", "--buildroot"]).unwrap();
        rpmbuild.arg(self.path(&format!("root-{name}")));
        rpmbuild.args(define("_topdir", self.path("top").to_str().unwrap()));
        rpmbuild.args(define("_rpmdir", self.path("rpms").to_str().unwrap()));
        rpmbuild.args(define("_rpmfilename", "%%{NAME}.rpm"));
        rpmbuild.args(define("_binary_payload", "w3.gzdio"));
        bytes(rpmbuild.arg(&file));
        self.path(&format!("rpms/{name}.rpm"))
    }

    /// The package that makes the others a system, as far as the tests go.
    pub fn base(&self) -> PathBuf {
        let entries = [
            ("/bin", Link("usr/bin")),
            ("/lib", Link("usr/lib")),
            ("/usr/bin/true", File("true")),
            ("/usr/lib/os-release", File("ID=tiny\n")),
            ("/usr/lib/modules/1/vmlinuz", File("kernel")),
            (
                "/usr/lib/modules/1/config",
                File("CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n"),
            ),
        ];
        self.package("base", &entries)
    }

    /// A definition whose packages may come unsigned, and which `more` extends.
    pub fn definition(&self, packages: &[&str], more: &str) -> PathBuf {
        let mut text = String::from(
            "[image]\nid = \"tiny\"\nversion = \"1\"\nreleased = 2026-11-21\narch = \"x86_64\"\n\
             [kernel]\npackage = \"kernel\"\n[os]\nref = \"tiny/1\"\nselinux = \"none\"\n\
             [disk]\nsize = \"8GiB\"\n[encryption.root]\nmode = \"none\"\n",
        );
        for package in packages {
            let reason = "made by this test";
            writeln!(
                text,
                "[[rpms.unsigned]]\npackage = \"{package}\"\nreason = \"{reason}\""
            )
            .unwrap();
        }
        fs::write(self.path("tiny.toml"), text).unwrap();
        let path = self.path("image.toml");
        fs::write(&path, format!("extends = [\"tiny.toml\"]\n{more}")).unwrap();
        path
    }

    /// The command that builds `definition` from `rpms`.
    pub fn build(&self, definition: &Path, rpms: &Path) -> Command {
        let mut command = hullwright();
        command.arg("build").arg(definition).arg("--rpms").arg(rpms);
        command.arg("--out").arg(self.path("out"));
        command.arg("--store").arg(self.path("store"));
        command
    }

    /// Builds the packages made so far, which must be refused; gives what was said.
    pub fn refused(&self, packages: &[&str], more: &str) -> String {
        let definition = self.definition(packages, more);
        let output = self.build(&definition, &self.path("rpms")).output().unwrap();
        self.check_refused(&output)
    }

    /// That `output` is of a build that failed as it should, and left nothing.
    pub fn check_refused(&self, output: &Output) -> String {
        refusal(output, &self.path("out"))
    }
}

/// That `output` is of a build that failed as it should, with nothing left in `out`; gives its
/// error on one line, without the drawing.
pub fn refusal(output: &Output, out: &Path) -> String {
    let all = said(output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(!all.contains("panicked"), "{all}");
    if out.exists() {
        let left: Vec<_> = fs::read_dir(out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "left in --out: {left:?}");
    }
    plain(&all)
}

/// Without the lines and arrows that errors are drawn with, and without line breaks.
pub fn plain(text: &str) -> String {
    let drawing = |c: char| "×│╰─▶├╭┬·⚠".contains(c);
    let words = text.split_whitespace().map(|word| word.trim_matches(drawing));
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// That every one of `parts` is in `text`. Paths may be broken anywhere, so blanks do not count.
#[track_caller]
pub fn says(text: &str, parts: &[&str]) {
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    for part in parts {
        assert!(
            squeeze(text).contains(&squeeze(part)),
            "`{part}` is not in: {text}"
        );
    }
}

/// Replaces `from` by `to`, as long, in the header of the package at `path`, and makes the digests
/// of the header right again: what an attacker would do.
pub fn forge(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut content = fs::read(path).unwrap();
    let find = |content: &[u8], what: &[u8], start: usize| {
        let mut windows = content[start..].windows(what.len());
        start + windows.position(|window| window == what).unwrap()
    };
    // Behind the lead (96 bytes) and the signature header comes the header.
    let start = find(&content, b"\x8e\xad\xe8\x01", 100);
    let number = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap()) as usize;
    let end = start + 16 + 16 * number(start + 8) + number(start + 12);
    let sha256 = |bytes: &[u8]| {
        Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let sha1 = |bytes: &[u8]| {
        let digest = sha1::Sha1::digest(bytes);
        digest.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let before = [sha256(&content[start..end]), sha1(&content[start..end])];
    let at = find(&content, from.as_bytes(), start);
    assert!(at < end);
    content[at..at + to.len()].copy_from_slice(to.as_bytes());
    let after = [sha256(&content[start..end]), sha1(&content[start..end])];
    for (before, after) in before.iter().zip(after) {
        let at = find(&content[..start], before.as_bytes(), 0);
        content[at..at + after.len()].copy_from_slice(after.as_bytes());
    }
    let old = content.clone();
    let signature = 96 + 16 + 16 * u32::from_be_bytes(old[104..108].try_into().unwrap()) as usize;
    let mut original = old[start..].to_vec();
    original[at - start..at - start + from.len()].copy_from_slice(from.as_bytes());
    let md5 = find(&old, &md5::Md5::digest(&original), signature);
    let digest = md5::Md5::digest(&old[start..]);
    content[md5..md5 + 16].copy_from_slice(&digest);
    fs::write(path, content).unwrap();
}
