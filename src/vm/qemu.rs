//! Finding QEMU, and what is known of its versions.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::VmError;

/// The emulator's file name.
const PROGRAM: &str = "qemu-system-x86_64";

/// A QEMU that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: Version,
}

/// QEMU's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

impl Version {
    /// Reads the first line of `qemu-system-… --version`.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.lines().next()?.split_once("version ")?;
        let word = after.split([' ', '(', '-', '+']).next()?;
        let mut numbers = word.split('.').map(str::parse::<u32>);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            micro: numbers.next().and_then(Result::ok).unwrap_or(0),
        })
    }

    /// Whether a guest with several processors survives under TCG: before version 8 a
    /// fault in the emulation of cmpxchg16b panics it.
    pub fn tcg_smp_works(self) -> bool {
        self.major >= 8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl Qemu {
    /// Looks in `$HULLWRIGHT_QEMU`, in the private tools ([`tool_prefixes`]), then in `$PATH`; the first
    /// that exists is asked for its version.
    ///
    /// # Errors
    /// None is there, or the one found does not run.
    pub fn find() -> Result<Self, VmError> {
        if let Some(named) = env::var_os("HULLWRIGHT_QEMU").filter(|v| !v.is_empty()) {
            return Self::at(PathBuf::from(named));
        }
        let private = tool_prefixes()
            .into_iter()
            .map(|prefix| prefix.join("bin").join(PROGRAM));
        match private
            .into_iter()
            .find(|path| path.is_file())
            .or_else(|| in_path(PROGRAM))
        {
            Some(path) => Self::at(path),
            None => Err(VmError::ProgramMissing {
                program: PROGRAM.into(),
                help: "install `qemu-system-x86` (Debian, Ubuntu) or `qemu-system-x86-core` (Fedora, Azure \
                       Linux), or name the program in HULLWRIGHT_QEMU"
                    .into(),
            }),
        }
    }

    /// The QEMU at `path`.
    ///
    /// # Errors
    /// It does not run, or does not say its version.
    pub fn at(path: PathBuf) -> Result<Self, VmError> {
        let output = Command::new(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(VmError::io("run", &path))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match Version::parse(&said) {
            Some(version) => Ok(Self { path, version }),
            None => Err(VmError::Qemu {
                status: output.status.to_string(),
                message: format!(
                    "{} --version said nothing that can be read as a version: {}{}",
                    path.display(),
                    said.trim(),
                    String::from_utf8_lossy(&output.stderr).trim()
                ),
            }),
        }
    }
}

/// Where a private set of newer tools may lie: `$HULLWRIGHT_TRIXIE_TOOLS`, else
/// `hullwright/trixie-tools` in the user's cache directory.
pub(super) fn tool_prefixes() -> Vec<PathBuf> {
    let named = env::var_os("HULLWRIGHT_TRIXIE_TOOLS").filter(|v| !v.is_empty());
    match named {
        Some(prefix) => vec![PathBuf::from(prefix)],
        None => cache_dir()
            .map(|cache| cache.join("trixie-tools"))
            .into_iter()
            .collect(),
    }
}

/// This project's directory in the user's cache.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("hullwright"))
}

/// `program` in `$PATH`.
pub(super) fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let cases = [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) …",
                Some((7, 2, 22)),
            ),
            (
                "QEMU emulator version 10.0.2 (qemu-10.0.2-1.fc43)\n",
                Some((10, 0, 2)),
            ),
            ("QEMU emulator version 9.1.0-rc2", Some((9, 1, 0))),
            ("QEMU emulator version 8.2", Some((8, 2, 0))),
            ("qemu: unknown option", None),
            ("version x.y", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = Version::parse(text).map(|v| (v.major, v.minor, v.micro));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn old_tcg_gets_one_processor() {
        let version = |major, minor| Version {
            major,
            minor,
            micro: 0,
        };
        assert!(!version(7, 2).tcg_smp_works());
        assert!(version(8, 0).tcg_smp_works());
        assert!(version(10, 0).tcg_smp_works());
    }
}
