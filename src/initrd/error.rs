//! Why an initrd cannot be composed.

use std::io;

use crate::formats::cpio::WriteError;
use crate::formats::kmod::KmodError;
use crate::tree::TreeError;
use crate::tree::closure::ClosureError;
use crate::tree::depmod::DepmodError;
use crate::tree::modules::UnknownModule;
use crate::tree::path::{PathError, TreePath};

/// Why an initrd cannot be composed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum InitrdError {
    #[error("`{name}`, which `{key}` of [initrd] names, is not in the image")]
    #[diagnostic(help("add the package that has it, or name it in `{key}-optional`"))]
    Missing { key: &'static str, name: String },
    #[error("`{program}`, which `{unit}` starts in the initrd, is not in the image")]
    #[diagnostic(help("add the package that has it, or take the unit out of `units` of [initrd]"))]
    MissingProgram { unit: TreePath, program: String },
    #[error("`{0}` is not in the image, and every initrd needs it")]
    MissingBase(&'static str),
    #[error("`{unit}` of the initrd's units is not UTF-8 text")]
    UnitText { unit: TreePath },
    #[error("compression level {0} is not one of zstd's, 1 to 22")]
    Level(i32),
    #[error("`{path}` cannot be read: {source}")]
    Read {
        path: TreePath,
        #[source]
        source: io::Error,
    },
    #[error("kernel module `{path}` cannot be unpacked: {source}")]
    Module {
        path: TreePath,
        #[source]
        source: KmodError,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    UnknownModule(#[from] UnknownModule),
    #[error("the initrd's modules: {0}")]
    Depmod(#[from] DepmodError),
    #[error("the initrd's libraries: {0}")]
    Closure(#[from] ClosureError),
    #[error("[initrd]: {0}")]
    Path(#[from] PathError),
    #[error("the initrd's tree: {0}")]
    Tree(#[from] TreeError),
    #[error("the initrd cannot be written: {0}")]
    Write(#[from] WriteError),
    #[error("the initrd cannot be compressed: {0}")]
    Compress(#[source] io::Error),
}
