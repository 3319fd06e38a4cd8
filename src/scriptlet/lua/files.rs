//! The library `posix`: files and directories.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use mlua::prelude::{Lua, LuaError, LuaMultiValue, LuaResult, LuaString, LuaTable, LuaValue};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{self, AccessFlags};

use super::users::{group_id, user_id};
use super::{errno, failure, mode, number, result, selected};

fn path(text: &LuaString) -> OsString {
    OsString::from_vec(text.as_bytes().to_vec())
}

/// A call of the system on one path.
fn on_path(lua: &Lua, call: fn(&OsString) -> Result<(), Errno>) -> LuaResult<mlua::Function> {
    lua.create_function(move |lua, name: LuaString| result(lua, call(&path(&name)), &name.as_bytes()))
}

fn std_result(outcome: std::io::Result<()>) -> Result<(), Errno> {
    outcome.map_err(|error| errno(&error))
}

/// Puts the functions into `posix`.
pub fn register(lua: &Lua, posix: &LuaTable) -> LuaResult<()> {
    posix.set("mkdir", on_path(lua, |path| std_result(fs::create_dir(path)))?)?;
    posix.set("rmdir", on_path(lua, |path| std_result(fs::remove_dir(path)))?)?;
    posix.set("unlink", on_path(lua, |path| unistd::unlink(path.as_os_str()))?)?;
    posix.set("chdir", on_path(lua, |path| unistd::chdir(path.as_os_str()))?)?;
    posix.set(
        "mkfifo",
        on_path(lua, |path| {
            unistd::mkfifo(path.as_os_str(), Mode::from_bits_truncate(0o777))
        })?,
    )?;
    posix.set(
        "link",
        lua.create_function(|lua, (old, new): (LuaString, LuaString)| {
            result(lua, std_result(fs::hard_link(path(&old), path(&new))), b"")
        })?,
    )?;
    posix.set(
        "symlink",
        lua.create_function(|lua, (old, new): (LuaString, LuaString)| {
            result(lua, std_result(symlink(path(&old), path(&new))), b"")
        })?,
    )?;
    posix.set(
        "readlink",
        lua.create_function(|lua, name: LuaString| match fs::read_link(path(&name)) {
            Ok(target) => {
                let target = lua.create_string(target.as_os_str().as_bytes())?;
                Ok(LuaMultiValue::from_vec(vec![LuaValue::String(target)]))
            }
            Err(error) => failure(lua, errno(&error), &name.as_bytes()),
        })?,
    )?;
    posix.set("access", lua.create_function(access)?)?;
    posix.set("dir", lua.create_function(dir)?)?;
    posix.set("files", lua.create_function(files)?)?;
    posix.set("stat", lua.create_function(stat)?)?;
    posix.set("chmod", lua.create_function(chmod)?)?;
    posix.set("chown", lua.create_function(chown)?)?;
    posix.set("utime", lua.create_function(utime)?)?;
    posix.set("mkstemp", lua.create_function(mkstemp)?)?;
    posix.set(
        "getcwd",
        lua.create_function(|lua, ()| {
            let directory = std::env::current_dir()?;
            lua.create_string(directory.as_os_str().as_bytes())
        })?,
    )?;
    posix.set(
        "umask",
        lua.create_function(|_, wanted: Option<String>| {
            // The mask can only be read by setting it.
            let old = nix::sys::stat::umask(Mode::empty());
            let mut allowed = !old.bits() & 0o777;
            if let Some(wanted) = wanted {
                let Some(new) = mode::change(allowed, &wanted) else {
                    nix::sys::stat::umask(old);
                    return Ok(None);
                };
                allowed = new & 0o777;
            }
            nix::sys::stat::umask(Mode::from_bits_truncate(!allowed & 0o777));
            Ok(Some(mode::show(allowed)))
        })?,
    )
}

fn access(lua: &Lua, (name, wanted): (LuaString, Option<String>)) -> LuaResult<LuaMultiValue> {
    let mut flags = AccessFlags::F_OK;
    for c in wanted.as_deref().unwrap_or("f").chars() {
        flags |= match c {
            ' ' | 'f' => AccessFlags::F_OK,
            'r' => AccessFlags::R_OK,
            'w' => AccessFlags::W_OK,
            'x' => AccessFlags::X_OK,
            c => return Err(LuaError::runtime(format!("unknown mode option `{c}'"))),
        };
    }
    result(
        lua,
        unistd::access(path(&name).as_os_str(), flags),
        &name.as_bytes(),
    )
}

/// The names of a directory with `.` and `..`, in order: the system's own order differs between machines.
fn names(name: &LuaString) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = vec![b".".to_vec(), b"..".to_vec()];
    for entry in fs::read_dir(path(name))? {
        names.push(entry?.file_name().into_vec());
    }
    names.sort_unstable();
    Ok(names)
}

fn or_here(lua: &Lua, name: Option<LuaString>) -> LuaResult<LuaString> {
    name.map_or_else(|| lua.create_string("."), Ok)
}

fn dir(lua: &Lua, name: Option<LuaString>) -> LuaResult<LuaMultiValue> {
    let name = or_here(lua, name)?;
    match names(&name) {
        Ok(names) => {
            let table = lua.create_table()?;
            for name in names {
                table.push(lua.create_string(name)?)?;
            }
            Ok(LuaMultiValue::from_vec(vec![LuaValue::Table(table)]))
        }
        Err(error) => failure(lua, errno(&error), &name.as_bytes()),
    }
}

fn files(lua: &Lua, name: Option<LuaString>) -> LuaResult<LuaMultiValue> {
    let name = or_here(lua, name)?;
    match names(&name) {
        Ok(names) => {
            let mut names = names.into_iter();
            let next = lua.create_function_mut(move |lua, _: LuaMultiValue| {
                names.next().map(|name| lua.create_string(name)).transpose()
            })?;
            Ok(LuaMultiValue::from_vec(vec![LuaValue::Function(next)]))
        }
        Err(error) => failure(lua, errno(&error), &name.as_bytes()),
    }
}

fn stat(lua: &Lua, (name, selector): (LuaString, Option<String>)) -> LuaResult<LuaMultiValue> {
    let data = match fs::symlink_metadata(path(&name)) {
        Ok(data) => data,
        Err(error) => return failure(lua, errno(&error), &name.as_bytes()),
    };
    let kind = data.file_type();
    let kind = if kind.is_file() {
        "regular"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_char_device() {
        "character device"
    } else if kind.is_block_device() {
        "block device"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        "socket"
    };
    let text = |text: &str| Ok::<_, LuaError>(LuaValue::String(lua.create_string(text)?));
    // Lua's numbers are as exact as these ever get.
    let values = vec![
        ("mode", text(&mode::show(data.mode() & 0o7777))?),
        ("ino", LuaValue::Number(data.ino() as f64)),
        ("dev", LuaValue::Number(data.dev() as f64)),
        ("nlink", LuaValue::Number(data.nlink() as f64)),
        ("uid", number(data.uid())),
        ("gid", number(data.gid())),
        ("size", LuaValue::Number(data.size() as f64)),
        ("atime", LuaValue::Number(data.atime() as f64)),
        ("mtime", LuaValue::Number(data.mtime() as f64)),
        ("ctime", LuaValue::Number(data.ctime() as f64)),
        ("type", text(kind)?),
        ("_mode", number(data.mode())),
    ];
    let value = selected(lua, selector.as_deref(), values)?;
    Ok(LuaMultiValue::from_vec(vec![value]))
}

fn chmod(lua: &Lua, (name, wanted): (LuaString, LuaValue)) -> LuaResult<LuaMultiValue> {
    let wanted = match wanted {
        LuaValue::String(text) => text.to_string_lossy(),
        LuaValue::Integer(number) => number.to_string(),
        LuaValue::Number(number) => format!("{number:.0}"),
        _ => return Err(LuaError::runtime("bad argument #2 to 'chmod' (string expected)")),
    };
    let data = match fs::metadata(path(&name)) {
        Ok(data) => data,
        Err(error) => return failure(lua, errno(&error), &name.as_bytes()),
    };
    let new = mode::change(data.mode() & 0o7777, &wanted)
        .ok_or_else(|| LuaError::runtime("bad argument #2 to 'chmod' (bad mode)"))?;
    let done = fs::set_permissions(path(&name), fs::Permissions::from_mode(new));
    result(lua, std_result(done), &name.as_bytes())
}

fn chown(lua: &Lua, (name, user, group): (LuaString, LuaValue, LuaValue)) -> LuaResult<LuaMultiValue> {
    let (user, group) = (user_id(&user)?, group_id(&group)?);
    let done = unistd::chown(
        path(&name).as_os_str(),
        user.map(unistd::Uid::from_raw),
        group.map(unistd::Gid::from_raw),
    );
    result(lua, done, &name.as_bytes())
}

fn utime(
    lua: &Lua,
    (name, modified, accessed): (LuaString, Option<i64>, Option<i64>),
) -> LuaResult<LuaMultiValue> {
    let now = || std::time::SystemTime::now();
    let at = |seconds: Option<i64>| match seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
        None => now(),
    };
    let times = fs::FileTimes::new()
        .set_modified(at(modified))
        .set_accessed(at(accessed));
    let done = fs::File::open(path(&name)).and_then(|file| file.set_times(times));
    result(lua, std_result(done), &name.as_bytes())
}

/// A file of its own, open for Lua's `io`, and its name.
fn mkstemp(lua: &Lua, template: LuaString) -> LuaResult<(LuaString, LuaValue)> {
    let (file, name) = unistd::mkstemp(path(&template).as_os_str()).map_err(LuaError::external)?;
    drop(file);
    let name = lua.create_string(name.as_os_str().as_bytes())?;
    let io: LuaTable = lua.globals().get("io")?;
    let open: mlua::Function = io.get("open")?;
    Ok((name.clone(), open.call((name, "a+"))?))
}
