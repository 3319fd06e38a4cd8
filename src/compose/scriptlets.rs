//! Scriptlets of the packages: what is decided of each, what they do to the tree, and what is said of it.

use std::sync::Arc;

use super::system::accounts;
use super::workspace::Scratch;
use super::{ComposeError, Request};
use crate::definition::plan::{Plan, ScriptletAction};
use crate::report::Progress;
use crate::rpmset::RpmSet;
use crate::scriptlet::ledger::{self, Entry};
use crate::scriptlet::{Action, Done, Native, Rule, Schedule, ScriptletError, Settings};
use crate::tree::identity::{self, IdsLock};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree, caches};

/// Where the definition's users and groups stand.
pub const ACCOUNTS: &str = "/usr/lib/sysusers.d/00-definition.conf";

/// What the definition says of scriptlets.
pub fn rules(plan: &Plan) -> Vec<Rule> {
    let rules = plan.rpms.scriptlets.iter().map(|rule| Rule {
        scriptlet: rule.scriptlet.clone(),
        action: match rule.action {
            ScriptletAction::Skip => Action::Skip,
            ScriptletAction::Run => Action::Run,
            ScriptletAction::MayFail => Action::MayFail,
        },
        reason: rule.reason.as_str().to_owned(),
    });
    rules.collect()
}

/// Decides on every scriptlet of `set`; those that must run can.
pub fn schedule<'a>(plan: &Plan, set: &'a RpmSet, rules: &'a [Rule]) -> Result<Schedule<'a>, ComposeError> {
    let schedule = Schedule::new(set.packages(), rules)?;
    schedule.check(plan.image.arch.as_str(), std::env::consts::ARCH)?;
    Ok(schedule)
}

/// A schedule with what carrying it out needs.
pub struct Scriptlets<'a> {
    pub schedule: Schedule<'a>,
    pub set: &'a RpmSet,
    pub request: &'a Request,
    pub ids: Option<&'a IdsLock>,
}

impl Scriptlets<'_> {
    /// Does in `tree`, the packages' files, what the scriptlets do.
    pub fn apply(&self, plan: &Plan, tree: &mut Tree) -> Result<Done, ComposeError> {
        // Most sets run none.
        let needed = self.schedule.runs().next();
        let store = &self.request.store;
        let scratch = needed.map(|_| Scratch::new(store, "scriptlets-", &self.request.unfinished));
        let scratch = scratch.transpose().map_err(|source| ScriptletError::Scratch {
            path: store.clone(),
            source,
        })?;
        let settings = Settings {
            program: &self.request.program,
            scratch: scratch.as_ref().map_or(store, Scratch::path),
            time: plan.image.released.epoch(),
        };
        let accounts = |tree: &Tree| {
            let mut tree = tree.clone();
            if let Some(lines) = accounts(plan) {
                let origin = Origin::Definition(Arc::from("os.users, os.groups"));
                let node = Node::new(Meta::root(0o644, 0), Kind::file(lines.into_bytes()), origin);
                tree.insert(&TreePath::literal(ACCOUNTS), node)?;
            }
            identity::provided::put(&mut tree, self.set, 0)?;
            identity::preview(&tree, self.ids)
        };
        Ok(self.schedule.apply(tree, accounts, settings)?)
    }

    /// The caches that are made in place of scriptlets alone.
    pub fn asked(&self) -> caches::Asked<'_> {
        caches::Asked {
            mime: self.schedule.asks_for(Native::Mime).is_some(),
            icon_themes: self.schedule.icon_themes(),
        }
    }

    /// Whether the work was done that scriptlets were replaced by.
    pub fn check_replaced(&self, made: &[caches::Report]) -> Result<(), ComposeError> {
        for (native, command) in CACHES {
            let report = made.iter().find(|report| report.command == command);
            let why = report.and_then(|report| report.not_done);
            if let (Some(why), Some(scriptlet)) = (why, self.schedule.asks_for(native)) {
                return Err(ComposeError::NotReplaced {
                    scriptlet,
                    command,
                    why,
                });
            }
        }
        Ok(())
    }
}

/// The commands whose work on the finished tree [`caches::run_all`] does.
const CACHES: [(Native, &str); 4] = [
    (Native::Hwdb, caches::hwdb::COMMAND),
    (Native::Catalog, caches::catalog::COMMAND),
    (Native::Trust, caches::ca_trust::COMMAND),
    (Native::Mime, caches::mime::COMMAND),
];

/// Says what became of them, where there are any.
pub fn tell(progress: &Progress, entries: &[Entry]) {
    if !entries.is_empty() {
        let where_to = "manifest.json tells each, and so does `hullwright build --explain scriptlets`";
        progress.note(&format!("scriptlets: {}; {where_to}", ledger::counts(entries)));
    }
}
