//! `hullwright lock`

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::fetch::Fetcher;
use hullwright::report::Progress;
use hullwright::rpmset::repo::{Base, Trust, Variables};
use hullwright::rpmset::signature::{Exception, Keyring, Policy};
use hullwright::rpmset::source::{Context, ReadRepository, Requests, Resolved, Source};
use hullwright::rpmset::{Changes, Lock, SetError};
use hullwright::store::Store;
use indicatif::HumanBytes;
use miette::{Context as _, IntoDiagnostic as _, miette};
use serde_json::json;

use super::fetch::FetchArgs;
use super::lock_ids::{self, IdsArgs};

/// Write down exactly which packages a set has, and where each comes from
///
/// A SOURCE is a directory of .rpm files; a repository, by its directory or its http(s) address; a manifest
/// of `dnf5 manifest`; an rpm-ostree lockfile; or a list of NEVRAs, one a line. The last three name packages only:
/// --repo says where to look them up.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// What to lock; with --check by default what LOCK was made of
    #[arg(value_name = "SOURCE", required_unless_present_any = ["check", "ids"])]
    sources: Vec<PathBuf>,

    /// Lock file to write; packages on this machine must lie in its directory or below
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["check", "ids"])]
    output: Option<PathBuf>,

    /// Say whether LOCK still describes its sources, and what has changed; exit status 1 if anything has
    #[arg(long, value_name = "LOCK", conflicts_with = "output")]
    check: Option<PathBuf>,

    /// Print the result of --check as JSON
    #[arg(long, requires = "check")]
    json: bool,

    /// A repository to look packages up in; ID is the name that a manifest knows it by (may be repeated)
    #[arg(long = "repo", value_name = "[ID=]URL|DIR")]
    repositories: Vec<String>,

    /// A .repo file with repositories to look packages up in (may be repeated)
    #[arg(long = "repo-file", value_name = "FILE")]
    repo_files: Vec<PathBuf>,

    /// What a variable in addresses stands for, as in `releasever=43` (may be repeated)
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,

    /// Take packages of this architecture and noarch only, from any source but a directory of packages (may be
    /// repeated)
    #[arg(long, value_name = "ARCH")]
    arch: Vec<String>,

    /// OpenPGP key that every package, and a repository's metadata where that is signed, must be signed with
    /// (may be repeated)
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,

    /// Take this repository without a signature, by its address or ID, where no --key is given (may be repeated)
    #[arg(long, value_name = "URL|ID")]
    unsigned_repository: Vec<String>,

    /// Take this package without a signature by a given key (may be repeated)
    #[arg(long, value_name = "NAME", requires = "keys")]
    unsigned_package: Vec<String>,

    /// Where fetched packages are kept [default: hullwright/store in your cache directory]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// Fetch nothing
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    fetch: FetchArgs,

    #[command(flatten)]
    ids: IdsArgs,

    /// Show errors only
    #[arg(short, long)]
    quiet: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is no NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What both ways of running have in hand.
struct Bench {
    store: Store,
    fetcher: Fetcher,
    progress: Progress,
    variables: Variables,
    requests: Requests,
    keyring: Keyring,
}

impl Bench {
    fn new(args: &LockArgs) -> miette::Result<Self> {
        let store = match &args.store {
            Some(store) => store.clone(),
            None => Store::default_root()?,
        };
        let fetcher = Fetcher::new(args.fetch.options(args.offline))?;
        let variables: Variables = args.variables.iter().cloned().collect();
        let mut requests = Requests::default();
        for text in &args.repositories {
            requests.add(text, &variables)?;
        }
        for path in &args.repo_files {
            requests.add_file(path, &variables, !args.keys.is_empty(), &fetcher)?;
        }
        let keys: Vec<_> = args.keys.iter().chain(&requests.keys).cloned().collect();
        Ok(Self {
            store: Store::open(&store)?,
            keyring: Keyring::read(&keys)?,
            progress: Progress::new(args.quiet || args.json),
            fetcher,
            variables,
            requests,
        })
    }

    fn resolve(&self, sources: &[Source], args: &LockArgs, arch: &[String]) -> miette::Result<Resolved> {
        let context = Context {
            keys: &self.keyring,
            fetcher: &self.fetcher,
            store: &self.store,
            variables: &self.variables,
            unsigned: &args.unsigned_repository,
            arch,
            strict: args.check.is_none(),
        };
        let resolved = self.progress.stage(
            "find packages",
            || Resolved::new(sources, &self.requests.repositories, &context),
            |resolved| {
                let left_out = match resolved.source_packages {
                    0 => String::new(),
                    count => format!(", {count} source packages left out"),
                };
                format!("{} packages{left_out}", resolved.wanted.len())
            },
        );
        Ok(resolved?)
    }
}

pub fn run(args: &LockArgs) -> miette::Result<ExitCode> {
    match (&args.ids.ids, &args.check, &args.output) {
        (Some(definition), ..) => {
            let fetch = args.fetch.options(args.offline);
            lock_ids::run(definition, &args.ids, &args.keys, args.store.as_deref(), fetch)
        }
        (None, Some(lock), _) => check(args, lock),
        (None, None, Some(output)) => lock(args, output),
        (None, None, None) => Err(miette!("neither a lock file to write nor one to check is named")),
    }
}

fn lock(args: &LockArgs, output: &Path) -> miette::Result<ExitCode> {
    let place = directory_of(output);
    if !place.is_dir() {
        return Err(miette!(
            help = "make it first, or name another with `--output`",
            "the lock file's directory `{}` is not there",
            place.display()
        ));
    }
    let bench = Bench::new(args)?;
    let sources = recognise(&args.sources)?;
    let resolved = bench.resolve(&sources, args, &args.arch)?;
    let repositories = resolved.repositories.clone();
    let (count, bytes) = resolved.remote();
    let obtain = |watch: &(dyn Fn(i64) + Sync)| resolved.obtain(&bench.fetcher, &bench.store, watch);
    let obtained = match count {
        0 => obtain(&|_| {}),
        _ => bench.progress.transfer("fetch packages", bytes, obtain, |_| {
            format!("{count} packages, {}", HumanBytes(bytes))
        }),
    }?;
    let checked = match bench.keyring.is_empty() {
        true => None,
        false => {
            let exceptions = args.unsigned_package.iter().map(|package| Exception {
                package: package.clone(),
                reason: "--unsigned-package".to_owned(),
            });
            let exceptions: Vec<_> = exceptions.collect();
            Some(bench.progress.stage(
                "check signatures",
                || {
                    let (keyring, policy) = (&bench.keyring, Policy::default());
                    let checked = obtained.set.verify_signatures(keyring, &policy, &exceptions)?;
                    // Mostly headers are signed: what a payload has to be stands in them.
                    obtained.set.check_payloads()?;
                    Ok::<_, SetError>(checked)
                },
                |checked| format!("{} packages", checked.len()),
            )?)
        }
    };
    let lock = Lock::describe(
        &obtained,
        checked.as_deref(),
        &sources,
        &repositories,
        &args.arch,
        place,
    )?;
    lock_ids::replace(output, &lock.to_text())
        .into_diagnostic()
        .wrap_err_with(|| format!("lock file `{}` cannot be written", output.display()))?;
    for repository in &repositories {
        if let Some(word) = doubt(repository) {
            bench.progress.warn(&word);
        }
    }
    let count = lock.packages.len();
    let signed = lock
        .packages
        .iter()
        .filter(|package| package.signed_by.is_some())
        .count();
    let signatures = match (&checked, count - signed) {
        (None, _) => "; no signature was checked, for want of --key".to_owned(),
        (Some(_), 0) => ", all signed".to_owned(),
        (Some(_), unsigned) => format!(", {unsigned} of them unsigned"),
    };
    let _ = writeln!(
        io::stdout(),
        "{count} packages locked in {}{signatures}",
        output.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn recognise(given: &[PathBuf]) -> miette::Result<Vec<Source>> {
    Ok(given
        .iter()
        .map(|given| Source::recognise(given))
        .collect::<Result<_, _>>()?)
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(place) if !place.as_os_str().is_empty() => place,
        _ => Path::new("."),
    }
}

/// What is not known of a repository's signature; `None` where nothing is to be said.
fn doubt(repository: &ReadRepository) -> Option<String> {
    let Base::Urls(_) = repository.base else {
        return None;
    };
    let what = match repository.trust {
        Trust::Signed(_) => return None,
        Trust::Unchecked => "is signed, but no --key was given to check that with",
        Trust::Unsigned => "is not signed: nothing but its server vouches for the list of its packages",
    };
    Some(format!("repository {} {what}", repository.base))
}

fn check(args: &LockArgs, path: &Path) -> miette::Result<ExitCode> {
    let text = std::fs::read_to_string(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("lock file `{}` cannot be read", path.display()))?;
    let lock = Lock::parse(&text, path)?;
    let place = directory_of(path);
    let mut bench = Bench::new(args)?;
    let named: Vec<PathBuf> = match args.sources.is_empty() {
        false => args.sources.clone(),
        true => lock
            .sources
            .iter()
            .map(|source| place.join(&source.location))
            .collect(),
    };
    if named.is_empty() {
        return Err(miette!(
            help = "name them: `hullwright lock --check LOCK SOURCE…`",
            "lock file `{}` does not say what it was made of",
            path.display()
        ));
    }
    let named: Vec<PathBuf> = match args.sources.is_empty() {
        false => named,
        // An address stays one.
        true => lock
            .sources
            .iter()
            .zip(named)
            .map(
                |(source, joined)| match hullwright::fetch::Url::is_url(&source.location) {
                    true => PathBuf::from(&source.location),
                    false => joined,
                },
            )
            .collect(),
    };
    if bench.requests.repositories.is_empty() {
        let own: Vec<_> = lock
            .repositories
            .iter()
            .filter(|one| !lock.sources.iter().any(|source| source.location == one.location))
            .cloned()
            .collect();
        bench.requests.add_locked(&own, place)?;
    }
    let arch = match args.arch.is_empty() {
        true => &lock.arch,
        false => &args.arch,
    };
    let resolved = bench.resolve(&recognise(&named)?, args, arch)?;
    let found = resolved.look(place, &bench.fetcher, &bench.store)?;
    let changes = lock.changes(&found);
    let text = match args.json {
        true => {
            let value = json!({ "lock": path.display().to_string(), "up-to-date": changes.is_empty(), "changes": changes });
            format!("{value:#}\n")
        }
        false => told(&changes, path, found.len()),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written
            .into_diagnostic()
            .wrap_err("the standard output cannot be written")?,
    }
    Ok(match changes.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What has changed, the gravest first.
fn told(changes: &Changes, path: &Path, count: usize) -> String {
    if changes.is_empty() {
        return format!("{} describes its {count} packages\n", path.display());
    }
    let mut lines = Vec::new();
    for one in &changes.rebuilt {
        lines.push(format!(
            "OTHER BYTES  {}: locked {}, found {}",
            one.nevra, one.locked, one.found
        ));
    }
    lines.extend(changes.added.iter().map(|one| format!("added        {one}")));
    lines.extend(changes.removed.iter().map(|one| format!("removed      {one}")));
    lines.extend(
        changes
            .updated
            .iter()
            .map(|(old, new)| format!("updated      {old} → {new}")),
    );
    for one in &changes.moved {
        lines.push(format!("moved        {}: {} → {}", one.nevra, one.from, one.to));
    }
    if !changes.rebuilt.is_empty() {
        lines.push(
            "A package under a known name and version has other bytes: find out why before you lock it anew."
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}
