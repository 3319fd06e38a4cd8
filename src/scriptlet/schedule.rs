//! What is to be done about the scriptlets of a set, in RPM's order: decided before anything runs.

use std::collections::BTreeSet;

use super::collect::{Kind, Scriptlet, of_package};
use super::error::ScriptletError;
use super::events::{self, Event, Step};
use super::ledger::{Entry, Outcome, Replaced};
use super::replaced::{Effect, Native, Replacement, Verdict, judge};
use super::{macros, order};
use crate::rpmset::Package;
use crate::tree::caches::icons::Theme;

/// What the definition says of one scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `package:scriptlet`: `dbus:post`, `glibc-common:transfiletriggerin[0]`.
    pub scriptlet: String,
    pub action: Action,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Neither run nor replaced.
    Skip,
    /// Run where it would be replaced.
    Run,
    /// Run, and where it fails the build goes on.
    MayFail,
}

/// What becomes of one run of a scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Skip(String),
    Replace(Vec<Replacement>),
    Run {
        reason: String,
        /// The text, macros expanded.
        body: Option<Vec<u8>>,
        /// Why the definition lets it fail.
        may_fail: Option<String>,
    },
}

/// A step of the transaction with what is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    Install(usize),
    Event(Event, Decision),
}

/// Scriptlets of a set, and all that becomes of them.
#[derive(Debug)]
pub struct Schedule<'a> {
    pub(super) packages: &'a [Package],
    pub(super) scriptlets: Vec<Vec<Scriptlet>>,
    pub(super) rules: &'a [Rule],
    pub steps: Vec<Planned>,
}

impl<'a> Schedule<'a> {
    /// Decides on every scriptlet that an installation of `packages` would run.
    ///
    /// # Errors
    /// Malformed packages; rules that name nothing or are not needed.
    pub fn new(packages: &'a [Package], rules: &'a [Rule]) -> Result<Self, ScriptletError> {
        let scriptlets: Vec<_> = packages.iter().map(of_package).collect::<Result<_, _>>()?;
        let mut schedule = Self {
            packages,
            scriptlets,
            rules,
            steps: Vec::new(),
        };
        // Most sets have none, and then nobody asks for an order.
        let mut all = schedule.scriptlets.iter().flatten();
        if !all.any(|scriptlet| scriptlet.kind.runs_at_installation()) {
            schedule.check_rules(rules, &BTreeSet::new())?;
            return Ok(schedule);
        }
        let order = order::installation(packages)?;
        let mut needed = BTreeSet::new();
        for step in events::steps(packages, &schedule.scriptlets, &order) {
            let planned = match step {
                Step::Install(package) => Planned::Install(package),
                Step::Run(event) => {
                    let decision = schedule.decide(&event, rules, &mut needed)?;
                    Planned::Event(event, decision)
                }
            };
            schedule.steps.push(planned);
        }
        schedule.check_rules(rules, &needed)?;
        Ok(schedule)
    }

    /// What rules call it: `package:scriptlet`.
    pub fn name(&self, event: &Event) -> String {
        let scriptlet = &self.scriptlets[event.package][event.scriptlet];
        format!("{}:{}", self.packages[event.package].nevra.name, scriptlet.name())
    }

    fn decide(
        &self,
        event: &Event,
        rules: &[Rule],
        needed: &mut BTreeSet<usize>,
    ) -> Result<Decision, ScriptletError> {
        let scriptlet = &self.scriptlets[event.package][event.scriptlet];
        let name = self.name(event);
        let rule = (0..rules.len()).find(|&number| rules[number].scriptlet == name);
        if let Some(number) = rule
            && rules[number].action == Action::Skip
        {
            // What cannot even be read is not known to do nothing.
            let idle = match text(&self.packages[event.package], scriptlet) {
                Ok(body) => matches!(
                    judge(scriptlet, body.as_deref(), &event.arguments),
                    Verdict::Skip(_)
                ),
                Err(_) => false,
            };
            if !idle {
                needed.insert(number);
            }
            return Ok(Decision::Skip(format!(
                "the definition says so: {}",
                rules[number].reason
            )));
        }
        let body = text(&self.packages[event.package], scriptlet)?;
        let verdict = judge(scriptlet, body.as_deref(), &event.arguments);
        let run = |reason, may_fail| {
            Ok(Decision::Run {
                reason,
                body: body.clone(),
                may_fail,
            })
        };
        match (rule.map(|number| (number, &rules[number])), verdict) {
            (Some((number, rule)), Verdict::Replace(_)) if rule.action == Action::Run => {
                needed.insert(number);
                run(format!("the definition says so: {}", rule.reason), None)
            }
            (Some((number, rule)), Verdict::Run(reason)) if rule.action == Action::MayFail => {
                needed.insert(number);
                run(reason, Some(rule.reason.clone()))
            }
            (_, Verdict::Run(reason)) => run(reason, None),
            (_, Verdict::Replace(replaced)) => Ok(Decision::Replace(replaced)),
            (_, Verdict::Skip(reason)) => Ok(Decision::Skip(reason.to_owned())),
        }
    }

    /// Every rule must name something, and be needed.
    fn check_rules(&self, rules: &[Rule], needed: &BTreeSet<usize>) -> Result<(), ScriptletError> {
        for (number, rule) in rules.iter().enumerate() {
            if needed.contains(&number) {
                continue;
            }
            let mut names: Vec<_> = self.events().map(|(event, _)| self.name(event)).collect();
            names.sort_unstable();
            names.dedup();
            if names.contains(&rule.scriptlet) {
                let why = match rule.action {
                    Action::Skip => "the scriptlet does nothing",
                    Action::Run => "the scriptlet is not replaced",
                    Action::MayFail => "the scriptlet is not run",
                };
                let rule = rule.scriptlet.clone();
                return Err(ScriptletError::Idle { rule, why });
            }
            let score = |name: &&String| strsim::jaro_winkler(name, &rule.scriptlet);
            let nearest = names.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
            return Err(ScriptletError::Unknown {
                rule: rule.scriptlet.clone(),
                nearest: nearest.filter(|name| score(name) > 0.75).cloned(),
            });
        }
        Ok(())
    }

    /// All runs, in order.
    pub fn events(&self) -> impl Iterator<Item = (&Event, &Decision)> {
        self.steps.iter().filter_map(|step| match step {
            Planned::Event(event, decision) => Some((event, decision)),
            Planned::Install(_) => None,
        })
    }

    /// The scriptlets that must run.
    pub fn runs(&self) -> impl Iterator<Item = (&Event, &Scriptlet)> {
        let running = self
            .events()
            .filter(|(_, decision)| matches!(decision, Decision::Run { .. }));
        running.map(|(event, _)| (event, &self.scriptlets[event.package][event.scriptlet]))
    }

    /// The first scriptlet, as rules name it, in whose place `native` works on the finished tree.
    pub fn asks_for(&self, native: Native) -> Option<String> {
        let mut events = self.events();
        let (event, _) = events.find(|(_, decision)| match decision {
            Decision::Replace(replaced) => replaced
                .iter()
                .any(|replacement| replacement.effect == Effect::Native(native)),
            _ => false,
        })?;
        Some(self.name(event))
    }

    /// Icon themes whose index replaced scriptlets ask for.
    pub fn icon_themes(&self) -> BTreeSet<&Theme> {
        let effects = self.effects().filter_map(|effect| match effect {
            Effect::Icons(theme) => Some(theme),
            _ => None,
        });
        effects.collect()
    }

    /// Lines of sysusers.d(5) that replaced scriptlets ask for, each once.
    pub fn accounts(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = Vec::new();
        for effect in self.effects() {
            if let Effect::Accounts(asked) = effect {
                for line in asked {
                    if !lines.contains(&line.as_str()) {
                        lines.push(line);
                    }
                }
            }
        }
        lines
    }

    fn effects(&self) -> impl Iterator<Item = &Effect> {
        let replaced = self.events().filter_map(|(_, decision)| match decision {
            Decision::Replace(replaced) => Some(replaced),
            _ => None,
        });
        replaced.flatten().map(|replacement| &replacement.effect)
    }

    /// The ledger as far as it is known before anything has run.
    pub fn ledger(&self) -> Vec<Entry> {
        self.events()
            .map(|(event, decision)| self.entry(event, decision))
            .collect()
    }

    pub(super) fn entry(&self, event: &Event, decision: &Decision) -> Entry {
        let (outcome, reason, replaced, may_fail) = match decision {
            Decision::Skip(reason) => (Outcome::Skipped, reason.clone(), Vec::new(), None),
            Decision::Replace(replaced) => {
                let replaced = replaced.iter().map(|replacement| Replaced {
                    command: replacement.command.clone(),
                    reason: replacement.reason.to_owned(),
                });
                let reason = "every command in it is replaced".to_owned();
                (Outcome::Replaced, reason, replaced.collect(), None)
            }
            Decision::Run { reason, may_fail, .. } => {
                (Outcome::Run, reason.clone(), Vec::new(), may_fail.clone())
            }
        };
        Entry {
            package: self.packages[event.package].nevra.to_string(),
            scriptlet: self.scriptlets[event.package][event.scriptlet].name(),
            arguments: event.arguments.clone(),
            paths: event.paths.len(),
            outcome,
            reason,
            replaced,
            end: None,
            may_fail,
            changes: Vec::new(),
        }
    }
}

/// What becomes of `scriptlet` of `package` where nothing is known of the other packages of a set: it is looked at with the
/// arguments of a first installation. Nothing where an installation never runs it.
///
/// # Errors
/// A query format that is not understood.
pub fn alone(package: &Package, scriptlet: &Scriptlet) -> Result<Option<Verdict>, ScriptletError> {
    if !scriptlet.kind.runs_at_installation() {
        return Ok(None);
    }
    let arguments: &[u32] = match scriptlet.kind {
        Kind::TriggerPrein | Kind::TriggerIn | Kind::FileTriggerIn => &[1, 1],
        _ => &[1],
    };
    let body = text(package, scriptlet)?;
    Ok(Some(judge(scriptlet, body.as_deref(), arguments)))
}

/// The text of a scriptlet with what RPM fills in before it runs.
fn text(package: &Package, scriptlet: &Scriptlet) -> Result<Option<Vec<u8>>, ScriptletError> {
    let Some(body) = &scriptlet.body else {
        return Ok(None);
    };
    let mut body = body.clone();
    if scriptlet.expands_macros() {
        body = macros::Macros::standard().expand(&body);
    }
    if scriptlet.is_query_format() {
        body = macros::query_format(package, &body).map_err(|what| ScriptletError::QueryFormat {
            package: package.nevra.to_string(),
            scriptlet: scriptlet.name(),
            what,
        })?;
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests;
