//! Whether the set is the one that the definition means, and whole.

use super::ComposeError;
use crate::definition::Definition;
use crate::definition::plan::Plan;
use crate::report::Progress;
use crate::rpmset::RpmSet;
use crate::rpmset::closure::{self, Dependency, Exception, Open, Options};

/// Whether `set` has what the definition requires of it, and is for the image's architecture.
pub fn check(definition: &Definition, set: &RpmSet) -> Result<(), ComposeError> {
    let plan = &definition.plan;
    for (index, wanted) in plan.rpms.require.iter().enumerate() {
        let key = format!("rpms.require[{index}]");
        let place = definition.place(&key).unwrap_or("rpms.require");
        require(set, wanted, place)?;
    }
    let wanted = plan.image.arch.as_str();
    let foreign: Vec<_> = set
        .packages()
        .iter()
        .map(|package| &package.nevra)
        .filter(|nevra| {
            nevra.arch != "noarch" && closure::architecture(nevra.arch.as_bytes()) != wanted.as_bytes()
        })
        .map(ToString::to_string)
        .collect();
    if foreign.is_empty() {
        Ok(())
    } else {
        Err(ComposeError::Architecture {
            packages: foreign,
            wanted,
        })
    }
}

/// Whether everything that the packages require is there, and none excludes another. Warns of the requirements that the
/// definition lets stay open, and gives them, each with its reason.
pub fn check_closure(
    plan: &Plan,
    set: &RpmSet,
    progress: &Progress,
) -> Result<Vec<(Open, String)>, ComposeError> {
    let open = progress.stage(
        "check dependencies",
        || find_open(plan, set),
        |open| match open.len() {
            0 => "nothing is open".to_owned(),
            count => format!("{count} open, excepted"),
        },
    )?;
    for (open, reason) in &open {
        progress.warn(&format!("{open}: {reason}"));
    }
    Ok(open)
}

fn find_open(plan: &Plan, set: &RpmSet) -> Result<Vec<(Open, String)>, ComposeError> {
    let options = Options {
        without_docs: plan.rpms.exclude_docs,
        ..Options::default()
    };
    let problems = closure::check(&set.headers(), options)?;
    let exceptions = plan.rpms.open.iter().map(|exception| Exception {
        requires: exception.requires.clone(),
        reason: exception.reason.as_str().to_owned(),
    });
    Ok(closure::except(problems, &exceptions.collect::<Vec<_>>())?)
}

/// Whether a package of `set` provides `wanted`, which the definition names at `place`: a name, or one with a range of
/// versions.
pub fn require(set: &RpmSet, wanted: &str, place: &str) -> Result<(), ComposeError> {
    // What has another form was refused with the definition.
    let Some(wanted) = Dependency::parse(wanted) else {
        return Ok(());
    };
    match closure::lacking(&set.headers(), &wanted)? {
        None => Ok(()),
        Some(open) => Err(ComposeError::Missing {
            wanted: open.requirement,
            nearest: open.nearest,
            place: place.to_owned(),
        }),
    }
}
