//! Why scriptlets stop a build.

use super::collect::CollectError;
use super::order::OrderError;
use crate::tree::TreeError;

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
    #[error("{} must run, which this version does not do yet:\n{}", plural(scriptlets.len()), scriptlets.join("\n"))]
    #[diagnostic(help(
        "leave them out with entries under `[[rpms.scriptlets]]` with `action = \"skip\"`, and let the definition do what \
         they would; `hullwright build --explain scriptlets` tells why each must run"
    ))]
    MustRun { scriptlets: Vec<String> },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn plural(count: usize) -> String {
    match count {
        1 => "1 scriptlet".to_owned(),
        count => format!("{count} scriptlets"),
    }
}
