//! The library `posix`: processes, their environment and limits.

use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::rc::Rc;
use std::time::Duration;

use mlua::prelude::{
    Lua, LuaError, LuaFunction, LuaMultiValue, LuaResult, LuaString, LuaTable, LuaValue, LuaVariadic,
};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, PathconfVar, Pid, SysconfVar};

use super::users::{group_id, user_id};
use super::{State, failure, number, result, selected};
use crate::sys::environment;
use crate::sys::process::{Side, fork_alone};

fn one(value: LuaValue) -> LuaMultiValue {
    LuaMultiValue::from_vec(vec![value])
}

/// `os.exit`: for processes that the script has split off only.
pub fn exit(lua: &Lua, state: &Rc<State>) -> LuaResult<LuaFunction> {
    let state = Rc::clone(state);
    lua.create_function(move |_, code: LuaValue| -> LuaResult<()> {
        if !state.forked.get() {
            return Err(LuaError::runtime("exit not permitted in this context"));
        }
        let code = match code {
            LuaValue::Integer(code) => (code & 0xff) as i32,
            LuaValue::Boolean(false) => 1,
            _ => 0,
        };
        let _ = std::io::stdout().flush();
        std::process::exit(code)
    })
}

/// Puts the functions into `posix`.
pub fn register(lua: &Lua, posix: &LuaTable, state: &Rc<State>) -> LuaResult<()> {
    children(lua, posix, state)?;
    variables(lua, posix)?;
    limits(lua, posix)?;
    posix.set(
        "getprocessid",
        lua.create_function(|lua, selector: Option<String>| {
            let values = vec![
                ("egid", number(unistd::getegid().as_raw())),
                ("euid", number(unistd::geteuid().as_raw())),
                ("gid", number(unistd::getgid().as_raw())),
                ("uid", number(unistd::getuid().as_raw())),
                ("pgrp", number(unistd::getpgrp().as_raw())),
                ("pid", number(unistd::getpid().as_raw())),
                ("ppid", number(unistd::getppid().as_raw())),
            ];
            selected(lua, selector.as_deref(), values)
        })?,
    )?;
    posix.set(
        "setuid",
        lua.create_function(|lua, user: LuaValue| {
            let id = user_id(&user)?.ok_or(Errno::EINVAL);
            result(
                lua,
                id.and_then(|id| unistd::setuid(unistd::Uid::from_raw(id))),
                b"",
            )
        })?,
    )?;
    posix.set(
        "setgid",
        lua.create_function(|lua, group: LuaValue| {
            let id = group_id(&group)?.ok_or(Errno::EINVAL);
            result(
                lua,
                id.and_then(|id| unistd::setgid(unistd::Gid::from_raw(id))),
                b"",
            )
        })?,
    )?;
    // No terminal, and nobody logged in.
    posix.set(
        "ttyname",
        lua.create_function(|_, _: LuaMultiValue| Ok(LuaValue::Nil))?,
    )?;
    posix.set("getlogin", lua.create_function(|_, ()| Ok(LuaValue::Nil))?)?;
    posix.set("ctermid", lua.create_function(|_, ()| Ok("/dev/tty"))?)?;
    posix.set(
        "errno",
        lua.create_function(|lua, ()| {
            let errno = Errno::last();
            Ok((lua.create_string(errno.desc())?, number(errno as i32)))
        })?,
    )?;
    posix.set(
        "uname",
        lua.create_function(|lua, format: Option<LuaString>| {
            let system = nix::sys::utsname::uname().map_err(LuaError::external)?;
            let format = format.map_or_else(|| b"%s %n %r %v %m".to_vec(), |text| text.as_bytes().to_vec());
            let mut out = Vec::new();
            let mut bytes = format.into_iter();
            while let Some(byte) = bytes.next() {
                if byte != b'%' {
                    out.push(byte);
                    continue;
                }
                match bytes.next() {
                    Some(b'%') => out.push(b'%'),
                    Some(b'm') => out.extend(system.machine().as_bytes()),
                    Some(b'n') => out.extend(system.nodename().as_bytes()),
                    Some(b'r') => out.extend(system.release().as_bytes()),
                    Some(b's') => out.extend(system.sysname().as_bytes()),
                    Some(b'v') => out.extend(system.version().as_bytes()),
                    _ => return Err(LuaError::runtime("unknown format option")),
                }
            }
            lua.create_string(out)
        })?,
    )
}

fn children(lua: &Lua, posix: &LuaTable, state: &Rc<State>) -> LuaResult<()> {
    let shared = Rc::clone(state);
    let fork = lua.create_function(move |lua, ()| {
        // What stands in the buffer would be written twice.
        let _ = std::io::stdout().flush();
        match fork_alone() {
            Ok(Side::Parent(child)) => Ok(one(number(child.as_raw()))),
            Ok(Side::Child) => {
                shared.forked.set(true);
                Ok(one(number(0)))
            }
            Err(error) => failure(lua, super::errno(&error), b""),
        }
    })?;
    posix.set("fork", fork)?;
    let shared = Rc::clone(state);
    let exec = lua.create_function(move |lua, words: LuaVariadic<LuaString>| {
        if !shared.forked.get() {
            return Err(LuaError::runtime("exec not permitted in this context"));
        }
        let words: Result<Vec<_>, _> = words
            .iter()
            .map(|word| CString::new(word.as_bytes().to_vec()))
            .collect();
        let words = words.map_err(LuaError::external)?;
        let Some(program) = words.first() else {
            return Err(LuaError::runtime(
                "bad argument #1 to 'exec' (string expected, got no value)",
            ));
        };
        match unistd::execvp(program, &words) {
            Ok(never) => match never {},
            Err(errno) => failure(lua, errno, program.as_bytes()),
        }
    })?;
    posix.set("exec", exec)?;
    posix.set(
        "wait",
        lua.create_function(|lua, child: Option<i32>| {
            let child = child.map(Pid::from_raw);
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    Ok(one(number(pid.as_raw())))
                }
                Ok(_) => Ok(one(number(0))),
                Err(errno) => failure(lua, errno, b""),
            }
        })?,
    )?;
    posix.set(
        "kill",
        lua.create_function(|lua, (process, signal): (i32, Option<i32>)| {
            let signal = match signal {
                Some(0) => Ok(None),
                signal => Signal::try_from(signal.unwrap_or(15)).map(Some),
            };
            result(
                lua,
                signal.and_then(|signal| kill(Pid::from_raw(process), signal)),
                b"",
            )
        })?,
    )?;
    posix.set(
        "sleep",
        lua.create_function(|_, seconds: u32| {
            std::thread::sleep(Duration::from_secs(u64::from(seconds)));
            Ok(number(0))
        })?,
    )
}

fn text(text: &LuaString) -> OsString {
    OsString::from_vec(text.as_bytes().to_vec())
}

fn variables(lua: &Lua, posix: &LuaTable) -> LuaResult<()> {
    let set = |lua: &Lua, name: &LuaString, value: &LuaString| {
        let done = environment::set(&text(name), &text(value));
        result(lua, done.map_err(|_| Errno::EINVAL), &name.as_bytes())
    };
    posix.set(
        "setenv",
        lua.create_function(
            move |lua, (name, value, over): (LuaString, LuaString, Option<LuaValue>)| {
                let keep = matches!(over, Some(LuaValue::Boolean(false)));
                if keep && std::env::var_os(text(&name)).is_some() {
                    return Ok(one(number(0)));
                }
                set(lua, &name, &value)
            },
        )?,
    )?;
    posix.set(
        "putenv",
        lua.create_function(move |lua, pair: LuaString| {
            let bytes = pair.as_bytes().to_vec();
            let Some(at) = bytes.iter().position(|&byte| byte == b'=') else {
                let done = environment::remove(&text(&pair));
                return result(lua, done.map_err(|error| super::errno(&error)), &bytes);
            };
            let (name, value) = (
                lua.create_string(&bytes[..at])?,
                lua.create_string(&bytes[at + 1..])?,
            );
            set(lua, &name, &value)
        })?,
    )?;
    posix.set(
        "unsetenv",
        lua.create_function(|_, name: LuaString| {
            // As in C: a name that cannot be is not there.
            let _ = environment::remove(&text(&name));
            Ok(())
        })?,
    )?;
    posix.set(
        "getenv",
        lua.create_function(|lua, name: Option<LuaString>| match name {
            Some(name) => match std::env::var_os(text(&name)) {
                Some(value) => Ok(LuaValue::String(lua.create_string(value.as_bytes())?)),
                None => Ok(LuaValue::Nil),
            },
            None => {
                let table = lua.create_table()?;
                for (name, value) in std::env::vars_os() {
                    table.set(
                        lua.create_string(name.as_bytes())?,
                        lua.create_string(value.as_bytes())?,
                    )?;
                }
                Ok(LuaValue::Table(table))
            }
        })?,
    )
}

fn limits(lua: &Lua, posix: &LuaTable) -> LuaResult<()> {
    let known = |value: nix::Result<Option<i64>>| LuaValue::Number(value.ok().flatten().unwrap_or(-1) as f64);
    posix.set(
        "sysconf",
        lua.create_function(move |lua, selector: Option<String>| {
            let variables = [
                ("arg_max", SysconfVar::ARG_MAX),
                ("child_max", SysconfVar::CHILD_MAX),
                ("clk_tck", SysconfVar::CLK_TCK),
                ("ngroups_max", SysconfVar::NGROUPS_MAX),
                ("stream_max", SysconfVar::STREAM_MAX),
                ("tzname_max", SysconfVar::TZNAME_MAX),
                ("open_max", SysconfVar::OPEN_MAX),
                ("job_control", SysconfVar::_POSIX_JOB_CONTROL),
                ("saved_ids", SysconfVar::_POSIX_SAVED_IDS),
                ("version", SysconfVar::_POSIX_VERSION),
            ];
            let values = variables.map(|(name, variable)| (name, known(unistd::sysconf(variable))));
            selected(lua, selector.as_deref(), values.into())
        })?,
    )?;
    posix.set(
        "pathconf",
        lua.create_function(move |lua, (path, selector): (LuaString, Option<String>)| {
            let variables = [
                ("link_max", PathconfVar::LINK_MAX),
                ("max_canon", PathconfVar::MAX_CANON),
                ("max_input", PathconfVar::MAX_INPUT),
                ("name_max", PathconfVar::NAME_MAX),
                ("path_max", PathconfVar::PATH_MAX),
                ("pipe_buf", PathconfVar::PIPE_BUF),
                ("chown_restricted", PathconfVar::_POSIX_CHOWN_RESTRICTED),
                ("no_trunc", PathconfVar::_POSIX_NO_TRUNC),
                ("vdisable", PathconfVar::_POSIX_VDISABLE),
            ];
            let path = text(&path);
            let values =
                variables.map(|(name, variable)| (name, known(unistd::pathconf(path.as_os_str(), variable))));
            selected(lua, selector.as_deref(), values.into())
        })?,
    )?;
    posix.set(
        "times",
        lua.create_function(|lua, selector: Option<String>| {
            let seconds = |time: nix::sys::time::TimeVal| {
                LuaValue::Number(time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            };
            let own = getrusage(UsageWho::RUSAGE_SELF).map_err(LuaError::external)?;
            let children = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(LuaError::external)?;
            let values = vec![
                ("utime", seconds(own.user_time())),
                ("stime", seconds(own.system_time())),
                ("cutime", seconds(children.user_time())),
                ("cstime", seconds(children.system_time())),
                ("elapsed", number(0)),
            ];
            selected(lua, selector.as_deref(), values)
        })?,
    )
}
