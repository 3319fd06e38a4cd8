//! `rpm -V`: what it finds, and what a manifest says that it will find.

use std::collections::BTreeSet;

use serde_json::Value;

/// Code, mark and path of each line.
pub type Lines = BTreeSet<(String, String, String)>;

/// The lines of its output.
pub fn found(text: &str) -> Lines {
    let lines = text.lines().map(|line| {
        let start = line.find('/').unwrap_or_else(|| panic!("{text}"));
        let (head, path) = line.split_at(start);
        let (code, mark) = head
            .split_once(char::is_whitespace)
            .unwrap_or_else(|| panic!("{text}"));
        (code.to_owned(), mark.trim().to_owned(), path.to_owned())
    });
    lines.collect()
}

/// The list in the manifest.
pub fn said(manifest: &Value) -> Lines {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = manifest["rpm_verify"]
        .as_array()
        .unwrap_or_else(|| panic!("{manifest}"));
    let lines = listed.iter();
    lines
        .map(|it| (text(&it["code"]), text(&it["mark"]), text(&it["path"])))
        .collect()
}
