//! Static deltas from earlier versions to the one that is built.

use std::path::PathBuf;

use super::workspace::Workspace;
use super::{ComposeError, Request};
use crate::definition::Plan;
use crate::ostree::{self, Delta, DeltaOptions, Repo};
use crate::report::Progress;
use crate::store::Digest;

/// An earlier version: where it lies, and its commit.
pub struct Earlier {
    repo: Repo,
    pub commit: Digest,
}

/// Opens what `request` names: a build of hours must not fail at its end because a name is wrong.
pub fn open(plan: &Plan, request: &Request) -> Result<Vec<Earlier>, ComposeError> {
    let open = |path: &PathBuf| -> Result<Earlier, ComposeError> {
        let repo = Repo::find(path)?;
        let commit = repo.head(plan.os.reference.as_str())?;
        Ok(Earlier { repo, commit })
    };
    request.delta_from.iter().map(open).collect()
}

/// Writes a delta from each of `earlier` to `commit` into the repository of the workspace.
pub fn write(
    earlier: &[Earlier],
    commit: Option<&Digest>,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<(), ComposeError> {
    let Some(commit) = commit else {
        if !earlier.is_empty() {
            progress
                .note("no static delta is written before the commit is signed: then use `hullwright delta`");
        }
        return Ok(());
    };
    for Earlier { repo, commit: from } in earlier {
        if from == commit {
            progress.note(&format!(
                "the earlier version is the same commit, {from}: no static delta"
            ));
            continue;
        }
        progress.stage(
            "write a static delta",
            || -> Result<Delta, ComposeError> {
                let place = workspace.path("repo");
                let options = DeltaOptions::default();
                Ok(ostree::write_delta(repo, from, &place, commit, options)?)
            },
            describe,
        )?;
    }
    Ok(())
}

/// What a delta is, in a line.
fn describe(delta: &Delta) -> String {
    format!(
        "{} KiB for {} objects, {} of them from earlier ones",
        delta.size.div_ceil(1024),
        delta.objects,
        delta.patched
    )
}
