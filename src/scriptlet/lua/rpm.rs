//! The library `rpm`.

use std::ffi::OsString;
use std::io::BufRead as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mlua::prelude::{
    Lua, LuaError, LuaMetaMethod, LuaMultiValue, LuaResult, LuaString, LuaTable, LuaValue, LuaVariadic,
};

use super::stream::Stream;
use super::version::Ver;
use super::{State, errno, failure, number};

/// The table of functions.
pub fn library(lua: &Lua, state: &Rc<State>) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    macros(lua, &table, state)?;
    programs(lua, &table, state)?;
    let text = |version: LuaValue| match version {
        LuaValue::String(text) => Ok(text.to_string_lossy()),
        LuaValue::Integer(number) => Ok(number.to_string()),
        LuaValue::Number(number) => Ok(number.to_string()),
        _ => Err(LuaError::runtime("a version is a string")),
    };
    table.set(
        "vercmp",
        lua.create_function(|_, (a, b): (String, String)| {
            Ok(Ver::parse(&a)?.compare(&Ver::parse(&b)?) as i8)
        })?,
    )?;
    table.set(
        "ver",
        lua.create_function(move |_, parts: LuaVariadic<LuaValue>| {
            let mut parts: Vec<_> = parts.into_iter().collect();
            match parts.len() {
                1 => Ver::parse(&text(parts.remove(0))?),
                3 => {
                    let optional = |part: LuaValue| match part {
                        LuaValue::Nil => Ok(None),
                        part => text(part).map(Some),
                    };
                    let release = optional(parts.remove(2))?;
                    let version = text(parts.remove(1))?;
                    let epoch = optional(parts.remove(0))?;
                    Ver::new(epoch.as_deref(), &version, release.as_deref())
                }
                count => Err(LuaError::runtime(format!("invalid number of arguments: {count}"))),
            }
        })?,
    )?;
    table.set(
        "b64encode",
        lua.create_function(|_, (bytes, length): (LuaString, Option<i64>)| {
            let whole = STANDARD.encode(bytes.as_bytes());
            // Lines of whole groups of four, each ended.
            let length = match length {
                Some(length) if length >= 0 => usize::try_from(length).unwrap_or(0) / 4 * 4,
                _ => 64,
            };
            if length == 0 {
                return Ok(whole);
            }
            let lines = whole.as_bytes().chunks(length);
            Ok(lines
                .flat_map(|line| [String::from_utf8_lossy(line).into_owned(), "\n".to_owned()])
                .collect())
        })?,
    )?;
    table.set(
        "b64decode",
        lua.create_function(|lua, text: LuaString| {
            let clean: Vec<u8> = text
                .as_bytes()
                .iter()
                .copied()
                .filter(|b| !b.is_ascii_whitespace())
                .collect();
            STANDARD
                .decode(clean)
                .ok()
                .map(|bytes| lua.create_string(bytes))
                .transpose()
        })?,
    )?;
    table.set(
        "splitargs",
        lua.create_function(|_, text: String| Ok(split(&text)))?,
    )?;
    table.set(
        "unsplitargs",
        lua.create_function(|_, words: Vec<String>| {
            let quoted = words.iter().map(|word| format!("{QUOTE}{word}{QUOTE}"));
            Ok(quoted.collect::<Vec<_>>().join(" "))
        })?,
    )?;
    table.set(
        "open",
        lua.create_function(|_, (path, mode): (String, Option<String>)| {
            Stream::open(&path, mode.as_deref().unwrap_or("r"))
        })?,
    )?;
    table.set("glob", lua.create_function(glob)?)?;
    table.set(
        "interactive",
        lua.create_function(|_, ()| Err::<(), _>(LuaError::runtime("not a tty")))?,
    )?;
    let next = lua.create_function(|lua, ()| {
        let mut line = Vec::new();
        std::io::stdin().lock().read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.is_empty() {
            return Ok(None);
        }
        lua.create_string(line).map(Some)
    })?;
    table.set("input", next.clone())?;
    table.set("next_file", next)?;
    Ok(table)
}

fn macros(lua: &Lua, table: &LuaTable, state: &Rc<State>) -> LuaResult<()> {
    let shared = Rc::clone(state);
    let expand = lua.create_function(move |lua, text: LuaString| {
        lua.create_string(shared.macros.borrow().expand(&text.as_bytes()))
    })?;
    table.set("expand", expand)?;
    let shared = Rc::clone(state);
    let define = lua.create_function(move |_, text: LuaString| {
        let text = text.as_bytes();
        let end = text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len());
        let (name, body) = text.split_at(end);
        let is_name = name.len() >= 3
            && name
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || body.is_empty() {
            return Err(LuaError::runtime("error defining macro"));
        }
        shared.macros.borrow_mut().define(name, body.trim_ascii());
        Ok(())
    })?;
    table.set("define", define)?;
    let shared = Rc::clone(state);
    let undefine = lua.create_function(move |_, name: LuaString| {
        shared.macros.borrow_mut().undefine(&name.as_bytes());
        Ok(())
    })?;
    table.set("undefine", undefine)?;
    let shared = Rc::clone(state);
    let is_defined = lua.create_function(move |_, name: LuaString| {
        Ok((shared.macros.borrow().get(&name.as_bytes()).is_some(), false))
    })?;
    table.set("isdefined", is_defined)?;

    // `macros.name`, read and written.
    let access = lua.create_table()?;
    let shared = Rc::clone(state);
    let index = lua.create_function(move |lua, (_, name): (LuaTable, LuaString)| {
        let macros = shared.macros.borrow();
        let body = macros.get(&name.as_bytes());
        body.map(|body| lua.create_string(macros.expand(body)))
            .transpose()
    })?;
    access.set(LuaMetaMethod::Index.name(), index)?;
    let shared = Rc::clone(state);
    let assign = lua.create_function(
        move |_, (_, name, body): (LuaTable, LuaString, Option<LuaString>)| {
            let mut macros = shared.macros.borrow_mut();
            match body {
                Some(body) => macros.define(&name.as_bytes(), &body.as_bytes()),
                None => macros.undefine(&name.as_bytes()),
            }
            Ok(())
        },
    )?;
    access.set(LuaMetaMethod::NewIndex.name(), assign)?;
    let names = lua.create_table()?;
    names.set_metatable(Some(access))?;
    lua.globals().set("macros", names)
}

fn word(text: &LuaString) -> OsString {
    OsString::from_vec(text.as_bytes().to_vec())
}

fn programs(lua: &Lua, table: &LuaTable, state: &Rc<State>) -> LuaResult<()> {
    let execute = lua.create_function(|lua, words: LuaVariadic<LuaString>| {
        let Some((program, arguments)) = words.split_first() else {
            return Err(LuaError::runtime(
                "bad argument #1 to 'execute' (string expected, got no value)",
            ));
        };
        let mut command = Command::new(word(program));
        command.args(arguments.iter().map(word));
        ended(lua, command.status())
    })?;
    table.set("execute", execute)?;
    let spawn = lua.create_function(|lua, (words, files): (Vec<LuaString>, Option<LuaTable>)| {
        let Some((program, arguments)) = words.split_first() else {
            return Err(LuaError::runtime("command not supplied"));
        };
        let mut command = Command::new(word(program));
        command.args(arguments.iter().map(word));
        for pair in files.iter().flat_map(LuaTable::pairs::<String, LuaString>) {
            let (name, path) = pair?;
            let mut options = std::fs::OpenOptions::new();
            match name.as_str() {
                "stdin" => options.read(true),
                "stdout" | "stderr" => options.append(true).create(true),
                _ => return Err(LuaError::runtime(format!("invalid spawn directive: {name}"))),
            };
            let file = match options.open(word(&path)) {
                Ok(file) => Stdio::from(file),
                Err(error) => return failure(lua, errno(&error), b""),
            };
            match name.as_str() {
                "stdin" => command.stdin(file),
                "stdout" => command.stdout(file),
                _ => command.stderr(file),
            };
        }
        ended(lua, command.status())
    })?;
    table.set("spawn", spawn)?;
    let shared = Rc::clone(state);
    let redirect = lua.create_function(move |lua, target: i32| {
        if !shared.forked.get() {
            return Err(LuaError::runtime("redirect2null not permitted in this context"));
        }
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
        let done = null.and_then(|null| match target {
            0 => Ok(rustix::stdio::dup2_stdin(&null)?),
            1 => Ok(rustix::stdio::dup2_stdout(&null)?),
            2 => Ok(rustix::stdio::dup2_stderr(&null)?),
            _ => Err(std::io::Error::from_raw_os_error(nix::libc::EBADF)),
        });
        match done {
            Ok(()) => Ok(LuaMultiValue::from_vec(vec![number(target)])),
            Err(error) => failure(lua, errno(&error), b""),
        }
    })?;
    table.set("redirect2null", redirect)
}

/// What RPM gives back of a program that it waited for.
fn ended(lua: &Lua, status: std::io::Result<ExitStatus>) -> LuaResult<LuaMultiValue> {
    let status = match status {
        Ok(status) => status,
        Err(error) => return failure(lua, errno(&error), b""),
    };
    let (what, code) = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(LuaMultiValue::from_vec(vec![number(0)])),
        (Some(code), _) => ("exit code", code),
        (None, signal) => ("exit signal", signal.unwrap_or(0)),
    };
    let what = LuaValue::String(lua.create_string(what)?);
    Ok(LuaMultiValue::from_vec(vec![LuaValue::Nil, what, number(code)]))
}

/// What RPM quotes words with: the unit separator.
const QUOTE: char = '\u{1f}';

/// Words at blanks; what stands between two quotes is held together.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quoted = false;
    for c in text.chars() {
        match c {
            QUOTE => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Paths that a pattern fits, in order; the pattern itself where there is none.
fn glob(lua: &Lua, (pattern, _): (LuaString, Option<LuaString>)) -> LuaResult<LuaTable> {
    let pattern = pattern.as_bytes().to_vec();
    let mut found = vec![Vec::new()];
    if pattern.starts_with(b"/") {
        found = vec![b"/".to_vec()];
    }
    for part in pattern
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty())
    {
        let mut next = Vec::new();
        for base in found {
            let joined = |name: &[u8]| match base.last() {
                None | Some(b'/') => [base.as_slice(), name].concat(),
                Some(_) => [base.as_slice(), b"/", name].concat(),
            };
            if !part.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
                let path = joined(part);
                if std::fs::symlink_metadata(OsString::from_vec(path.clone())).is_ok() {
                    next.push(path);
                }
                continue;
            }
            let directory = if base.is_empty() {
                b".".to_vec()
            } else {
                base.clone()
            };
            let entries = std::fs::read_dir(OsString::from_vec(directory))
                .into_iter()
                .flatten();
            for entry in entries.flatten() {
                let name = entry.file_name();
                if matches(part, name.as_bytes()) {
                    next.push(joined(name.as_bytes()));
                }
            }
        }
        found = next;
    }
    found.sort_unstable();
    if found.is_empty() {
        found.push(pattern);
    }
    let table = lua.create_table()?;
    for path in found {
        table.push(lua.create_string(path)?)?;
    }
    Ok(table)
}

/// fnmatch(3) of one component: a leading dot must be written.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', more @ ..], _) => (0..=name.len()).any(|skip| rest(more, &name[skip..])),
            ([b'?', more @ ..], [_, name @ ..]) => rest(more, name),
            ([b'[', class @ ..], [first, name @ ..]) => {
                let Some(end) = class.iter().skip(1).position(|&byte| byte == b']') else {
                    return false;
                };
                let (class, more) = (&class[..=end], &class[end + 2..]);
                let (negated, class) = match class {
                    [b'!' | b'^', class @ ..] => (true, class),
                    class => (false, class),
                };
                let mut inside = class.contains(first) && class.len() < 3;
                for window in class.windows(3) {
                    inside |= window[1] == b'-' && (window[0]..=window[2]).contains(first);
                    inside |= window[0] == *first || window[2] == *first;
                }
                inside != negated && rest(more, name)
            }
            ([b'\\', literal, more @ ..], [first, name @ ..]) => literal == first && rest(more, name),
            ([literal, more @ ..], [first, name @ ..]) => literal == first && rest(more, name),
            _ => false,
        }
    }
    rest(pattern, name)
}
