//! The unified kernel image: measured first, since the commit names what is measured, then written.

use std::fs::File;

use super::ComposeError;
use super::boot::Boot;
use super::kernel::Kernel;
use super::signing::Keys;
use super::workspace::Workspace;
use crate::definition::measured_boot::{MeasuredBoot, PcrPublic};
use crate::definition::names::KernelArgument;
use crate::definition::plan::{PcrBank, Plan};
use crate::definition::uki::MAIN_PROFILE;
use crate::formats::at::Content;
use crate::formats::pcr::policy::Policy;
use crate::formats::pcr::uki::SectionDigests;
use crate::formats::pcr::{Bank, Value};
use crate::formats::uki::{DEFAULT_SBAT, Profile, Uki};
use crate::initrd::Initrd;
use crate::measure::{PolicyKey, PublicSource};
use crate::report::{ManifestSignature, Progress};

/// The banks whose values are told in any case: what verifiers ask for.
pub const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

/// The key of PCR policies, where the definition names one; opened before anything is made.
pub fn policy_key(plan: &Plan, progress: &Progress) -> Result<Option<PolicyKey>, ComposeError> {
    let Some(measured) = &plan.measured_boot else {
        return Ok(None);
    };
    let key = measured.key.as_ref().map(super::signing::source).transpose()?;
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
        let texts = profile_texts(plan, cmdline, &boot.os_release);
        let unsigned: Vec<_> = texts
            .iter()
            .map(|texts| Profile {
                description: &texts.description,
                osrel: texts.osrel.as_deref(),
                cmdline: texts.cmdline.as_deref(),
                pcrsig: None,
            })
            .collect();
        let uki = Uki {
            stub: &boot.stub,
            osrel: &boot.os_release,
            cmdline,
            uname: &kernel.release,
            sbat: DEFAULT_SBAT,
            linux: Content::new(&kernel.image.blob, kernel.image.blob.size()),
            initrd: Content::bytes(&initrd.bytes),
            pcrpkey: public.as_deref().map(str::as_bytes),
            pcrsig: None,
            profiles: &unsigned,
        };
        let digests = uki.measure(&banks(plan))?;
        let policies = (0..digests.profiles()).map(|profile| match (key, &plan.measured_boot) {
            (Some(key), Some(measured)) => sign(key, measured, &digests.pcr_11(profile)),
            _ => Ok(None),
        });
        let policies: Vec<Option<String>> = policies.collect::<Result<_, _>>()?;
        let policies: Vec<Option<&[u8]>> = policies
            .iter()
            .map(|text| text.as_deref().map(str::as_bytes))
            .collect();
        let profiles = unsigned.iter().zip(&policies);
        let profiles: Vec<_> = profiles
            .map(|(profile, &pcrsig)| Profile { pcrsig, ..*profile })
            .collect();
        let uki = Uki {
            pcrsig: policies.first().copied().flatten(),
            profiles: &profiles,
            ..uki
        };
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

impl KernelImage {
    /// Signs it, last of all that is written into it.
    pub fn sign(&mut self, keys: &Keys) -> Result<Option<ManifestSignature>, ComposeError> {
        let (size, signature) = keys.sign_program(&self.name, &self.file, self.size)?;
        self.size = size;
        Ok(signature)
    }
}

/// The banks that are measured: those of the definition and those that are told in any case.
fn banks(plan: &Plan) -> Vec<Bank> {
    let banks = plan.measured_boot.iter().flat_map(|measured| &measured.banks);
    let mut banks: Vec<Bank> = banks.map(|bank| bank_of(*bank)).chain(BANKS).collect();
    banks.sort();
    banks.dedup();
    banks
}

/// What each profile has of its own.
struct ProfileTexts {
    description: String,
    osrel: Option<Vec<u8>>,
    cmdline: Option<String>,
}

/// The profiles, that of the default first; nothing where there is but one.
///
/// systemd-boot 257 forgets of which profile an entry is as long as the file's name has a boot counter, and puts the
/// later ones first. The version is looked at before that: `~` makes it an older one.
fn profile_texts(plan: &Plan, cmdline: &str, os_release: &[u8]) -> Vec<ProfileTexts> {
    let others = plan.uki.profiles.iter().map(|profile| {
        let own = profile.cmdline.iter().map(KernelArgument::as_str);
        let arguments: Vec<_> = [cmdline].into_iter().chain(own).collect();
        let version = format!("IMAGE_VERSION={}~{}\n", plan.image.version, profile.id);
        let lines = os_release.split_inclusive(|byte| *byte == b'\n');
        let mut osrel: Vec<u8> = lines
            .filter(|line| !line.starts_with(b"IMAGE_VERSION="))
            .flatten()
            .copied()
            .collect();
        osrel.extend_from_slice(version.as_bytes());
        ProfileTexts {
            description: format!("ID={}\nTITLE=\"{}\"\n", profile.id, profile.title),
            osrel: Some(osrel),
            cmdline: Some(arguments.join(" ")),
        }
    });
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return others;
    }
    let main = ProfileTexts {
        description: format!("ID={MAIN_PROFILE}\n"),
        osrel: None,
        cmdline: None,
    };
    [main].into_iter().chain(others).collect()
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
