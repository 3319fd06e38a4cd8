//! `hullwright pcr`: what a machine's TPM holds, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hullwright::formats::event_log::EventLog;
use hullwright::formats::pcr::{Bank, Value};
use hullwright::measure::{self, Event};
use hullwright::report::ManifestPcrs;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use serde_json::{Map, json};

/// The largest log that is read; those of machines have some hundred KiB.
const LARGEST: u64 = 64 << 20;

/// Explain the registers of a machine's TPM
#[derive(Debug, Args)]
pub struct PcrArgs {
    #[command(subcommand)]
    command: PcrCommand,
}

#[derive(Debug, Subcommand)]
enum PcrCommand {
    Replay(ReplayArgs),
}

/// Work out from an event log what the registers hold
///
/// Linux shows the log of the running machine as /sys/kernel/security/tpm0/binary_bios_measurements. It
/// says what was measured until the kernel took over; what systemd measures later (phases of the boot
/// into PCR 11) is not in it.
#[derive(Debug, Args)]
struct ReplayArgs {
    /// The event log
    #[arg(value_name = "LOG")]
    log: PathBuf,

    /// Only this bank (may be repeated) [default: all that the log has]
    #[arg(long, value_name = "BANK", value_parser = bank)]
    bank: Vec<Bank>,

    /// List the events too
    #[arg(long)]
    events: bool,

    /// Hold the log against this image (a build's output directory): say what differs; the exit
    /// status is 1 where something does
    #[arg(long, value_name = "OUTDIR")]
    image: Option<PathBuf>,

    /// Print what PCRs 4, 7, 9, 11, 12 and 13 would hold had the machine booted the image, instead of what they hold
    #[arg(long, requires = "image")]
    predict: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn bank(text: &str) -> Result<Bank, String> {
    Bank::from_name(text).ok_or_else(|| "the banks are sha1, sha256, sha384 and sha512".to_owned())
}

pub fn run(args: &PcrArgs) -> miette::Result<ExitCode> {
    match &args.command {
        PcrCommand::Replay(args) => replay(args),
    }
}

fn replay(args: &ReplayArgs) -> miette::Result<ExitCode> {
    let bytes = read(&args.log)?;
    let log = EventLog::parse(&bytes)
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` is no event log", args.log.display()))?;
    let image = args.image.as_deref().map(events).transpose()?;
    let banks: Vec<Bank> = match args.bank.as_slice() {
        [] if args.predict => image_banks(&log),
        [] => log.banks.clone(),
        banks => banks.to_vec(),
    };
    if let Some(bank) = banks.iter().find(|bank| !log.banks.contains(bank)) {
        return Err(miette!("the log has no digests of {bank}"));
    }
    let values = |bank: Bank| match (&image, args.predict) {
        (Some(image), true) => measure::predict(&log, image, bank),
        _ => log.replay(bank),
    };
    let values: Vec<(Bank, BTreeMap<u32, Value>)> = banks.iter().map(|bank| (*bank, values(*bank))).collect();
    let differences = match &image {
        Some(image) if !args.predict => {
            let known = image_banks(&log);
            let bank = known.last().ok_or_else(|| {
                miette!("the log has neither SHA-256 nor SHA-384, so it cannot be held against an image")
            })?;
            measure::differences(&log, image, *bank)
        }
        _ => Vec::new(),
    };
    let text = if args.json {
        let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
        let mut report = json!({ "pcrs": registers(&values) });
        if args.events {
            report["events"] = logged(&log, &banks);
        }
        if image.is_some() && !args.predict {
            report["differences"] = json!(differences);
        }
        format!("{report:#}\n")
    } else {
        let mut text = String::new();
        if args.events {
            for event in &log.events {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{:>2}  {:32}  {}",
                    event.pcr,
                    event.kind_name(),
                    event.describe()
                );
            }
        }
        for (bank, values) in &values {
            for (pcr, value) in values {
                let _ = writeln!(text, "{pcr}:{bank}={value}");
            }
        }
        for difference in &differences {
            let _ = writeln!(text, "{difference}");
        }
        if image.is_some() && !args.predict && differences.is_empty() {
            text.push_str("the machine booted this image as it was built\n");
        }
        text
    };
    print(&text)?;
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The banks of `log` that images are predicted in.
fn image_banks(log: &EventLog<'_>) -> Vec<Bank> {
    let known = [Bank::Sha384, Bank::Sha256];
    known
        .into_iter()
        .filter(|bank| log.banks.contains(bank))
        .collect()
}

fn registers(values: &[(Bank, BTreeMap<u32, Value>)]) -> serde_json::Value {
    let banks = values.iter().map(|(bank, values)| {
        let values = values
            .iter()
            .map(|(pcr, value)| (pcr.to_string(), value.to_string().into()));
        (bank.to_string(), values.collect::<Map<_, _>>().into())
    });
    banks.collect::<Map<_, _>>().into()
}

fn logged(log: &EventLog<'_>, banks: &[Bank]) -> serde_json::Value {
    let events = log.events.iter().map(|event| {
        let digests = banks.iter().filter_map(|bank| {
            let digest = event.digest(*bank)?;
            Some((bank.to_string(), digest.to_string().into()))
        });
        json!({
            "pcr": event.pcr,
            "type": event.kind_name(),
            "says": event.describe(),
            "digests": digests.collect::<Map<_, _>>(),
        })
    });
    events.collect()
}

fn read(path: &Path) -> miette::Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read()
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` cannot be read", path.display()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(miette!("`{}` is larger than any event log", path.display()));
    }
    Ok(bytes)
}

/// What the image in `directory` makes a machine measure, by its manifest.
fn events(directory: &Path) -> miette::Result<Vec<Event>> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        pcrs: ManifestPcrs,
    }
    let path = directory.join("manifest.json");
    let manifest: Manifest = serde_json::from_slice(&read(&path)?)
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` says nothing of measurements", path.display()))?;
    let event = |event: hullwright::report::ManifestPcrEvent| {
        let digests = [(Bank::Sha256, &event.sha256), (Bank::Sha384, &event.sha384)];
        let digests = digests.map(|(bank, text)| Value::from_hex(bank, text));
        let digests: Option<Vec<Value>> = digests.into_iter().collect();
        let digests =
            digests.ok_or_else(|| miette!("`{}`: a digest of `{}` is none", path.display(), event.what))?;
        Ok(Event {
            pcr: event.pcr,
            what: event.what,
            digests,
        })
    };
    manifest.pcrs.events.into_iter().map(event).collect()
}

fn print(text: &str) -> miette::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written
            .into_diagnostic()
            .wrap_err("the standard output cannot be written"),
    }
}
