//! `hullwright rpm verify`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::rpmset::signature::{Keyring, Policy, Verdict, verify};
use hullwright::rpmset::{Error, Package};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{expand_all, print};

/// Check digests and signatures; exit status 1 if a package is not whole or not signed by a given key
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Packages, source packages too, or directories of .rpm files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// A file of OpenPGP public keys that packages may be signed by; may be repeated
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,

    /// Believe the package NAME even where it is signed over MD5 or SHA-1; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_weak: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs) -> miette::Result<ExitCode> {
    let keyring = Keyring::read(&args.keys)?;
    let policy = Policy {
        weak_packages: args.allow_weak.iter().cloned().collect(),
        weak_keys: BTreeSet::new(),
    };
    let paths = expand_all(&args.paths)?;
    let outcomes: Vec<_> = paths
        .par_iter()
        .with_max_len(1)
        .map(|path| outcome(path, &keyring, &policy))
        .collect();
    let good = |outcome: &Result<Verdict, Error>| matches!(outcome, Ok(Verdict::Signed { .. }));
    let text = if args.json {
        let values: Vec<_> = paths
            .iter()
            .zip(&outcomes)
            .map(|(path, outcome)| describe(path, outcome))
            .collect();
        format!("{:#}\n", Value::from(values))
    } else {
        let line = |(path, outcome): (&PathBuf, &Result<Verdict, Error>)| {
            let word = if good(outcome) { "ok " } else { "BAD" };
            match outcome {
                Ok(verdict) => format!("{word} {}: {verdict}\n", path.display()),
                // It names the file itself.
                Err(error) => format!("{word} {error}\n"),
            }
        };
        paths.iter().zip(&outcomes).map(line).collect()
    };
    print(&text)?;
    Ok(match outcomes.iter().all(good) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn outcome(path: &Path, keyring: &Keyring, policy: &Policy) -> Result<Verdict, Error> {
    let package = Package::open_any(path)?;
    package.check_payload()?;
    verify(&package, keyring, policy)
}

fn describe(path: &Path, outcome: &Result<Verdict, Error>) -> Value {
    let file = path.display().to_string();
    let verdict = match outcome {
        Ok(verdict) => verdict,
        Err(error) => {
            return json!({ "file": file, "ok": false, "verdict": "damaged", "reason": error.problem.to_string() });
        }
    };
    let mut value = json!({ "file": file, "ok": false });
    match verdict {
        Verdict::Signed { signer, unknown } => {
            value["ok"] = true.into();
            value["verdict"] = "signed".into();
            value["fingerprint"] = signer.fingerprint.clone().into();
            value["key_fingerprint"] = signer.key_fingerprint.clone().into();
            value["user_id"] = signer.user_id.clone().into();
            value["created"] = signer.created.into();
            value["not_checked"] = unknown.clone().into();
        }
        Verdict::Unsigned => value["verdict"] = "unsigned".into(),
        Verdict::Unknown { key_ids } => {
            value["verdict"] = "unknown-key".into();
            value["key_ids"] = key_ids.clone().into();
        }
        Verdict::Weak { signer, hash } => {
            value["verdict"] = "weak".into();
            value["fingerprint"] = signer.fingerprint.clone().into();
            value["hash"] = hash.clone().into();
        }
        Verdict::Bad { key_id, .. } => {
            value["verdict"] = "bad".into();
            value["key_id"] = key_id.clone().into();
        }
    }
    value["reason"] = verdict.to_string().into();
    value
}
