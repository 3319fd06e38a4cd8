//! Lockfiles of rpm-ostree (JSON).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Wish;
use crate::rpmset::Nevra;
use crate::store::Checksum;

#[derive(Deserialize)]
struct Lockfile {
    packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    evra: Option<String>,
    evr: Option<String>,
    digest: Option<String>,
}

/// An architecture that a lockfile leaves open.
const ANY: &str = "*";

/// Takes the text of a lockfile: what its `packages` are; `source-packages` and `metadata` are left alone.
///
/// # Errors
/// Why it is refused, in words.
pub(super) fn parse(text: &str) -> Result<Vec<Wish>, String> {
    let lockfile: Lockfile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut wishes = Vec::new();
    for (name, locked) in lockfile.packages {
        let named = |problem: String| format!("package `{}`: {problem}", name.escape_debug());
        let (text, any_arch) = match (&locked.evra, &locked.evr) {
            (Some(evra), _) => (format!("{name}-{evra}"), false),
            (None, Some(evr)) => (format!("{name}-{evr}.{ANY}"), true),
            (None, None) => return Err(named("it has neither `evra` nor `evr`".to_owned())),
        };
        let checksum = match &locked.digest {
            None => None,
            Some(digest) => {
                let (algorithm, digits) = digest
                    .split_once(':')
                    .ok_or_else(|| named(format!("`{}` names no digest", digest.escape_debug())))?;
                Some(Checksum::parse(algorithm, digits).map_err(|problem| named(problem.to_string()))?)
            }
        };
        wishes.push(Wish {
            nevra: Nevra::parse(&text).map_err(|problem| named(problem.to_string()))?,
            any_arch,
            checksum,
            repository: None,
        });
    }
    match wishes.is_empty() {
        true => Err("it has no package".to_owned()),
        false => Ok(wishes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    #[test]
    fn a_lockfile_is_read() {
        let digest = Digest::of(b"x");
        let text = format!(
            r#"{{"metadata": {{"generated": "2026-01-01T00:00:00Z"}}, "source-packages": {{"s": "1-1"}}, "packages": {{
                "b": {{"evr": "1-2"}},
                "a": {{"evra": "1:2.0-3.fc43.x86_64", "digest": "sha256:{digest}", "metadata": {{"x": 1}}}}}}}}"#
        );
        let wishes = parse(&text).unwrap();
        assert_eq!(wishes.len(), 2);
        assert_eq!(wishes[0].nevra.to_string(), "a-1:2.0-3.fc43.x86_64");
        assert_eq!(wishes[0].checksum, Some(Checksum::Sha256(digest)));
        assert!(!wishes[0].any_arch && wishes[1].any_arch);
        for (text, expected) in [
            ("{}", "packages"),
            (r#"{"packages": {}}"#, "no package"),
            (r#"{"packages": {"a": {}}}"#, "neither `evra`"),
            (r#"{"packages": {"a": {"evra": "1"}}}"#, "package `a`"),
            (
                r#"{"packages": {"a": {"evra": "1-1.x", "digest": "sha1:00"}}}"#,
                "forged",
            ),
            (
                r#"{"packages": {"a": {"evra": "1-1.x", "digest": "00"}}}"#,
                "names no digest",
            ),
        ] {
            let problem = parse(text).err().unwrap();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
