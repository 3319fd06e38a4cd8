//! `hullwright sign`: signatures that are made elsewhere.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hullwright::compose::{Built, Unfinished, detached};
use hullwright::report::Progress;

/// Finish a build whose private keys are elsewhere: hand out what is to be signed, take in the signatures.
///
/// A definition that names certificates or public keys without `key` is built up to the first signature that is wanted.
/// `sign request` hands out the exact bytes to be signed, `sign attach` checks the signatures and goes on, to the end or to
/// the next round: (1) root hash, boot loader, add-ons; (2) PCR policies, commit; (3) kernel image; (4) SHA256SUMS. Nothing
/// is rebuilt, and with RSA or Ed25519 keys the image equals one that was signed at build, byte for byte.
#[derive(Debug, Args)]
pub struct SignArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hand out what is to be signed: DIR/request.json, and DIR/NAME.tbs with the bytes for each signature
    Request {
        /// What `hullwright build` left, <OUT>/<id>_<version>
        outdir: PathBuf,
        /// A new directory; without it, the request is only shown
        dir: Option<PathBuf>,
        /// Print request.json
        #[arg(long, conflicts_with = "dir")]
        json: bool,
    },
    /// Take the signatures in, DIR/NAME.sig for each NAME.tbs, and go on
    Attach {
        /// What `hullwright build` left, <OUT>/<id>_<version>
        outdir: PathBuf,
        /// Where the signatures are; each as it is, or in base64
        dir: PathBuf,
        /// A new directory for the request of the next round, if there is one
        #[arg(long, value_name = "DIR")]
        next: Option<PathBuf>,
        /// Show errors only
        #[arg(short, long)]
        quiet: bool,
    },
}

pub fn run(args: &SignArgs) -> miette::Result<ExitCode> {
    match &args.command {
        Command::Request { outdir, dir, json } => {
            let request = detached::open_request(outdir)?;
            if let Some(dir) = dir {
                request.write(dir)?;
            }
            match json {
                true => print(&format!("{}\n", request.to_json())),
                false => print(&shown(&request)),
            }
            if let Some(dir) = dir {
                print(&format!(
                    "Then: hullwright sign attach {} {}\n",
                    outdir.display(),
                    dir.display()
                ));
            }
        }
        Command::Attach {
            outdir,
            dir,
            next,
            quiet,
        } => {
            let unfinished = Unfinished::default();
            super::remove_when_stopped(unfinished.clone())?;
            let progress = Progress::new(*quiet);
            let (built, plan) = detached::attach(outdir, dir, &unfinished, &progress)?;
            if let (Some(next), Built { awaited: Some(_), .. }) = (next, &built) {
                detached::open_request(&built.directory)?.write(next)?;
            }
            if !quiet {
                print(&super::build::summary(&built, &plan));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn shown(request: &detached::Request) -> String {
    let mut text = format!(
        "{} {}: round {} of 4, {} signatures\n",
        request.image,
        request.version,
        request.round,
        request.signatures.len()
    );
    for entry in &request.signatures {
        text.push_str(&format!(
            "  {}\n      {} by the key {}…\n      {}\n",
            entry.of,
            entry.scheme,
            entry.key.get(..16).unwrap_or_default(),
            entry.openssl
        ));
    }
    text
}

fn print(text: &str) {
    // Nobody is harmed where standard output is closed.
    let _ = io::stdout().write_all(text.as_bytes());
}
