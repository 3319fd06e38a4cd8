//! The ledger: what became of each scriptlet, why, and what it changed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::TreePath;

/// A scriptlet that RPM would have run. Without times: it is the same for the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// NEVRA.
    pub package: String,
    /// `post`, `triggerin[0]` …
    pub scriptlet: String,
    /// `$1`, `$2`.
    pub arguments: Vec<u32>,
    /// Of file triggers: how many paths it is told of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paths: usize,
    pub outcome: Outcome,
    /// Why it was run, replaced or skipped.
    pub reason: String,
    /// What was done in place of its commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
    /// How it ended, where it ran: `ended with exit status 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Why the definition lets it fail, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_fail: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Run,
    Replaced,
    Skipped,
}

/// A command that was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub command: String,
    pub reason: String,
}

/// A path that a scriptlet touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub path: TreePath,
    pub change: Change,
    /// Why it is not in the image all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Cow<'static, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Created,
    Content,
    Metadata,
    Removed,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Replaced => "replaced",
            Self::Skipped => "skipped",
        }
    }
}

/// How many were run, replaced and skipped, in words.
pub fn counts(entries: &[Entry]) -> String {
    let count = |outcome| entries.iter().filter(|entry| entry.outcome == outcome).count();
    format!(
        "{} run, {} replaced, {} skipped",
        count(Outcome::Run),
        count(Outcome::Replaced),
        count(Outcome::Skipped)
    )
}

/// For people: some lines, the first says what became of it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<_> = self.arguments.iter().map(u32::to_string).collect();
        let (package, scriptlet) = (&self.package, &self.scriptlet);
        write!(
            f,
            "{package} %{scriptlet} {}: {}",
            arguments.join(" "),
            self.outcome.name()
        )?;
        if let Some(end) = &self.end {
            write!(f, ", {end}")?;
        }
        if self.replaced.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        for Replaced { command, reason } in &self.replaced {
            write!(f, "\n    {command}: {reason}")?;
        }
        if let Some(reason) = &self.may_fail {
            write!(f, "\n    it may fail: {reason}")?;
        }
        for Changed {
            path,
            change,
            dropped,
        } in &self.changes
        {
            let change = match change {
                Change::Created => "created",
                Change::Content => "changed",
                Change::Metadata => "owner, mode or attributes of",
                Change::Removed => "removed",
            };
            write!(f, "\n    {change} {path}")?;
            if let Some(reason) = dropped {
                write!(f, " (left out: {reason})")?;
            }
        }
        Ok(())
    }
}
