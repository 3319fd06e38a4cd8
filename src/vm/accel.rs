//! Whether KVM works here, found out by using it.
//!
//! A `/dev/kvm` that can be opened proves little: in some containers and nested machines it is there
//! and cannot run firmware. So the firmware is started on it once, and must print something;
//! the answer is remembered until the host reboots or QEMU changes.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::qemu::{Qemu, cache_dir};
use super::{Ovmf, VmError};

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// Translated by QEMU: works everywhere, some ten times slower.
    Tcg,
}

/// Which [`Accelerator`] is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acceleration {
    /// KVM if it really works, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG, without looking at KVM.
    Tcg,
}

impl Accelerator {
    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The firmware prints within a second or two on a processor; a loaded host gets its time.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// Settles the accelerator; with TCG by need, also the reason.
pub(super) fn choose(
    wanted: Acceleration,
    qemu: &Qemu,
    ovmf: &Ovmf,
) -> Result<(Accelerator, Option<String>), VmError> {
    if wanted == Acceleration::Tcg {
        return Ok((Accelerator::Tcg, None));
    }
    match (usable(qemu, ovmf), wanted) {
        (Ok(()), _) => Ok((Accelerator::Kvm, None)),
        (Err(reason), Acceleration::Kvm) => Err(VmError::NoKvm { reason }),
        (Err(reason), _) => Ok((Accelerator::Tcg, Some(reason))),
    }
}

/// Remembers that KVM failed on a machine that the probe had let through.
pub(super) fn remember_failure(qemu: &Qemu, reason: &str) {
    if let Some(cache) = Cache::here(qemu) {
        cache.write(&Err(reason.to_owned()));
    }
}

fn usable(qemu: &Qemu, ovmf: &Ovmf) -> Result<(), String> {
    let device = Path::new("/dev/kvm");
    match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("this host has no /dev/kvm".into());
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err("no permission for /dev/kvm (is the user in group kvm?)".into());
        }
        Err(error) => return Err(format!("/dev/kvm cannot be opened: {error}")),
    }
    let cache = Cache::here(qemu);
    if let Some(known) = cache.as_ref().and_then(Cache::read) {
        return known;
    }
    let verdict = probe(qemu, ovmf)
        .map_err(|reason| format!("/dev/kvm is there, but does not run a machine ({reason})"));
    if let Some(cache) = cache {
        cache.write(&verdict);
    }
    verdict
}

/// Starts nothing but the firmware under KVM and waits for its first output.
fn probe(qemu: &Qemu, ovmf: &Ovmf) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let vars = dir.path().join("vars");
    fs::copy(&ovmf.vars, &vars).map_err(|error| error.to_string())?;
    let flash = |unit: u8, file: &Path, read_only: &str| -> Result<String, String> {
        let driver = super::firmware::flash_driver(file).map_err(|error| error.to_string())?;
        let name = file
            .to_str()
            .ok_or("a path that is not UTF-8")?
            .replace(',', ",,");
        Ok(format!(
            "if=pflash,unit={unit},format={driver},readonly={read_only},file={name}"
        ))
    };
    let mut child = Command::new(&qemu.path)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args([
            "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "256", "-serial", "stdio",
        ])
        .args([
            "-drive",
            &flash(0, &ovmf.code, "on")?,
            "-drive",
            &flash(1, &vars, "off")?,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (said, first) = mpsc::channel();
    if let Some(mut out) = child.stdout.take() {
        thread::spawn(move || {
            let count = out.read(&mut [0; 64]).unwrap_or(0);
            // Nobody listens any more once the patience has ended.
            let _ = said.send(count > 0);
        });
    }
    let alive = first.recv_timeout(PROBE_PATIENCE);
    // It may have ended already; either way it must be gone and its words be read.
    let _ = child.kill();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().next().unwrap_or("QEMU died").trim();
    match alive {
        Ok(true) => Ok(()),
        Ok(false) => Err(complaint.to_owned()),
        Err(_) => Err(format!(
            "the firmware stayed silent for {} s",
            PROBE_PATIENCE.as_secs()
        )),
    }
}

/// The remembered verdict: first line names host boot and QEMU, second the reason against KVM or nothing.
struct Cache {
    path: PathBuf,
    key: String,
}

impl Cache {
    /// None where the host has no boot id or the user no cache directory: then nothing is remembered.
    fn here(qemu: &Qemu) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            path: cache_dir()?.join("kvm-verdict"),
            key: format!("{} {} {}", boot.trim(), qemu.version, qemu.path.display()),
        })
    }

    fn read(&self) -> Option<Result<(), String>> {
        let text = fs::read_to_string(&self.path).ok()?;
        let (key, reason) = text.split_once('\n')?;
        match (key == self.key, reason.trim()) {
            (false, _) => None,
            (true, "") => Some(Ok(())),
            (true, reason) => Some(Err(reason.to_owned())),
        }
    }

    /// A cache that cannot be written costs the next start a probe, nothing more.
    fn write(&self, verdict: &Result<(), String>) {
        let reason = verdict.as_ref().err().map_or("", String::as_str);
        let text = format!("{}\n{}\n", self.key, reason.replace('\n', " "));
        if let Some(dir) = self.path.parent() {
            let _ = fs::create_dir_all(dir).and_then(|()| fs::write(&self.path, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_belongs_to_one_boot_and_one_qemu() {
        let dir = tempfile::tempdir().unwrap();
        let cache = |key: &str| Cache {
            path: dir.path().join("sub/kvm-verdict"),
            key: key.into(),
        };
        assert_eq!(cache("boot-1 7.2.0").read(), None);
        for verdict in [Err("failed to set MSR\n0x10a".to_owned()), Ok(())] {
            cache("boot-1 7.2.0").write(&verdict);
            let expected = verdict.map_err(|reason| reason.replace('\n', " "));
            assert_eq!(cache("boot-1 7.2.0").read(), Some(expected));
            assert_eq!(cache("boot-2 7.2.0").read(), None);
            assert_eq!(cache("boot-1 10.0.0").read(), None);
        }
    }
}
