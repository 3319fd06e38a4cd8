//! `hullwright rpm closure`: is everything there that a set of packages requires.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::formats::rpm::Header;
use hullwright::rpmset::closure::{self, NotClosed, Open, Options, Problem};
use hullwright::rpmset::{SetSource, rpmdb};
use hullwright::store::Store;
use miette::{Context as _, IntoDiagnostic as _};
use serde_json::{Value, json};

/// Check that nothing is missing that packages require, and that none excludes another; exit status 1 otherwise
#[derive(Debug, Args)]
pub struct ClosureArgs {
    /// A directory of .rpm files, a lock file, or an rpmdb.sqlite
    #[arg(value_name = "DIR|LOCK|RPMDB")]
    source: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ClosureArgs) -> miette::Result<ExitCode> {
    let installed = is_sqlite(&args.source)
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` cannot be read", args.source.display()))?;
    let options = Options {
        installed,
        ..Options::default()
    };
    let (count, problems) = if installed {
        let headers = rpmdb::headers(&args.source)?;
        let headers: Vec<&Header> = headers.iter().collect();
        (headers.len(), closure::check(&headers, options)?)
    } else {
        // What a lock file names may lie in the store.
        let store = match args.source.is_dir() {
            true => None,
            false => Some(Store::open(&Store::default_root()?)?),
        };
        let set = SetSource::open(&args.source, store.as_ref())?.load()?;
        (set.packages().len(), closure::check(&set.headers(), options)?)
    };
    let closed = problems.is_empty();
    if args.json {
        let problems: Vec<_> = problems.iter().map(describe).collect();
        let value = json!({ "packages": count, "closed": closed, "problems": problems });
        print(&format!("{value:#}\n"))?;
    } else if closed {
        let packages = if count == 1 {
            "1 package".to_owned()
        } else {
            format!("{count} packages")
        };
        print(&format!("{packages}: nothing is open\n"))?;
    } else {
        return Err(NotClosed { problems }.into());
    }
    Ok(match closed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn is_sqlite(path: &Path) -> io::Result<bool> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    if path.is_dir() {
        return Ok(false);
    }
    let mut start = Vec::new();
    File::open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

fn print(text: &str) -> miette::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written
            .into_diagnostic()
            .wrap_err("the standard output cannot be written"),
    }
}

fn describe(problem: &Problem) -> Value {
    let mut value = match problem {
        Problem::Open(Open {
            requirement,
            wanted_by,
            nearest,
            ..
        }) => {
            let wanters = wanted_by
                .iter()
                .map(|wanter| json!({ "package": wanter.package, "scriptlets": wanter.moments }));
            json!({
                "kind": "open", "requirement": requirement, "wanted_by": wanters.collect::<Vec<_>>(),
                "nearest": nearest,
            })
        }
        Problem::Conflict {
            package,
            conflict,
            with,
        } => json!({ "kind": "conflict", "package": package, "conflict": conflict, "with": with }),
        Problem::Obsoleted {
            package,
            by,
            obsoletes,
        } => json!({ "kind": "obsoleted", "package": package, "by": by, "obsoletes": obsoletes }),
        Problem::Duplicate { name, packages } => {
            json!({ "kind": "duplicate", "name": name, "packages": packages })
        }
        Problem::Architecture { arch, packages, set } => {
            json!({ "kind": "architecture", "arch": arch, "packages": packages, "set": set })
        }
        Problem::Unneeded { requires } => json!({ "kind": "unneeded-exception", "requires": requires }),
    };
    value["reason"] = problem.to_string().into();
    value
}
