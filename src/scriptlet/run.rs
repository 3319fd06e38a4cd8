//! Carrying out a schedule: what must run is run in the sandbox, over the packages' files as they come to lie there; what it
//! changed comes back into the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::collect::Scriptlet;
use super::error::ScriptletError;
use super::events::Event;
use super::ledger::{Change, Changed, Entry};
use super::leftovers;
use super::owners::Owners;
use super::sandbox::{ChangeKind, Interpreter, Limits, Sandbox, Script, probe};
use super::schedule::{Action, Decision, Planned, Schedule};
use crate::formats::rpm::tag;
use crate::tree::identity::IdentityError;
use crate::tree::identity::accounts::Accounts;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

/// Where users and groups go that replaced scriptlets would have made.
const ACCOUNTS: &str = "/usr/lib/sysusers.d/hullwright-scriptlets.conf";
const SCRIPTLET: Origin = Origin::Composer("a scriptlet of a package");
/// Lines of a failed scriptlet's output that are shown.
const SHOWN: usize = 30;

/// What running needs beside the schedule.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The program itself, which is started again as the sandbox's first process.
    pub program: &'a Path,
    /// Where an empty directory may be made, and is removed again.
    pub scratch: &'a Path,
    /// Seconds since the epoch: dates what scriptlets leave.
    pub time: i64,
}

/// What came of a schedule.
#[derive(Debug, Default)]
pub struct Done {
    pub ledger: Vec<Entry>,
    /// What each scriptlet that ran took, in seconds, by its name.
    pub durations: Vec<(String, f64)>,
}

impl Schedule<'_> {
    /// Whether all that must run can, on a machine of architecture `host` for an image of architecture `wanted`.
    ///
    /// # Errors
    /// Scriptlets that must run where they cannot.
    pub fn check(&self, wanted: &'static str, host: &str) -> Result<(), ScriptletError> {
        let mut running = self.runs().peekable();
        if running.peek().is_none() {
            return Ok(());
        }
        if wanted != host {
            let programs = running.filter(|(_, scriptlet)| !scriptlet.is_lua());
            let mut scriptlets: Vec<_> = programs.map(|(event, _)| self.name(event)).collect();
            scriptlets.dedup();
            if !scriptlets.is_empty() {
                return Err(ScriptletError::Foreign { wanted, scriptlets });
            }
        }
        probe().map_err(|source| {
            let mut scriptlets: Vec<_> = self.runs().map(|(event, _)| self.name(event)).collect();
            scriptlets.dedup();
            ScriptletError::NoSandbox { scriptlets, source }
        })
    }

    /// Does in `tree`, the packages' files, what the scriptlets do. `accounts` are the users and groups that the image will
    /// have as far as packages and definition say: scriptlets know their names.
    ///
    /// # Errors
    /// A scriptlet that fails; where the sandbox or the tree does not let it.
    pub fn apply(
        &self,
        tree: &mut Tree,
        accounts: impl FnOnce(&Tree) -> Result<Accounts, IdentityError>,
        settings: Settings<'_>,
    ) -> Result<Done, ScriptletError> {
        let lines = self.accounts();
        if !lines.is_empty() {
            let text = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
            let origin = Origin::Composer("users and groups that scriptlets would make");
            let node = Node::new(
                Meta::root(0o644, settings.time),
                Kind::file(text.into_bytes()),
                origin,
            );
            tree.insert(&TreePath::literal(ACCOUNTS), node)?;
        }
        if self.runs().next().is_none() {
            return Ok(Done {
                ledger: self.ledger(),
                durations: Vec::new(),
            });
        }
        let accounts = accounts(tree)?;
        let scratch = tempfile::Builder::new()
            .prefix("tree-")
            .tempdir_in(settings.scratch)
            .map_err(|source| ScriptletError::Scratch {
                path: settings.scratch.to_owned(),
                source,
            })?;
        let sandbox = Sandbox::new(settings.program, scratch.path(), Limits::default())?;
        let mut driver = Driver {
            schedule: self,
            tree,
            laid: BTreeSet::new(),
            touched: BTreeSet::new(),
            owners: Owners::new(&accounts),
            sandbox,
            settings,
            done: Done::default(),
        };
        driver.lay_accounts(&accounts)?;
        driver.carry_out()?;
        driver.take_back()?;
        self.check_failures(&driver.done.ledger)?;
        Ok(driver.done)
    }

    /// A rule that lets a scriptlet fail which did not is not needed.
    fn check_failures(&self, ledger: &[Entry]) -> Result<(), ScriptletError> {
        for rule in self.rules.iter().filter(|rule| rule.action == Action::MayFail) {
            let mut runs = self.events().zip(ledger);
            let failed = runs
                .any(|((event, _), entry)| entry.may_fail.is_some() && self.name(event) == rule.scriptlet);
            if !failed {
                let rule = rule.scriptlet.clone();
                let why = "the scriptlet does not fail";
                return Err(ScriptletError::Idle { rule, why });
            }
        }
        Ok(())
    }
}

struct Driver<'a> {
    schedule: &'a Schedule<'a>,
    tree: &'a mut Tree,
    /// Paths of the tree that lie in the sandbox.
    laid: BTreeSet<TreePath>,
    /// Paths that scriptlets changed, and no package laid since.
    touched: BTreeSet<TreePath>,
    owners: Owners,
    sandbox: Sandbox,
    settings: Settings<'a>,
    done: Done,
}

/// The account databases, which scriptlets find as the image will have them.
const DATABASES: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];

impl Driver<'_> {
    fn lay_accounts(&mut self, accounts: &Accounts) -> Result<(), ScriptletError> {
        let files = accounts.files(self.settings.time.div_euclid(86_400));
        let texts = [files.passwd, files.group, files.shadow, files.gshadow];
        for ((path, text), mode) in DATABASES.into_iter().zip(texts).zip([0o644, 0o644, 0, 0]) {
            let path = TreePath::literal(path);
            let meta = Meta::root(mode, self.settings.time);
            let node = Node::new(meta, Kind::file(text.into_bytes()), SCRIPTLET);
            self.sandbox.put(&path, &node)?;
            self.laid.insert(path);
        }
        Ok(())
    }

    /// All steps up to the last that runs something.
    fn carry_out(&mut self) -> Result<(), ScriptletError> {
        let schedule = self.schedule;
        let mut files = by_package(self.tree, schedule.packages.len());
        let runs = |step: &Planned| matches!(step, Planned::Event(_, Decision::Run { .. }));
        let last = schedule.steps.iter().rposition(runs).unwrap_or(0);
        for (number, step) in schedule.steps.iter().enumerate() {
            match step {
                Planned::Install(package) if number <= last => {
                    self.install(std::mem::take(&mut files[*package]))?;
                }
                Planned::Install(_) => {}
                Planned::Event(event, decision) => {
                    let mut entry = schedule.entry(event, decision);
                    if let Decision::Run { body, may_fail, .. } = decision {
                        self.run(event, body.as_deref(), may_fail.is_some(), &mut entry)?;
                    }
                    self.done.ledger.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Lays the files of a package.
    fn install(&mut self, files: Vec<TreePath>) -> Result<(), ScriptletError> {
        for path in files {
            let mut missing = Vec::new();
            let mut at = path.parent();
            while let Some(above) = at {
                if self.laid.contains(&above) {
                    break;
                }
                at = above.parent();
                missing.push(above);
            }
            for above in missing.into_iter().rev() {
                self.lay(above)?;
            }
            if !self.laid.contains(&path) {
                self.lay(path)?;
            }
        }
        Ok(())
    }

    fn lay(&mut self, path: TreePath) -> Result<(), ScriptletError> {
        if let Some(node) = self.tree.get(&path) {
            // As RPM does: an owner that is not there yet is root.
            let node = self.owners.numbered(node);
            self.sandbox.put(&path, &node)?;
            self.touched.remove(&path);
        }
        self.laid.insert(path);
        Ok(())
    }

    fn run(
        &mut self,
        event: &Event,
        body: Option<&[u8]>,
        may_fail: bool,
        entry: &mut Entry,
    ) -> Result<(), ScriptletError> {
        let scriptlet = &self.schedule.scriptlets[event.package][event.scriptlet];
        let name = format!("{} %{}", entry.package, entry.scriptlet);
        let interpreter = self.interpreter(scriptlet, &name)?;
        let numbers = event
            .arguments
            .iter()
            .map(|number| number.to_string().into_bytes());
        let script = Script {
            name: name.clone(),
            interpreter,
            body: body.unwrap_or_default().to_vec(),
            // Without a text there are no arguments but the interpreter's own.
            args: if body.is_some() {
                numbers.collect()
            } else {
                Vec::new()
            },
            stdin: event
                .paths
                .iter()
                .flat_map(|path| [path.as_slice(), b"\n"].concat())
                .collect(),
            env: self.environment(event.package),
        };
        let start = Instant::now();
        let outcome = self.sandbox.run(&script)?;
        self.done
            .durations
            .push((name.clone(), start.elapsed().as_secs_f64()));
        let words = outcome.end.words(&Limits::default());
        entry.end = Some(words.clone());
        if outcome.end.is_success() {
            entry.may_fail = None;
        } else if !may_fail {
            return Err(ScriptletError::Failed {
                scriptlet: name,
                words,
                output: tail(&outcome.output),
                rule: self.schedule.name(event),
            });
        }
        for change in outcome.changes {
            let dropped = leftovers::reason(&change.path);
            if dropped.is_none() {
                self.touched.insert(change.path.clone());
            }
            if DATABASES
                .iter()
                .any(|database| change.path == TreePath::literal(database))
            {
                self.read_accounts()?;
            }
            entry.changes.push(Changed {
                path: change.path,
                change: match change.kind {
                    ChangeKind::Created => Change::Created,
                    ChangeKind::Content => Change::Content,
                    ChangeKind::Metadata => Change::Metadata,
                    ChangeKind::Removed => Change::Removed,
                },
                dropped: dropped.map(Into::into),
            });
        }
        Ok(())
    }

    fn interpreter(&self, scriptlet: &Scriptlet, name: &str) -> Result<Interpreter, ScriptletError> {
        if scriptlet.is_lua() {
            return Ok(Interpreter::Lua);
        }
        let program = scriptlet
            .interpreter
            .first()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let there = TreePath::new(program).is_ok_and(|path| self.tree.file(&path).is_some());
        if !there {
            return Err(ScriptletError::Interpreter {
                scriptlet: name.to_owned(),
                program: String::from_utf8_lossy(program).into_owned(),
            });
        }
        Ok(Interpreter::Program(scriptlet.interpreter.clone()))
    }

    /// What RPM adds to the environment, and what tells programs that no system is running.
    fn environment(&self, package: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pair = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        let mut variables = vec![
            pair("SYSTEMD_OFFLINE", b"1"),
            pair("SOURCE_DATE_EPOCH", self.settings.time.to_string().as_bytes()),
        ];
        let header = &self.schedule.packages[package].preamble.header;
        for (number, prefix) in header
            .strings(tag::PREFIXES)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            if number == 0 {
                variables.push(pair("RPM_INSTALL_PREFIX", prefix));
            }
            variables.push(pair(&format!("RPM_INSTALL_PREFIX{number}"), prefix));
        }
        variables
    }

    /// Takes note of users and groups that a scriptlet has made.
    fn read_accounts(&mut self) -> Result<(), ScriptletError> {
        let mut texts = Vec::with_capacity(2);
        for path in ["/etc/passwd", "/etc/group"] {
            let path = TreePath::literal(path);
            let node = self.sandbox.read(&path, self.settings.time)?;
            let bytes = match node.map(|node| node.kind) {
                Some(Kind::File(file)) => file.blob.read_all().map_err(|source| ScriptletError::Stored {
                    path: path.clone(),
                    source,
                })?,
                _ => Vec::new(),
            };
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        let accounts = Accounts::parse(&texts[0], &texts[1], "", "").map_err(ScriptletError::Accounts)?;
        self.owners = Owners::new(&accounts);
        Ok(())
    }

    /// Brings what scriptlets left into the tree. Parents come before what they hold.
    fn take_back(&mut self) -> Result<(), ScriptletError> {
        let mut created = BTreeMap::new();
        for path in std::mem::take(&mut self.touched) {
            let Some(mut node) = self.sandbox.read(&path, self.settings.time)? else {
                self.tree.remove(&path);
                continue;
            };
            self.owners.name(&mut node.meta);
            node.origin = SCRIPTLET;
            match self.tree.get_mut(&path) {
                Some(there) => {
                    node.origin = there.origin.clone();
                    // What lies in a directory has been laid, or comes by itself.
                    if let (Kind::Dir(_), Kind::Dir(_)) = (&there.kind, &node.kind) {
                        let mtime = there.meta.mtime;
                        there.meta = Meta { mtime, ..node.meta };
                    } else {
                        *there = node;
                    }
                }
                None => {
                    created.insert(path, node);
                }
            }
        }
        for (path, node) in created {
            self.tree.insert(&path, node)?;
        }
        Ok(())
    }
}

/// The paths of each package, parents first; of a shared path, each of its owners has it.
fn by_package(tree: &Tree, count: usize) -> Vec<Vec<TreePath>> {
    let mut files = vec![Vec::new(); count];
    for (path, node) in tree.walk() {
        if let Origin::Packages(owners) = &node.origin {
            for &owner in owners {
                if let Some(list) = files.get_mut(owner as usize) {
                    list.push(path.clone());
                }
            }
        }
    }
    files
}

/// The last lines of an output, as they may be shown on a terminal.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN)..];
    match shown.is_empty() {
        true => "it wrote nothing".to_owned(),
        false => shown.join("\n").replace(steers, "\u{fffd}"),
    }
}

/// Whether a terminal might obey `c` rather than show it.
fn steers(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_shown_and_not_obeyed() {
        assert_eq!(tail(b""), "it wrote nothing");
        assert_eq!(
            tail(b"a\tb\r\n\x1b]0;title\x07\xff\xc2\x9b2J\n"),
            "a\tb\n\u{fffd}]0;title\u{fffd}\u{fffd}\u{fffd}2J"
        );
        let many: String = (0..40).map(|number| format!("{number}\n")).collect();
        assert!(tail(many.as_bytes()).starts_with("10\n11\n"));
    }
}
