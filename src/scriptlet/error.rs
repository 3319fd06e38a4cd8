//! Why scriptlets stop a build.

use std::io;
use std::path::PathBuf;

use super::collect::CollectError;
use super::order::OrderError;
use super::sandbox::SandboxError;
use crate::path::TreePath;
use crate::tree::TreeError;
use crate::tree::identity::IdentityError;

/// Scriptlets of a set cannot be dealt with.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ScriptletError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Order(#[from] OrderError),
    #[error("`{rule}` names no scriptlet that an installation of the set runs{}", nearest.as_ref().map(|n| format!("; the nearest name is `{n}`")).unwrap_or_default())]
    #[diagnostic(help(
        "it is written `package:scriptlet`, as `hullwright build --explain scriptlets` shows them; correct or remove the entry under `[[rpms.scriptlets]]`"
    ))]
    Unknown { rule: String, nearest: Option<String> },
    #[error("`{rule}` is not needed: {why}")]
    #[diagnostic(help("remove its entry under `[[rpms.scriptlets]]`"))]
    Idle { rule: String, why: &'static str },
    #[error("%{scriptlet} of {package} asks for `{what}` of its own header, which is not done here")]
    #[diagnostic(help(
        "it is a query format; leave it out with an entry under `[[rpms.scriptlets]]` with `action = \"skip\"`, if the image can do without"
    ))]
    QueryFormat {
        package: String,
        scriptlet: String,
        what: String,
    },
    #[error("{} must run, and programs of {wanted} do not run on this machine:\n{}", plural(scriptlets.len()), scriptlets.join("\n"))]
    #[diagnostic(help(
        "build on a machine of that architecture, or leave them out with entries under `[[rpms.scriptlets]]` with `action = \"skip\"`"
    ))]
    Foreign {
        wanted: &'static str,
        scriptlets: Vec<String>,
    },
    #[error("{} must run, and cannot on this machine:\n{}", plural(scriptlets.len()), scriptlets.join("\n"))]
    #[diagnostic(help(
        "`hullwright build --explain scriptlets` tells why each must run; one that the image can do without gets an entry under \
         `[[rpms.scriptlets]]` with `action = \"skip\"`"
    ))]
    NoSandbox {
        scriptlets: Vec<String>,
        #[diagnostic_source]
        source: SandboxError,
    },
    #[error("{scriptlet} {words}\n{output}")]
    #[diagnostic(help(
        "mend the package, or let the build go on without it by an entry under `[[rpms.scriptlets]]`: `scriptlet = \"{rule}\"`, \
         `action = \"skip\"` or `\"may-fail\"`"
    ))]
    Failed {
        scriptlet: String,
        words: String,
        output: String,
        rule: String,
    },
    #[error("{scriptlet} is for `{program}`, which the image does not have")]
    #[diagnostic(help("add the package that brings it"))]
    Interpreter { scriptlet: String, program: String },
    #[error("scriptlets have left accounts that cannot be read: {0}")]
    #[diagnostic(help(
        "see the changes to /etc/passwd and /etc/group in the scriptlet, and let sysusers.d make its accounts"
    ))]
    Accounts(String),
    #[error("no directory can be made in `{}`: {source}", path.display())]
    #[diagnostic(help("make it writable"))]
    Scratch { path: PathBuf, source: io::Error },
    #[error("`{path}` cannot be read from the store: {source}")]
    #[diagnostic(help("the store is damaged: remove it, it is filled again"))]
    Stored { path: TreePath, source: io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn plural(count: usize) -> String {
    match count {
        1 => "1 scriptlet".to_owned(),
        count => format!("{count} scriptlets"),
    }
}
