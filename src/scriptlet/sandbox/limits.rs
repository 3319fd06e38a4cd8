//! How much a scriptlet may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one scriptlet may use before it is stopped. The same for every user and machine, so that a scriptlet that ends
/// well on one ends well on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of memory of all its processes together, and of the data of one.
    pub memory: u64,
    /// Processes and threads that live at once.
    pub processes: u32,
    /// Bytes of output that are kept; what follows is cut.
    pub output_kept: u64,
    /// Bytes of output at which it is stopped.
    pub output: u64,
    /// By how much it may lengthen the tree's regular files together, holes included, and the length of one.
    pub disk: u64,
    /// Files of any kind, by their names, that it may add to the tree.
    pub files: u64,
}

impl Default for Limits {
    /// What the slowest well-behaved scriptlets need several times over.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(300),
            memory: 2 << 30,
            processes: 1024,
            output_kept: 1 << 20,
            output: 64 << 20,
            disk: 4 << 30,
            files: 500_000,
        }
    }
}
