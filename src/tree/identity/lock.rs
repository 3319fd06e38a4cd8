//! The lock of numbers: TOML beside a definition, written by `hullwright lock --ids`.
//!
//! A name that was locked once keeps its number for ever, and its line too: machines made from older
//! images may have files of an account that later sets no longer have, and a new account must not
//! come into their possession.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::accounts::Accounts;

/// The version of the format that this program writes.
const VERSION: u32 = 1;

const HEAD: &str = "\
# Numbers of users and groups, written by `hullwright lock --ids`. Keep this file with the definition, and keep
# the lines of accounts that are gone: on machines that run, files may still be theirs.
";

/// Of which of the two name spaces something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdKind {
    User,
    Group,
}

impl IdKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// Numbers that never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdsLock {
    /// What messages call it, ready to stand in a sentence.
    shown: String,
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

/// A lock of numbers that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{lock}: {what}")]
#[diagnostic(help(
    "two changes of the lock may have been merged: take one side's file, then run `hullwright lock --ids DEF` again"
))]
pub struct LockError {
    lock: String,
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    #[serde(default)]
    users: BTreeMap<String, u32>,
    #[serde(default)]
    groups: BTreeMap<String, u32>,
}

impl IdsLock {
    /// A lock without lines, which messages call `name`.
    pub fn empty(name: &str) -> Self {
        Self {
            shown: format!("`{name}`"),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// Reads `text`, which messages call `name`.
    ///
    /// # Errors
    /// Where it is not of the format, or two names have one number.
    pub fn parse(text: &str, name: &str) -> Result<Self, LockError> {
        let error = |what: String| LockError {
            lock: format!("`{name}`"),
            what,
        };
        let raw: Raw = toml::from_str(text).map_err(|problem| {
            let before = problem.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            error(format!("line {line}: {}", problem.message().trim()))
        })?;
        if raw.version != VERSION {
            let version = raw.version;
            return Err(error(format!(
                "it has version {version}, and this program knows version {VERSION}"
            )));
        }
        let lock = Self {
            users: raw.users,
            groups: raw.groups,
            ..Self::empty(name)
        };
        lock.check()?;
        Ok(lock)
    }

    /// Two names of one number would own each other's files.
    fn check(&self) -> Result<(), LockError> {
        for kind in [IdKind::User, IdKind::Group] {
            let mut seen = BTreeMap::new();
            for (name, id) in self.table(kind) {
                if let Some(first) = seen.insert(id, name) {
                    let kind = kind.as_str();
                    return Err(LockError {
                        lock: self.shown.clone(),
                        what: format!("{kind}s `{first}` and `{name}` both have number {id}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn table(&self, kind: IdKind) -> &BTreeMap<String, u32> {
        match kind {
            IdKind::User => &self.users,
            IdKind::Group => &self.groups,
        }
    }

    /// As messages name it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The number of `name`.
    pub fn id(&self, kind: IdKind, name: &str) -> Option<u32> {
        self.table(kind).get(name).copied()
    }

    /// Whose number `id` is.
    pub fn holder(&self, kind: IdKind, id: u32) -> Option<&str> {
        let mut entries = self.table(kind).iter();
        entries
            .find(|(_, number)| **number == id)
            .map(|(name, _)| name.as_str())
    }

    /// Every line, users first, in the order of names.
    pub fn entries(&self) -> impl Iterator<Item = (IdKind, &str, u32)> {
        [IdKind::User, IdKind::Group].into_iter().flat_map(|kind| {
            let table = self.table(kind).iter();
            table.map(move |(name, id)| (kind, name.as_str(), *id))
        })
    }

    /// Every number that is some name's.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.users.values().chain(self.groups.values()).copied()
    }

    /// Those of `accounts` that have no line, users first.
    pub fn lacks<'a>(&self, accounts: &'a Accounts) -> Vec<(IdKind, &'a str, u32)> {
        let users = accounts
            .users
            .iter()
            .map(|(name, user)| (IdKind::User, name, user.uid));
        let groups = accounts
            .groups
            .iter()
            .map(|(name, group)| (IdKind::Group, name, group.gid));
        users
            .chain(groups)
            .filter(|(kind, name, _)| self.id(*kind, name).is_none())
            .map(|(kind, name, id)| (kind, name.as_str(), id))
            .collect()
    }

    /// This lock with a line for each of `accounts`.
    ///
    /// # Errors
    /// Where two of them have one number.
    pub(super) fn with(&self, accounts: &Accounts) -> Result<Self, LockError> {
        let mut lock = self.clone();
        for (kind, name, id) in self.lacks(accounts) {
            match kind {
                IdKind::User => lock.users.insert(name.to_owned(), id),
                IdKind::Group => lock.groups.insert(name.to_owned(), id),
            };
        }
        lock.check()?;
        Ok(lock)
    }

    /// The file's text: one line a name, in the order of names.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for (title, table) in [("users", &self.users), ("groups", &self.groups)] {
            text.push_str(&format!("\n[{title}]\n"));
            for (name, id) in table {
                let bare = name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                let name = if bare && !name.is_empty() {
                    name.clone()
                } else {
                    toml::Value::String(name.clone()).to_string()
                };
                text.push_str(&format!("{name} = {id}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let text =
            format!("{HEAD}version = 1\n\n[users]\n\"a.b\" = 7\nroot = 0\n\n[groups]\nroot = 0\nz-z = 7\n");
        let lock = IdsLock::parse(&text, "x.ids.lock").unwrap();
        assert_eq!(lock.id(IdKind::User, "a.b"), Some(7));
        assert_eq!(lock.id(IdKind::Group, "a.b"), None);
        assert_eq!(lock.holder(IdKind::Group, 7), Some("z-z"));
        assert_eq!(lock.to_text(), text);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        for (text, expected) in [
            ("[users]\n", "`l`: line 1: missing field `version`"),
            ("version = 2\n", "it has version 2"),
            ("version = 1\n[users]\na = -1\n", "line 3: "),
            ("version = 1\n[users]\na = 4294967296\n", "line 3: "),
            ("version = 1\n[user]\na = 1\n", "line 2: unknown field `user`"),
            (
                "version = 1\n[users]\na = 5\nb = 5\n",
                "users `a` and `b` both have number 5",
            ),
            ("version = 1\n[groups]\na = 5\na = 6\n", "line 4: duplicate key"),
        ] {
            let error = IdsLock::parse(text, "l").unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
}
