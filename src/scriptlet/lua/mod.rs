//! RPM's embedded Lua, for scriptlets with `-p <lua>`: Lua 5.4 with RPM's libraries `rpm` and `posix`.
//!
//! It runs in the sandboxed process itself: what bounds it (files, memory, time) is the sandbox, not this code.

mod files;
mod mode;
mod process;
mod rpm;
mod stream;
mod users;
mod version;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::rc::Rc;

use mlua::prelude::{Lua, LuaError, LuaMultiValue, LuaResult, LuaTable, LuaValue};
use nix::errno::Errno;

use super::macros::Macros;
use crate::sys::environment;

/// What the libraries share.
struct State {
    macros: RefCell<Macros>,
    /// Whether this is a process that the script has split off: only such may end or become another program.
    forked: Cell<bool>,
}

/// Runs `body`, which errors call `name`, with the numbers `arguments` (`arg[2]` and `arg[3]`) in an environment of nothing
/// but `environment`. Paths that set off a file trigger are read from standard input by `rpm.next_file`. The process must
/// have no other thread.
///
/// The exit code: 0, or 1 where the script raised an error, which is then on standard error.
pub fn run(body: &[u8], name: &str, arguments: &[Vec<u8>], environment: &[(Vec<u8>, Vec<u8>)]) -> u8 {
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let variables: Vec<_> = environment
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    if let Err(error) = environment::replace(&variables) {
        eprintln!("{name}: its environment cannot be set: {error}");
        return 1;
    }
    let process = nix::unistd::getpid();
    let outcome = interpret(body, name, arguments, environment);
    let _ = std::io::stdout().flush();
    if nix::unistd::getpid() != process {
        eprintln!("{name}: a process that the script split off ran to its end");
        return 1;
    }
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    }
}

fn interpret(
    body: &[u8],
    name: &str,
    arguments: &[Vec<u8>],
    environment: &[(Vec<u8>, Vec<u8>)],
) -> LuaResult<()> {
    let lua = Lua::new();
    let state = Rc::new(State {
        macros: RefCell::new(Macros::standard()),
        forked: Cell::new(false),
    });
    let globals = lua.globals();
    globals.set("rpm", rpm::library(&lua, &state)?)?;
    let posix = lua.create_table()?;
    posix.set("version", "posix library for Lua 5.4")?;
    files::register(&lua, &posix)?;
    process::register(&lua, &posix, &state)?;
    users::register(&lua, &posix)?;
    globals.set("posix", posix)?;
    let os: LuaTable = globals.get("os")?;
    os.set("exit", process::exit(&lua, &state)?)?;

    let arg = lua.create_table()?;
    arg.push("<lua>")?;
    for argument in arguments {
        match std::str::from_utf8(argument)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
        {
            Some(number) => arg.push(number)?,
            None => arg.push(lua.create_string(argument)?)?,
        }
    }
    globals.set("arg", arg)?;
    let prefixes = lua.create_table()?;
    for number in 0.. {
        let wanted = format!("RPM_INSTALL_PREFIX{number}");
        match environment.iter().find(|(name, _)| name == wanted.as_bytes()) {
            Some((_, prefix)) => prefixes.push(lua.create_string(prefix)?)?,
            None => break,
        }
    }
    if prefixes.raw_len() > 0 {
        globals.set("RPM_INSTALL_PREFIX", prefixes)?;
    }
    lua.load(body).set_name(format!("={name}")).exec()
}

/// RPM gives numbers back as floating point.
fn number(value: impl Into<f64>) -> LuaValue {
    LuaValue::Number(value.into())
}

/// What RPM's functions give back for a call of the system: 0, or nothing with a message and the number of the error.
fn result(lua: &Lua, outcome: Result<(), Errno>, what: &[u8]) -> LuaResult<LuaMultiValue> {
    match outcome {
        Ok(()) => Ok(LuaMultiValue::from_vec(vec![number(0)])),
        Err(errno) => failure(lua, errno, what),
    }
}

fn failure(lua: &Lua, errno: Errno, what: &[u8]) -> LuaResult<LuaMultiValue> {
    let text = match what {
        b"" => errno.desc().as_bytes().to_vec(),
        what => [what, b": ", errno.desc().as_bytes()].concat(),
    };
    let text = LuaValue::String(lua.create_string(text)?);
    Ok(LuaMultiValue::from_vec(vec![
        LuaValue::Nil,
        text,
        number(errno as i32),
    ]))
}

/// The number of a failed call of the standard library.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

/// One value by its selector, or a table of all.
fn selected(lua: &Lua, selector: Option<&str>, values: Vec<(&str, LuaValue)>) -> LuaResult<LuaValue> {
    match selector {
        None => {
            let table = lua.create_table()?;
            for (name, value) in values {
                table.set(name, value)?;
            }
            Ok(LuaValue::Table(table))
        }
        Some(wanted) => {
            let found = values.into_iter().find(|(name, _)| *name == wanted);
            let (_, value) = found.ok_or_else(|| LuaError::runtime(format!("invalid option '{wanted}'")))?;
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests;
