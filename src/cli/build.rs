//! `hullwright build`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::compose::{self, Built, Request, Unfinished};
use hullwright::definition::{self, Plan};
use hullwright::report::{Progress, timings};
use hullwright::store::Store;
use indicatif::HumanBytes;
use miette::{Context as _, IntoDiagnostic as _};

use super::fetch::FetchArgs;
use super::remote::RemoteArgs;
use super::report;

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

    /// Where packages are kept between builds, fetched and unpacked [default: hullwright/store in your cache directory]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteArgs,

    /// Compose anew, even if the store has what an earlier build composed of the same, or the output is there already. Single
    /// pieces (packages unpacked, files compressed) still come from the store: for none of them, name an empty one
    #[arg(long)]
    fresh: bool,

    /// An earlier version, by its output directory or repository: machines that have it get this one by a static delta
    /// in the repository (may be repeated)
    #[arg(long, value_name = "DIR")]
    delta_from: Vec<PathBuf>,

    /// Fetch nothing: every locked package has to be in the store or where the lock file is
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    fetch: FetchArgs,
    /// Build nothing: say what would be done about each scriptlet of the packages, and why
    #[arg(long, value_name = "WHAT")]
    explain: Option<Explain>,

    /// Say at the end what each stage took: seconds, processors, bytes, memory
    #[arg(long)]
    timings: bool,

    /// Write a trace of the stages there, for https://ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Show errors only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Explain {
    Scriptlets,
}

pub fn run(args: &BuildArgs) -> miette::Result<ExitCode> {
    let jobs = usize::from(args.jobs.unwrap_or(0));
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build_global()
        .into_diagnostic()?;
    let definition = definition::load(&args.definition)?;
    definition.warnings.iter().for_each(report::warning);
    let request = Request {
        rpms: args.rpms.clone(),
        keys: args.keys.clone(),
        out: args.out.clone(),
        fresh: args.fresh,
        delta_from: args.delta_from.clone(),
        store: match &args.store {
            Some(store) => store.clone(),
            None => Store::default_root()?,
        },
        remote: args.remote.open(args.offline || args.fresh)?,
        fetch: args.fetch.options(args.offline),
        program: std::env::current_exe().into_diagnostic()?,
        newest: source_date_epoch()?,
        unfinished: Unfinished::default(),
    };
    if let Some(Explain::Scriptlets) = args.explain {
        let mut text = String::new();
        for entry in compose::explain_scriptlets(&definition, &request, &Progress::new(true))? {
            text.push_str(&format!("{entry}\n"));
        }
        if text.is_empty() {
            text.push_str("no package has a scriptlet that an installation would run\n");
        }
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    super::remove_when_stopped(request.unfinished.clone())?;
    let progress = Progress::new(args.quiet);
    let built = compose::build(&definition, &request, &progress)?;
    let stages = progress.stages();
    if let Some(path) = &args.trace {
        let text = format!("{}\n", timings::trace(&stages));
        std::fs::write(path, text)
            .into_diagnostic()
            .wrap_err_with(|| format!("the trace `{}` cannot be written", path.display()))?;
    }
    if args.timings {
        let _ = io::stderr().write_all(timings::table(&stages).as_bytes());
    }
    if !args.quiet {
        // What was built stands, whoever has stopped reading.
        let _ = io::stdout().write_all(summary(&built, &definition.plan).as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// What came out, and what to do with it.
pub(super) fn summary(built: &Built, plan: &Plan) -> String {
    let directory = built.directory.display();
    let mut lines = vec![directory.to_string()];
    for (name, size) in &built.outputs {
        lines.push(format!("  {:>9}  {name}", HumanBytes(*size).to_string()));
    }
    let reference = plan.os.reference.as_str();
    lines.push(format!("  {:>9}  repo/", "ostree"));
    if let Some(commit) = &built.commit {
        lines.push(format!("  commit     {commit} on {reference}"));
    }
    lines.extend([
        format!("  root hash  {}", built.root_hash),
        format!("  packages   {}, {} paths", built.packages, built.paths),
    ]);
    for path in &built.labels.unlabelled {
        lines.push(format!("  no label   {path} (the SELinux policy gives it none)"));
    }
    for (first, other) in &built.labels.conflicts {
        lines.push(format!(
            "  label of   {first} also for its hard link {other}, which the policy labels differently"
        ));
    }
    if built.unchanged {
        lines.push("Nothing has changed since it was built, and nothing was written.".to_owned());
    }
    lines.push(match built.awaited {
        None => format!("Boot it: hullwright boot {directory}\n"),
        Some((round, count)) => format!(
            "Not finished: {count} signatures are made elsewhere (round {round} of 4).\n\
             Ask for them: hullwright sign request {directory} DIR\n"
        ),
    });
    lines.join("\n")
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
