//! What can be wrong with a disk.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;

use crate::formats::ext4::Ext4Error;
use crate::formats::fat::FatError;
use crate::formats::luks2::Luks2Error;
use crate::formats::qcow2::Qcow2Error;
use crate::formats::vhd::VhdError;

/// A disk cannot be planned or written.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum DiskError {
    #[error("the partition label `{label}` has {units} UTF-16 units; GPT holds 36")]
    #[diagnostic(help("shorten the image's `id` or `version`: the label is `<id>_<version>`"))]
    Label { label: String, units: usize },
    #[error("the partition label `{0}` holds a control character, a blank or a slash")]
    #[diagnostic(help("use letters, digits, `-` and `.` in the image's `id` and `version`"))]
    LabelCharacter(String),
    #[error("the {what} of {bytes} bytes is not a whole, positive number of MiB")]
    #[diagnostic(help(
        "everything on the disk starts and ends on a 1 MiB boundary: write the size in MiB or GiB"
    ))]
    NotMib { what: &'static str, bytes: u64 },
    #[error(
        "the ESP of {} is too small: two kernel images of {} and what stands beside them take {}, \
         and 20 % more must stay free",
        mib(*.size), mib(*.uki), mib(*.used)
    )]
    #[diagnostic(help("make the ESP at least {}, or the initrd smaller", mib(*.needed)))]
    EspTooSmall {
        size: u64,
        uki: u64,
        used: u64,
        needed: u64,
    },
    #[error("the slot of {} does not hold /usr, whose file system has {}", mib(*.slot), mib(*.content))]
    #[diagnostic(help(
        "make `slot` at least {}, half as much again as the content, so that later versions fit",
        mib(*.wanted)
    ))]
    SlotTooSmall { slot: u64, content: u64, wanted: u64 },
    #[error(
        "the disk of {} is too small: ESP {}, two slots of {} with {} of hashes each, root at least {}{} \
         and the partition table take {}",
        mib(*.size), mib(*.esp), mib(*.slot), mib(*.hashes), mib(*.root), beside(*.others), mib(*.needed)
    )]
    #[diagnostic(help("make the disk at least {}, or one of these smaller", mib(*.needed)))]
    DiskTooSmall {
        size: u64,
        esp: u64,
        slot: u64,
        hashes: u64,
        root: u64,
        others: u64,
        needed: u64,
    },
    #[error("the partition `{label}` has the type {kind}, by which machines find partitions of the layout")]
    #[diagnostic(help(
        "give it another `type` in `[[disk.partitions]]`: \"linux-generic\" is right for what machines write"
    ))]
    ReservedType { label: String, kind: uuid::Uuid },
    #[error("the root hash has {0} bytes; 16 at its start and 16 at its end name the partitions")]
    RootHash(usize),
    #[error("the disk of {} cannot be a VHD for Azure", mib(*.size))]
    #[diagnostic(help("choose a whole number of MiB between 20 MiB and 1023 GiB as the disk's size"))]
    Vhd { size: u64, source: VhdError },
    #[error("the EFI system partition cannot be made")]
    Esp(#[from] FatError),
    #[error("plan and contents of the disk disagree on encrypted partitions in the image")]
    Root,
    #[error("the encrypted root partition cannot be made: {0}")]
    Luks2(#[from] Luks2Error),
    #[error("the file system of the root partition cannot be made: {0}")]
    Ext4(#[from] Ext4Error),
    #[error("the qcow2 image cannot be made")]
    Qcow2(#[from] Qcow2Error),
    #[error("the partition table cannot be written: {0}")]
    Table(String),
    #[error("`{}` has {} free; the images take about {}", .dir.display(), mib(*.free), mib(*.needed))]
    #[diagnostic(help("free {} there, or give another directory with `--out`", mib(.needed.saturating_sub(*.free))))]
    NoSpace { dir: PathBuf, free: u64, needed: u64 },
    #[error("the {what} has {found} bytes where the plan was made for {expected}")]
    Changed {
        what: &'static str,
        expected: u64,
        found: u64,
    },
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
}

impl DiskError {
    /// Says what was being done when `source` came up.
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// What other partitions add to a sentence.
fn beside(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!(", {} of other partitions", mib(others)),
    }
}

/// `bytes` in MiB, rounded up.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
