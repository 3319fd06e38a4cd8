//! `hullwright lock`

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::rpmset::{Lock, RpmSet};
use miette::{Context as _, IntoDiagnostic as _, miette};

use super::lock_ids::{self, IdsArgs};

/// Write down exactly which packages a directory holds: names, sizes and digests
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Directory of .rpm files
    #[arg(required_unless_present = "ids")]
    source: Option<PathBuf>,
    /// Lock file to write; it must lie in the directory or above it
    #[arg(short, long, value_name = "FILE", required_unless_present = "ids")]
    output: Option<PathBuf>,
    #[command(flatten)]
    ids: IdsArgs,
}

pub fn run(args: &LockArgs) -> miette::Result<ExitCode> {
    match (&args.ids.ids, &args.source, &args.output) {
        (Some(definition), ..) => lock_ids::run(definition, &args.ids),
        (None, Some(source), Some(output)) => lock_packages(source, output),
        // Clap asks for both.
        _ => Ok(ExitCode::FAILURE),
    }
}

fn lock_packages(source: &Path, output: &Path) -> miette::Result<ExitCode> {
    let place = match output.parent() {
        Some(place) if !place.as_os_str().is_empty() => place,
        _ => Path::new("."),
    };
    if !place.is_dir() {
        return Err(miette!(
            help = "make it first, or name another with `--output`",
            "the lock file's directory `{}` is not there",
            place.display()
        ));
    }
    let set = RpmSet::load(source)?;
    let lock = Lock::describe(&set, place)?;
    let failed = || format!("lock file `{}` cannot be written", output.display());
    lock_ids::replace(output, &lock.to_text())
        .into_diagnostic()
        .wrap_err_with(failed)?;
    let count = lock.packages.len();
    let _ = writeln!(io::stdout(), "{count} packages locked in {}", output.display());
    Ok(ExitCode::SUCCESS)
}
