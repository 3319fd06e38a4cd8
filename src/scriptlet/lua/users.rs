//! The library `posix`: users and groups of the image, from its own /etc/passwd and /etc/group. The system's functions would
//! load modules that the image names.

use std::fs;

use mlua::prelude::{Lua, LuaError, LuaResult, LuaTable, LuaValue};

use super::{number, selected};

/// The lines of a database in their fields.
fn lines(path: &str, fields: usize) -> Vec<Vec<String>> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let split = text
        .lines()
        .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    split.filter(|line| line.len() >= fields).collect()
}

fn find(path: &str, fields: usize, wanted: &LuaValue) -> LuaResult<Option<Vec<String>>> {
    let by = |column: usize, value: &str| lines(path, fields).into_iter().find(|line| line[column] == value);
    match wanted {
        LuaValue::Integer(id) => Ok(by(2, &id.to_string())),
        LuaValue::Number(id) => Ok(by(2, &format!("{id:.0}"))),
        LuaValue::String(name) => {
            let name = name.to_string_lossy();
            // As Lua has it, digits are a number.
            let column = if name.bytes().all(|byte| byte.is_ascii_digit()) {
                2
            } else {
                0
            };
            Ok(by(column, &name))
        }
        _ => Err(LuaError::runtime("string or number expected")),
    }
}

fn id(path: &str, fields: usize, wanted: &LuaValue) -> LuaResult<Option<u32>> {
    match wanted {
        LuaValue::Nil => Ok(None),
        LuaValue::Integer(id) => Ok(u32::try_from(*id).ok()),
        LuaValue::Number(id) => Ok(Some(*id as u32)),
        LuaValue::String(text) if text.to_string_lossy().parse::<u32>().is_ok() => {
            Ok(text.to_string_lossy().parse().ok())
        }
        wanted => Ok(find(path, fields, wanted)?.and_then(|line| line[2].parse().ok())),
    }
}

/// The number of a user by number or name; `None` (which changes nothing) where there is none.
pub fn user_id(wanted: &LuaValue) -> LuaResult<Option<u32>> {
    id("/etc/passwd", 7, wanted)
}

/// As [`user_id`], of a group.
pub fn group_id(wanted: &LuaValue) -> LuaResult<Option<u32>> {
    id("/etc/group", 4, wanted)
}

/// Puts the functions into `posix`.
pub fn register(lua: &Lua, posix: &LuaTable) -> LuaResult<()> {
    posix.set(
        "getpasswd",
        lua.create_function(|lua, (wanted, selector): (LuaValue, Option<String>)| {
            let wanted = match wanted {
                LuaValue::Nil => LuaValue::Integer(i64::from(nix::unistd::geteuid().as_raw())),
                wanted => wanted,
            };
            let Some(line) = find("/etc/passwd", 7, &wanted)? else {
                return Ok(LuaValue::Nil);
            };
            let text = |field: usize| Ok::<_, LuaError>(LuaValue::String(lua.create_string(&line[field])?));
            let id = |field: usize| number(line[field].parse::<u32>().unwrap_or(0));
            let values = vec![
                ("name", text(0)?),
                ("uid", id(2)),
                ("gid", id(3)),
                ("dir", text(5)?),
                ("shell", text(6)?),
                ("gecos", text(4)?),
                ("passwd", text(1)?),
            ];
            selected(lua, selector.as_deref(), values)
        })?,
    )?;
    posix.set(
        "getgroup",
        lua.create_function(|lua, wanted: LuaValue| {
            let Some(line) = find("/etc/group", 4, &wanted)? else {
                return Ok(LuaValue::Nil);
            };
            let table = lua.create_table()?;
            table.set("name", line[0].as_str())?;
            table.set("gid", number(line[2].parse::<u32>().unwrap_or(0)))?;
            for member in line[3].split(',').filter(|member| !member.is_empty()) {
                table.push(member)?;
            }
            Ok(LuaValue::Table(table))
        })?,
    )
}
