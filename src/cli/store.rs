//! `hullwright store`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use hullwright::ostree;
use hullwright::store::{Limits, Store};
use indicatif::HumanBytes;
use miette::IntoDiagnostic as _;
use serde_json::json;

/// Look after what is kept between builds
///
/// All of it can be made or fetched again: removing it costs time, never an image. Builds may run meanwhile.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: Command,

    /// Where the store lies [default: hullwright/store in your cache directory]
    #[arg(long, value_name = "DIR", global = true)]
    store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say how much of what there is
    Du {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what was used least lately
    Prune {
        /// Remove until so much is left, as in 20GiB (KiB, MiB, GiB, TiB; 0 for nothing)
        #[arg(long, value_name = "SIZE", value_parser = size, required_unless_present = "older_than")]
        max_size: Option<u64>,

        /// Remove whatever was not used for so long, as in 30d (minutes m, hours h, days d, weeks w)
        #[arg(long, value_name = "TIME", value_parser = time)]
        older_than: Option<Duration>,
    },
    /// Read everything, name what is damaged and drop it; exit status 1 if anything was
    Verify,
}

pub fn run(args: &StoreArgs) -> miette::Result<ExitCode> {
    let root = match &args.store {
        Some(root) => root.clone(),
        None => Store::default_root()?,
    };
    let store = Store::open(&root)?;
    match &args.command {
        Command::Du { json } => usage(&store, *json),
        Command::Prune { max_size, older_than } => prune(
            &store,
            &Limits {
                max_size: *max_size,
                older_than: *older_than,
            },
        ),
        Command::Verify => verify(&store),
    }
}

fn usage(store: &Store, as_json: bool) -> miette::Result<ExitCode> {
    let usage = store.usage()?;
    let total: u64 = usage.iter().map(|usage| usage.bytes).sum();
    let mut out = io::stdout().lock();
    if as_json {
        let kinds = usage.iter().map(|usage| {
            let (kind, entries, bytes) = (usage.kind.name(), usage.entries, usage.bytes);
            json!({ "kind": kind, "entries": entries, "bytes": bytes })
        });
        let all = json!({ "store": store.root(), "bytes": total, "kinds": kinds.collect::<Vec<_>>() });
        writeln!(out, "{all:#}").into_diagnostic()?;
        return Ok(ExitCode::SUCCESS);
    }
    for usage in &usage {
        let size = HumanBytes(usage.bytes).to_string();
        let (entries, kind) = (usage.entries, usage.kind.name());
        writeln!(out, "{size:>12}  {entries:>8}  {kind}").into_diagnostic()?;
    }
    let entries: u64 = usage.iter().map(|usage| usage.entries).sum();
    let size = HumanBytes(total).to_string();
    writeln!(out, "{size:>12}  {entries:>8}  in {}", store.root().display()).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

fn prune(store: &Store, limits: &Limits) -> miette::Result<ExitCode> {
    let pruned = store.prune(limits)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "removed {} entries, {}; {} entries, {} stay",
        pruned.entries,
        HumanBytes(pruned.bytes),
        pruned.left,
        HumanBytes(pruned.left_bytes)
    )
    .into_diagnostic()?;
    if pruned.spared > 0 {
        let spared = pruned.spared;
        writeln!(
            out,
            "{spared} of them only because the store is in use, and they were used in the last two hours"
        )
        .into_diagnostic()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(store: &Store) -> miette::Result<ExitCode> {
    let verified = store.verify(&ostree::check_kept)?;
    let mut out = io::stdout().lock();
    for damage in &verified.damage {
        writeln!(out, "dropped: {damage}").into_diagnostic()?;
    }
    let (entries, bytes) = (verified.entries, HumanBytes(verified.bytes));
    let damaged = match verified.damage.len() {
        0 => "all as they should be".to_owned(),
        found => format!("{found} places damaged"),
    };
    writeln!(out, "{entries} entries read, {bytes}: {damaged}").into_diagnostic()?;
    Ok(match verified.damage.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A number and one of `units`.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    match text {
        "0" => Ok(0),
        _ => scaled(text, &units).ok_or_else(|| "a number and KiB, MiB, GiB or TiB, as in 20GiB".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let units = [("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let seconds = scaled(text, &units);
    let seconds = seconds.ok_or_else(|| "a number and m, h, d or w, as in 30d".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("3KiB", Some(3072)),
            ("20 GiB", Some(20 << 30)),
            ("20", None),
            ("20G", None),
            ("GiB", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("30d", Some(30 * 86_400)),
            ("2w", Some(1_209_600)),
            ("5", None),
            ("5s", None),
        ] {
            assert_eq!(time(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
    }
}
