//! What the manifest says of the machine's measurements.

use super::ComposeError;
use super::addons::Addon;
use super::boot::Boot;
use super::uki::{BANKS, KernelImage};
use crate::firmware::{Databases, ImageFiles};
use crate::formats::at::Content;
use crate::formats::pcr::uki::at_phase;
use crate::formats::pcr::{Bank, Value};
use crate::measure::{self, Chain, Firmware};
use crate::report::{ManifestFirmwarePcrs, ManifestPcrEvent, ManifestPcrs, ManifestUkiPcr};

/// The boot's phases that are told: what systemd-measure tells by default, and before any.
const PHASES: [&str; 5] = [
    "",
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd:sysinit:ready",
];

/// Measures what lies on the ESP as a boot of the default profile does.
pub fn describe(
    boot: &Boot,
    uki: &KernelImage,
    addons: &[Addon],
    keys: &ImageFiles,
) -> Result<ManifestPcrs, ComposeError> {
    let file = Content::new(&uki.file, uki.size);
    let chain = boot.chain(file, addons);
    let events = measure::events(&chain, &BANKS)?;
    let firmware: Vec<_> = [Firmware::ovmf()]
        .into_iter()
        .chain(with_keys(keys, &chain))
        .collect();
    Ok(ManifestPcrs {
        uki: uki_pcrs(uki),
        firmware: firmware
            .iter()
            .map(|firmware| {
                let registers = |bank| {
                    let registers = firmware.predict(&events, bank).into_iter();
                    registers.map(|(pcr, value)| (pcr, value.to_string())).collect()
                };
                ManifestFirmwarePcrs {
                    firmware: firmware.name.clone(),
                    sha256: registers(Bank::Sha256),
                    sha384: registers(Bank::Sha384),
                }
            })
            .collect(),
        events: events
            .iter()
            .map(|event| ManifestPcrEvent {
                pcr: event.pcr,
                what: event.what.clone(),
                sha256: text(event.digest(Bank::Sha256)),
                sha384: text(event.digest(Bank::Sha384)),
            })
            .collect(),
    })
}

/// OVMF with the image's keys: as `hullwright` enrols them, and as the boot loader does.
fn with_keys(keys: &ImageFiles, chain: &Chain<'_>) -> Vec<Firmware> {
    if keys.output.is_empty() {
        return Vec::new();
    }
    // One that is to be signed elsewhere is signed for the certificate that the definition names.
    let authorities = keys.databases.vouchers(&chain.programs(), Some(&keys.signer));
    let firmware = |name, databases: &Databases| {
        Firmware::ovmf_with_keys(name, databases.contents(), authorities.clone())
    };
    let mut all = vec![firmware(Firmware::SECURE_BOOT_ON, &keys.databases.enrolled())];
    if !keys.esp.is_empty() {
        all.push(firmware(Firmware::AUTO_ENROLLED, &keys.databases));
    }
    all
}

fn text(value: Option<Value>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn uki_pcrs(uki: &KernelImage) -> Vec<ManifestUkiPcr> {
    let profiles = uki.digests.profiles();
    let moments = (0..profiles).flat_map(|profile| {
        let values = uki.digests.pcr_11(profile);
        let at = move |bank: Bank, phase: &str| {
            let value = values.iter().find(|value| value.bank() == bank);
            text(value.map(|value| at_phase(*value, phase)))
        };
        PHASES.map(|phase| ManifestUkiPcr {
            profile: (profiles > 1).then_some(profile),
            phase: phase.to_owned(),
            sha256: at(Bank::Sha256, phase),
            sha384: at(Bank::Sha384, phase),
        })
    });
    moments.collect()
}
