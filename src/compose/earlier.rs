//! What other builds have composed of the same, or are composing now.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::cache::{self, Inputs, Restored};
use super::workspace::Workspace;
use super::{ComposeError, built_root, shared, tell};
use crate::definition::plan::Plan;
use crate::remote::Remote;
use crate::report::Progress;
use crate::rpmset::RpmSet;
use crate::store::{Digest, Store, Turn, turn};

const WAITS: &str =
    "another build is at work on the same packages: this one waits for what it leaves in the store";

/// Where to look.
pub struct Earlier<'a> {
    pub plan: &'a Plan,
    /// `None` where everything is to be composed anew.
    pub inputs: Option<&'a Inputs>,
    pub workspace: &'a Workspace,
    pub store: &'a Store,
    pub remote: Option<&'a Remote>,
    pub progress: &'a Progress,
}

/// What waiting came to.
pub enum Waited {
    /// Another build has composed the same meanwhile.
    Composed(Box<Restored>),
    /// This build is to compose, and to say when it has ([`turn::Held::done`]) where others wait for that.
    Turn(Option<turn::Held>),
}

impl Earlier<'_> {
    /// What an earlier build composed of the same, here or elsewhere.
    ///
    /// # Errors
    /// Where the workspace cannot be cleared again.
    pub fn find(&self) -> Result<Option<Restored>, ComposeError> {
        let Some(inputs) = self.inputs else {
            return Ok(None);
        };
        let made = self.taken(inputs)?;
        match (&made, self.remote) {
            (None, Some(remote))
                if shared::fetch_all(remote, inputs, self.plan, self.store, self.progress)? =>
            {
                self.taken(inputs)
            }
            _ => Ok(made),
        }
    }

    /// Waits while another build over the same store composes of the same packages what the store does not have yet: after
    /// that most of it is there, and meanwhile both would do all of it at half the speed.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub fn wait(&self, set: &RpmSet) -> Result<Waited, ComposeError> {
        let turn = match self.store.turn(key(self.plan, set))? {
            Turn::Over => return Ok(Waited::Turn(None)),
            Turn::Mine(held) => return Ok(Waited::Turn(Some(held))),
            Turn::Others(waiting) => {
                self.progress.note(WAITS);
                self.progress.stage(
                    "wait for another build",
                    || waiting.wait(),
                    |_| "over the same packages".to_owned(),
                )?
            }
        };
        if let Some(inputs) = self.inputs
            && let Some(made) = self.taken(inputs)?
        {
            return Ok(Waited::Composed(Box::new(made)));
        }
        Ok(Waited::Turn(match turn {
            Turn::Mine(held) => Some(held),
            Turn::Over | Turn::Others(_) => None,
        }))
    }

    fn taken(&self, inputs: &Inputs) -> Result<Option<Restored>, ComposeError> {
        let made = self.progress.stage(
            "take from the store",
            || Ok::<_, ComposeError>(cache::restore(inputs, self.plan, self.workspace, self.store)),
            |taken| match taken {
                Some(taken) => format!("{} paths, composed before", taken.made.facts.paths),
                None => "not composed before".to_owned(),
            },
        )?;
        match &made {
            Some(Restored { made, .. }) => tell(self.progress, &made.facts.remarks, &made.facts.scriptlets),
            // What was begun.
            None => self
                .workspace
                .keep_only(&Vec::from_iter(built_root::key_name(self.plan)))?,
        }
        Ok(made)
    }
}

/// What most of composing comes to, whatever else the definition says: packages unpacked, and their files compressed.
fn key(plan: &Plan, set: &RpmSet) -> Digest {
    let mut hasher = Sha256::new_with_prefix(b"hullwright packages and clusters 1\0");
    hasher.update(json!(plan.outputs.erofs).to_string());
    for package in set.packages() {
        hasher.update(package.sha256.0);
    }
    Digest::finish(hasher)
}
