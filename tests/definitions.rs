//! The definitions that come with the project, and their expanded forms.
//!
//! A changed expanded form is a decision: read the difference, then write the new one with
//! `HULLWRIGHT_BLESS=1 cargo test --test definitions`.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use hullwright::definition;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn definitions() -> Vec<PathBuf> {
    let entries = fs::read_dir(project().join("image-defs")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.extension().is_some_and(|ext| ext == "toml"));
    paths.sort();
    assert!(paths.len() >= 2, "{paths:?}");
    paths
}

#[test]
fn every_definition_has_its_expanded_form() {
    for path in definitions() {
        let loaded =
            definition::load(&path).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        let expanded = loaded.plan.to_toml().unwrap();
        let golden = project()
            .join("tests/golden/definitions")
            .join(path.file_name().unwrap());
        if std::env::var_os("HULLWRIGHT_BLESS").is_some() {
            fs::write(&golden, &expanded).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap();
        assert_eq!(
            expanded,
            expected,
            "{} is not {}",
            path.display(),
            golden.display()
        );
    }
}

#[test]
fn an_expanded_form_reads_back_as_the_same_plan() {
    for path in definitions() {
        let plan = definition::load(&path).unwrap().plan;
        let expanded = plan.to_toml().unwrap();
        // Beside the original, so that its paths lead to the same files.
        let again = tempfile::Builder::new()
            .suffix(".toml")
            .tempfile_in(path.parent().unwrap())
            .unwrap();
        fs::write(again.path(), &expanded).unwrap();
        let read =
            definition::load(again.path()).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        assert_eq!(read.plan, plan, "{}", path.display());
    }
}

/// The text of the manual.
fn manual() -> String {
    fs::read_to_string(project().join("docs/definition.md")).unwrap()
}

#[test]
fn the_manual_names_every_key() {
    fn keys(table: &toml::Table, out: &mut Vec<String>) {
        for (key, value) in table {
            out.push(key.clone());
            if let toml::Value::Table(table) = value {
                keys(table, out);
            }
        }
    }
    let manual = manual();
    for path in definitions() {
        let expanded = definition::load(&path).unwrap().plan.to_toml().unwrap();
        let mut all = Vec::new();
        keys(&expanded.parse().unwrap(), &mut all);
        assert!(all.len() > 60, "{all:?}");
        for key in all {
            let named = [
                format!("`{key}`"),
                format!("[{key}]"),
                format!("[{key}."),
                format!(".{key}]"),
            ];
            assert!(
                named.iter().any(|name| manual.contains(name)),
                "docs/definition.md does not name `{key}`"
            );
        }
    }
}

#[test]
fn the_manuals_smallest_definition_is_one() {
    let manual = manual();
    let block = manual
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), block).unwrap();
    let plan = definition::load(file.path())
        .unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)))
        .plan;
    assert_eq!(plan.image.stem(), "host_1.0");
    // Nothing in it can be left out.
    for line in block.lines().filter(|line| line.contains(" = ")) {
        fs::write(file.path(), block.replacen(line, "", 1)).unwrap();
        assert!(definition::load(file.path()).is_err(), "{line} can be left out");
    }
}
