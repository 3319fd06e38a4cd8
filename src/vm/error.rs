//! What can go wrong between an image and a running machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::health::Failure;
use crate::formats::efi::StoreError;

/// Why a machine could not be started, watched, or talked to.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum VmError {
    /// A program that booting needs is not installed.
    #[error("{program} is not installed")]
    #[diagnostic(help("{help}"))]
    ProgramMissing {
        /// Its file name.
        program: String,
        /// Which package brings it, and which variable names another place.
        help: String,
    },

    /// No UEFI firmware for virtual machines was found.
    #[error(
        "no UEFI firmware (OVMF){} was found; looked for {}",
        if *secure_boot { " that enforces Secure Boot" } else { "" },
        looked.join(", ")
    )]
    #[diagnostic(help(
        "install `ovmf` (Debian, Ubuntu) or `edk2-ovmf` (Fedora, Azure Linux), or name the two files in \
         HULLWRIGHT_OVMF_CODE and HULLWRIGHT_OVMF_VARS"
    ))]
    FirmwareMissing {
        /// Whether Secure Boot was asked for.
        secure_boot: bool,
        /// Every path that was tried.
        looked: Vec<String>,
    },

    /// Two options of the machine contradict each other.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    Contradiction {
        /// What does not fit.
        what: String,
        /// The way out.
        help: String,
    },

    /// The image is not a disk that can be attached.
    #[error("{}: {what}", path.display())]
    #[diagnostic(help("{help}"))]
    Image {
        /// The file or directory named by the user.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The way out.
        help: String,
    },

    /// The kept state belongs to another state of the image.
    #[error("{} has changed since {} was kept from it", image.display(), kept.display())]
    #[diagnostic(help(
        "the kept disk only makes sense over the image it began from: `--fresh`, or `rm -r {}`, to begin anew",
        kept.display()
    ))]
    KeptFromAnother {
        /// The image.
        image: PathBuf,
        /// The directory of the kept state.
        kept: PathBuf,
    },

    /// Secure Boot was asked for, and the variables are none that can be looked into.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("name a variable store of OVMF (OVMF_VARS*.fd) in which PK, KEK and db are enrolled"))]
    Variables {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },

    /// Secure Boot was asked for, and the variables would enforce nothing.
    #[error("{}: no platform key is enrolled in these firmware variables, so they enforce nothing", path.display())]
    #[diagnostic(help("{help}"))]
    NotEnforced {
        /// The store.
        path: PathBuf,
        /// The way out.
        help: String,
    },

    /// The kept variables hold another platform key than the one asked for.
    #[error("{} was kept with another platform key than the one that is to be enrolled", kept.display())]
    #[diagnostic(help("`--fresh`, or `rm -r {}`, to begin anew with the new keys", kept.display()))]
    KeptWithOtherKeys {
        /// The directory of the kept state.
        kept: PathBuf,
    },

    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb: `read`, `create` …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// KVM was demanded and cannot be used.
    #[error("KVM cannot be used: {reason}")]
    #[diagnostic(help("without `--accel kvm` the machine runs under QEMU's TCG, slower"))]
    NoKvm {
        /// Why not.
        reason: String,
    },

    /// QEMU refused to start, or died.
    #[error("QEMU ended by itself ({status}): {message}")]
    Qemu {
        /// Its exit status.
        status: String,
        /// What it wrote on standard error.
        message: String,
    },

    /// QEMU's control connection failed or answered with an error.
    #[error("QEMU's control connection: {0}")]
    Control(String),

    /// The guest did not come up healthy.
    #[error("the guest did not come up healthy: {failure}")]
    NotHealthy {
        /// The first sign of trouble.
        failure: Failure,
        /// The last lines of the console, free of escape sequences.
        tail: String,
    },

    /// Nobody could log in by ssh.
    #[error("no ssh login into the guest within {} s: {reason}", waited.as_secs())]
    #[diagnostic(help(
        "the image must run sshd and take root's key from the systemd credential ssh.authorized_keys.root \
         (systemd's tmpfiles.d/provision.conf does so)"
    ))]
    NoSsh {
        /// How long was waited.
        waited: Duration,
        /// What the last attempt said.
        reason: String,
        /// The last lines of the console.
        tail: String,
    },

    /// Somebody asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl VmError {
    /// The console's last lines, where the guest is the trouble.
    pub fn console_tail(&self) -> Option<&str> {
        match self {
            Self::NotHealthy { tail, .. } | Self::NoSsh { tail, .. } => Some(tail),
            _ => None,
        }
    }

    /// Wraps a file operation's error.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
