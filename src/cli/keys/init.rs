//! `hullwright keys init`: a set of keys for development.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use hullwright::signing::DevelopmentSet;

/// Makes a set of keys for development: Secure Boot (PK, KEK, db), PCR policies, verity, ostree commits, escrow.
///
/// For each of them DIR gets NAME.key, the private key (not encrypted, readable by you alone), and NAME.pem, its
/// certificate or public key. Nothing is overwritten. For production, keep private keys on a token or sign elsewhere.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the keys go; made where it is not there.
    directory: PathBuf,
    /// Begins the certificates' subjects.
    #[arg(long, default_value = "Hullwright Development")]
    name: String,
    /// Length of RSA keys. Keys of PCR policies have 2048 bits in any case, which every TPM can.
    #[arg(long, default_value = "2048", value_parser = ["2048", "3072", "4096"])]
    bits: String,
    /// ECDSA on P-256 in place of RSA for Secure Boot and verity. Not every firmware and kernel checks it.
    #[arg(long, conflicts_with = "bits")]
    ec: bool,
}

/// Runs `hullwright keys init`.
pub fn run(args: &InitArgs) -> miette::Result<ExitCode> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let set = DevelopmentSet {
        name: args.name.clone(),
        bits: args.bits.parse().unwrap_or(2048),
        ec: args.ec,
        now: i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2),
    };
    for pair in set.write(&args.directory)? {
        println!("{}  {}: {}", pair.key.display(), pair.algorithm, pair.purpose);
    }
    Ok(ExitCode::SUCCESS)
}
