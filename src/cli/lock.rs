//! `hullwright lock`

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::rpmset::{Lock, RpmSet};
use miette::{Context as _, IntoDiagnostic as _};

/// Write down exactly which packages a directory holds: names, sizes and digests
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Directory of .rpm files
    source: PathBuf,
    /// Lock file to write; it must lie in the directory or above it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(args: &LockArgs) -> miette::Result<ExitCode> {
    let set = RpmSet::load(&args.source)?;
    let base = args.output.parent().unwrap_or(Path::new(""));
    let lock = Lock::describe(&set, base)?;
    let place = if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        base
    };
    let failed = || format!("lock file `{}` cannot be written", args.output.display());
    let file = tempfile::NamedTempFile::new_in(place)
        .into_diagnostic()
        .wrap_err_with(failed)?;
    std::fs::write(file.path(), lock.to_text())
        .into_diagnostic()
        .wrap_err_with(failed)?;
    file.persist(&args.output)
        .into_diagnostic()
        .wrap_err_with(failed)?;
    let count = lock.packages.len();
    let _ = writeln!(
        io::stdout(),
        "{count} packages locked in {}",
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}
