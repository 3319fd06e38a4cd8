//! `hullwright build`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::compose::{self, Request};
use hullwright::definition;
use hullwright::report::Progress;
use hullwright::store::Store;
use miette::{Context as _, IntoDiagnostic as _, Report};

/// Build an image: RPMs in; ostree commit, sealed /usr, UKI and disks out
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The image definition
    #[arg(value_name = "DEF")]
    definition: PathBuf,

    /// Packages to build from, in place of the definition's: a directory of .rpm files, or a lock file
    #[arg(long, value_name = "DIR|LOCK")]
    rpms: Option<PathBuf>,

    /// OpenPGP key that packages may be signed with, beside the definition's (may be repeated)
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,

    /// Where to put the directory <id>_<version> with everything that comes out
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,

    /// Threads to work with [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,

    /// Where unpacked packages are kept between builds [default: hullwright/store in your cache directory]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// Show errors only
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: &BuildArgs) -> miette::Result<ExitCode> {
    let jobs = usize::from(args.jobs.unwrap_or(0));
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build_global()
        .into_diagnostic()?;
    let definition = definition::load(&args.definition)?;
    for warning in &definition.warnings {
        eprintln!("{:?}", Report::new(warning.clone()));
    }
    let request = Request {
        rpms: args.rpms.clone(),
        keys: args.keys.clone(),
        out: args.out.clone(),
        store: match &args.store {
            Some(store) => store.clone(),
            None => Store::default_root()?,
        },
        newest: source_date_epoch()?,
    };
    let progress = Progress::new(args.quiet);
    let built = compose::build(&definition, &request, &progress)?;
    if !args.quiet {
        println!("{}", built.directory.display());
        for (name, size) in &built.outputs {
            println!("  {size:>13}  {name}");
        }
        println!(
            "  commit     {} ({})",
            built.commit,
            definition.plan.os.reference.as_str()
        );
        println!("  root hash  {}", built.root_hash);
        println!("  packages   {}, {} paths", built.packages, built.paths);
        for path in &built.labels.unlabelled {
            println!("  no label   {path} (the SELinux policy gives it none)");
        }
        for (first, other) in &built.labels.conflicts {
            println!(
                "  label of   {first} also for its hard link {other}, which the policy labels differently"
            );
        }
        println!("Boot it: hullwright boot {}", built.directory.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// See <https://reproducible-builds.org/specs/source-date-epoch/>.
fn source_date_epoch() -> miette::Result<Option<i64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let seconds = value.to_string_lossy().parse().into_diagnostic();
    seconds
        .wrap_err_with(|| {
            format!(
                "SOURCE_DATE_EPOCH is `{}`, not seconds since 1970",
                value.to_string_lossy()
            )
        })
        .map(Some)
}
