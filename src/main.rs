mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    raise_file_limit();
    cli::Cli::parse().run().unwrap_or_else(|report| {
        cli::report::error(report.as_ref());
        ExitCode::FAILURE
    })
}

/// A set of packages is read from as many files as it has packages.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Where it cannot be raised, a large set fails later with the system's own words.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
