//! The unified kernel image: measured first, since the commit names what is measured, then written.

use std::fs::File;

use super::ComposeError;
use super::boot::Boot;
use super::kernel::Kernel;
use super::workspace::Workspace;
use crate::definition::measured_boot::{MeasuredBoot, PcrPublic};
use crate::definition::plan::{PcrBank, Plan};
use crate::formats::at::Content;
use crate::formats::pcr::policy::Policy;
use crate::formats::pcr::uki::{SectionDigests, at_phase};
use crate::formats::pcr::{Bank, Value};
use crate::formats::uki::{DEFAULT_SBAT, Uki};
use crate::initrd::Initrd;
use crate::measure::{PolicyKey, PublicSource};
use crate::report::{ManifestPcrs, ManifestUkiPcr, Progress};
use crate::signing::KeySource;

/// The banks whose values are told in any case: what verifiers ask for.
const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

/// The key of PCR policies, where the definition names one; opened before anything is made.
pub fn policy_key(plan: &Plan, progress: &Progress) -> Result<Option<PolicyKey>, ComposeError> {
    let Some(measured) = &plan.measured_boot else {
        return Ok(None);
    };
    let key = measured
        .key
        .as_ref()
        .map(|key| KeySource::File(key.as_path().to_owned()));
    let public = measured.public.as_ref().map(|public| match public {
        PcrPublic::Public(path) => PublicSource::Key(path.as_path()),
        PcrPublic::Cert(path) => PublicSource::Certificate(path.as_path()),
    });
    let Some((key, warnings)) = PolicyKey::open(key.as_ref(), public)? else {
        return Ok(None);
    };
    for warning in warnings {
        progress.warn(&warning);
    }
    if !key.signs() {
        progress
            .warn("`measured-boot.key` is not given: the UKI carries the public key and no signed policy");
    }
    Ok(Some(key))
}

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
    /// Writes it, with policies signed by `key`.
    pub fn write(
        plan: &Plan,
        kernel: &Kernel,
        initrd: &Initrd,
        boot: &Boot,
        cmdline: &str,
        key: Option<&PolicyKey>,
        workspace: &Workspace,
    ) -> Result<Self, ComposeError> {
        let public = key.map(PolicyKey::public_pem);
        let mut uki = Uki {
            stub: &boot.stub,
            osrel: &boot.os_release,
            cmdline,
            uname: &kernel.release,
            sbat: DEFAULT_SBAT,
            linux: Content::new(&kernel.image.blob, kernel.image.blob.size()),
            initrd: Content::bytes(&initrd.bytes),
            pcrpkey: public.as_deref().map(str::as_bytes),
            pcrsig: None,
            profiles: &[],
        };
        let banks = plan.measured_boot.iter().flat_map(|measured| &measured.banks);
        let mut banks: Vec<Bank> = banks.map(|bank| bank_of(*bank)).chain(BANKS).collect();
        banks.sort();
        banks.dedup();
        let digests = uki.measure(&banks)?;
        let signed = match (key, &plan.measured_boot) {
            (Some(key), Some(measured)) => sign(key, measured, &digests.pcr_11(0))?,
            _ => None,
        };
        uki.pcrsig = signed.as_deref().map(str::as_bytes);
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

fn bank_of(bank: PcrBank) -> Bank {
    match bank {
        PcrBank::Sha256 => Bank::Sha256,
        PcrBank::Sha384 => Bank::Sha384,
        PcrBank::Sha512 => Bank::Sha512,
    }
}

/// Policies over `values` of PCR 11, signed for the definition's banks and phases.
fn sign(key: &PolicyKey, measured: &MeasuredBoot, values: &[Value]) -> Result<Option<String>, ComposeError> {
    let wanted = |value: &&Value| measured.banks.iter().any(|bank| bank_of(*bank) == value.bank());
    let values: Vec<Value> = values.iter().filter(wanted).copied().collect();
    let phases: Vec<String> = measured
        .phases
        .iter()
        .map(|phase| phase.as_str().to_owned())
        .collect();
    Ok(key.sign(Policy::all(&values, &phases))?)
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
