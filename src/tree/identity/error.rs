//! Why accounts cannot be made or numbered.

use super::super::TreeError;
use super::super::path::TreePath;
use super::SYSTEM_MAX;
use super::lock::LockError;
use super::provided::ProvidedError;

/// An account cannot be made, or an owner cannot be found.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum IdentityError {
    #[error("{0}")]
    #[diagnostic(help("the file comes from a package or from the definition: correct it there"))]
    Database(String),
    #[error("`{file}`, {what}")]
    #[diagnostic(help("the file comes from a package or from the definition: correct it there"))]
    Sysusers { file: TreePath, what: String },
    #[error("`{file}` wants {kind} `{name}` to have number {wanted}, but it has {found}")]
    #[diagnostic(help(
        "one number must win: set it under `os.users` or `os.groups` in the definition, and leave the other out"
    ))]
    Clash {
        file: TreePath,
        kind: &'static str,
        name: String,
        wanted: u32,
        found: u32,
    },
    #[error("`{file}` wants number {id} for {kind} `{name}`, but `{other}` has it")]
    #[diagnostic(help("give one of the two another number in the definition"))]
    Taken {
        file: TreePath,
        kind: &'static str,
        name: String,
        id: u32,
        other: String,
    },
    #[error("`{file}` makes group {gid} the primary one of user `{user}`, but no group has that number")]
    #[diagnostic(help(
        "add the package whose group it is, or a group with that number under `os.groups` in the definition"
    ))]
    NoGroup { file: TreePath, user: String, gid: u32 },
    #[error("no number from 1 to {SYSTEM_MAX} is free for {kind} `{name}`")]
    #[diagnostic(help("remove system accounts, or number this one in the definition"))]
    Exhausted { kind: &'static str, name: String },
    #[error("`{path}` belongs to {kind} `{name}`, which the image does not have ({count} paths in all do)")]
    #[diagnostic(help(
        "add a package whose sysusers.d makes it, or an entry under `os.users` or `os.groups` in the definition"
    ))]
    Unknown {
        path: TreePath,
        kind: &'static str,
        name: String,
        count: usize,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Reassigned(Box<Reassigned>),
    #[error("{lock} fixes no number for {names}")]
    #[diagnostic(help(
        "`hullwright lock --ids DEF` gives each a number that never changes; keep the file with the definition"
    ))]
    NotLocked { lock: String, names: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Provided(#[from] ProvidedError),
}

/// A number of the lock would come to mean another account.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum Reassigned {
    #[error("`{file}` gives {kind} `{name}` number {wanted}, but {lock} fixes {locked}: {hands}")]
    #[diagnostic(help(
        "keep the number: write it under `os.users` or `os.groups` in the definition, or where the file comes from; only \
         where everything may really change hands, write the new number into the lock"
    ))]
    Changed {
        file: TreePath,
        kind: &'static str,
        name: String,
        wanted: u32,
        lock: String,
        locked: u32,
        hands: Hands,
    },
    #[error("`{file}` gives number {id} to {kind} `{name}`, but {lock} fixes it for `{other}`: {hands}")]
    #[diagnostic(help(
        "give `{name}` another number under `os.users` or `os.groups` in the definition, or where the file comes from; a \
         number stays with its name even when no package of the set wants that name any more"
    ))]
    Reused {
        file: TreePath,
        kind: &'static str,
        name: String,
        id: u32,
        lock: String,
        other: String,
        hands: Hands,
    },
    #[error(
        "`{file}` makes group {gid} the primary one of user `{user}`, but {lock} fixes that number for group `{other}`, \
         which no package of the set makes: {hands}"
    )]
    #[diagnostic(help(
        "give `{user}` another group where the file comes from; a number stays with its name even when no package of the \
         set wants that name any more"
    ))]
    Primary {
        file: TreePath,
        user: String,
        gid: u32,
        lock: String,
        other: String,
        hands: Hands,
    },
}

/// What another number would do to files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hands {
    /// This path of the image belongs to the account.
    Path(TreePath),
    /// None of the image does.
    State,
}

impl std::fmt::Display for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "`{path}` would change hands"),
            Self::State => write!(f, "what it owns on machines already made would change hands"),
        }
    }
}
