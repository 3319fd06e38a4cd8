//! Carrying out a schedule.

use super::error::ScriptletError;
use super::ledger::Entry;
use super::schedule::Schedule;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

/// Where users and groups go that replaced scriptlets would have made.
const ACCOUNTS: &str = "/usr/lib/sysusers.d/hullwright-scriptlets.conf";

impl Schedule<'_> {
    /// Whether all that must run can.
    ///
    /// # Errors
    /// Scriptlets that must run.
    pub fn check(&self) -> Result<(), ScriptletError> {
        let mut scriptlets: Vec<_> = self.runs().map(|(event, _)| self.name(event)).collect();
        scriptlets.dedup();
        match scriptlets.is_empty() {
            true => Ok(()),
            false => Err(ScriptletError::MustRun { scriptlets }),
        }
    }

    /// Does in `tree`, the packages' files, what the scriptlets would have done; `time` (seconds since the epoch) dates it.
    ///
    /// # Errors
    /// Where the tree does not let it.
    pub fn apply(&self, tree: &mut Tree, time: i64) -> Result<Vec<Entry>, ScriptletError> {
        let accounts = self.accounts();
        if !accounts.is_empty() {
            let text = accounts.iter().flat_map(|line| [line, "\n"]).collect::<String>();
            let origin = Origin::Composer("users and groups that scriptlets would make");
            let node = Node::new(Meta::root(0o644, time), Kind::file(text.into_bytes()), origin);
            tree.insert(&TreePath::literal(ACCOUNTS), node)?;
        }
        Ok(self.ledger())
    }
}
