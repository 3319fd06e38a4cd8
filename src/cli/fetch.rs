//! Options of all subcommands that fetch packages.

use std::path::PathBuf;

use clap::Args;
use hullwright::fetch::Options;

/// How packages are fetched. Proxies: `https_proxy`, `http_proxy`, `no_proxy`
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Trust the certificates in FILE (PEM) for https, in place of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Packages to fetch at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,

    /// How often to repeat a request that failed for a passing reason
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=20))]
    retries: u32,
}

impl FetchArgs {
    pub fn options(&self, offline: bool) -> Options {
        Options {
            ca: self.ca.clone(),
            parallel: usize::from(self.connections),
            retries: self.retries,
            offline,
            ..Options::default()
        }
    }
}
