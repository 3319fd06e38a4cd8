//! `hullwright lock --ids`: the numbers of users and groups.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::compose::{self, Locked, Request, Unfinished};
use hullwright::definition;
use hullwright::fetch::Options;
use hullwright::report::Progress;
use hullwright::store::Store;
use miette::{Context as _, IntoDiagnostic as _};

/// What is said for `--ids`.
#[derive(Debug, Args)]
pub struct IdsArgs {
    /// Instead of packages, lock the numbers of users and groups of the image that DEF describes, in <DEF>.ids.lock
    /// or what `os.ids` names: new accounts get a number, all others keep theirs
    #[arg(long, value_name = "DEF", conflicts_with_all = ["sources", "output", "check"])]
    pub ids: Option<PathBuf>,

    /// With --ids: the packages, in place of the definition's: a directory of .rpm files, or a lock file
    #[arg(long, value_name = "DIR|LOCK", requires = "ids")]
    rpms: Option<PathBuf>,
}

/// # Errors
/// As a build's, up to the accounts; a lock that cannot be written.
pub fn run(
    place: &Path,
    args: &IdsArgs,
    keys: &[PathBuf],
    store: Option<&Path>,
    fetch: Options,
) -> miette::Result<ExitCode> {
    let definition = definition::load(place)?;
    definition.warnings.iter().for_each(super::report::warning);
    let request = Request {
        fresh: false,
        delta_from: Vec::new(),
        rpms: args.rpms.clone(),
        keys: keys.to_vec(),
        out: PathBuf::new(),
        store: match store {
            Some(store) => store.to_owned(),
            None => Store::default_root()?,
        },
        remote: None,
        fetch,
        program: std::env::current_exe().into_diagnostic()?,
        newest: None,
        unfinished: Unfinished::default(),
    };
    super::remove_when_stopped(request.unfinished.clone())?;
    let locked = compose::lock_ids(&definition, place, &request, &Progress::new(true))?;
    if locked.before.as_deref() != Some(&locked.text) {
        replace(&locked.path, &locked.text)
            .into_diagnostic()
            .wrap_err_with(|| format!("`{}` cannot be written", locked.path.display()))?;
    }
    // The lock stands, whoever has stopped reading.
    let _ = io::stdout().write_all(summary(&locked).as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn summary(locked: &Locked) -> String {
    let mut text = String::new();
    // A first lock is read as a file, not as its list of changes.
    if locked.before.is_some() {
        for (kind, name, id) in &locked.added {
            text.push_str(&format!("new {kind} {name}: {id}\n"));
        }
    }
    let (names, added) = (locked.names, locked.added.len());
    let path = locked.path.display();
    text.push_str(&format!(
        "{names} numbers locked in {path}, {added} of them new\n"
    ));
    text
}

/// Puts `text` at `path` at once: readers see the old file or the new one.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let place = match path.parent() {
        Some(place) if !place.as_os_str().is_empty() => place,
        _ => Path::new("."),
    };
    // Others may read it, as far as the umask lets them.
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(place)?;
    fs::write(file.path(), text)?;
    file.persist(path)?;
    Ok(())
}
