//! How often entries of a store were looked for, and how often they were there.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one use of a store, by all its threads.
#[derive(Debug, Default)]
pub struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// Entries that were there, and entries that were not, so far.
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    /// Counts `found`, and gives it back.
    pub(super) fn count<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }
}
