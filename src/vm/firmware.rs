//! Finding OVMF, the UEFI firmware for virtual machines.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::VmError;
use super::qemu::tool_prefixes;
use crate::formats::at::ReadAt as _;
use crate::formats::efi::{VariableStore, guid};
use crate::formats::qcow2_reader;

/// No machine's flash is larger, in bytes: what is read into memory at once.
const LARGEST_FLASH: u64 = 64 << 20;

/// Firmware code and the empty variable store that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ovmf {
    /// The code, mapped read-only.
    pub code: PathBuf,
    /// The template of the variable store; copied before use.
    pub vars: PathBuf,
}

/// Directory, plain code, Secure Boot code (built for SMM), variables. The 4 MiB builds come before
/// the old 2 MiB ones, Debian's layout before Fedora's and Azure Linux's, then SUSE's and Arch's.
const LAYOUTS: &[(&str, &str, &str, &str)] = &[
    (
        "share/OVMF",
        "OVMF_CODE_4M.fd",
        "OVMF_CODE_4M.secboot.fd",
        "OVMF_VARS_4M.fd",
    ),
    (
        "share/edk2/ovmf",
        "OVMF_CODE_4M.qcow2",
        "OVMF_CODE_4M.secboot.qcow2",
        "OVMF_VARS_4M.qcow2",
    ),
    (
        "share/edk2/ovmf",
        "OVMF_CODE.fd",
        "OVMF_CODE.secboot.fd",
        "OVMF_VARS.fd",
    ),
    (
        "share/OVMF",
        "OVMF_CODE.fd",
        "OVMF_CODE.secboot.fd",
        "OVMF_VARS.fd",
    ),
    (
        "share/qemu",
        "ovmf-x86_64-4m-code.bin",
        "ovmf-x86_64-smm-code.bin",
        "ovmf-x86_64-4m-vars.bin",
    ),
    (
        "share/edk2/x64",
        "OVMF_CODE.4m.fd",
        "OVMF_CODE.secboot.4m.fd",
        "OVMF_VARS.4m.fd",
    ),
];

impl Ovmf {
    /// Takes `$HULLWRIGHT_OVMF_CODE` with `$HULLWRIGHT_OVMF_VARS`, else looks where distributions
    /// and the private tools have it. `secure_boot` asks for the code that can enforce signatures.
    ///
    /// # Errors
    /// No pair is complete, or only one of the two variables is set.
    pub fn find(secure_boot: bool) -> Result<Self, VmError> {
        let named = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        match (named("HULLWRIGHT_OVMF_CODE"), named("HULLWRIGHT_OVMF_VARS")) {
            (Some(code), Some(vars)) => return Self::from_candidates([Self { code, vars }], secure_boot),
            (None, None) => {}
            _ => {
                return Err(VmError::Contradiction {
                    what: "only one of HULLWRIGHT_OVMF_CODE and HULLWRIGHT_OVMF_VARS is set".into(),
                    help: "code and variables of one build belong together: set both or none".into(),
                });
            }
        }
        let mut prefixes = vec![PathBuf::from("/usr")];
        for tools in tool_prefixes() {
            prefixes.push(tools.join("usr"));
            prefixes.push(tools);
        }
        Self::from_candidates(candidates(&prefixes, secure_boot), secure_boot)
    }

    fn from_candidates(
        candidates: impl IntoIterator<Item = Self>,
        secure_boot: bool,
    ) -> Result<Self, VmError> {
        let mut looked = Vec::new();
        for candidate in candidates {
            if candidate.code.is_file() && candidate.vars.is_file() {
                return Ok(candidate);
            }
            looked.push(candidate.code.display().to_string());
        }
        Err(VmError::FirmwareMissing { secure_boot, looked })
    }
}

fn candidates(prefixes: &[PathBuf], secure_boot: bool) -> Vec<Ovmf> {
    let mut found = Vec::new();
    for prefix in prefixes {
        for (dir, plain, secure, vars) in LAYOUTS {
            let dir = prefix.join(dir);
            found.push(Ovmf {
                code: dir.join(if secure_boot { secure } else { plain }),
                vars: dir.join(vars),
            });
        }
    }
    found
}

/// Whether the variables in `store`, with which the machine is to start, enforce Secure Boot, and by the platform key that is
/// in `template`. A guest may have changed other keys of kept variables.
pub(super) fn check_enforced(store: &Path, template: &Path, kept: Option<&Path>) -> Result<(), VmError> {
    let read = |path: &Path| {
        let bytes = flash_content(path)?;
        VariableStore::parse(bytes).map_err(|source| VmError::Variables {
            path: path.to_owned(),
            source,
        })
    };
    let help =
        "an empty store enforces nothing: name keys, or an OVMF store in which PK, KEK and db are enrolled";
    let wanted = read(template)?;
    if !wanted.enforces_secure_boot() {
        return Err(VmError::NotEnforced {
            path: template.to_owned(),
            help: help.to_owned(),
        });
    }
    let Some(kept) = kept else { return Ok(()) };
    let found = read(store)?;
    if !found.enforces_secure_boot() {
        return Err(VmError::NotEnforced {
            path: store.to_owned(),
            help: format!(
                "it was kept of a machine without Secure Boot: `--fresh`, or `rm -r {}`, to begin anew",
                kept.display()
            ),
        });
    }
    let key = |store: &VariableStore| store.get(guid::GLOBAL_VARIABLE, "PK").map(|key| key.data.clone());
    if key(&found) != key(&wanted) {
        return Err(VmError::KeptWithOtherKeys {
            kept: kept.to_owned(),
        });
    }
    Ok(())
}

/// What a flash image holds, whatever format its file has.
fn flash_content(path: &Path) -> Result<Vec<u8>, VmError> {
    let failed = VmError::io("read", path);
    if flash_driver(path)? == "raw" {
        return fs::read(path).map_err(failed);
    }
    let read = || -> io::Result<Vec<u8>> {
        let image = qcow2_reader::Image::open(File::open(path)?).map_err(io::Error::other)?;
        if image.size() > LARGEST_FLASH {
            let what = format!("{} bytes are no flash of a machine's firmware", image.size());
            return Err(io::Error::other(what));
        }
        let mut bytes = vec![0; image.size() as usize];
        image.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(failed)
}

/// QEMU's driver for a flash image: Fedora ships qcow2, others raw bytes.
pub(super) fn flash_driver(path: &Path) -> Result<&'static str, VmError> {
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(VmError::io("open", path))?;
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"QFI\xfb" => Ok("qcow2"),
        Ok(()) => Ok("raw"),
        Err(error) => Err(VmError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_complete_pair_wins() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("share/OVMF");
        fs::create_dir_all(&dir).unwrap();
        let find = |secure| Ovmf::from_candidates(candidates(&[root.path().to_path_buf()], secure), secure);
        let touch = |name: &str| fs::write(dir.join(name), b"raw!").unwrap();

        touch("OVMF_CODE_4M.fd");
        touch("OVMF_CODE.fd");
        touch("OVMF_VARS.fd");
        assert_eq!(
            find(false).unwrap().code,
            dir.join("OVMF_CODE.fd"),
            "4M has no variables yet"
        );
        touch("OVMF_VARS_4M.fd");
        assert_eq!(find(false).unwrap().code, dir.join("OVMF_CODE_4M.fd"));
        match find(true) {
            Err(VmError::FirmwareMissing { secure_boot, looked }) => {
                assert!(secure_boot);
                assert!(looked.contains(&dir.join("OVMF_CODE_4M.secboot.fd").display().to_string()));
            }
            other => panic!("{other:?}"),
        }
        touch("OVMF_CODE_4M.secboot.fd");
        assert_eq!(find(true).unwrap().vars, dir.join("OVMF_VARS_4M.fd"));
    }

    #[test]
    fn flash_by_content() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, expected) in [(&b"QFI\xfb\0\0\0\x03"[..], "qcow2"), (&[0; 64][..], "raw")] {
            let path = dir.path().join("code");
            fs::write(&path, bytes).unwrap();
            assert_eq!(flash_driver(&path).unwrap(), expected);
        }
    }
}
