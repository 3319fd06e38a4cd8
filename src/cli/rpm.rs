//! `hullwright rpm`: looking at single packages with the code that builds take them by.

mod escape;
mod files;
mod scriptlets;
mod show;
mod verify;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hullwright::rpmset::{Error, Package};
use miette::{Context as _, IntoDiagnostic as _};
use serde_json::{Value, json};

use super::rpm_closure::{self, ClosureArgs};

/// Look at RPM packages: are they whole, who signed them, what is in them; is a set of them complete
#[derive(Debug, Args)]
pub struct RpmArgs {
    #[command(subcommand)]
    command: RpmCommand,
}

#[derive(Debug, Subcommand)]
enum RpmCommand {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
    Files(files::FilesArgs),
    Scriptlets(scriptlets::ScriptletsArgs),
    Closure(ClosureArgs),
}

pub fn run(args: &RpmArgs) -> miette::Result<ExitCode> {
    match &args.command {
        RpmCommand::Verify(args) => verify::run(args),
        RpmCommand::Show(args) => show::run(args),
        RpmCommand::Files(args) => files::run(args),
        RpmCommand::Scriptlets(args) => scriptlets::run(args),
        RpmCommand::Closure(args) => rpm_closure::run(args),
    }
}

/// The packages that `paths` name, those of directories sorted.
fn expand_all(paths: &[PathBuf]) -> miette::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        expand(path, &mut all)
            .into_diagnostic()
            .wrap_err_with(|| format!("`{}` cannot be read", path.display()))?;
    }
    Ok(all)
}

fn print(text: &str) -> miette::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written
            .into_diagnostic()
            .wrap_err("the standard output cannot be written"),
    }
}

/// The packages of a directory, sorted, or the one that `path` is.
fn expand(path: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            found.push(path);
        }
    }
    found.sort();
    into.append(&mut found);
    Ok(())
}

/// What JSON says first of every package.
fn head(path: &Path, opened: Result<&Package, &Error>) -> Value {
    let mut value = json!({ "file": path.display().to_string(), "ok": opened.is_ok() });
    match opened {
        Ok(package) => value["nevra"] = package.nevra.to_string().into(),
        Err(error) => value["reason"] = error.problem.to_string().into(),
    }
    value
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
