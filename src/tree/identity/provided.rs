//! Users and groups that packages provide by their headers.
//!
//! RPM from 4.19 on makes accounts before it unpacks the files that belong to them. So the package says in its header
//! what its sysusers.d says, or what the file would say that it does not have: it provides `user(NAME)`, `group(NAME)`
//! or `groupmember(…)`, in a version that is the sysusers.d(5) line in base64, padded with NULs since `=` is none of
//! a version's characters.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::sysusers::{self, Line, Request};
use crate::formats::rpm::tag::{self, sense};
use crate::rpmset::{Package, RpmSet};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree, TreeError};

const FILE: &str = "/usr/lib/sysusers.d/hullwright-provided.conf";
const ORIGIN: Origin = Origin::Composer("users and groups that packages provide");

/// The accounts that a package provides cannot be made.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum ProvidedError {
    #[error("{package} provides `{name}` with a sysusers.d line that cannot be read, `{line}`: {what}")]
    #[diagnostic(help("have the package rebuilt, or take another version of it"))]
    Line {
        package: String,
        name: String,
        line: String,
        what: String,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Puts a sysusers.d file into `tree` (in RPM layout) with the lines that the packages of `set` provide, and no
/// sysusers.d file of the tree has. `time` (seconds since the epoch) dates it.
///
/// # Errors
/// Lines that are none.
pub fn put(tree: &mut Tree, set: &RpmSet, time: i64) -> Result<(), ProvidedError> {
    let mut known = BTreeSet::new();
    for directory in ["/usr/lib/sysusers.d", "/etc/sysusers.d"] {
        for (path, node) in tree.walk_from(&TreePath::literal(directory)) {
            let Kind::File(file) = &node.kind else { continue };
            if !path.as_bytes().ends_with(b".conf") {
                continue;
            }
            // What cannot be read is refused by whoever reads these files for their own sake.
            let text = file
                .blob
                .read_all()
                .ok()
                .and_then(|text| String::from_utf8(text).ok());
            let lines = text
                .and_then(|text| sysusers::parse(&text).ok())
                .unwrap_or_default();
            known.extend(lines.iter().filter_map(subject));
        }
    }
    let mut text = String::new();
    for package in set.packages() {
        let mut own = String::new();
        for line in lines(package)? {
            if let Some(subject) = subject(&line)
                && known.insert(subject)
            {
                own.push_str(&format!("{}\n", line.text.trim()));
            }
        }
        if !own.is_empty() {
            text.push_str(&format!("# {} provides\n{own}", package.nevra.name));
        }
    }
    if !text.is_empty() {
        let node = Node::new(Meta::root(0o644, time), Kind::file(text.into_bytes()), ORIGIN);
        tree.insert(&TreePath::literal(FILE), node)?;
    }
    Ok(())
}

/// What a line is about: an account has one line.
fn subject(line: &Line) -> Option<(&'static str, String)> {
    match line.request.as_ref()? {
        Request::User { name, .. } => Some(("user", name.clone())),
        Request::Group { name, .. } => Some(("group", name.clone())),
        Request::Member { user, group } => Some(("member", format!("{user} {group}"))),
        Request::Range => None,
    }
}

/// The lines that `package` provides. What only looks like one, as a version that is not base64, is RPM's business.
fn lines(package: &Package) -> Result<Vec<Line>, ProvidedError> {
    let header = &package.preamble.header;
    let names = header.strings(tag::PROVIDENAME).unwrap_or_default();
    let flags = header.u32s(tag::PROVIDEFLAGS).unwrap_or_default();
    let versions = header.strings(tag::PROVIDEVERSION).unwrap_or_default();
    let mut found = Vec::new();
    for ((name, flags), version) in names.iter().zip(flags).zip(versions) {
        let kinds: [&[u8]; 3] = [b"user(", b"group(", b"groupmember("];
        if flags & sense::EQUAL == 0 || !kinds.iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        let Some(text) = decode(version) else { continue };
        let lines = sysusers::parse(&text).map_err(|what| ProvidedError::Line {
            package: package.nevra.to_string(),
            name: name.escape_ascii().to_string(),
            line: text.escape_debug().to_string(),
            what,
        })?;
        found.extend(lines);
    }
    Ok(found)
}

fn decode(version: &[u8]) -> Option<String> {
    let mut line = STANDARD_NO_PAD.decode(version).ok()?;
    if !version.len().is_multiple_of(4) {
        return None;
    }
    let end = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
    line.truncate(end);
    String::from_utf8(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_from_versions() {
        for (version, expected) in [
            ("ZyB0ZXN0IC0A", Some("g test -")),
            ("dSB0ZXN0IC0gLSAtIC0A", Some("u test - - - -")),
            ("ZyB0ZXN0IDk5", Some("g test 99")),
            ("1.0-1", None),
            ("ZyB0ZXN0IC0", None),
            ("ZyB0ZXN0IC0=", None),
        ] {
            assert_eq!(decode(version.as_bytes()).as_deref(), expected, "{version}");
        }
    }
}
