//! What a verification came to, for people and for programs.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Check;

/// Findings of one check that are told one by one.
const MOST: usize = 20;

/// Where something was found. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of a file in the output directory, or of the image.
    pub file: Option<String>,
    /// Number of a partition.
    pub partition: Option<u32>,
    /// Path in a file system.
    pub path: Option<String>,
    /// Bytes from the start of the disk, or of the file where there is no partition.
    pub offset: Option<u64>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub place: Place,
}

/// What a check writes down while it runs.
#[derive(Debug, Default)]
pub struct Notes {
    findings: Vec<Finding>,
    /// Findings beyond those.
    more: u64,
    not_checked: Vec<String>,
    held: Vec<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was checked, and holds.
    Holds,
    /// What was checked holds, and something could not be checked.
    NotChecked,
    Fails,
}

/// A check that has run.
#[derive(Debug)]
pub struct Checked {
    pub check: &'static Check,
    pub findings: Vec<Finding>,
    /// Findings that are not told one by one.
    pub more: u64,
    /// What could not be checked, why, and what it would take.
    pub not_checked: Vec<String>,
    /// What was looked at, in a few words.
    pub held: String,
}

/// All checks, in their order.
#[derive(Debug)]
pub struct Report {
    pub subject: PathBuf,
    pub checked: Vec<Checked>,
}

impl Place {
    pub fn file(name: &str) -> Self {
        Self {
            file: Some(name.to_owned()),
            ..Self::default()
        }
    }

    pub fn partition(self, number: u32) -> Self {
        Self {
            partition: Some(number),
            ..self
        }
    }

    pub fn path(self, path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..self
        }
    }

    pub fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.file.clone(),
            self.partition.map(|number| format!("partition {number}")),
            self.path.clone(),
            self.offset.map(|offset| format!("byte {offset}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

impl Notes {
    /// Something does not hold.
    pub fn fail(&mut self, place: Place, what: impl Into<String>) {
        match self.findings.len() < MOST {
            true => self.findings.push(Finding {
                what: what.into(),
                place,
            }),
            false => self.more += 1,
        }
    }

    /// So many more things do not hold.
    pub fn fail_more(&mut self, count: u64) {
        self.more += count;
    }

    /// Something cannot be checked: why, and what it would take.
    pub fn not_checked(&mut self, why: impl Into<String>) {
        self.not_checked.push(why.into());
    }

    /// Something was looked at and is as it should be.
    pub fn held(&mut self, what: impl Into<String>) {
        self.held.push(what.into());
    }

    /// Findings so far.
    pub fn count(&self) -> u64 {
        self.findings.len() as u64 + self.more
    }

    pub(super) fn done(self, check: &'static Check) -> Checked {
        // Beside findings, it would read as if it held all the same.
        let held = match self.findings.is_empty() {
            true => self.held.join(", "),
            false => String::new(),
        };
        Checked {
            check,
            findings: self.findings,
            more: self.more,
            not_checked: self.not_checked,
            held,
        }
    }
}

impl Checked {
    pub fn outcome(&self) -> Outcome {
        match (self.findings.is_empty(), self.not_checked.is_empty()) {
            (false, _) => Outcome::Fails,
            (true, false) => Outcome::NotChecked,
            (true, true) => Outcome::Holds,
        }
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let place = &finding.place;
            let mut spot = json!({});
            if let Some(file) = &place.file {
                spot["file"] = file.clone().into();
            }
            if let Some(partition) = place.partition {
                spot["partition"] = partition.into();
            }
            if let Some(path) = &place.path {
                spot["path"] = path.clone().into();
            }
            if let Some(offset) = place.offset {
                spot["offset"] = offset.into();
            }
            json!({ "what": finding.what, "where": spot })
        };
        json!({
            "check": self.check.name,
            "proves": self.check.proves,
            "outcome": match self.outcome() {
                Outcome::Holds => "holds",
                Outcome::NotChecked => "not-checked",
                Outcome::Fails => "fails",
            },
            "held": self.held,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "more_findings": self.more,
            "why": self.check.why,
            "way_out": self.check.way_out,
            "not_checked": self.not_checked,
        })
    }
}

impl Report {
    /// Whether everything that was checked holds.
    pub fn holds(&self) -> bool {
        self.checked
            .iter()
            .all(|checked| checked.outcome() != Outcome::Fails)
    }

    /// For programs; `holds` first.
    pub fn to_json(&self) -> Value {
        json!({
            "verify_version": 1,
            "subject": self.subject.display().to_string(),
            "holds": self.holds(),
            "checks": self.checked.iter().map(Checked::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checked in &self.checked {
            let Checked { check, held, .. } = checked;
            let word = match checked.outcome() {
                Outcome::Holds => "ok  ",
                Outcome::NotChecked => "open",
                Outcome::Fails => "FAIL",
            };
            writeln!(f, "{}", format!("{word}  {:<18} {held}", check.name).trim_end())?;
            for finding in &checked.findings {
                writeln!(f, "      {}", finding.what)?;
                if finding.place != Place::default() {
                    writeln!(f, "        where: {}", finding.place)?;
                }
            }
            if checked.more > 0 {
                writeln!(f, "      and {} more", checked.more)?;
            }
            if checked.outcome() == Outcome::Fails {
                writeln!(f, "        why it matters: {}", check.why)?;
                writeln!(f, "        way out: {}", check.way_out)?;
            }
            for why in &checked.not_checked {
                writeln!(f, "      not checked: {why}")?;
            }
        }
        let count = |outcome| {
            let all = self.checked.iter();
            all.filter(|checked| checked.outcome() == outcome).count()
        };
        let (fails, open) = (count(Outcome::Fails), count(Outcome::NotChecked));
        let total = self.checked.len();
        match (fails, open) {
            (0, 0) => writeln!(f, "all {total} checks hold"),
            (0, _) => writeln!(f, "what was checked holds; {open} of {total} checks are open"),
            (_, 0) => writeln!(f, "{fails} of {total} checks FAIL"),
            _ => writeln!(f, "{fails} of {total} checks FAIL; {open} are open"),
        }
    }
}
