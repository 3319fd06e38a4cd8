//! What was found damaged in a store.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// An entry that is not what was put there. It has been dropped, and is made again by whoever
/// needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// What it is: "record", "object", "package" …
    pub kind: String,
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, what } = self;
        write!(f, "{kind} `{}`: {what}", path.display())
    }
}

/// What one use of a store has come across.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<Damage>>);

impl Log {
    pub(super) fn note(&self, damage: Damage) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(damage);
    }

    pub(super) fn take(&self) -> Vec<Damage> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort();
        all.dedup();
        all
    }
}

impl super::Store {
    /// What this use of the store has found damaged, and dropped, since it was last asked.
    pub fn take_damage(&self) -> Vec<Damage> {
        self.session.damage.take()
    }

    /// Drops the damaged file `path` and notes it.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub(super) fn drop_damaged(
        &self,
        kind: &str,
        path: PathBuf,
        what: String,
    ) -> Result<(), super::StoreError> {
        let removed = super::temporary::remove(&path).map_err(|error| self.failed(error));
        let kind = kind.to_owned();
        self.session.damage.note(Damage { kind, path, what });
        removed
    }
}
