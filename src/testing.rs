//! For tests only: finding outside tools and inputs, and saying so when one is missing.
//!
//! `tests/support/mod.rs` includes this file for tests of the built program.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The program `name`: of the unpacked newer tools (`$HULLWRIGHT_TRIXIE_TOOLS/bin`) if they have it, else of `PATH`
/// and the directories of system programs. `None` is reported as a skipped test.
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(&format!("{name} is missing"));
    }
    found
}

/// As [`tool`], and nothing is reported.
pub fn find(name: &str) -> Option<PathBuf> {
    let newer = trixie_tools().map(|prefix| prefix.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    newer
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Reports that the running test is skipped: on stderr, and in the file that `HULLWRIGHT_SKIPS` names, since the
/// output of a passing test is not shown. A skip for want of `../shared` must name it.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: {}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
    if let Some(file) = std::env::var_os("HULLWRIGHT_SKIPS") {
        // One write in append mode: lines of tests that run at once do not mix.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .and_then(|mut out| out.write_all(line.as_bytes()));
        if let Err(error) = written {
            panic!(
                "cannot write to HULLWRIGHT_SKIPS, {}: {error}",
                Path::new(&file).display()
            );
        }
    }
}

/// The unpacked newer tools: `bin/` to run, `root/` with their data (`root/usr/share/OVMF`).
pub fn trixie_tools() -> Option<PathBuf> {
    directory("HULLWRIGHT_TRIXIE_TOOLS", || {
        cache().map(|cache| cache.join("trixie-tools"))
    })
}

/// The sample RPM set; its absence is reported as a skipped test.
pub fn sample_rpms() -> Option<PathBuf> {
    let found = directory("HULLWRIGHT_SAMPLE_RPMS", || {
        cache().map(|cache| cache.join("sample-rpms"))
    });
    if found.is_none() {
        skip("the sample RPM set is missing: run make sample");
    }
    found
}

/// Debian's SELinux policy, compiled (`policy/etc/selinux/default`), and newer tools to ask it (`bin/`); its absence is
/// reported as a skipped test.
pub fn selinux_policy() -> Option<PathBuf> {
    let found = directory("HULLWRIGHT_SELINUX_POLICY", || {
        cache().map(|cache| cache.join("selinux-policy"))
    })
    .filter(|made| made.join("stamp").is_file());
    if found.is_none() {
        skip("the SELinux policy is missing: run tests/sample-set/selinux-policy");
    }
    found
}

/// RPMs of real distributions (`distro/`, `features/`, `CASES.tsv`); their absence is reported as a skipped test.
pub fn real_rpms() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real-rpms");
    let found = directory("HULLWRIGHT_REAL_RPMS", || Some(beside));
    if found.is_none() {
        skip("../shared/real-rpms is not here");
    }
    found
}

fn directory(variable: &str, otherwise: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(otherwise)
        .filter(|path| path.is_dir())
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HULLWRIGHT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("hullwright")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/hullwright")))
}
