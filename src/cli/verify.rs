//! `hullwright verify`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::compose::detached;
use hullwright::verify::{CHECKS, Options, Subject, verify};
use hullwright::{firmware, signing};
use serde_json::{Value, json};
use uuid::Uuid;

/// Check offline that an image is what it claims, from its bytes alone; exit status 1 if something does not hold
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What `hullwright build` left, <OUT>/<id>_<version>, or a disk image (.raw, .vhd, .qcow2)
    #[arg(value_name = "OUTDIR|IMAGE", required_unless_present = "list")]
    path: Option<PathBuf>,

    /// Certificates of db (PEM or DER): boot loader, kernel images and add-ons must be signed by one of them; may be repeated
    #[arg(long = "cert", value_name = "FILE")]
    certificates: Vec<PathBuf>,

    /// What dbx forbids: certificates (PEM, DER), signature lists (.esl) or their updates (.auth); may be repeated
    #[arg(long, value_name = "FILE")]
    dbx: Vec<PathBuf>,

    /// Certificates (PEM or DER) that root hashes are signed for; where none is given, those of db; may be repeated
    #[arg(long = "verity-cert", value_name = "FILE")]
    verity_certificates: Vec<PathBuf>,

    /// Public key (PEM, Ed25519) that commits are signed for
    #[arg(long, value_name = "FILE")]
    commit_key: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Check nothing: say which checks there are, and what each proves
    #[arg(long, conflicts_with = "path")]
    list: bool,
}

pub fn run(args: &VerifyArgs) -> miette::Result<ExitCode> {
    let Some(path) = args.path.as_ref().filter(|_| !args.list) else {
        print(&list(args.json));
        return Ok(ExitCode::SUCCESS);
    };
    detached::refuse_waiting(path)?;
    let mut options = Options::default();
    for path in &args.certificates {
        options.certificates.extend(signing::certificates(path)?);
    }
    for path in &args.dbx {
        firmware::read_into(path, Uuid::nil(), &mut options.forbidden)?;
    }
    for path in &args.verity_certificates {
        options.verity_certificates.extend(signing::certificates(path)?);
    }
    if let Some(path) = &args.commit_key {
        options.commit_key = Some(signing::public_key(path)?);
    }
    let report = verify(&Subject::open(path, &options)?);
    match args.json {
        true => print(&format!("{:#}\n", report.to_json())),
        false => print(&report.to_string()),
    }
    Ok(match report.holds() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn list(as_json: bool) -> String {
    if as_json {
        let check = |check: &hullwright::verify::Check| json!({ "check": check.name, "proves": check.proves, "why": check.why, "way_out": check.way_out });
        return format!(
            "{:#}\n",
            Value::from(CHECKS.iter().map(check).collect::<Vec<_>>())
        );
    }
    let line = |check: &hullwright::verify::Check| format!("{:<18} {}\n", check.name, check.proves);
    CHECKS.iter().map(line).collect()
}

/// The verdict stands, whoever has stopped reading.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
