//! Where files of the image can lie.

use std::collections::BTreeMap;

use super::report;
use crate::definition::plan::{PathAction, Plan};
use crate::definition::reader::Context;
use crate::path::TreePath;

/// Whether a file of the image can lie at `path`, or why not.
fn outside(path: &TreePath) -> Option<String> {
    let below = |top: &'static str| path.starts_with(&TreePath::literal(top));
    if below("/usr/etc") {
        return Some("write `/etc/…`: it is laid out as `/usr/etc` by the composer".into());
    }
    if below("/usr/local") {
        return Some("`/usr/local` belongs to the machine and lies on its root partition".into());
    }
    if below("/usr") || below("/etc") {
        return None;
    }
    let merged = ["/bin", "/sbin", "/lib", "/lib64"].into_iter().any(below);
    Some(if merged {
        format!("write `/usr{path}`: `{path}` is reached through a symbolic link")
    } else {
        "an image holds `/usr` and `/etc`; what a machine has elsewhere is made at boot: ship a tmpfiles.d file".into()
    })
}

pub(super) fn paths(context: &Context<'_>, plan: &Plan) {
    let directories = plan.directories.iter().map(|entry| &entry.path);
    let files = plan.files.iter().map(|entry| &entry.path);
    let symlinks = plan.symlinks.iter().map(|entry| &entry.path);
    let all = (directories
        .enumerate()
        .map(|(index, path)| ("directories", index, path)))
    .chain(files.enumerate().map(|(index, path)| ("files", index, path)))
    .chain(
        symlinks
            .enumerate()
            .map(|(index, path)| ("symlinks", index, path)),
    );
    let mut seen: BTreeMap<&TreePath, String> = BTreeMap::new();
    for (list, index, path) in all {
        let key = format!("{list}[{index}].path");
        if let Some(why) = outside(path) {
            report(context, &key, format!("`{path}` is no place of the image"), why);
        }
        if let Some(first) = seen.insert(path, key.clone()) {
            let first = context.place_of(&first).unwrap_or_default();
            report(
                context,
                &key,
                format!("`{path}` is given twice"),
                format!("the first stands at {first}"),
            );
        }
    }
    let leaves = plan
        .files
        .iter()
        .map(|entry| &entry.path)
        .chain(plan.symlinks.iter().map(|entry| &entry.path));
    for (path, key) in &seen {
        if let Some(leaf) = leaves.clone().find(|leaf| path.starts_with(leaf) && path != leaf) {
            report(
                context,
                key,
                format!("`{path}` lies below `{leaf}`, which is no directory"),
                "change one of them",
            );
        }
    }
    for (index, rule) in plan.paths.iter().enumerate() {
        if let (PathAction::Move, Some(to)) = (rule.action, &rule.to) {
            let key = format!("paths[{index}].to");
            if let Some(why) = outside(to) {
                report(context, &key, format!("`{to}` is no place of the image"), why);
            }
            if to.starts_with(&rule.path) {
                report(
                    context,
                    &key,
                    format!("`{to}` lies inside `{}`, which is moved there", rule.path),
                    "choose a place outside",
                );
            }
        }
        if let Some(first) = plan
            .paths
            .iter()
            .take(index)
            .position(|other| other.path == rule.path)
        {
            let first = context
                .place_of(&format!("paths[{first}].path"))
                .unwrap_or_default();
            report(
                context,
                &format!("paths[{index}].path"),
                format!("`{}` has two rules", rule.path),
                format!("the first stands at {first}"),
            );
        }
    }
}
