//! `hullwright recover`: the recovery key of a machine, for the holder of the escrow key.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::recovery;
use hullwright::signing::EscrowKey;
use miette::IntoDiagnostic as _;

/// Unwraps the recovery key of a machine whose root partition was encrypted at its first boot.
///
/// FILE is `EFI/hullwright/recovery/<UUID of the LUKS volume>.json` of the machine's ESP. The key is written to standard
/// output, without a line break, so that it can be piped: `hullwright recover --key escrow.key FILE | cryptsetup open --key-file - …`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The private key (PEM) whose public half `encryption.root.recovery` of the image named.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    file: PathBuf,
}

/// Runs `hullwright recover`.
pub fn run(args: &RecoverArgs) -> miette::Result<ExitCode> {
    let escrow = EscrowKey::read(&args.key)?;
    let recovered = recovery::recover(&args.file, &escrow)?;
    eprintln!("Recovery key of the machine {}:", recovered.record.machine);
    let mut out = io::stdout().lock();
    out.write_all(recovered.key.as_bytes()).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    eprintln!();
    Ok(ExitCode::SUCCESS)
}
