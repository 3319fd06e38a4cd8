//! Watching over a scriptlet while it runs: its calls, its output, and what it uses.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, pidfd_send_signal};

use super::End;
use super::calls::Answering;
use super::error::SandboxError;
use super::ground::Ground;
use super::limits::Limits;
use super::records::Records;
use super::usage::{self, Disk, Held};
use super::wire::{Message, Request, receive, send};
use crate::sys::seccomp::{self, Verdict};

/// The hidden subcommand under which the program becomes a sandbox's first process.
pub const FIRST_PROCESS: &str = "sandbox-first-process";

/// How often memory and disk use are looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// What a run came to.
pub(super) struct Ran {
    pub end: End,
    pub output: Vec<u8>,
    pub output_cut: bool,
}

/// The processes of one sandbox, as the supervisor sees them. Ends them all when it goes.
struct Processes {
    first: Child,
    /// Process 1 of the namespace.
    init: Option<OwnedFd>,
    socket: OwnedFd,
    output: OwnedFd,
}

impl Processes {
    fn start(program: &Path, request: &Request, stdin: &[u8]) -> Result<Self, SandboxError> {
        let fail = |source| SandboxError::Start {
            program: program.to_owned(),
            source,
        };
        let (socket, theirs) = pair().map_err(fail)?;
        let (output, end) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| fail(error.into()))?;
        rustix::fs::fcntl_setfl(&output, rustix::fs::OFlags::NONBLOCK).map_err(|error| fail(error.into()))?;
        let request = serde_json::to_vec(request).map_err(|error| fail(error.into()))?;
        let request = file_of(&request).map_err(fail)?;
        let stdin = file_of(stdin).map_err(fail)?;
        let first = first_process(program, theirs)
            .stdout(Stdio::from(end.try_clone().map_err(fail)?))
            .stderr(Stdio::from(end))
            .spawn()
            .map_err(fail)?;
        let processes = Self {
            first,
            init: None,
            socket,
            output,
        };
        send(
            &processes.socket,
            &Message::Start,
            &[request.as_fd(), stdin.as_fd()],
        )
        .map_err(fail)?;
        Ok(processes)
    }

    /// Ends all processes and waits until they are gone.
    fn end(&mut self) {
        if let Some(init) = self.init.take() {
            // Where it ended by itself, nothing is there to be ended.
            let _ = pidfd_send_signal(init, Signal::KILL);
        } else {
            let _ = self.first.kill();
        }
        let _ = self.first.wait();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

/// Two ends of a way for messages.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// `program` as a sandbox's first process, that does what it is told through `socket`; its output is lost unless it is
/// given another place.
pub(super) fn first_process(program: &Path, socket: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command.arg(FIRST_PROCESS).env_clear().current_dir("/");
    command
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A file with `bytes`, read from its start, that nobody can write to by name.
fn file_of(bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::os::unix::fs::FileExt as _;
    let file = tempfile::tempfile()?;
    file.write_all_at(bytes, 0)?;
    // Open for reading only.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = OwnedFd::from(file);
    let path = super::ground::itself(&file);
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

/// What [`run`] works with.
pub(super) struct Stage<'a> {
    pub program: &'a Path,
    pub limits: Limits,
    pub records: &'a mut Records,
    pub ground: &'a Ground,
    /// What the tree holds.
    pub before: Held,
    /// The script, as messages name it.
    pub script: &'a str,
    /// Not to be started before.
    pub not_before: Instant,
}

/// Runs the task of `request` to its end. Without a task, only makes the sandbox.
pub(super) fn run(stage: Stage<'_>, request: &Request, stdin: &[u8]) -> Result<Ran, SandboxError> {
    let limits = stage.limits;
    let disk = Disk::new(stage.program, stage.ground, limits, stage.before);
    let processes = Processes::start(stage.program, request, stdin)?;
    let mut watch = Watch {
        stage,
        processes,
        trial: request.task.is_none(),
        served: None,
        started: None,
        forks: 0,
        living: 0,
        output: Vec::new(),
        written: 0,
        disk,
        user: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let end = watch.until_end()?;
    watch.processes.end();
    // What was written before the end.
    let _ = watch.take_output();
    let Watch { output, written, .. } = watch;
    Ok(Ran {
        end,
        output_cut: written > output.len() as u64,
        output,
    })
}

struct Watch<'a> {
    stage: Stage<'a>,
    processes: Processes,
    trial: bool,
    /// The listener and the sandbox's `/`, once there.
    served: Option<(OwnedFd, OwnedFd)>,
    started: Option<Instant>,
    /// Processes started since they were last counted, and how many lived then.
    forks: u32,
    living: u32,
    output: Vec<u8>,
    written: u64,
    disk: Disk<'a>,
    user: (u32, u32),
}

impl Watch<'_> {
    fn fail(&self, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::Watch {
            script: self.stage.script.to_owned(),
            source: source.into(),
        }
    }

    fn broken(&self, what: impl Into<String>) -> SandboxError {
        SandboxError::Broken {
            script: self.stage.script.to_owned(),
            what: what.into(),
        }
    }

    fn until_end(&mut self) -> Result<End, SandboxError> {
        let begun = Instant::now();
        let mut looked = begun;
        loop {
            let ready = self.wait(PERIOD)?;
            if ready.calls
                && let Some(end) = self.serve()?
            {
                return Ok(end);
            }
            if ready.output
                && let Some(end) = self.take_output()?
            {
                return Ok(end);
            }
            if ready.message
                && let Some(end) = self.message()?
            {
                return Ok(end);
            }
            // Before its start counts too, lest a sandbox that hangs hangs the build.
            if self.started.unwrap_or(begun).elapsed() > self.stage.limits.time {
                return Ok(End::TimedOut);
            }
            if self.started.is_some() && looked.elapsed() >= PERIOD {
                looked = Instant::now();
                if let Some(end) = self.look()? {
                    return Ok(end);
                }
            }
        }
    }

    fn wait(&self, longest: Duration) -> Result<Ready, SandboxError> {
        let flags = PollFlags::IN;
        let mut watched = vec![
            PollFd::new(&self.processes.socket, flags),
            PollFd::new(&self.processes.output, flags),
        ];
        if let Some((listener, _)) = &self.served {
            watched.push(PollFd::new(listener, flags));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        match poll(&mut watched, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(self.fail(error)),
        }
        let stirs =
            |at: usize, kinds: PollFlags| watched.get(at).is_some_and(|one| one.revents().intersects(kinds));
        Ok(Ready {
            message: stirs(0, PollFlags::IN | PollFlags::HUP),
            output: stirs(1, PollFlags::IN),
            calls: stirs(2, PollFlags::IN),
        })
    }

    /// Answers one waiting call.
    fn serve(&mut self) -> Result<Option<End>, SandboxError> {
        let Some((listener, root)) = &self.served else {
            return Ok(None);
        };
        let taken = seccomp::receive(listener.as_fd()).map_err(|error| self.fail(error))?;
        let Some(call) = taken else { return Ok(None) };
        let number = call.number;
        #[cfg(target_arch = "x86_64")]
        let starts = [libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork].contains(&number);
        #[cfg(target_arch = "aarch64")]
        let starts = number == libc::SYS_clone;
        let verdict = if starts {
            self.forks += 1;
            let most = self.stage.limits.processes;
            if self.living + self.forks >= most {
                self.living = usage::processes(root.as_fd()).tasks;
                self.forks = 0;
            }
            if self.living >= most {
                return Ok(Some(End::Processes));
            }
            Verdict::Continue
        } else {
            let mut answering = Answering {
                listener: listener.as_fd(),
                root: root.as_fd(),
                records: self.stage.records,
                user: self.user,
            };
            answering.verdict(&call)
        };
        seccomp::answer(listener.as_fd(), call.id, verdict).map_err(|error| self.fail(error))?;
        Ok(None)
    }

    /// Takes what the scriptlet has written.
    fn take_output(&mut self) -> Result<Option<End>, SandboxError> {
        let mut buffer = [0; 65536];
        // A few at once, so that calls are not kept waiting.
        for _ in 0..16 {
            let length = match rustix::io::read(&self.processes.output, &mut buffer) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) | Ok(0) => break,
                read => read.map_err(|error| self.fail(error))?,
            };
            self.written += length as u64;
            let room = self
                .stage
                .limits
                .output_kept
                .saturating_sub(self.output.len() as u64);
            let kept = length.min(usize::try_from(room).unwrap_or(usize::MAX));
            // A vector of bytes takes them all.
            let _ = self.output.write_all(&buffer[..kept]);
            if self.written > self.stage.limits.output {
                return Ok(Some(End::Output));
            }
        }
        Ok(None)
    }

    /// A message of the sandbox's processes.
    fn message(&mut self) -> Result<Option<End>, SandboxError> {
        let received = receive(&self.processes.socket).map_err(|error| self.fail(error))?;
        match received {
            Some((Message::Init, files)) => {
                self.processes.init = files.into_iter().next();
                Ok(None)
            }
            Some((Message::Failed { step, reason }, _)) => Err(SandboxError::SetUp { step, reason }),
            Some((Message::Ready, files)) => {
                let files: Result<[OwnedFd; 2], _> = files.try_into();
                let [listener, root] = files.map_err(|_| self.broken("files are missing"))?;
                if self.trial {
                    return Ok(Some(End::Exit(0)));
                }
                self.served = Some((listener, root));
                std::thread::sleep(self.stage.not_before.saturating_duration_since(Instant::now()));
                self.started = Some(Instant::now());
                send(&self.processes.socket, &Message::Go, &[]).map_err(|error| self.fail(error))?;
                Ok(None)
            }
            Some((Message::Exited(code), _)) => Ok(Some(End::Exit(code))),
            Some((Message::Killed(signal), _)) => {
                // The kernel's own guards over time and file size.
                Ok(Some(match signal {
                    libc::SIGXCPU => End::TimedOut,
                    libc::SIGXFSZ => End::Disk,
                    _ => End::Signal(signal),
                }))
            }
            Some((message, _)) => Err(self.broken(format!("{message:?} came out of turn"))),
            None => {
                let output = String::from_utf8_lossy(&self.output);
                Err(self.broken(format!("its first process ended early {output}")))
            }
        }
    }

    /// Looks at what the scriptlet uses.
    fn look(&mut self) -> Result<Option<End>, SandboxError> {
        let Some((_, root)) = &self.served else {
            return Ok(None);
        };
        let limits = self.stage.limits;
        let used = usage::processes(root.as_fd());
        (self.living, self.forks) = (used.tasks, 0);
        if used.memory > limits.memory {
            return Ok(Some(End::Memory));
        }
        if self.disk.exceeded() || self.stage.records.len() as u64 > limits.files.saturating_mul(2) {
            return Ok(Some(End::Disk));
        }
        Ok(None)
    }
}

struct Ready {
    message: bool,
    output: bool,
    calls: bool,
}
