//! `hullwright recover`: the recovery key of a machine, for the holder of the escrow key.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::recovery::{self, DIRECTORY, LARGEST, Recovered, RecoveryError};
use hullwright::signing::EscrowKey;
use hullwright::verify::{Options, Subject};
use miette::IntoDiagnostic as _;

/// Unwraps the recovery key of a machine whose root partition was encrypted at its first boot.
///
/// FILE is the machine's disk (.raw, .vhd or .qcow2), or `EFI/hullwright/recovery/<UUID of the LUKS volume>.json` of its ESP. The
/// key is written to standard output, without a line break, so that it can be piped: `hullwright recover --key escrow.key FILE |
/// cryptsetup open --key-file - …`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The private key (PEM) whose public half `encryption.root.recovery` of the image named.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// Of a disk with several: the UUID of the LUKS volume whose key is wanted.
    #[arg(long, value_name = "UUID")]
    volume: Option<String>,
    file: PathBuf,
}

/// Runs `hullwright recover`.
pub fn run(args: &RecoverArgs) -> miette::Result<ExitCode> {
    let escrow = EscrowKey::read(&args.key)?;
    let is_image = fs::metadata(&args.file).is_ok_and(|metadata| metadata.len() > LARGEST);
    let recovered = match is_image {
        true => of_disk(&args.file, args.volume.as_deref(), &escrow)?,
        false => recovery::recover(&args.file, &escrow)?,
    };
    eprintln!("Recovery key of the machine {}:", recovered.record.machine);
    let mut out = io::stdout().lock();
    out.write_all(recovered.key.as_bytes()).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    eprintln!();
    Ok(ExitCode::SUCCESS)
}

/// From the ESP of the disk `path`: the record of `volume`, or of the volume that the disk has, or the only one.
fn of_disk(path: &Path, volume: Option<&str>, escrow: &EscrowKey) -> miette::Result<Recovered> {
    let disk = Subject::open(path, &Options::default())?;
    let none = |why: String| RecoveryError::Image {
        path: path.to_owned(),
        why,
    };
    let records = disk.esp_files(DIRECTORY, LARGEST).map_err(none)?;
    let (name, bytes) = recovery::choose(path, &records, volume, &disk.luks_uuids())?;
    Ok(recovery::unwrap(&path.join(name), bytes, escrow)?)
}
