//! The command line: one file a subcommand, which parses arguments, calls the library and prints.

pub mod boot;
mod build;
mod delta;
mod fetch;
mod keys;
mod lock;
mod lock_ids;
mod pcr;
mod recover;
mod remote;
pub mod report;
mod rpm;
mod rpm_closure;
mod sandbox;
mod show;
mod sign;
mod store;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hullwright::compose::Unfinished;
use miette::IntoDiagnostic as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Composes sealed, immutable operating-system images: RPMs in; an ostree commit and
/// a bootable, verity-sealed disk out. Needs no privilege and gives the same bytes each time.
#[derive(Debug, Parser)]
#[command(name = "hullwright", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::BuildArgs),
    Boot(boot::BootArgs),
    Delta(delta::DeltaArgs),
    Keys(keys::KeysArgs),
    Lock(lock::LockArgs),
    Pcr(pcr::PcrArgs),
    Recover(recover::RecoverArgs),
    Rpm(rpm::RpmArgs),
    #[command(hide = true)]
    SandboxFirstProcess,
    Show(show::Args),
    Sign(sign::SignArgs),
    Store(store::StoreArgs),
    Verify(verify::VerifyArgs),
}

impl Cli {
    /// Runs the subcommand; gives the exit code.
    ///
    /// # Errors
    /// What went wrong, to be printed; the exit code is 1 then.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::Build(args) => build::run(&args),
            Command::Boot(args) => boot::run(args),
            Command::Delta(args) => delta::run(&args),
            Command::Keys(args) => keys::run(&args),
            Command::Lock(args) => lock::run(&args),
            Command::Pcr(args) => pcr::run(&args),
            Command::Recover(args) => recover::run(&args),
            Command::Rpm(args) => rpm::run(&args),
            Command::SandboxFirstProcess => Ok(sandbox::run()),
            Command::Show(args) => show::run(&args),
            Command::Sign(args) => sign::run(&args),
            Command::Store(args) => store::run(&args),
            Command::Verify(args) => verify::run(&args),
        }
    }
}

/// Ctrl-C and `kill` leave nothing behind.
fn remove_when_stopped(unfinished: Unfinished) -> miette::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).into_diagnostic()?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            unfinished.remove();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
