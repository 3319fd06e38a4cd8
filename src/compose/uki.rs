//! The unified kernel image: measured first, since the commit names what is measured, then written.

use std::fs::File;
use std::sync::Arc;

use super::ComposeError;
use super::composed::Composed;
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
use crate::measure::{PolicyKey, PublicSource};
use crate::report::{ManifestSignature, Progress};
use crate::signing::Answers;

/// The banks whose values are told in any case: what verifiers ask for.
pub const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

/// The key of PCR policies, where the definition names one; opened before anything is made.
pub fn policy_key(
    plan: &Plan,
    answers: &Arc<Answers>,
    progress: &Progress,
) -> Result<Option<PolicyKey>, ComposeError> {
    let Some(measured) = &plan.measured_boot else {
        return Ok(None);
    };
    let key = measured.key.as_ref().map(super::signing::source).transpose()?;
    let public = measured.public.as_ref().map(|public| match public {
        PcrPublic::Public(path) => PublicSource::Key(path.as_path()),
        PcrPublic::Cert(path) => PublicSource::Certificate(path.as_path()),
    });
    let Some((key, warnings)) = PolicyKey::open(key.as_ref(), public, answers)? else {
        return Ok(None);
    };
    for warning in warnings {
        progress.warn(&warning);
    }
    Ok(Some(key))
}

/// The image before it is written: what the stub will measure of it.
pub struct Measured {
    texts: Texts,
    /// Of what the stub measures.
    pub digests: SectionDigests,
}

struct Texts {
    cmdline: String,
    /// What signs policies, in PEM.
    public: Option<String>,
    profiles: Vec<ProfileTexts>,
}

/// Policies of each profile, as `.pcrsig` holds them; nothing where no key signs any.
pub type Policies = Vec<Option<String>>;

impl Measured {
    /// Measures the image with the command line `cmdline`.
    pub fn new(
        plan: &Plan,
        made: &Composed,
        cmdline: &str,
        key: Option<&PolicyKey>,
    ) -> Result<Self, ComposeError> {
        let texts = Texts {
            cmdline: cmdline.to_owned(),
            public: key.map(PolicyKey::public_pem),
            profiles: profile_texts(plan, cmdline, &made.boot.os_release),
        };
        let digests = texts.image(made, &[], |uki| uki.measure(&banks(plan)))?;
        Ok(Self { texts, digests })
    }

    /// Signs policies for it.
    pub fn sign(&self, plan: &Plan, key: Option<&PolicyKey>) -> Result<Policies, ComposeError> {
        let (Some(key), Some(measured)) = (key, &plan.measured_boot) else {
            return Ok(Vec::new());
        };
        let profiles = (0..self.digests.profiles()).map(|profile| {
            let others = plan.uki.profiles.iter().map(|profile| profile.id.as_str());
            let name = [MAIN_PROFILE].into_iter().chain(others).nth(profile);
            let values = self.digests.pcr_11(profile);
            sign(key, measured, name.unwrap_or_default(), &values).map(Some)
        });
        // All are asked for, before the first that is awaited stops the build.
        let profiles: Vec<_> = profiles.collect();
        profiles.into_iter().collect()
    }

    /// Writes it with these policies.
    pub fn write(
        self,
        plan: &Plan,
        made: &Composed,
        policies: &[Option<String>],
        workspace: &Workspace,
    ) -> Result<KernelImage, ComposeError> {
        let name = format!("{}.efi", plan.image.stem());
        let file = workspace.create(&name)?;
        let size = self.texts.image(made, policies, |uki| uki.write(&file))?.size;
        Ok(KernelImage {
            name,
            file,
            size,
            digests: self.digests,
        })
    }
}

impl Texts {
    fn image<T>(&self, made: &Composed, policies: &[Option<String>], then: impl FnOnce(&Uki<'_>) -> T) -> T {
        let policy = |profile: usize| policies.get(profile)?.as_deref().map(str::as_bytes);
        let profiles: Vec<_> = self
            .profiles
            .iter()
            .enumerate()
            .map(|(index, texts)| Profile {
                description: &texts.description,
                osrel: texts.osrel.as_deref(),
                cmdline: texts.cmdline.as_deref(),
                pcrsig: policy(index),
            })
            .collect();
        then(&Uki {
            stub: &made.boot.stub,
            osrel: &made.boot.os_release,
            cmdline: &self.cmdline,
            uname: &made.facts.kernel_release,
            sbat: DEFAULT_SBAT,
            linux: Content::new(&made.kernel, made.kernel.size()),
            initrd: Content::new(&made.initrd, made.initrd.size()),
            pcrpkey: self.public.as_deref().map(str::as_bytes),
            pcrsig: policy(0),
            profiles: &profiles,
        })
    }
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
fn sign(
    key: &PolicyKey,
    measured: &MeasuredBoot,
    profile: &str,
    values: &[Value],
) -> Result<String, ComposeError> {
    let wanted = |value: &&Value| measured.banks.iter().any(|bank| bank_of(*bank) == value.bank());
    let values: Vec<Value> = values.iter().filter(wanted).copied().collect();
    let phases: Vec<String> = measured
        .phases
        .iter()
        .map(|phase| phase.as_str().to_owned())
        .collect();
    Ok(key.sign(profile, Policy::all(&values, &phases))?)
}
