//! What composing comes to: what there is to seal, and what is left to do while outputs are written, which is waiting for the
//! disk for the most part.

use super::cache::{self, Inputs, Restored};
use super::composed::Composed;
use super::workspace::Workspace;
use super::{Built, ComposeError};
use crate::definition::plan::Plan;
use crate::ostree::TreeRecord;
use crate::report::Progress;
use crate::scriptlet::Done;
use crate::store::{Object, Store, turn};

/// What composing came to.
pub enum Outcome {
    /// The output is there already.
    Unchanged(Box<Built>),
    Made(Box<(Made, Beside)>),
}

/// What there is to seal.
pub struct Made {
    pub composed: Composed,
    pub scriptlets: Done,
    /// `None` where everything is made anew.
    pub inputs: Option<Inputs>,
}

impl Made {
    /// What an earlier build composed.
    pub fn taken(taken: Restored, inputs: Option<Inputs>) -> Outcome {
        let made = Self {
            composed: taken.made,
            scriptlets: Done::default(),
            inputs,
        };
        Outcome::Made(Box::new((made, Beside::Prove(taken.usr))))
    }
}

/// What is left to do.
pub enum Beside {
    /// The file system of `/usr` was taken from the store and is to be read once, to see that it is what it was.
    Prove(Object),
    /// What was composed is to be kept for later builds.
    Keep(Keep),
}

/// What is kept beside what was composed itself.
pub struct Keep {
    /// `None` where it is not kept.
    pub inputs: Option<Inputs>,
    pub record: TreeRecord,
    /// Others wait for what this build leaves.
    pub turn: Option<turn::Held>,
}

impl Beside {
    /// Does it. `false` where what was taken is damaged: the store has it no more, and what is made of it is of no use.
    ///
    /// # Errors
    /// Where the store cannot be read, or a damaged file not be dropped.
    pub fn run(
        self,
        plan: &Plan,
        made: &Composed,
        workspace: &Workspace,
        store: &Store,
        progress: &Progress,
    ) -> Result<bool, ComposeError> {
        match self {
            Self::Prove(usr) => {
                let is_sound = usr.check()?.is_some();
                tell_damage(store, progress);
                Ok(is_sound)
            }
            Self::Keep(Keep { inputs, record, turn }) => {
                if let Some(inputs) = inputs {
                    // A build that keeps nothing is whole all the same.
                    let _ = cache::keep(&inputs, plan, made, &record, workspace, store);
                }
                // Where it cannot be noted that the work is done, the next one does it again.
                let _ = turn.map(turn::Held::done);
                Ok(true)
            }
        }
    }
}

/// Tells people what proved to be damaged in the store.
pub fn tell_damage(store: &Store, progress: &Progress) {
    for damage in store.take_damage() {
        progress.warn(&format!(
            "{damage}; it has been dropped from the store and made anew"
        ));
    }
}
