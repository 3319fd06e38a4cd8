//! `hullwright keys`: keys, and what firmware is told of them.

mod init;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Keys: a set for development.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    Init(init::InitArgs),
}

/// Runs `hullwright keys …`.
pub fn run(args: &KeysArgs) -> miette::Result<ExitCode> {
    match &args.command {
        KeysCommand::Init(args) => init::run(args),
    }
}
