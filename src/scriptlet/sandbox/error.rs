//! Why a scriptlet cannot be run in the sandbox.

use std::io;
use std::path::PathBuf;

use crate::path::TreePath;

/// The sandbox cannot be made, or its tree not written or read. What a scriptlet itself does wrong is no error but its
/// [`End`](super::End).
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SandboxError {
    /// The system refuses namespaces to this user.
    #[error("scriptlets cannot run here: {what}")]
    #[diagnostic(help("{way_out}"))]
    Blocked { what: String, way_out: String },

    /// A step of making the sandbox failed in its first process.
    #[error("the sandbox cannot be set up: {step}: {reason}")]
    #[diagnostic(help("{}", help_of(step)))]
    SetUp { step: String, reason: String },

    /// The first process ended without a word.
    #[error("the sandbox of {script} broke down: {what}")]
    Broken { script: String, what: String },

    /// The program that is to be the first process.
    #[error("`{}` cannot be started as the sandbox's first process: {source}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },

    /// The directory on the host.
    #[error("the sandbox's directory `{}` {what}: {source}", path.display())]
    Scratch {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },

    /// A path of the tree.
    #[error("`{path}` cannot be {what} the sandbox: {source}")]
    Tree {
        path: TreePath,
        what: &'static str,
        #[source]
        source: io::Error,
    },

    /// It left more content than is read.
    #[error("{script} {words}; the tree was looked at up to `{path}`")]
    TooMuch {
        script: String,
        path: TreePath,
        words: String,
    },

    /// Talking to the first process, watching over it.
    #[error("the sandbox of {script} cannot be watched: {source}")]
    Watch {
        script: String,
        #[source]
        source: io::Error,
    },
}

/// The way out, where one is known.
fn help_of(step: &str) -> &'static str {
    if step.contains("/proc") {
        "a container that masks parts of /proc forbids a fresh one: run it with `--security-opt unmask=ALL` (podman) or \
         `--security-opt systempaths=unconfined` (docker)"
    } else {
        "scriptlets need user, mount, pid, network, IPC and UTS namespaces and a file system that programs may be \
         started from; build on a machine that has them, or replace the scriptlets natively"
    }
}
