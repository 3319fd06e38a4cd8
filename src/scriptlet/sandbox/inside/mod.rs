//! What happens in the sandbox's own processes, until the scriptlet's interpreter takes over.
//!
//! Of a scriptlet's there are three: the first enters the namespaces and waits; the second is process 1 of the new pid namespace, makes
//! the file systems, starts the third and reaps; the third drops what power is left, puts itself under the filter and
//! becomes the interpreter. The death of each kills the next, and that of process 1 all that the scriptlet started.

mod interpreter;
mod mounts;
mod power;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use nix::sched::CloneFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};

pub(super) use self::mounts::OVERLAID;
use super::ground::Ground;
use super::usage::{self, Held};
use super::wire::{Message, Request, receive, send};
use crate::sys::process::{Side, close_inherited, fork_alone};

/// The namespaces of a sandbox.
pub(super) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Where the scriptlet's body lies while it runs; the directory is thrown away with the sandbox.
pub(super) const BODY: &str = "/tmp/rpm-tmp.scriptlet";

/// A step that failed, and why.
struct Failure {
    step: &'static str,
    reason: String,
}

/// Names the step that an error befell.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|reason| Failure {
            step,
            reason: reason.to_string(),
        })
    }
}

/// The first process of a sandbox. Its standard input is the socket to the supervisor, its output what the scriptlet's
/// will be. Must be called before the process has
/// opened a file or started a thread.
pub fn first_process() -> ExitCode {
    // A directory of the host among them would be a way out.
    let closed = close_inherited();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    match closed
        .step("closing inherited descriptors")
        .and_then(|()| enter(&socket))
    {
        Ok(code) => code,
        Err(Failure { step, reason }) => {
            let message = Message::Failed {
                step: step.into(),
                reason,
            };
            // Where the supervisor is gone there is nobody to tell.
            let _ = send(&socket, &message, &[]);
            ExitCode::FAILURE
        }
    }
}

fn enter(socket: &OwnedFd) -> Result<ExitCode, Failure> {
    let files = match receive(socket).step("taking the request")? {
        Some((Message::Start, files)) => files,
        Some((Message::Count(most), files)) => return counted(socket, most, files),
        _ => {
            return Err("`hullwright` itself starts this command, to run scriptlets in")
                .step("taking the request");
        }
    };
    let [request, stdin]: [OwnedFd; 2] = files
        .try_into()
        .map_err(|_| "files are missing")
        .step("taking the request")?;
    let request: Request = serde_json::from_reader(File::from(request)).step("taking the request")?;

    become_root(NAMESPACES)?;
    die_with_parent()?;
    if rustix::process::getppid() != Pid::from_raw(request.supervisor) {
        return Err("it is gone").step("looking for the supervisor");
    }
    match fork_alone().step("starting process 1")? {
        Side::Parent(init) => {
            // Before it is buried, so that the handle is its own and no later process's.
            let handle = Pid::from_raw(init.as_raw())
                .ok_or(rustix::io::Errno::SRCH)
                .and_then(|init| pidfd_open(init, PidfdFlags::empty()))
                .step("holding process 1")?;
            send(socket, &Message::Init, &[handle.as_fd()]).step("naming process 1")?;
            drop(handle);
            // Returns when all processes of the namespace are gone.
            rustix::process::waitpid(Pid::from_raw(init.as_raw()), WaitOptions::empty())
                .step("waiting for process 1")?;
            Ok(ExitCode::SUCCESS)
        }
        Side::Child => init(socket, &request, stdin),
    }
}

/// Enters new namespaces, one of users among them, whose root is the user.
fn become_root(namespaces: CloneFlags) -> Result<(), Failure> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(namespaces).step("entering namespaces")?;
    // A kernel without it needs it not.
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).step("mapping the user");
        }
        _ => {}
    }
    fs::write("/proc/self/uid_map", format!("0 {user} 1\n")).step("mapping the user")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1\n")).step("mapping the group")
}

/// Counts for the supervisor what a tree holds, with power over what its owner has shut himself out of.
fn counted(socket: &OwnedFd, most: Held, files: Vec<OwnedFd>) -> Result<ExitCode, Failure> {
    let [root]: [OwnedFd; 1] = files
        .try_into()
        .map_err(|_| "files are missing")
        .step("taking the request")?;
    become_root(CloneFlags::CLONE_NEWUSER)?;
    die_with_parent()?;
    let held = usage::count(&Ground::opened(root), most).step("counting")?;
    send(socket, &Message::Counted(held), &[]).step("reporting")?;
    Ok(ExitCode::SUCCESS)
}

/// To be said again after a change of user namespace, which takes it back.
fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("tying processes")
}

/// Process 1 of the namespace.
fn init(socket: &OwnedFd, request: &Request, stdin: OwnedFd) -> Result<ExitCode, Failure> {
    die_with_parent()?;
    // No terminal to type on.
    rustix::process::setsid().step("leaving the session")?;
    nix::unistd::sethostname("localhost").step("naming the host")?;
    mounts::make(&request.root, &request.limits)?;
    let root = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .step("opening the new root")?;
    let Some(task) = &request.task else {
        // A trial goes as far as the filter.
        power::drop_all()?;
        let listener = power::filter()?;
        send(socket, &Message::Ready, &[listener.as_fd(), root.as_fd()]).step("reporting")?;
        return Ok(ExitCode::SUCCESS);
    };
    if !task.body.is_empty() {
        interpreter::write_body(&task.body).step("writing the scriptlet's body")?;
    }
    match fork_alone().step("starting the scriptlet's process")? {
        Side::Child => {
            power::limit(&request.limits)?;
            power::drop_all()?;
            interpreter::become_it(socket, task, stdin, root)
        }
        Side::Parent(child) => {
            drop((stdin, root));
            // Its memory and descriptors are not the scriptlet's to look at.
            nix::sys::prctl::set_dumpable(false).step("closing process 1")?;
            power::drop_all()?;
            reap(socket, Pid::from_raw(child.as_raw()))
        }
    }
}

/// Waits for the scriptlet's process; the others that end meanwhile are buried.
fn reap(socket: &OwnedFd, scriptlet: Option<Pid>) -> Result<ExitCode, Failure> {
    loop {
        let ended = match rustix::process::wait(WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            ended => ended.step("waiting for the scriptlet")?,
        };
        let Some((pid, status)) = ended else { continue };
        if Some(pid) != scriptlet {
            continue;
        }
        let message = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Message::Exited(code),
            (_, Some(signal)) => Message::Killed(signal),
            _ => continue,
        };
        send(socket, &message, &[]).step("reporting")?;
        return Ok(ExitCode::SUCCESS);
    }
}
