//! `hullwright show`: a definition's expanded form.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use hullwright::definition;
use miette::{IntoDiagnostic, WrapErr};

use super::report;

/// Print an image definition with all that it extends merged and every default written out
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image definition
    #[arg(value_name = "DEF")]
    definition: PathBuf,

    /// Print JSON instead of TOML
    #[arg(long)]
    json: bool,
}

/// # Errors
/// A definition that is not right; a standard output that takes nothing.
pub fn run(args: &Args) -> miette::Result<ExitCode> {
    let definition = definition::load(&args.definition)?;
    definition.warnings.iter().for_each(report::warning);
    let text = if args.json {
        let value = definition.plan.to_json().into_diagnostic()?;
        format!("{value:#}\n")
    } else {
        definition.plan.to_toml().into_diagnostic()?
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written
            .into_diagnostic()
            .wrap_err("the standard output cannot be written")
            .map(|()| ExitCode::SUCCESS),
    }
}
