//! `.repo` files, as dnf reads them.

use std::collections::BTreeMap;

/// What `$releasever`, `$basearch` and others stand for.
pub type Variables = BTreeMap<String, String>;

/// An enabled repository of a `.repo` file, its variables replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoSection {
    pub id: String,
    /// Mirrors of the same repository.
    pub baseurls: Vec<String>,
    /// The address of a list of mirrors, where there is no `baseurl`.
    pub mirrorlist: Option<String>,
    /// Addresses of keys.
    pub gpgkeys: Vec<String>,
    /// Packages have to be signed.
    pub gpgcheck: bool,
    /// The metadata has to be signed.
    pub repo_gpgcheck: bool,
}

/// A `.repo` file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoFileError {
    #[error("line {line}: {problem}")]
    Syntax { line: usize, problem: &'static str },
    #[error("`{key}` of [{id}] is `{value}`, neither true nor false")]
    Boolean {
        id: String,
        key: &'static str,
        value: String,
    },
    #[error("[{id}] has only a metalink, which is not read")]
    Metalink { id: String },
    #[error("[{id}] has neither baseurl nor mirrorlist")]
    NoBase { id: String },
    #[error("[{id}] is there twice")]
    Twice { id: String },
    #[error("`{text}` has the variable ${name}, which stands for nothing")]
    Variable { text: String, name: String },
    #[error("no repository in it is enabled")]
    Empty,
}

/// Takes the text of a `.repo` file: its enabled repositories, in order.
///
/// # Errors
/// Where it is malformed, or an enabled repository cannot be used.
pub fn parse_repo_file(text: &str, variables: &Variables) -> Result<Vec<RepoSection>, RepoFileError> {
    let mut sections = Vec::new();
    for (id, values) in sections_of(text)? {
        // What is common to all repositories, and nothing that matters here.
        if id == "main" {
            continue;
        }
        let flag = |key: &'static str, default: bool| match values
            .get(key)
            .map(|value| value.to_ascii_lowercase())
        {
            None => Ok(default),
            Some(value) => match value.as_str() {
                "1" | "true" | "yes" | "on" => Ok(true),
                "0" | "false" | "no" | "off" => Ok(false),
                _ => Err(RepoFileError::Boolean {
                    id: id.clone(),
                    key,
                    value,
                }),
            },
        };
        if !flag("enabled", true)? {
            continue;
        }
        let list = |key: &str| -> Result<Vec<String>, RepoFileError> {
            let words = values.get(key).map(String::as_str).unwrap_or_default();
            let words = words
                .split([' ', '\t', '\n', ','])
                .filter(|word| !word.is_empty());
            words.map(|word| substitute(word, variables)).collect()
        };
        let section = RepoSection {
            baseurls: list("baseurl")?,
            mirrorlist: list("mirrorlist")?.into_iter().next(),
            gpgkeys: list("gpgkey")?,
            gpgcheck: flag("gpgcheck", true)?,
            repo_gpgcheck: flag("repo_gpgcheck", false)?,
            id,
        };
        if section.baseurls.is_empty() && section.mirrorlist.is_none() {
            let id = section.id;
            return Err(match values.contains_key("metalink") {
                true => RepoFileError::Metalink { id },
                false => RepoFileError::NoBase { id },
            });
        }
        sections.push(section);
    }
    match sections.is_empty() {
        true => Err(RepoFileError::Empty),
        false => Ok(sections),
    }
}

type Values = BTreeMap<String, String>;

/// The sections of an INI file, with values that go on over indented lines.
fn sections_of(text: &str) -> Result<Vec<(String, Values)>, RepoFileError> {
    let mut sections: Vec<(String, Values)> = Vec::new();
    let mut last: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let syntax = |problem| RepoFileError::Syntax {
            line: number + 1,
            problem,
        };
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[') {
            let id = name
                .strip_suffix(']')
                .ok_or_else(|| syntax("`[` without `]`"))?
                .trim();
            if sections.iter().any(|(known, _)| known == id) {
                return Err(RepoFileError::Twice { id: id.to_owned() });
            }
            sections.push((id.to_owned(), Values::new()));
            last = None;
            continue;
        }
        let (_, values) = sections
            .last_mut()
            .ok_or_else(|| syntax("a value before the first [repository]"))?;
        if line.starts_with([' ', '\t']) {
            let value = last.as_ref().and_then(|key| values.get_mut(key));
            let value = value.ok_or_else(|| syntax("it goes on with nothing"))?;
            value.push('\n');
            value.push_str(trimmed);
            continue;
        }
        let (key, value) = trimmed
            .split_once('=')
            .ok_or_else(|| syntax("it is no `key = value`"))?;
        let key = key.trim().to_owned();
        values.insert(key.clone(), value.trim().to_owned());
        last = Some(key);
    }
    Ok(sections)
}

/// Replaces `$name` and `${name}`.
///
/// # Errors
/// Where a variable stands for nothing.
pub fn substitute(text: &str, variables: &Variables) -> Result<String, RepoFileError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, end) = match after.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}').unwrap_or(inner.len());
                (&inner[..end], (end + 2).min(after.len()))
            }
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !word(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let value = variables.get(name).ok_or_else(|| RepoFileError::Variable {
            text: text.to_owned(),
            name: name.to_owned(),
        })?;
        out.push_str(value);
        rest = &after[end..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("releasever", "43"), ("basearch", "x86_64")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn enabled_repositories_are_taken() {
        let text = "# comment\n[main]\ngpgcheck=1\n[fedora]\nname=Fedora $releasever\n\
            baseurl=https://a/$releasever/${basearch}/os\n  https://b/x\nenabled=1\nrepo_gpgcheck = yes\n\
            gpgkey=file:///etc/key-$releasever\n[off]\nenabled=0\nmetalink=x\n[list]\nmirrorlist=https://m/?a=$basearch\n\
            gpgcheck=0\n";
        let sections = parse_repo_file(text, &variables()).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].id, "fedora");
        assert_eq!(sections[0].baseurls, ["https://a/43/x86_64/os", "https://b/x"]);
        assert_eq!(sections[0].gpgkeys, ["file:///etc/key-43"]);
        assert!(sections[0].gpgcheck && sections[0].repo_gpgcheck);
        assert_eq!(sections[1].mirrorlist.as_deref(), Some("https://m/?a=x86_64"));
        assert!(!sections[1].gpgcheck && !sections[1].repo_gpgcheck);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, expected) in [
            ("a=1", "line 1: a value before"),
            ("[x\n", "line 1: `[` without"),
            ("[x]\nwhat", "line 2: it is no"),
            ("[x]\n  more", "line 2: it goes on"),
            ("[x]\nbaseurl=a\n[x]\n", "[x] is there twice"),
            ("[x]\nmetalink=a", "only a metalink"),
            ("[x]\nname=a", "neither baseurl nor mirrorlist"),
            ("[x]\nbaseurl=https://a/$arch", "$arch, which stands for nothing"),
            ("[x]\nbaseurl=https://a/${", "$, which stands for nothing"),
            ("[x]\nbaseurl=a\nenabled=maybe", "`maybe`, neither"),
            ("[x]\nenabled=0", "no repository"),
        ] {
            let error = parse_repo_file(text, &variables()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
