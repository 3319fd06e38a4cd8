//! The root partition that a machine encrypts at its first boot, or makes its own then: what repart, the command line and
//! the initrd are told of it. What the initrd does with it is in `systemd-units/initrd-root-first-boot` and `initrd-root-rekey`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{ComposeError, tpm};
use crate::definition::names::KernelArgument;
use crate::definition::plan::{AddonPlace, EncryptionMode, Plan, Recovery};
use crate::definition::uki::UkiAddon;
use crate::disk::repart::Encryption;
use crate::formats::pcr::{Bank, Value};
use crate::measure;
use crate::signing::{self, Algorithm, PublicKey};
use crate::store::hex;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Tree, overlay};

/// What opens the root, and nothing else does.
const UNIT: &str = "/usr/lib/systemd/system/encrypted-root.service";
/// What its scripts start, where the initrd has programs.
const PROGRAMS: [&str; 21] = [
    "/usr/bin/sh",
    "/usr/bin/cat",
    "/usr/bin/dd",
    "/usr/bin/jq",
    "/usr/bin/mkdir",
    "/usr/bin/mount",
    "/usr/bin/mv",
    "/usr/bin/od",
    "/usr/bin/readlink",
    "/usr/bin/rm",
    "/usr/bin/sed",
    "/usr/bin/sync",
    "/usr/bin/systemd-repart",
    "/usr/bin/tail",
    "/usr/bin/tr",
    "/usr/bin/udevadm",
    "/usr/bin/umount",
    "/usr/bin/wc",
    "/usr/lib/systemd/systemd-cryptsetup",
    "/usr/lib/systemd/systemd-pcrextend",
    "/usr/sbin/cryptsetup",
];
/// What makes a root of the image's the machine's own.
const REKEY: [&str; 3] = [
    "/usr/lib/hullwright/rekey-root",
    "/usr/lib/hullwright/built-header.jq",
    "/usr/bin/systemd-cryptenroll",
];
/// What wraps the recovery key.
const WRAPPER: &str = "/usr/bin/openssl";

fn made_at_first_boot(plan: &Plan) -> bool {
    plan.encryption.root.mode == EncryptionMode::FirstBoot
}

/// The keyslots of the root that repart makes.
pub fn keyslots(plan: &Plan) -> Encryption {
    match (made_at_first_boot(plan), &plan.encryption.root.recovery) {
        (false, _) => Encryption::None,
        (true, Some(Recovery::Escrow { .. })) => Encryption::KeyFileAndTpm2,
        (true, _) => Encryption::Tpm2,
    }
}

/// Partitions that systemd-gpt-auto-generator would mount or swap on wherever it finds one on the disk, and that no image has.
const PLANTED: [&str; 6] = ["swap", "home", "srv", "tmp", "var", "xbootldr"];

/// Arguments of the kernel by which nothing but the opened volume is ever the root, and no other partition holds state.
pub fn arguments(plan: &Plan) -> Vec<String> {
    if plan.encryption.root.mode == EncryptionMode::None {
        return Vec::new();
    }
    let format = plan.disk.root.format.as_str();
    let ignored = PLANTED.map(|kind| format!("{kind}=unused+absent:")).concat();
    vec![
        "root=/dev/mapper/root".to_owned(),
        format!("rootfstype={format}"),
        format!("systemd.image_policy={ignored}=open"),
    ]
}

/// Features of `.note.dlopen` without which the TPM cannot be asked.
pub fn features(plan: &Plan) -> Vec<String> {
    let wanted: &[&str] = if plan.encryption.root.is_bound() {
        &["tpm", "cryptsetup"]
    } else {
        &[]
    };
    wanted.iter().map(|feature| (*feature).to_owned()).collect()
}

/// What the scripts of the initrd read: the expected PCR 12, and the escrow key.
pub fn overlay(plan: &Plan) -> Result<Option<Tree>, ComposeError> {
    if !plan.encryption.root.is_bound() {
        return Ok(None);
    }
    let time = plan.image.released.epoch();
    let mut tree = Tree::new(Meta::root(0o755, time));
    let mut put = |path: &'static str, bytes: Vec<u8>| {
        let origin: Arc<str> = Arc::from("encryption.root");
        overlay::put(
            &mut tree,
            &TreePath::literal(path),
            Meta::root(0o644, time),
            Kind::file(bytes),
            &origin,
        )
    };
    let mut settings = format!("PCR12={}\n", expected_pcr_12(plan));
    match &plan.encryption.root.recovery {
        Some(Recovery::Escrow { escrow }) => {
            let key = escrow_key(escrow.as_path())?;
            settings.push_str(&format!(
                "RECOVERY=escrow\nESCROW_KEY={}\n",
                hex(&key.fingerprint())
            ));
            put("/etc/hullwright/escrow.pem", key.to_pem().into_bytes())?;
        }
        _ => settings.push_str("RECOVERY=none\n"),
    }
    put("/etc/hullwright/root.conf", settings.into_bytes())?;
    Ok(Some(tree))
}

/// PCR 12 of a boot with the add-ons that the definition puts on the ESP, and nothing else; SHA-256.
fn expected_pcr_12(plan: &Plan) -> Value {
    let appended: Vec<String> = [AddonPlace::Loader, AddonPlace::Uki]
        .into_iter()
        .flat_map(|place| {
            let here = plan.uki.addons.iter().filter(|addon| addon.place == place);
            let by_name: BTreeMap<&str, &UkiAddon> = here.map(|addon| (addon.name.as_str(), addon)).collect();
            by_name.into_values().map(|addon| {
                let arguments: Vec<_> = addon.cmdline.iter().map(KernelArgument::as_str).collect();
                arguments.join(" ")
            })
        })
        .collect();
    let zero = Value::zero(Bank::Sha256);
    let event = measure::of_addons(&appended.join(" "), &[Bank::Sha256]);
    let digest = event.and_then(|event| event.digest(Bank::Sha256));
    digest.map_or(zero, |digest| zero.extended(&digest))
}

/// The public key that recovery keys are wrapped to.
fn escrow_key(path: &Path) -> Result<PublicKey, ComposeError> {
    let key = signing::public_key(path)?;
    match key.algorithm() {
        Algorithm::Rsa(bits) if bits >= 2048 => Ok(key),
        algorithm => Err(ComposeError::EscrowKey {
            path: path.to_owned(),
            algorithm: algorithm.to_string(),
        }),
    }
}

/// Whether the initrd has what makes and opens the root.
pub fn check_initrd(plan: &Plan, initrd: &Tree) -> Result<(), ComposeError> {
    if !plan.encryption.root.is_bound() {
        return Ok(());
    }
    let rekey = plan.encryption.root.rekey.is_some();
    let escrow = matches!(plan.encryption.root.recovery, Some(Recovery::Escrow { .. }));
    let rekeyed = REKEY.iter().filter(|_| rekey);
    let wanted = [UNIT]
        .iter()
        .chain(&PROGRAMS)
        .chain(escrow.then_some(&WRAPPER))
        .chain(rekeyed);
    let mut missing: Vec<String> = wanted
        .filter(|path| initrd.resolve(&TreePath::literal(path)).is_none())
        .map(|path| (*path).to_owned())
        .collect();
    let library = |(path, _): (TreePath, _)| path.name() == Some(tpm::DEVICE.as_bytes());
    if !initrd.walk().any(library) {
        missing.push(tpm::DEVICE.to_owned());
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ComposeError::NoWayToRoot { missing })
    }
}

#[cfg(test)]
mod tests;
