//! Whether a scriptlet must run: it is replaced only where every command in it is in the [`table`].

mod table;

use super::collect::Scriptlet;
use super::shell::{Call, evaluate};
use crate::tree::caches::icons::Theme;
use table::{Arguments, TABLE};

/// Work that the composer does on the finished tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Native {
    Linker,
    Units,
    Accounts,
    Modules,
    Labels,
    Hwdb,
    Catalog,
    Trust,
    Mime,
}

/// What is left to do of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Native(Native),
    /// Lines of sysusers.d(5).
    Accounts(Vec<String>),
    /// The index of an icon theme.
    Icons(Theme),
}

/// A command that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// As it would have been called; `…` for what is not known before it runs.
    pub command: String,
    pub effect: Effect,
    pub reason: &'static str,
}

/// What becomes of one run of a scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would do nothing: why.
    Skip(&'static str),
    Replace(Vec<Replacement>),
    /// It must run: why it cannot be replaced.
    Run(String),
}

/// Where the programs of the table lie.
const DIRECTORIES: [&str; 8] = [
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib/systemd",
    "/lib/systemd",
    "/usr/libexec",
    "/usr/local/sbin",
];

/// What becomes of `scriptlet`, whose text, macros expanded, is `text`, when RPM would run it with `arguments`.
pub fn judge(scriptlet: &Scriptlet, text: Option<&[u8]>, arguments: &[u32]) -> Verdict {
    let words = |words: &[Vec<u8>]| -> Option<Vec<String>> {
        words
            .iter()
            .map(|word| String::from_utf8(word.clone()).ok())
            .collect()
    };
    let Some(interpreter) = words(&scriptlet.interpreter) else {
        return Verdict::Run("its interpreter's name is not UTF-8 text".to_owned());
    };
    let Some(text) = text else {
        let call = Call {
            words: interpreter.into_iter().map(Some).collect(),
            input: None,
        };
        return replace(&[call]);
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return Verdict::Run("its text is not UTF-8".to_owned());
    };
    if scriptlet.is_lua() {
        let comment = |line: &str| line.is_empty() || (line.starts_with("--") && !line.starts_with("--["));
        return match text.lines().map(str::trim).all(comment) {
            true => Verdict::Skip("there is no command in it"),
            false => Verdict::Run("Lua is run, not read".to_owned()),
        };
    }
    let shells = ["/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash"];
    match interpreter.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [shell] | [shell, "-e"] if shells.contains(&shell) => {}
        _ => return Verdict::Run(format!("`{}` is run, not read", interpreter.join(" "))),
    }
    match evaluate(text, arguments) {
        Err(unclear) => Verdict::Run(format!("{} is not understood", quoted(&unclear.0))),
        Ok(calls) if calls.is_empty() => {
            Verdict::Skip("there is nothing for it to do at a first installation")
        }
        Ok(calls) => replace(&calls),
    }
}

fn quoted(what: &str) -> String {
    if what.contains('`') {
        what.to_owned()
    } else {
        format!("`{what}`")
    }
}

fn replace(calls: &[Call]) -> Verdict {
    let mut replaced = Vec::with_capacity(calls.len());
    for call in calls {
        let command: Vec<_> = call
            .words
            .iter()
            .map(|word| word.as_deref().unwrap_or("…"))
            .collect();
        let Some((effect, reason)) = look_up(call) else {
            return Verdict::Run(format!("`{}` is not replaced", command.join(" ")));
        };
        replaced.push(Replacement {
            command: command.join(" "),
            effect,
            reason,
        });
    }
    Verdict::Replace(replaced)
}

fn look_up(call: &Call) -> Option<(Effect, &'static str)> {
    let (program, words) = call.words.split_first()?;
    let program = program.as_deref()?;
    let name = match program.rsplit_once('/') {
        Some((directory, name)) if DIRECTORIES.contains(&directory) => name,
        Some(_) => return None,
        None => program,
    };
    let arguments = Arguments {
        program: name,
        words,
        input: call.input.as_deref(),
    };
    let mut rows = TABLE.iter().filter(|row| row.programs.contains(&name));
    rows.find_map(|row| Some(((row.effect)(&arguments)?, row.reason)))
}

#[cfg(test)]
mod tests;
