//! What keeps a verification from beginning.

use std::io;
use std::path::{Path, PathBuf};

/// There is nothing that could be verified.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum VerifyError {
    #[error("`{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("name a build's output directory, <OUT>/<id>_<version>, or a disk image"))]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` holds neither manifest.json nor a disk image (.raw, .vhd, .qcow2)", path.display())]
    #[diagnostic(help("name the directory that `hullwright build` printed, <OUT>/<id>_<version>"))]
    Nothing { path: PathBuf },
    #[error("`{}` is neither a directory nor a regular file", path.display())]
    #[diagnostic(help("name a build's output directory, or a disk image"))]
    Kind { path: PathBuf },
}

impl VerifyError {
    /// For `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
