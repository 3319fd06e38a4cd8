//! Scriptlets of the packages: what is decided of each, and what is said of it.

use super::ComposeError;
use crate::definition::plan::{Plan, ScriptletAction};
use crate::report::Progress;
use crate::rpmset::RpmSet;
use crate::scriptlet::ledger::{self, Entry};
use crate::scriptlet::{Action, Rule, Schedule};

/// Decides on every scriptlet of `set`.
pub fn schedule<'a>(plan: &Plan, set: &'a RpmSet) -> Result<Schedule<'a>, ComposeError> {
    let rules = plan.rpms.scriptlets.iter().map(|rule| Rule {
        scriptlet: rule.scriptlet.clone(),
        action: match rule.action {
            ScriptletAction::Skip => Action::Skip,
            ScriptletAction::Run => Action::Run,
            ScriptletAction::MayFail => Action::MayFail,
        },
        reason: rule.reason.as_str().to_owned(),
    });
    Ok(Schedule::new(set.packages(), &rules.collect::<Vec<_>>())?)
}

/// Says what became of them, where there are any.
pub fn tell(progress: &Progress, entries: &[Entry]) {
    if !entries.is_empty() {
        let where_to = "manifest.json tells each, and so does `hullwright build --explain scriptlets`";
        progress.note(&format!("scriptlets: {}; {where_to}", ledger::counts(entries)));
    }
}
