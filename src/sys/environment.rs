//! The environment of the process.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;

/// Only a process with one thread may change its environment: another thread could be reading it.
fn alone() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => Ok(()),
        // Without /proc nobody can tell; the sandbox always has one.
        _ => Err(io::Error::other(
            "a process of several threads keeps its environment",
        )),
    }
}

fn check(name: &OsStr, value: &OsStr) -> io::Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) || value.as_bytes().contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    alone()
}

/// Sets a variable.
///
/// # Errors
/// A name or value that cannot be; a process with other threads.
pub fn set(name: &OsStr, value: &OsStr) -> io::Result<()> {
    check(name, value)?;
    // SAFETY: this is the only thread (it was just counted, and it starts none in between), so nobody reads or writes the
    // environment meanwhile; name and value are such that `setenv` cannot fail on them.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Removes a variable.
///
/// # Errors
/// As [`set`].
pub fn remove(name: &OsStr) -> io::Result<()> {
    check(name, OsStr::new(""))?;
    // SAFETY: as in `set`.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

/// Leaves `variables`, and nothing else.
///
/// # Errors
/// As [`set`].
pub fn replace(variables: &[(OsString, OsString)]) -> io::Result<()> {
    alone()?;
    for (name, _) in std::env::vars_os() {
        // What came in under a name that nobody could set stays.
        let _ = remove(&name);
    }
    for (name, value) in variables {
        set(name, value)?;
    }
    Ok(())
}
