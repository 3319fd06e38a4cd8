//! Who owns what: users and groups of the image, and the numbers of every owner in its tree.

pub mod accounts;
mod builder;
mod error;
mod lock;
pub mod provided;
pub mod sysusers;
mod write;

use std::collections::BTreeMap;

use super::path::TreePath;
use super::{Node, Tree};
use accounts::Accounts;
pub use error::{Hands, IdentityError, Reassigned};
pub use lock::{IdKind, IdsLock, LockError};
use sysusers::Line;

/// The highest number that a system account draws, as systemd has it built in.
const SYSTEM_MAX: u32 = 999;
const ACCOUNTS_FILE: &str = "/usr/lib/sysusers.d/hullwright-accounts.conf";

/// By name: where each file lies, and its lines.
type SysusersFiles = BTreeMap<Vec<u8>, (TreePath, Vec<Line>)>;

/// Makes users and groups from /etc/passwd and /etc/group of `tree` (in RPM layout), then from its
/// sysusers.d, as systemd-sysusers would; writes the four databases and sysusers.d lines that fix
/// every number; and numbers every owner in the tree. `time` (seconds since the epoch) dates what
/// is written. Every number must be the one of `lock`, if there is one.
///
/// # Errors
/// Malformed databases or lines, numbers that clash or are not the lock's, owners without an account.
pub fn apply(tree: &mut Tree, time: i64, lock: Option<&IdsLock>) -> Result<Accounts, IdentityError> {
    let files = sysusers_files(tree)?;
    let accounts = builder::accounts(tree, &files, lock)?;
    if let Some(lock) = lock {
        all_locked(lock, &accounts)?;
    }
    write::databases(tree, &accounts, time)?;
    write::sysusers_lines(tree, &accounts, &files, time)?;
    number_owners(tree, &accounts)?;
    Ok(accounts)
}

/// The users and groups that [`apply`] would make. Nothing is changed.
///
/// # Errors
/// As [`apply`], but for accounts without a line and owners without an account.
pub fn preview(tree: &Tree, lock: Option<&IdsLock>) -> Result<Accounts, IdentityError> {
    builder::accounts(tree, &sysusers_files(tree)?, lock)
}

/// `lock` with a line for each account of `tree`, as [`apply`] would make them: those that it has keep their
/// numbers, new ones draw numbers that nobody ever had.
///
/// # Errors
/// As [`apply`], but for accounts without a line and owners without an account.
pub fn lock_ids(tree: &Tree, lock: &IdsLock) -> Result<IdsLock, IdentityError> {
    let files = sysusers_files(tree)?;
    Ok(lock.with(&builder::accounts(tree, &files, Some(lock))?)?)
}

fn all_locked(lock: &IdsLock, accounts: &Accounts) -> Result<(), IdentityError> {
    let lacks = lock.lacks(accounts);
    if lacks.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = lacks
        .iter()
        .map(|(kind, name, _)| format!("{} `{name}`", kind.as_str()))
        .collect();
    Err(IdentityError::NotLocked {
        lock: lock.shown().to_owned(),
        names: names.join(", "),
    })
}

fn text(tree: &Tree, path: &TreePath) -> Result<Option<String>, IdentityError> {
    let Some(file) = tree.file(path) else {
        return Ok(None);
    };
    let bytes = file
        .blob
        .read_all()
        .map_err(|error| IdentityError::Database(format!("`{path}`: {error}")))?;
    let text = String::from_utf8(bytes);
    text.map(Some)
        .map_err(|_| IdentityError::Database(format!("`{path}` is not UTF-8 text")))
}

/// The sysusers.d files that count, by name: /etc hides /usr/lib.
fn sysusers_files(tree: &Tree) -> Result<SysusersFiles, IdentityError> {
    let mut paths = BTreeMap::new();
    for directory in ["/usr/lib/sysusers.d", "/etc/sysusers.d"] {
        let directory = TreePath::literal(directory);
        let children = tree.get(&directory).and_then(Node::children);
        for name in children.into_iter().flat_map(|children| children.keys()) {
            if name.ends_with(b".conf") {
                paths.insert(name.to_vec(), directory.join_name(name));
            }
        }
    }
    let mut files = BTreeMap::new();
    for (name, path) in paths {
        let content = text(tree, &path)?.unwrap_or_default();
        let lines = sysusers::parse(&content).map_err(|what| IdentityError::Sysusers {
            file: path.clone(),
            what,
        })?;
        files.insert(name, (path, lines));
    }
    Ok(files)
}

fn number_owners(tree: &mut Tree, accounts: &Accounts) -> Result<(), IdentityError> {
    let mut unknown: BTreeMap<(&'static str, String), (TreePath, usize)> = BTreeMap::new();
    tree.for_each_mut(|path, node| {
        let user = node.meta.user.as_deref().map(|name| {
            let found = accounts.users.get(name).map(|user| user.uid);
            ("user", name.to_owned(), found.or_else(|| name.parse().ok()))
        });
        let group = node.meta.group.as_deref().map(|name| {
            let found = accounts.groups.get(name).map(|group| group.gid);
            ("group", name.to_owned(), found.or_else(|| name.parse().ok()))
        });
        for (kind, name, id) in [user, group].into_iter().flatten() {
            match id {
                Some(id) if kind == "user" => node.meta.uid = id,
                Some(id) => node.meta.gid = id,
                None => unknown.entry((kind, name)).or_insert((path.clone(), 0)).1 += 1,
            }
        }
    });
    match unknown.into_iter().next() {
        None => Ok(()),
        Some(((kind, name), (path, count))) => Err(IdentityError::Unknown {
            path,
            kind,
            name,
            count,
        }),
    }
}

#[cfg(test)]
mod tests;
