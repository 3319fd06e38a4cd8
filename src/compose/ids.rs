//! The lock of user and group numbers: read for a build, written anew for `hullwright lock --ids`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::scriptlets::{self, Scriptlets};
use super::{ComposeError, Request, check_signatures, read_set, system};
use crate::definition::Definition;
use crate::definition::plan::Plan;
use crate::report::Progress;
use crate::store::Store;
use crate::tree::identity::{self, IdsLock};

pub(super) const NOT_FIXED: &str = "user and group numbers are drawn anew in each build: another set may give a machine's files \
                                    to other accounts. `hullwright lock --ids DEF` fixes them";

/// What [`lock_ids`] came to.
#[derive(Debug, Clone)]
pub struct Locked {
    /// Where the lock belongs.
    pub path: PathBuf,
    pub text: String,
    /// What lies there already.
    pub before: Option<String>,
    /// Accounts that are new, `user` or `group`, with their numbers.
    pub added: Vec<(&'static str, String, u32)>,
    /// Users and groups that the lock keeps a number for.
    pub names: usize,
}

/// The lock that `plan` names, or that lies beside the definition.
pub(super) fn read(plan: &Plan) -> Result<Option<IdsLock>, ComposeError> {
    let Some(source) = &plan.os.ids else {
        return Ok(None);
    };
    let path = source.as_path();
    let text = fs::read_to_string(path).map_err(|source| ComposeError::Ids {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(parse(&text, path)?))
}

fn parse(text: &str, path: &Path) -> Result<IdsLock, ComposeError> {
    let lock = IdsLock::parse(text, &path.display().to_string());
    Ok(lock.map_err(identity::IdentityError::from)?)
}

/// Finds every account that the image of `definition` (read from `place`) has, and gives those that are not in its lock
/// numbers that no account ever had. Nothing is written.
///
/// # Errors
/// As a build's, up to its accounts; where a number is not the locked one.
pub fn lock_ids(
    definition: &Definition,
    place: &Path,
    request: &Request,
    progress: &Progress,
) -> Result<Locked, ComposeError> {
    let plan = &definition.plan;
    let path = plan.os.ids.as_ref().map_or_else(
        || crate::definition::ids_beside(place),
        |source| source.as_path().to_owned(),
    );
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(ComposeError::Ids { path, source }),
    };
    let lock = match &before {
        Some(text) => parse(text, &path)?,
        None => IdsLock::empty(&path.display().to_string()),
    };
    let store = Store::open(&request.store)?;
    let set = read_set(plan, request, &store, progress)?;
    progress.stage(
        "check signatures",
        || check_signatures(plan, request, &set),
        |_| String::new(),
    )?;
    super::set::check(definition, &set)?;
    super::set::check_closure(plan, &set, progress)?;
    let contents = progress.stage(
        "unpack and verify",
        || set.contents(&store),
        |contents| format!("{} files", contents.iter().flatten().flatten().count()),
    )?;
    let rules = scriptlets::rules(plan);
    let scriptlets = Scriptlets {
        schedule: scriptlets::schedule(plan, &set, &rules)?,
        set: &set,
        request,
        ids: Some(&lock),
    };
    let made = system::before_accounts(plan, &set, &contents, &scriptlets)?;
    let new = identity::lock_ids(&made.tree, &lock)?;
    let added = new
        .entries()
        .filter(|(kind, name, _)| lock.id(*kind, name).is_none());
    let added = added
        .map(|(kind, name, id)| (kind.as_str(), name.to_owned(), id))
        .collect();
    Ok(Locked {
        path,
        added,
        names: new.entries().count(),
        text: new.to_text(),
        before,
    })
}
