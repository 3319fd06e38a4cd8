//! The last steps of the scriptlet's own process.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::{BODY, Failure, Step as _, power};
use crate::scriptlet::sandbox::Interpreter;
use crate::scriptlet::sandbox::wire::{Message, Task, receive, send};

/// As shells say that a program cannot be started.
const NOT_STARTED: u8 = 127;

/// Writes the body to where the interpreter is told to find it.
pub(super) fn write_body(body: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(BODY)?
        .write_all(body)
}

/// Puts the process under the filter and, when the supervisor is ready to answer, becomes the interpreter.
pub(super) fn become_it(
    socket: &OwnedFd,
    task: &Task,
    stdin: OwnedFd,
    root: OwnedFd,
) -> Result<ExitCode, Failure> {
    rustix::stdio::dup2_stdin(&stdin).step("taking the standard input")?;
    drop(stdin);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let listener = power::filter()?;
    send(socket, &Message::Ready, &[listener.as_fd(), root.as_fd()]).step("reporting")?;
    drop((listener, root));
    let Some((Message::Go, _)) = receive(socket).step("waiting for the supervisor")? else {
        return Err("it is gone").step("waiting for the supervisor");
    };
    let argv = match &task.interpreter {
        Interpreter::Program(argv) => argv,
        Interpreter::Lua => return Ok(lua(task)),
    };
    let Some((program, first)) = argv.split_first() else {
        eprintln!("{}: it names no interpreter", task.name);
        return Ok(ExitCode::from(NOT_STARTED));
    };
    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(first.iter().map(|arg| OsStr::from_bytes(arg)));
    if !task.body.is_empty() {
        command.arg(BODY);
    }
    command
        .args(task.args.iter().map(|arg| OsStr::from_bytes(arg)))
        .env_clear()
        .envs(
            task.env
                .iter()
                .map(|(key, value)| (OsStr::from_bytes(key), OsStr::from_bytes(value))),
        );
    let error = command.exec();
    let program = program.escape_ascii();
    eprintln!(
        "{}: its interpreter `{program}` cannot be started: {error}",
        task.name
    );
    Ok(ExitCode::from(NOT_STARTED))
}

/// The built-in interpreter, in this very process.
fn lua(task: &Task) -> ExitCode {
    ExitCode::from(crate::scriptlet::lua::run(
        &task.body, &task.name, &task.args, &task.env,
    ))
}
