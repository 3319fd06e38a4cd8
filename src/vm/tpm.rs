//! A software TPM 2.0 for the guest: swtpm.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::VmError;
use super::qemu::in_path;

const PATIENCE: Duration = Duration::from_secs(10);

/// A running swtpm; ended when dropped.
pub(super) struct Swtpm {
    child: Child,
    /// Its control socket, for QEMU.
    pub(super) socket: PathBuf,
}

impl Swtpm {
    /// Starts swtpm on the state in `state` (made if missing), its socket in `run`. Both absolute: swtpm changes its
    /// working directory.
    pub(super) fn start(state: &Path, run: &Path) -> Result<Self, VmError> {
        let program = in_path("swtpm").ok_or_else(|| VmError::ProgramMissing {
            program: "swtpm".into(),
            help: "install `swtpm` (Debian, Ubuntu, Fedora, Azure Linux)".into(),
        })?;
        fs::create_dir_all(state).map_err(VmError::io("create", state))?;
        let socket = run.join("tpm.sock");
        let log = run.join("tpm.log");
        let child = Command::new(&program)
            .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
            .arg(format!("dir={}", state.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--log")
            .arg(format!("file={},level=1", log.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(VmError::io("run", program))?;
        let mut tpm = Self { child, socket };
        let start = Instant::now();
        while !tpm.socket.exists() {
            let ended = tpm.child.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(VmError::Control(format!("swtpm did not start: {}", log.trim())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(tpm)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // After QEMU's end it ends by itself (--terminate), which writes its state; it gets time for that.
        for _ in 0..50 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
