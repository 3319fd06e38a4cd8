//! `hullwright delta`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::ostree::{self, DeltaOptions, Repo};
use indicatif::HumanBytes;

/// Write a static delta into a repository: what machines with an earlier version fetch in place of single objects
#[derive(Debug, Args)]
pub struct DeltaArgs {
    /// The version that machines have: an output directory, or an ostree repository
    #[arg(value_name = "EARLIER")]
    earlier: PathBuf,

    /// The version that they are to get, likewise; its repository is written to
    #[arg(value_name = "OUTDIR")]
    outdir: PathBuf,

    /// The ref, where a repository has several
    #[arg(long = "ref", value_name = "REF", default_value = "")]
    reference: String,

    /// Put everything into one file, for `ostree static-delta apply-offline`
    #[arg(long)]
    inline: bool,
}

/// # Errors
/// Repositories or commits that are not there or damaged; I/O.
pub fn run(args: &DeltaArgs) -> miette::Result<ExitCode> {
    let earlier = Repo::find(&args.earlier)?;
    let repo = Repo::find(&args.outdir)?;
    let (from, to) = (earlier.head(&args.reference)?, repo.head(&args.reference)?);
    let options = DeltaOptions { inline: args.inline };
    let delta = ostree::write_delta(&earlier, &from, repo.path(), &to, options)?;
    let mut text = format!(
        "{}\n  {} in {} part{}: {} objects, {} of them from earlier ones\n",
        delta.name,
        HumanBytes(delta.size),
        delta.parts,
        if delta.parts == 1 { "" } else { "s" },
        delta.objects,
        delta.patched,
    );
    if delta.fallbacks > 0 {
        text.push_str(&format!(
            "  {} large files are left to be fetched by themselves\n",
            delta.fallbacks
        ));
    }
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
