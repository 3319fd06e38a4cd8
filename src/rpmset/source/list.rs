//! Plain lists of NEVRAs, one a line.

use std::collections::BTreeMap;

use super::Wish;
use crate::rpmset::Nevra;

/// Why a text is no list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListProblem {
    /// Its first line is none of a list.
    NoList(String),
    /// A later line.
    Line(String),
    /// Line numbers from 1.
    Twice {
        nevra: String,
        first: usize,
        second: usize,
    },
}

/// Takes the text of a list: empty lines and what follows `#` are left alone.
///
/// # Errors
/// Where a line is no NEVRA, or one is there twice.
pub(super) fn parse(text: &str) -> Result<Vec<Wish>, ListProblem> {
    let mut wishes: Vec<Wish> = Vec::new();
    let mut seen = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let nevra = Nevra::parse(line).map_err(|problem| {
            let shown: String = line.chars().take(100).collect();
            let text = format!(
                "line {number}, `{}`, is no `name-[epoch:]version-release.arch`: {problem}",
                shown.escape_debug()
            );
            match wishes.is_empty() {
                true => ListProblem::NoList(text),
                false => ListProblem::Line(text),
            }
        })?;
        let key = Nevra {
            epoch: Some(nevra.epoch.unwrap_or(0)),
            ..nevra.clone()
        };
        if let Some(first) = seen.insert(key, number) {
            return Err(ListProblem::Twice {
                nevra: nevra.to_string(),
                first,
                second: number,
            });
        }
        wishes.push(Wish {
            nevra,
            any_arch: false,
            checksum: None,
            repository: None,
        });
    }
    match wishes.is_empty() {
        true => Err(ListProblem::NoList("it has no line with a NEVRA".to_owned())),
        false => Ok(wishes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let wishes = parse("# set\n\nbash-0:5.2-1.x86_64  # shell\n  zlib-1.3-1.i686\r\n").unwrap();
        let texts: Vec<_> = wishes.iter().map(|wish| wish.nevra.to_string()).collect();
        assert_eq!(texts, ["bash-0:5.2-1.x86_64", "zlib-1.3-1.i686"]);
        for (text, expected) in [
            ("", "no line with"),
            ("some text\n", "line 1, `some text`, is no"),
            ("a-1-1.x\nbash\n", "line 2, `bash`, is no"),
        ] {
            let problem = format!("{:?}", parse(text).unwrap_err());
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(
            parse("a-1-1.x\nb-1-1.x\na-0:1-1.x"),
            Err(ListProblem::Twice {
                nevra: "a-0:1-1.x".to_owned(),
                first: 1,
                second: 3
            })
        );
    }
}
