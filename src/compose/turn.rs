//! Which of several builds composes first, where they begin at once over the same packages.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::ComposeError;
use crate::definition::plan::Plan;
use crate::report::Progress;
use crate::rpmset::RpmSet;
use crate::store::{Digest, Store, Turn, turn};

const WAITS: &str =
    "another build is at work on the same packages: this one waits for what it leaves in the store";

/// What most of composing comes to, whatever else the definition says: packages unpacked, and their files compressed.
fn key(plan: &Plan, set: &RpmSet) -> Digest {
    let mut hasher = Sha256::new_with_prefix(b"hullwright packages and clusters 1\0");
    hasher.update(json!(plan.outputs.erofs).to_string());
    for package in set.packages() {
        hasher.update(package.sha256.0);
    }
    Digest::finish(hasher)
}

/// Waits while another build over `store` composes of the same packages what the store does not have yet: after that most
/// of it is there, and meanwhile both would do all of it at half the speed. Gives the turn, where it is this build's, and
/// whether it has waited.
///
/// # Errors
/// Where the store cannot be read or written.
pub fn take(
    plan: &Plan,
    set: &RpmSet,
    store: &Store,
    progress: &Progress,
) -> Result<(Option<turn::Held>, bool), ComposeError> {
    Ok(match store.turn(key(plan, set))? {
        Turn::Over => (None, false),
        Turn::Mine(held) => (Some(held), false),
        Turn::Others(waiting) => {
            progress.note(WAITS);
            let turn = progress.stage(
                "wait for another build",
                || waiting.wait(),
                |_| "over the same packages".to_owned(),
            )?;
            match turn {
                Turn::Mine(held) => (Some(held), true),
                Turn::Over | Turn::Others(_) => (None, true),
            }
        }
    })
}
