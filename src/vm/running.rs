//! A machine that was started: waiting for it, working in it, ending it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::VmError;
use super::accel::{self, Accelerator};
use super::console::{Console, Sink};
use super::health::{Failure, FailureKind, Verdict};
use super::process::{command, end, spawn};
use super::qemu::Qemu;
use super::qmp::Qmp;
use super::ssh::{Login, remote_command};
use super::state::State;
use super::tpm::Swtpm;

/// How often the world outside the console is looked at.
const BEAT: Duration = Duration::from_millis(200);
/// How long the console may go on after a telling line, so that its reasons are seen too.
const LINGER: Duration = Duration::from_millis(1500);
/// How long QEMU may take to open its control socket (a loaded host, a cold cache).
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a first login is tried by [`Running::ssh`].
const LOGIN_PATIENCE: Duration = Duration::from_secs(600);
/// How many lines of the console an error quotes.
const TAIL: usize = 40;

/// What [`Running::launch`] needs.
pub(super) struct Started {
    pub(super) qemu: Qemu,
    pub(super) arguments: Vec<String>,
    pub(super) control: PathBuf,
    pub(super) accelerator: Accelerator,
    pub(super) note: Option<String>,
    pub(super) login: Option<Login>,
    pub(super) tpm: Option<Swtpm>,
    pub(super) state: State,
    pub(super) sinks: Vec<Sink>,
    pub(super) stop: Arc<AtomicBool>,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest restarted, and restarts end this machine.
    Restarted,
    /// QEMU was told to end.
    Stopped,
}

/// A running machine. Dropping it ends QEMU at once and removes what was temporary.
pub struct Running {
    child: Child,
    qmp: Qmp,
    qemu: Qemu,
    accelerator: Accelerator,
    note: Option<String>,
    console: Arc<Console>,
    complaint: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    begun: Instant,
    port: Option<u16>,
    logged_in: bool,
    // Dropped after QEMU's end, in this order.
    login: Option<Login>,
    _tpm: Option<Swtpm>,
    state: State,
}

impl Running {
    /// Starts QEMU and waits for its control connection.
    pub(super) fn launch(started: Started) -> Result<Self, VmError> {
        let begun = Instant::now();
        let console = Arc::new(Console::new(started.sinks));
        let complaint = Arc::new(Mutex::new(String::new()));
        let command = command(&started.qemu, &started.arguments);
        let (mut child, listener) = spawn(command, Arc::clone(&console), Arc::clone(&complaint))
            .map_err(VmError::io("run", &started.qemu.path))?;
        let qmp = match connect(&mut child, &started.control, &complaint) {
            Ok(qmp) => qmp,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let mut running = Self {
            child,
            qmp,
            qemu: started.qemu,
            accelerator: started.accelerator,
            note: started.note,
            console,
            complaint,
            listener: Some(listener),
            stop: started.stop,
            begun,
            port: None,
            logged_in: false,
            login: started.login,
            _tpm: started.tpm,
            state: started.state,
        };
        if running.login.is_some() {
            running.port = Some(running.qmp.forwarded_port()?);
        }
        Ok(running)
    }

    /// The accelerator in use, and why it is not KVM where that was not by choice.
    pub fn accelerator(&self) -> (Accelerator, Option<&str>) {
        (self.accelerator, self.note.as_deref())
    }

    /// The QEMU in use.
    pub fn qemu(&self) -> &Qemu {
        &self.qemu
    }

    /// The directory in which disk, firmware variables and TPM stay after the end; none when they are thrown away.
    pub fn kept(&self) -> Option<&Path> {
        self.state.kept.as_deref()
    }

    /// Everything that the console showed so far, as plain lines.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Stops copying the console elsewhere (it is still watched).
    pub fn silence(&self) {
        self.console.quiet();
    }

    /// The way to type on the console; only once.
    pub fn take_input(&mut self) -> Option<impl Write + Send + 'static> {
        self.child.stdin.take()
    }

    /// Waits until the guest says that it is healthy; gives the time since the start.
    ///
    /// # Errors
    /// [`VmError::NotHealthy`] with the console's last lines when it says otherwise, crashes, ends, or stays
    /// undecided for `timeout`; [`VmError::Interrupted`].
    pub fn wait_healthy(&mut self, timeout: Duration) -> Result<Duration, VmError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.console.verdict() {
                Some(Verdict::Healthy) => return Ok(self.begun.elapsed()),
                Some(Verdict::Failed(failure)) => {
                    self.linger();
                    return Err(self.not_healthy(failure));
                }
                None => self.beat()?,
            }
            if let Some(end) = self.ended()? {
                // The last words may have come between the verdict above and the end.
                match self.console.verdict() {
                    Some(Verdict::Healthy) => return Ok(self.begun.elapsed()),
                    Some(Verdict::Failed(failure)) => return Err(self.not_healthy(failure)),
                    None => return Err(self.not_healthy(untimely(&end))),
                }
            }
            if Instant::now() >= deadline {
                return Err(self.not_healthy(Failure {
                    kind: FailureKind::TimedOut,
                    detail: format!(
                        "the guest said neither healthy nor unhealthy within {} s",
                        timeout.as_secs()
                    ),
                }));
            }
        }
    }

    /// Waits until root can log in by ssh; gives the time since the start. An unhealthy guest is waited for too,
    /// one that crashed is not.
    ///
    /// # Errors
    /// [`VmError::NoSsh`] after `timeout`; [`VmError::NotHealthy`] when the machine crashed or ended.
    pub fn wait_ssh(&mut self, timeout: Duration) -> Result<Duration, VmError> {
        let from = Instant::now();
        let port = self.port()?;
        loop {
            let attempt = match &self.login {
                Some(login) => login.attempt(port),
                None => return Err(no_login()),
            };
            let Err(reason) = attempt else {
                self.logged_in = true;
                return Ok(self.begun.elapsed());
            };
            self.check_alive()?;
            if let Some(end) = self.ended()? {
                return Err(self.not_healthy(untimely(&end)));
            }
            if from.elapsed() >= timeout {
                return Err(VmError::NoSsh {
                    waited: timeout,
                    reason,
                    tail: self.console.tail(TAIL),
                });
            }
            let pause = Instant::now() + Duration::from_secs(1);
            while Instant::now() < pause {
                self.beat()?;
            }
        }
    }

    /// Runs `command` as root in the guest and collects its output; see [`remote_command`] for how words are
    /// passed. The first call waits until a login is possible.
    ///
    /// # Errors
    /// No login; ssh could not be run. A command that fails is no error: look at the status.
    pub fn ssh<S: AsRef<str>>(&mut self, command: &[S]) -> Result<Output, VmError> {
        if !self.logged_in {
            self.wait_ssh(LOGIN_PATIENCE)?;
        }
        let mut client = self.ssh_command(command)?;
        client
            .stdin(Stdio::null())
            .output()
            .map_err(VmError::io("run", client.get_program()))
    }

    /// The ssh client with `command`, or for an interactive shell when that is empty, to be run by the caller.
    ///
    /// # Errors
    /// The machine was started without [`super::Machine::ssh`].
    pub fn ssh_command<S: AsRef<str>>(&self, command: &[S]) -> Result<Command, VmError> {
        let login = self.login.as_ref().ok_or_else(no_login)?;
        let mut client = login.command(self.port()?);
        if !command.is_empty() {
            client.arg(remote_command(command));
        }
        Ok(client)
    }

    /// Fails when the console has shown that the guest is lost: it crashed, or there was nothing to boot. A guest that
    /// merely calls itself unhealthy runs.
    ///
    /// # Errors
    /// [`VmError::NotHealthy`].
    pub fn check_alive(&mut self) -> Result<(), VmError> {
        match self.console.verdict() {
            Some(Verdict::Failed(failure)) if failure.kind != FailureKind::Unhealthy => {
                self.linger();
                Err(self.not_healthy(failure))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the machine's end, at most for `timeout`; none when it still runs then.
    ///
    /// # Errors
    /// QEMU failed; [`VmError::Interrupted`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<End>, VmError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(end) = self.ended()? {
                return Ok(Some(end));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            self.beat()?;
        }
    }

    /// Presses the power button, and after `patience` pulls the plug. Whether the guest went down by itself, with
    /// its file systems unmounted.
    ///
    /// # Errors
    /// QEMU failed; [`VmError::Interrupted`].
    pub fn power_off(mut self, patience: Duration) -> Result<bool, VmError> {
        if self.ended()?.is_none() {
            self.qmp.execute("system_powerdown", json!({}))?;
        }
        let clean = self.wait(Some(patience))? == Some(End::PoweredOff);
        if !clean && self.ended()?.is_none() {
            // QEMU writes out what the disk's overlay still holds in memory, which a kill would lose. It
            // closes the connection with its answer, sometimes before it.
            let _ = self.qmp.execute("quit", json!({}));
            self.wait(Some(START_PATIENCE))?;
        }
        Ok(clean)
    }

    fn port(&self) -> Result<u16, VmError> {
        self.port.ok_or_else(no_login)
    }

    /// Waits for the console's news or a moment, whichever is shorter.
    fn beat(&self) -> Result<(), VmError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(VmError::Interrupted);
        }
        if !self.console.wait(BEAT) {
            thread::sleep(BEAT / 10);
        }
        Ok(())
    }

    fn linger(&mut self) {
        let until = Instant::now() + LINGER;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) && self.console.wait(BEAT) {
        }
    }

    fn not_healthy(&self, failure: Failure) -> VmError {
        VmError::NotHealthy {
            failure,
            tail: self.console.tail(TAIL),
        }
    }

    /// Whether QEMU has ended, and how.
    fn ended(&mut self) -> Result<Option<End>, VmError> {
        if self.accelerator == Accelerator::Kvm {
            self.check_kvm()?;
        }
        let Some(status) = self
            .child
            .try_wait()
            .map_err(VmError::io("wait for", &self.qemu.path))?
        else {
            return Ok(None);
        };
        if let Some(listener) = self.listener.take() {
            // Its work ends with QEMU's output; a panic there has already been reported.
            let _ = listener.join();
        }
        if !status.success() {
            return Err(died(status, &self.complaint));
        }
        Ok(Some(match self.qmp.shutdown_reason().as_deref() {
            Some("guest-reset") => End::Restarted,
            Some("host-qmp-quit" | "host-signal") => End::Stopped,
            _ => End::PoweredOff,
        }))
    }

    /// KVM can let the firmware run and fail later; QEMU then stops the guest and stays.
    fn check_kvm(&self) -> Result<(), VmError> {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let sign = complaint
            .lines()
            .find(|line| line.contains("KVM internal error") || line.contains("kvm run failed"));
        match sign {
            Some(sign) => {
                accel::remember_failure(&self.qemu, sign);
                Err(VmError::NoKvm {
                    reason: format!("{sign} (remembered until the host restarts: the next start uses TCG)"),
                })
            }
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn no_login() -> VmError {
    VmError::Contradiction {
        what: "this machine was started without ssh".into(),
        help: "ask for it before the start: Machine::ssh, or --ssh".into(),
    }
}

fn untimely(end: &End) -> Failure {
    let detail = match end {
        End::PoweredOff => "the guest switched itself off before it was healthy",
        End::Restarted => "the guest restarted before it was healthy",
        End::Stopped => "it was stopped before it was healthy",
    };
    Failure {
        kind: FailureKind::Ended,
        detail: detail.to_owned(),
    }
}

fn died(status: ExitStatus, complaint: &Mutex<String>) -> VmError {
    // What QEMU wrote last may still be on its way through the thread that collects it.
    thread::sleep(BEAT);
    let message = complaint
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .trim()
        .to_owned();
    VmError::Qemu {
        status: status.to_string(),
        message: if message.is_empty() {
            "no message".into()
        } else {
            message
        },
    }
}

fn connect(child: &mut Child, socket: &Path, complaint: &Mutex<String>) -> Result<Qmp, VmError> {
    let from = Instant::now();
    loop {
        let error = match Qmp::connect(socket) {
            Ok(qmp) => return Ok(qmp),
            Err(error) => error,
        };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(died(status, complaint));
        }
        if from.elapsed() > START_PATIENCE {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
