//! The unified kernel image: measured first, since the commit names what is measured, then written.

use std::fs::File;

use super::ComposeError;
use super::boot::Boot;
use super::kernel::Kernel;
use super::workspace::Workspace;
use crate::definition::plan::Plan;
use crate::formats::at::Content;
use crate::formats::pcr::uki::{SectionDigests, at_phase};
use crate::formats::pcr::{Bank, Value};
use crate::formats::uki::{DEFAULT_SBAT, Uki};
use crate::initrd::Initrd;
use crate::report::{ManifestPcrs, ManifestUkiPcr};

/// The banks whose values are told in any case: what verifiers ask for.
const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

/// The image as it lies in the output directory.
pub struct KernelImage {
    /// Of its file.
    pub name: String,
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// Of what the stub measures.
    pub digests: SectionDigests,
}

impl KernelImage {
    /// Writes it.
    pub fn write(
        plan: &Plan,
        kernel: &Kernel,
        initrd: &Initrd,
        boot: &Boot,
        cmdline: &str,
        workspace: &Workspace,
    ) -> Result<Self, ComposeError> {
        let uki = Uki {
            stub: &boot.stub,
            osrel: &boot.os_release,
            cmdline,
            uname: &kernel.release,
            sbat: DEFAULT_SBAT,
            linux: Content::new(&kernel.image.blob, kernel.image.blob.size()),
            initrd: Content::bytes(&initrd.bytes),
            pcrpkey: None,
            pcrsig: None,
            profiles: &[],
        };
        let digests = uki.measure(&BANKS)?;
        let name = format!("{}.efi", plan.image.stem());
        let file = workspace.create(&name)?;
        let size = uki.write(&file)?.size;
        Ok(Self {
            name,
            file,
            size,
            digests,
        })
    }
}

/// The boot's phases that are told: what systemd-measure tells by default, and before any.
const PHASES: [&str; 5] = [
    "",
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd:sysinit:ready",
];

/// What the manifest says of the machine's measurements.
pub fn pcrs(uki: &KernelImage) -> ManifestPcrs {
    let profiles = uki.digests.profiles();
    let value = |values: &[Value], bank: Bank, phase: &str| {
        let value = values.iter().find(|value| value.bank() == bank);
        value
            .map(|value| at_phase(*value, phase).to_string())
            .unwrap_or_default()
    };
    let uki = (0..profiles).flat_map(|profile| {
        let values = uki.digests.pcr_11(profile);
        PHASES.map(|phase| ManifestUkiPcr {
            profile: (profiles > 1).then_some(profile),
            phase: phase.to_owned(),
            sha256: value(&values, Bank::Sha256, phase),
            sha384: value(&values, Bank::Sha384, phase),
        })
    });
    ManifestPcrs { uki: uki.collect() }
}
