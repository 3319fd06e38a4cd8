//! Why packages cannot be in one tree.

use std::collections::BTreeMap;
use std::fmt;

use crate::tree::path::TreePath;

/// Two packages cannot be in one tree, or one asks for what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Two packages (or one, with itself, through a link) bring different things at a path.
    #[error("`{path}` is {first_what} in {first} and {second_what} in {second}")]
    Conflict {
        path: TreePath,
        first: String,
        first_what: String,
        second: String,
        second_what: String,
    },
    #[error("{package}: `{path}` lies behind `{obstacle}`, which is {what}")]
    Blocked {
        package: String,
        path: TreePath,
        obstacle: TreePath,
        what: String,
    },
    #[error("{package}: `{path}` has {what}")]
    Malformed {
        package: String,
        path: TreePath,
        what: String,
    },
}

/// Everything that stands against a tree of the set, in the order of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeErrors(pub Vec<MergeError>);

/// Paths named for each pair of packages; a pair of versions may differ in thousands.
const NAMED: usize = 10;

impl fmt::Display for MergeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packages cannot be installed together:")?;
        let mut pairs: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for error in &self.0 {
            let MergeError::Conflict {
                path,
                first,
                first_what,
                second,
                second_what,
            } = error
            else {
                write!(f, "\n  {error}")?;
                continue;
            };
            let line = format!("`{path}`: {first_what} against {second_what}");
            pairs.entry((first, second)).or_default().push(line);
        }
        for ((first, second), lines) in pairs {
            let count = match lines.len() {
                1 => "1 path".to_owned(),
                count => format!("{count} paths"),
            };
            match first == second {
                true => write!(f, "\n  {first} conflicts with itself in {count}:")?,
                false => write!(f, "\n  {first} and {second} conflict in {count}:")?,
            }
            for line in lines.iter().take(NAMED) {
                write!(f, "\n    {line}")?;
            }
            if lines.len() > NAMED {
                write!(f, "\n    and {} more", lines.len() - NAMED)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for MergeErrors {}

impl miette::Diagnostic for MergeErrors {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let has = |kind: fn(&MergeError) -> bool| self.0.iter().any(kind);
        let mut ways = Vec::new();
        if has(|error| matches!(error, MergeError::Conflict { .. })) {
            ways.push("leave one of two packages that conflict out of the set, or take versions that agree");
        }
        if has(|error| matches!(error, MergeError::Blocked { .. })) {
            ways.push(
                "take another version of a package that is blocked, or of the one that brings the obstacle",
            );
        }
        if has(|error| matches!(error, MergeError::Malformed { .. })) {
            ways.push("have a malformed package rebuilt by its maker");
        }
        Some(Box::new(ways.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_listed_by_pairs_of_packages() {
        let conflict = |number: usize, second: &str| MergeError::Conflict {
            path: TreePath::new(format!("/p{number}")).unwrap(),
            first: "a-1".to_owned(),
            first_what: "a directory".to_owned(),
            second: second.to_owned(),
            second_what: "a link to `x`".to_owned(),
        };
        let blocked = MergeError::Blocked {
            package: "d-1".to_owned(),
            path: TreePath::literal("/f/x"),
            obstacle: TreePath::literal("/f"),
            what: "a regular file".to_owned(),
        };
        let mut errors: Vec<_> = (0..12).map(|number| conflict(number, "b-1")).collect();
        errors.extend([conflict(3, "c-1"), conflict(4, "a-1"), blocked]);
        let said = MergeErrors(errors).to_string();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(
            lines[1],
            "  d-1: `/f/x` lies behind `/f`, which is a regular file"
        );
        assert_eq!(lines[2], "  a-1 conflicts with itself in 1 path:");
        assert_eq!(lines[4], "  a-1 and b-1 conflict in 12 paths:");
        assert_eq!(lines[5], "    `/p0`: a directory against a link to `x`");
        assert_eq!(lines[15], "    and 2 more");
        assert_eq!(lines[16], "  a-1 and c-1 conflict in 1 path:");
        assert_eq!(lines.len(), 18);
    }
}
