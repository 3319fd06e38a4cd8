//! `hullwright lock`

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::rpmset::{Lock, RpmSet};
use miette::{Context as _, IntoDiagnostic as _, miette};

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
    let place = match args.output.parent() {
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
    let set = RpmSet::load(&args.source)?;
    let lock = Lock::describe(&set, place)?;
    let failed = || format!("lock file `{}` cannot be written", args.output.display());
    // Others may read it, as far as the umask lets them.
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(place)
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
