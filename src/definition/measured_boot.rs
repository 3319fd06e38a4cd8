//! `[measured-boot]`: who signs the policies that secrets of the machine are bound to, and for which moments.

use serde::{Serialize, Serializer};

use super::plan::PcrBank;
use super::reader::{Context, Section};
use super::sealing::KeySource;
use super::values::{Fault, FromText, SourcePath};
use crate::formats::pcr::uki::PHASES;

/// `[measured-boot]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MeasuredBoot {
    /// The private key; `None`: the policies are signed elsewhere, later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySource>,
    /// Where its public half is; `None`: in the private key.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub public: Option<PcrPublic>,
    /// Without repetition, at least one.
    pub banks: Vec<PcrBank>,
    /// Without repetition, at least one.
    pub phases: Vec<BootPhase>,
}

/// The file that a public key is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PcrPublic {
    /// A public key.
    Public(SourcePath),
    /// A certificate.
    Cert(SourcePath),
}

/// A moment of the boot, as systemd-pcrphase measures it: words joined by colons, in the order of the boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPhase(String);

/// The one moment that policies are made for by default: before anything of the machine's own state is mounted.
const INITRD: &str = "enter-initrd";

impl BootPhase {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for BootPhase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl FromText for BootPhase {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let example = "for example \"enter-initrd\", or \"enter-initrd:leave-initrd\"";
        let mut last = None;
        for word in text.split(':') {
            let Some(place) = PHASES.iter().position(|known| *known == word) else {
                return Err(
                    Fault::new(format!("holds `{word}`, which is no phase of the boot"))
                        .help(format!("the phases are {}; {example}", PHASES.join(", "))),
                );
            };
            if last >= Some(place) {
                return Err(Fault::new(format!("has `{word}` out of order"))
                    .help(format!("the phases follow each other: {}", PHASES.join(", "))));
            }
            last = Some(place);
        }
        Ok(Self(text.into()))
    }
}

/// Reads the table, where it is written.
pub(super) fn read(table: &Section<'_>) -> Option<MeasuredBoot> {
    let key = table.get("key");
    let public = table.get("public").map(PcrPublic::Public);
    let cert = table.get("cert").map(PcrPublic::Cert);
    if public.is_some() && cert.is_some() {
        let problem = table.context.problem_at(
            &table.path("cert"),
            "`measured-boot.public` and `measured-boot.cert` exclude each other",
        );
        table
            .context
            .report(problem.help("both name the public half of the key: leave one out"));
    }
    let banks = table.entry("banks").map(|_| table.set("banks"));
    let phases = table.entry("phases").map(|_| table.set("phases"));
    if !table.is_written() {
        return None;
    }
    if ["key", "public", "cert"]
        .iter()
        .all(|key| table.entry(key).is_none())
    {
        table.missing("key", "\"keys/pcr.key\"");
    }
    for (key, empty) in [
        ("banks", banks.as_ref().is_some_and(Vec::is_empty)),
        ("phases", phases.as_ref().is_some_and(Vec::is_empty)),
    ] {
        let path = table.path(key);
        if empty {
            let problem = table.context.problem_at(&path, format!("`{path}` is empty"));
            table
                .context
                .report(problem.help("without it nothing would be signed: name one, or leave the key out"));
        }
    }
    Some(MeasuredBoot {
        key,
        public: public.or(cert),
        banks: banks.unwrap_or_else(|| vec![PcrBank::Sha256, PcrBank::Sha384]),
        phases: phases.unwrap_or_else(|| vec![BootPhase(INITRD.into())]),
    })
}

/// Says what weakens the seal.
pub(super) fn warn(context: &Context<'_>, measured: &MeasuredBoot) {
    for (index, phase) in measured.phases.iter().enumerate() {
        if phase.as_str() != INITRD {
            let message = format!("policies are signed for the phase `{}` too", phase.as_str());
            let problem = context.problem_at(&format!("measured-boot.phases[{index}]"), message);
            let problem = problem
                .help("whatever runs by then, from the machine's own state as well, can unseal what is bound to the key");
            context.warnings.borrow_mut().push(problem.warning());
        }
    }
}
