//! What goes back and forth between a build and a remote store.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts so far, or of a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// What was looked for there and found, and what was not there or could not be relied on.
    #[serde(rename = "remote_hits")]
    pub hits: u64,
    #[serde(rename = "remote_misses")]
    pub misses: u64,
    /// Bytes of what it gave, whether or not they were of use.
    #[serde(rename = "remote_bytes_received")]
    pub received: u64,
    /// Bytes of what was added.
    #[serde(rename = "remote_bytes_sent")]
    pub sent: u64,
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
        }
    }
}

/// Counts by all threads of a build.
#[derive(Debug, Default)]
pub struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// Counts `found`, and gives it back.
    pub fn looked_for<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn so_far(&self) -> Traffic {
        let [hits, misses, received, sent] = [&self.hits, &self.misses, &self.received, &self.sent]
            .map(|counter| counter.load(Ordering::Relaxed));
        Traffic {
            hits,
            misses,
            received,
            sent,
        }
    }
}
