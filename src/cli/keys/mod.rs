//! `hullwright keys`: keys, and what firmware is told of them.

mod enroll_ovmf;
mod init;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Keys: a set for development, and what firmware is told of them
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    EnrollOvmf(Box<enroll_ovmf::EnrollOvmfArgs>),
    Init(init::InitArgs),
}

/// Runs `hullwright keys …`.
pub fn run(args: &KeysArgs) -> miette::Result<ExitCode> {
    match &args.command {
        KeysCommand::EnrollOvmf(args) => enroll_ovmf::run(args),
        KeysCommand::Init(args) => init::run(args),
    }
}
