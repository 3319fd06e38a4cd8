//! Every scriptlet and trigger of a package, from its header.

mod tables;

use std::fmt;

use crate::formats::rpm::tag::sense;
use crate::formats::rpm::{Header, HeaderError};
use crate::rpmset::Package;
use tables::{PLAIN, SENSES, TABLES, Table};

/// When RPM runs a scriptlet, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pretrans,
    Pre,
    Post,
    Posttrans,
    Preun,
    Postun,
    Preuntrans,
    Postuntrans,
    Verify,
    TriggerPrein,
    TriggerIn,
    TriggerUn,
    TriggerPostun,
    FileTriggerIn,
    FileTriggerUn,
    FileTriggerPostun,
    TransFileTriggerIn,
    TransFileTriggerUn,
    TransFileTriggerPostun,
}

impl Kind {
    /// The section of a spec file, without its `%`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrans => "pretrans",
            Self::Pre => "pre",
            Self::Post => "post",
            Self::Posttrans => "posttrans",
            Self::Preun => "preun",
            Self::Postun => "postun",
            Self::Preuntrans => "preuntrans",
            Self::Postuntrans => "postuntrans",
            Self::Verify => "verify",
            Self::TriggerPrein => "triggerprein",
            Self::TriggerIn => "triggerin",
            Self::TriggerUn => "triggerun",
            Self::TriggerPostun => "triggerpostun",
            Self::FileTriggerIn => "filetriggerin",
            Self::FileTriggerUn => "filetriggerun",
            Self::FileTriggerPostun => "filetriggerpostun",
            Self::TransFileTriggerIn => "transfiletriggerin",
            Self::TransFileTriggerUn => "transfiletriggerun",
            Self::TransFileTriggerPostun => "transfiletriggerpostun",
        }
    }

    /// Whether RPM runs it when a package is installed where none was before. The others belong to
    /// removals, upgrades and verification: no image has those.
    pub fn runs_at_installation(self) -> bool {
        matches!(
            self,
            Self::Pretrans
                | Self::Pre
                | Self::Post
                | Self::Posttrans
                | Self::TriggerPrein
                | Self::TriggerIn
                | Self::FileTriggerIn
                | Self::TransFileTriggerIn
        )
    }

    /// Whether it waits for packages or files, its own or those of others.
    pub fn is_trigger(self) -> bool {
        self >= Self::TriggerPrein
    }
}

/// What a trigger waits for: a package in a range of versions, or a prefix of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// A package's name; of file triggers, how paths begin.
    pub name: Vec<u8>,
    /// Bits of [`sense`].
    pub flags: u32,
    /// `[epoch:]version[-release]`; empty for any.
    pub version: Vec<u8>,
    /// Where it stands among the conditions of all triggers of its package: RPM goes through them in this order.
    pub position: usize,
}

/// One scriptlet or trigger, as the package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scriptlet {
    pub kind: Kind,
    /// Of triggers: the number in the package's table of triggers, file triggers or transaction file triggers.
    pub index: u32,
    /// Program and arguments; `<lua>` is RPM's own interpreter. Never empty.
    pub interpreter: Vec<Vec<u8>>,
    /// The text; `None` where the program alone is run.
    pub body: Option<Vec<u8>>,
    /// Bits of `RPMTAG_…FLAGS`.
    pub flags: u32,
    /// Of triggers: what they wait for. Any one suffices.
    pub conditions: Vec<Condition>,
    /// Of file triggers: higher ones run first; from 10,000 on before `%post`.
    pub priority: u32,
}

impl Scriptlet {
    const EXPAND: u32 = 1 << 0;
    const QUERY_FORMAT: u32 = 1 << 1;
    const CRITICAL: u32 = 1 << 2;

    /// Whether macros in its text are expanded before it runs (`-e`).
    pub fn expands_macros(&self) -> bool {
        self.flags & Self::EXPAND != 0
    }

    /// Whether its text is a query format of the package's own header (`-q`).
    pub fn is_query_format(&self) -> bool {
        self.flags & Self::QUERY_FORMAT != 0
    }

    /// Whether RPM itself gives up the package where it fails.
    pub fn is_critical(&self) -> bool {
        matches!(
            self.kind,
            Kind::Pretrans | Kind::Pre | Kind::Preun | Kind::Preuntrans | Kind::Verify
        ) || self.flags & Self::CRITICAL != 0
    }

    /// Whether RPM's embedded Lua runs it.
    pub fn is_lua(&self) -> bool {
        self.interpreter
            .first()
            .is_some_and(|program| program == b"<lua>")
    }

    /// The name within its package: `post`, `triggerin[0]`.
    pub fn name(&self) -> String {
        if self.kind.is_trigger() {
            format!("{}[{}]", self.kind.name(), self.index)
        } else {
            self.kind.name().to_owned()
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.name))?;
        let sign = match self.flags & (sense::LESS | sense::GREATER | sense::EQUAL) {
            0 => return Ok(()),
            bits => [(sense::LESS, "<"), (sense::GREATER, ">"), (sense::EQUAL, "=")]
                .into_iter()
                .filter_map(|(bit, sign)| (bits & bit != 0).then_some(sign))
                .collect::<String>(),
        };
        write!(f, " {sign} {}", String::from_utf8_lossy(&self.version))
    }
}

/// A package's scriptlets are malformed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CollectError {
    #[error("{package}: its header is broken: {source}")]
    #[diagnostic(help("the package is malformed: fetch it again, or have it rebuilt by its maker"))]
    Header { package: String, source: HeaderError },
    #[error("{package}: its table of {table} is inconsistent: {what}")]
    #[diagnostic(help("the package is malformed: fetch it again, or have it rebuilt by its maker"))]
    Table {
        package: String,
        table: &'static str,
        what: String,
    },
}

/// RPM's priority of a file trigger that names none.
const DEFAULT_PRIORITY: u32 = 1_000_000;

/// Every scriptlet and trigger of `package`: plain ones in the order of [`Kind`], then the three tables of triggers, each
/// in its own order.
///
/// # Errors
/// Where values have the wrong type, or a table of triggers does not fit together.
pub fn of_package(package: &Package) -> Result<Vec<Scriptlet>, CollectError> {
    let header = &package.preamble.header;
    let broken = |source| CollectError::Header {
        package: package.nevra.to_string(),
        source,
    };
    let mut found = Vec::new();
    for (kind, tags) in PLAIN {
        found.extend(plain(header, kind, tags).map_err(broken)?);
    }
    for table in &TABLES {
        let triggers = read_table(header, table).map_err(|problem| match problem {
            Problem::Header(source) => broken(source),
            Problem::Table(what) => CollectError::Table {
                package: package.nevra.to_string(),
                table: table.name,
                what,
            },
        })?;
        found.extend(triggers);
    }
    Ok(found)
}

fn plain(
    header: &Header,
    kind: Kind,
    [text, program, flags]: [u32; 3],
) -> Result<Option<Scriptlet>, HeaderError> {
    if !header.has(text) && !header.has(program) {
        return Ok(None);
    }
    let mut interpreter: Vec<_> = header.strings(program)?.into_iter().map(<[u8]>::to_vec).collect();
    if interpreter.is_empty() {
        interpreter.push(b"/bin/sh".to_vec());
    }
    Ok(Some(Scriptlet {
        kind,
        index: 0,
        interpreter,
        body: header.string(text)?.map(<[u8]>::to_vec),
        flags: header.u32(flags)?.unwrap_or(0),
        conditions: Vec::new(),
        priority: 0,
    }))
}

enum Problem {
    Header(HeaderError),
    Table(String),
}

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

fn read_table(header: &Header, table: &Table) -> Result<Vec<Scriptlet>, Problem> {
    let scripts = header.strings(table.scripts)?;
    let names = header.strings(table.names)?;
    let versions = header.strings(table.versions)?;
    let (flags, indexes) = (header.u32s(table.flags)?, header.u32s(table.indexes)?);
    let lengths = [names.len(), versions.len(), flags.len(), indexes.len()];
    if lengths != [names.len(); 4] {
        let [names, versions, flags, indexes] = lengths;
        return Err(Problem::Table(format!(
            "{names} names, {versions} versions, {flags} flags, {indexes} indexes"
        )));
    }
    let programs = header.strings(table.programs)?;
    let script_flags = header.u32s(table.script_flags)?;
    let priorities = table.priorities.map_or(Ok(Vec::new()), |tag| header.u32s(tag))?;
    for (what, count) in [
        ("interpreters", programs.len()),
        ("flags of scripts", script_flags.len()),
        ("priorities", priorities.len()),
    ] {
        if count != 0 && count != scripts.len() {
            return Err(Problem::Table(format!(
                "{count} {what}, {} scripts",
                scripts.len()
            )));
        }
    }
    let mut conditions = vec![Vec::new(); scripts.len()];
    for (entry, &index) in indexes.iter().enumerate() {
        let list = conditions.get_mut(index as usize).ok_or_else(|| {
            Problem::Table(format!(
                "entry {entry} points at script {index} of {}",
                scripts.len()
            ))
        })?;
        list.push(Condition {
            name: names[entry].to_vec(),
            flags: flags[entry],
            version: versions[entry].to_vec(),
            position: entry,
        });
    }
    let mut found = Vec::with_capacity(scripts.len());
    for ((index, script), conditions) in (0u32..).zip(scripts).zip(conditions) {
        // rpmbuild leaves such behind where two triggers wait for one package: nothing ever sets them off.
        if conditions.is_empty() {
            continue;
        }
        let kind = kind(table, &conditions)
            .ok_or_else(|| Problem::Table(format!("script {index} has no time, or several, to run at")))?;
        let at = index as usize;
        found.push(Scriptlet {
            kind,
            index,
            interpreter: vec![programs.get(at).copied().unwrap_or(b"/bin/sh").to_vec()],
            body: Some(script.to_vec()),
            flags: script_flags.get(at).copied().unwrap_or(0),
            conditions,
            priority: match table.priorities {
                Some(_) => priorities.get(at).copied().unwrap_or(DEFAULT_PRIORITY),
                None => 0,
            },
        });
    }
    Ok(found)
}

/// The one kind that all conditions agree on.
fn kind(table: &Table, conditions: &[Condition]) -> Option<Kind> {
    let mut kinds = conditions.iter().map(|condition| {
        let sense = SENSES.iter().position(|bit| condition.flags & bit != 0)?;
        table.kinds[sense]
    });
    let first = kinds.next()??;
    kinds.all(|kind| kind == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::{real_rpms, tool};

    /// What `rpm --scripts --triggers --filetriggers` prints above each text.
    fn heading(scriptlet: &Scriptlet) -> String {
        let shown = match scriptlet.kind {
            Kind::Pre => "preinstall",
            Kind::Post => "postinstall",
            Kind::Preun => "preuninstall",
            Kind::Postun => "postuninstall",
            kind => kind.name(),
        };
        let program: Vec<_> = scriptlet
            .interpreter
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if scriptlet.body.is_none() {
            return format!("{shown} program: {}", program.join(" "));
        }
        let heading = format!("{shown} scriptlet (using {})", program.join(" "));
        if !scriptlet.kind.is_trigger() {
            return format!("{heading}:");
        }
        let conditions: Vec<_> = scriptlet.conditions.iter().map(ToString::to_string).collect();
        format!("{heading} -- {}", conditions.join(", "))
    }

    #[test]
    fn all_that_rpm_lists_is_found_with_its_text() {
        let (Some(real), Some(rpm)) = (real_rpms(), tool("rpm")) else {
            return;
        };
        let mut count = 0;
        for directory in ["distro", "features"] {
            for entry in std::fs::read_dir(real.join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let Ok(package) = Package::open(&path) else {
                    continue;
                };
                let query = Command::new(&rpm)
                    .args([
                        "-qp",
                        "--nosignature",
                        "--scripts",
                        "--triggers",
                        "--filetriggers",
                    ])
                    .arg(&path)
                    .output()
                    .unwrap();
                let listed = String::from_utf8(query.stdout).unwrap();
                let found = of_package(&package).unwrap();
                let sorted = |mut lines: Vec<String>| {
                    lines.sort_unstable();
                    lines
                };
                let headings = listed
                    .lines()
                    .filter(|line| line.contains(" scriptlet (using ") || line.contains(" program: "));
                assert_eq!(
                    sorted(found.iter().map(heading).collect()),
                    sorted(headings.map(str::to_owned).collect()),
                    "{}",
                    path.display()
                );
                for body in found.iter().filter_map(|scriptlet| scriptlet.body.as_deref()) {
                    let text = String::from_utf8_lossy(body);
                    assert!(listed.contains(text.trim_end()), "{}: {text}", path.display());
                }
                count += found.len();
            }
        }
        assert_eq!(count, 55);
    }
}
