//! `hullwright rpm scriptlets`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::rpmset::Package;
use hullwright::scriptlet::ledger::Outcome;
use hullwright::scriptlet::replaced::Verdict;
use hullwright::scriptlet::{Scriptlet, alone, of_package};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{escape, expand_all, print};

/// Show the scriptlets and triggers of packages: whether a build would run, replace or skip them, and why; their text
#[derive(Debug, Args)]
pub struct ScriptletsArgs {
    /// Packages, or directories of .rpm files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ScriptletsArgs) -> miette::Result<ExitCode> {
    let paths = expand_all(&args.paths)?;
    let looked: Vec<_> = paths
        .par_iter()
        .with_max_len(1)
        .map(|path| {
            let package = Package::open(path);
            let scriptlets = package.as_ref().map_err(ToString::to_string).and_then(|package| {
                let scriptlets =
                    of_package(package).map_err(|error| format!("{}: {error}", path.display()))?;
                let with_fate = |scriptlet: Scriptlet| {
                    let fate = Fate::of(package, &scriptlet);
                    (scriptlet, fate)
                };
                Ok(scriptlets.into_iter().map(with_fate).collect::<Vec<_>>())
            });
            (package, scriptlets)
        })
        .collect();
    if args.json {
        let values = paths.iter().zip(&looked).map(|(path, (package, scriptlets))| {
            let mut value = super::head(path, package.as_ref());
            match scriptlets {
                Ok(scriptlets) => {
                    let scriptlets = scriptlets
                        .iter()
                        .map(|(scriptlet, fate)| describe(scriptlet, fate));
                    value["scriptlets"] = scriptlets.collect();
                }
                Err(reason) => {
                    value["ok"] = false.into();
                    value["reason"] = reason.clone().into();
                }
            }
            value
        });
        print(&format!("{:#}\n", Value::from(values.collect::<Vec<_>>())))?;
    } else {
        let mut text = String::new();
        for (package, scriptlets) in &looked {
            match (package, scriptlets) {
                (_, Err(reason)) => text.push_str(&format!("BAD {}\n", escape::line(reason.as_bytes()))),
                (Ok(package), Ok(scriptlets)) => {
                    text.push_str(&format!("{}: {}\n", package.nevra, count(scriptlets.len())));
                    text.extend(scriptlets.iter().map(|(scriptlet, fate)| shown(scriptlet, fate)));
                }
                (Err(_), Ok(_)) => {}
            }
        }
        print(&text)?;
    }
    Ok(super::code(
        looked.iter().all(|(_, scriptlets)| scriptlets.is_ok()),
    ))
}

fn count(number: usize) -> String {
    match number {
        0 => "no scriptlet".to_owned(),
        1 => "1 scriptlet".to_owned(),
        number => format!("{number} scriptlets"),
    }
}

/// What a build does with it, unless the definition has a rule for it. In JSON and text alike.
struct Fate {
    /// `None` where the build stops.
    outcome: Option<Outcome>,
    reason: String,
    /// Commands that are not run, each with what is done in their place.
    replaced: Vec<(String, &'static str)>,
}

impl Fate {
    fn of(package: &Package, scriptlet: &Scriptlet) -> Self {
        let (outcome, reason, replaced) = match alone(package, scriptlet) {
            Err(error) => (None, error.to_string(), Vec::new()),
            Ok(None) => {
                let reason = "it belongs to updates, removals or verification".to_owned();
                (Some(Outcome::Skipped), reason, Vec::new())
            }
            Ok(Some(Verdict::Skip(reason))) => (Some(Outcome::Skipped), reason.to_owned(), Vec::new()),
            Ok(Some(Verdict::Run(reason))) => (Some(Outcome::Run), reason, Vec::new()),
            Ok(Some(Verdict::Replace(replaced))) => {
                let replaced = replaced.into_iter().map(|it| (it.command, it.reason));
                let reason = "every command in it is replaced".to_owned();
                (Some(Outcome::Replaced), reason, replaced.collect())
            }
        };
        Self {
            outcome,
            reason,
            replaced,
        }
    }

    fn name(&self) -> &'static str {
        self.outcome.map_or("stops the build", Outcome::name)
    }
}

fn interpreter(scriptlet: &Scriptlet) -> String {
    let words = scriptlet.interpreter.iter().map(|word| escape::line(word));
    words.collect::<Vec<_>>().join(" ")
}

fn shown(scriptlet: &Scriptlet, fate: &Fate) -> String {
    let mut text = format!("\n%{} -p {}", scriptlet.name(), interpreter(scriptlet));
    if scriptlet.expands_macros() {
        text.push_str(" -e");
    }
    if scriptlet.is_query_format() {
        text.push_str(" -q");
    }
    if scriptlet.kind.is_trigger() {
        let conditions = scriptlet
            .conditions
            .iter()
            .map(|it| escape::line(it.to_string().as_bytes()));
        text.push_str(&format!(" -- {}", conditions.collect::<Vec<_>>().join(", ")));
    }
    let reason = escape::line(fate.reason.as_bytes());
    text.push_str(&format!("\n# {}: {reason}", fate.name()));
    if scriptlet.is_critical() {
        text.push_str("; RPM gives the package up where it fails");
    }
    if scriptlet.kind.is_trigger() && scriptlet.priority != 0 {
        text.push_str(&format!("; priority {}", scriptlet.priority));
    }
    text.push('\n');
    for (command, reason) in &fate.replaced {
        let command = escape::line(command.as_bytes());
        text.push_str(&format!("#   {command}: {reason}\n"));
    }
    match &scriptlet.body {
        Some(body) => text.push_str(&escape::block(body, "    ")),
        None => text.push_str("    (the program alone)\n"),
    }
    text
}

fn describe(scriptlet: &Scriptlet, fate: &Fate) -> Value {
    let conditions: Vec<_> = scriptlet
        .conditions
        .iter()
        .map(|condition| {
            json!({
                "name": escape::json(&condition.name),
                "flags": condition.flags,
                "version": escape::json(&condition.version),
            })
        })
        .collect();
    let interpreter: Vec<_> = scriptlet
        .interpreter
        .iter()
        .map(|word| escape::json(word))
        .collect();
    let mut value = json!({
        "kind": scriptlet.kind.name(),
        "name": scriptlet.name(),
        "interpreter": interpreter,
        "flags": scriptlet.flags,
        "expands_macros": scriptlet.expands_macros(),
        "query_format": scriptlet.is_query_format(),
        "critical": scriptlet.is_critical(),
        "at_installation": scriptlet.kind.runs_at_installation(),
        "outcome": fate.outcome,
        "reason": escape::line(fate.reason.as_bytes()),
        "body": scriptlet.body.as_deref().map(escape::json),
    });
    if fate.outcome == Some(Outcome::Replaced) {
        let replaced = fate.replaced.iter();
        value["replaced"] = replaced
            .map(|(command, reason)| json!({ "command": command, "reason": reason }))
            .collect();
    }
    if scriptlet.kind.is_trigger() {
        value["conditions"] = conditions.into();
        value["priority"] = scriptlet.priority.into();
    }
    value
}
