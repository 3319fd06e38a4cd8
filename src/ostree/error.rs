//! What can go wrong with a repository.

use std::io;
use std::path::{Path, PathBuf};

use crate::formats::gvariant;
use crate::store::{Digest, StoreError};
use crate::tree::path::TreePath;

/// Why a commit cannot be written, or a repository not be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("`{path}` is {what}, which an ostree commit cannot hold")]
    #[diagnostic(help(
        "leave it out of the tree: device nodes come from devtmpfs, and systemd-tmpfiles makes FIFOs, \
         sockets and static devices at boot (types p, c and b of tmpfiles.d)"
    ))]
    Unsupported { path: TreePath, what: &'static str },

    #[error("the {what} of `{path}` is not UTF-8, which ostree demands")]
    #[diagnostic(help("rename it, or leave the package's file out in the image definition"))]
    NotUtf8 { path: TreePath, what: &'static str },

    #[error("`{path}` has {what}, which no file system takes")]
    Impossible { path: TreePath, what: &'static str },

    #[error("`{name}` is not a name for an ostree ref")]
    #[diagnostic(help(
        "use components of letters, digits, `_`, `-` and `.`, joined by `/`, each beginning with a letter, \
         a digit or `_`: for example `azure-linux/4.0/x86_64/container-host`"
    ))]
    RefName { name: String },

    #[error("the commit's {what} holds a NUL byte")]
    NulInText { what: String },

    #[error("commit metadata `{key}` is set by the ref that the commit is written to")]
    ReservedKey { key: &'static str },

    #[error("object {name} would take {size} bytes; ostree reads no metadata of more than {limit}")]
    #[diagnostic(help("split the directory, or shorten the metadata"))]
    MetadataTooLarge { name: String, size: usize, limit: usize },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),

    #[error("reading `{path}` from the store")]
    Source { path: TreePath, source: io::Error },

    #[error("cannot {action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error("the file system of `{}` does not take the extended attribute that holds a file's owner", path.display())]
    #[diagnostic(help(
        "write the repository in archive mode, or to a file system with user extended attributes \
         (ext4, xfs, btrfs; tmpfs from Linux 6.6 on)"
    ))]
    XattrsUnsupported { path: PathBuf, source: io::Error },

    #[error("`{}` holds files, but is no ostree repository", path.display())]
    #[diagnostic(help("name an empty directory, one that does not exist, or a repository"))]
    NotARepository { path: PathBuf },

    #[error("there is no ostree repository at `{}`, and none in a directory `repo` there", path.display())]
    #[diagnostic(help("name the output directory of a build, or a repository"))]
    NoRepository { path: PathBuf },

    #[error("repository `{}` has {found}: which commit is meant?", path.display())]
    #[diagnostic(help("name a ref that it has, or a repository with only one"))]
    WhichRef { path: PathBuf, found: String },

    #[error("the configuration of repository `{}` {what}", path.display())]
    Config { path: PathBuf, what: String },

    #[error("repository `{}` has mode {found}, not {wanted}", path.display())]
    #[diagnostic(help("choose another directory, or the mode that the repository has"))]
    ModeDiffers {
        path: PathBuf,
        found: &'static str,
        wanted: &'static str,
    },

    #[error("repository `{}` has no ref `{name}`", path.display())]
    NoSuchRef { path: PathBuf, name: String },

    #[error("ref `{name}` does not hold a checksum")]
    BadRef { name: String },

    #[error("object {name} is not in repository `{}`", path.display())]
    #[diagnostic(help("the repository is incomplete: write the commit again, or pull what is missing"))]
    NoSuchObject { path: PathBuf, name: String },

    #[error("object {name} is corrupt: its content has the checksum {found}")]
    Checksum { name: String, found: Digest },

    #[error("object {name} is malformed: {what}")]
    Malformed { name: String, what: String },

    #[error("object {name} is malformed")]
    Encoding { name: String, source: gvariant::Error },

    #[error("both are commit {commit}: there is no way to go for a static delta")]
    #[diagnostic(help("name the repository of the version that machines have now"))]
    SameCommit { commit: Digest },

    #[error("commit {commit} holds more than {limit} paths")]
    TooManyEntries { commit: Digest, limit: u64 },
}

impl Error {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
