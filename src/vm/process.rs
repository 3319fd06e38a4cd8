//! QEMU as a process: bound to this program's life, its outputs collected.

use std::io::{self, Read};
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::console::Console;
use super::qemu::{Qemu, in_path};

/// How much of QEMU's standard error is kept, in bytes.
const MAX_COMPLAINT: usize = 64 * 1024;

/// QEMU in a process group of its own, so that Ctrl-C reaches this program first, and bound to this program's
/// life where `setpriv` is there to do so.
pub(super) fn command(qemu: &Qemu, arguments: &[String]) -> Command {
    let mut command = match in_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu.path);
            command
        }
        None => Command::new(&qemu.path),
    };
    command.args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    command
}

/// Starts QEMU from the thread that reads its console. The kernel's parent-death signal watches the thread
/// that forked, so this one must live until QEMU has ended, not only until it has closed its output.
pub(super) fn spawn(
    mut command: Command,
    console: Arc<Console>,
    complaint: Arc<Mutex<String>>,
) -> io::Result<(Child, JoinHandle<()>)> {
    let (hand_over, receive) = mpsc::channel();
    let listener = thread::Builder::new().name("console".into()).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = hand_over.send(Err(error));
                return;
            }
        };
        let output = child.stdout.take();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || collect(stderr, &complaint));
        }
        let id = i32::try_from(child.id()).map(Pid::from_raw);
        if hand_over.send(Ok(child)).is_ok()
            && let Some(mut output) = output
        {
            listen(&mut output, &console);
        }
        console.close();
        if let Ok(id) = id {
            // Leaves the status to be collected; that it was collected already is as good.
            while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        }
    })?;
    let child = receive.recv().map_err(io::Error::other)??;
    Ok((child, listener))
}

fn listen(output: &mut impl Read, console: &Console) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => console.feed(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

fn collect(mut from: impl Read, into: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() < MAX_COMPLAINT {
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}

/// Ends QEMU, and a wrapper around it, at once.
pub(super) fn end(child: &mut Child) {
    drop(mem::take(&mut child.stdin));
    if let Ok(None) = child.try_wait() {
        if let Ok(id) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
