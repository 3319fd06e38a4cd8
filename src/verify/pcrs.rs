//! What the machine's TPM will hold, computed again from the disk and held against the manifest's prediction.

use super::{Notes, Place, Subject, commit, esp, manifest};
use crate::disk::Arch;
use crate::firmware::{OWNER, SECURE_BOOT_DIRECTORY, read_directory};
use crate::formats::at::{Content, ReadAt as _};
use crate::formats::pcr::uki::{SectionDigests, at_phase};
use crate::formats::pcr::{Bank, Value};
use crate::measure::{Addon, Chain, Event, Firmware, events};
use crate::report::{ManifestFirmwarePcrs, ManifestPcrs};
use crate::store::unhex;

const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];
const MAX_LOADER_CONF: u64 = 1 << 16;

/// Check `pcrs`.
pub fn pcrs(subject: &Subject, notes: &mut Notes) {
    let Some(manifest) = manifest::get(subject, notes) else {
        return;
    };
    let Some(predicted) = &manifest.pcrs else {
        return notes.not_checked("the manifest predicts no PCRs");
    };
    let (Some(medium), Some((entry, Ok(volume)))) = (subject.medium(), &subject.esp) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    let wanted = unhex(&manifest.usr_root_hash);
    let hashes = subject.root_hashes();
    let Some((kernel, _)) = hashes.iter().find(|(_, hash)| Some(*hash) == wanted.as_deref()) else {
        return notes
            .not_checked("no kernel image seals the manifest's root hash (see check `manifest-facts`)");
    };
    let part = medium.partition(entry);
    let place = |path: &str| Place::file(&medium.name).partition(entry.number).path(path);
    let uki = kernel.file.content(part);
    if let Ok(facts) = &kernel.facts {
        match SectionDigests::of_image(&facts.image, &uki, &BANKS) {
            Ok(digests) => {
                let problems = moments(&digests, predicted);
                problems
                    .into_iter()
                    .for_each(|problem| notes.fail(place(&kernel.path), problem));
                if let Some(problem) = commit_differs(subject, &digests) {
                    notes.fail(Place::file(commit::REPO), problem);
                }
            }
            Err(error) => notes.fail(place(&kernel.path), format!("it cannot be measured: {error}")),
        }
    }
    let find = |path: &str| {
        volume
            .files
            .iter()
            .find(|file| file.path.eq_ignore_ascii_case(path))
    };
    let loader_path = esp::loader_path(subject.arch.unwrap_or(Arch::X86_64));
    let (Some(loader), Some(conf)) = (find(loader_path), find(esp::LOADER_CONF)) else {
        return notes.not_checked("boot loader or its configuration is not on the ESP (see check `esp`)");
    };
    let mut loader_conf = vec![0; conf.size.min(MAX_LOADER_CONF) as usize];
    if let Err(error) = conf.content(part).read_exact_at(&mut loader_conf, 0) {
        return notes.fail(place(&conf.path), format!("it cannot be read: {error}"));
    }
    let addons = esp::addons(volume, &kernel.path);
    let contents: Vec<_> = addons.iter().map(|file| file.content(part)).collect();
    let loader_content = loader.content(part);
    let chain = Chain {
        loader: Content::new(&loader_content, loader.size),
        loader_conf: &loader_conf,
        uki: Content::new(&uki, kernel.file.size),
        profile: 0,
        addons: addons
            .iter()
            .zip(&contents)
            .map(|(file, content)| Addon {
                name: file.path.rsplit('/').next().unwrap_or_default(),
                content: Content::new(content, file.size),
            })
            .collect(),
    };
    let found = match events(&chain, &BANKS) {
        Ok(found) => found,
        Err(error) => {
            return notes.fail(
                place(&kernel.path),
                format!("the boot cannot be measured: {error}"),
            );
        }
    };
    compare_events(&found, predicted, &place, notes);
    let known = match firmware(subject, &chain) {
        Ok(known) => known,
        Err(problem) => return notes.fail(Place::file(SECURE_BOOT_DIRECTORY), problem),
    };
    for listed in &predicted.firmware {
        match known.iter().find(|firmware| firmware.name == listed.firmware) {
            Some(firmware) => compare_registers(firmware, &found, listed, notes),
            None => notes.held(format!("registers by `{}` not computed", listed.firmware)),
        }
    }
    notes.held(format!(
        "{} moments of PCR 11, {} events",
        predicted.uki.len(),
        found.len()
    ));
}

/// The firmware whose registers can be computed: without keys, and with those that the build left beside the image.
fn firmware(subject: &Subject, chain: &Chain<'_>) -> Result<Vec<Firmware>, String> {
    let mut known = vec![Firmware::ovmf()];
    let keys = subject.directory.as_ref();
    let keys = keys.map(|directory| directory.join(SECURE_BOOT_DIRECTORY));
    let Some(keys) = keys.filter(|keys| keys.is_dir()) else {
        return Ok(known);
    };
    let databases = read_directory(&keys, OWNER);
    let databases = databases.map_err(|error| format!("its keys cannot be read: {error}"))?;
    let authorities = databases.vouchers(&chain.programs(), None);
    for (name, databases) in [
        (Firmware::SECURE_BOOT_ON, &databases.enrolled()),
        (Firmware::AUTO_ENROLLED, &databases),
    ] {
        known.push(Firmware::ovmf_with_keys(
            name,
            databases.contents(),
            authorities.clone(),
        ));
    }
    Ok(known)
}

fn compare_registers(firmware: &Firmware, found: &[Event], listed: &ManifestFirmwarePcrs, notes: &mut Notes) {
    for (bank, listed) in [(Bank::Sha256, &listed.sha256), (Bank::Sha384, &listed.sha384)] {
        for (pcr, value) in firmware.predict(found, bank) {
            if listed
                .get(&pcr)
                .is_some_and(|listed| *listed != value.to_string())
            {
                let name = &firmware.name;
                let what = format!(
                    "PCR {pcr} ({bank}) comes to {value} by firmware `{name}`; the manifest says otherwise"
                );
                notes.fail(Place::file(manifest::NAME), what);
            }
        }
    }
}

/// What the commit's metadata says of PCR 11 as the kernel is started, where that is not so.
fn commit_differs(subject: &Subject, digests: &SectionDigests) -> Option<String> {
    // Why there is none to read is told elsewhere.
    let (repo, checksum) = commit::find(subject, &mut Notes::default())?;
    let object = repo.commit(&checksum).ok()?;
    digests.pcr_11(0).iter().find_map(|value| {
        let key = format!("hullwright.uki-pcr-11.{}", value.bank());
        let listed = object.metadata.get(&key)?.as_str().unwrap_or_default();
        let problem = || {
            format!(
                "`{key}` of the commit is `{}`; the kernel image gives {value}",
                listed.escape_debug()
            )
        };
        (listed != value.to_string()).then(problem)
    })
}

/// PCR 11 at every moment that the manifest has.
fn moments(digests: &SectionDigests, predicted: &ManifestPcrs) -> Vec<String> {
    let mut problems = Vec::new();
    for moment in &predicted.uki {
        let profile = moment.profile.unwrap_or(0);
        let values = match profile < digests.profiles() {
            true => digests.pcr_11(profile),
            false => Vec::new(),
        };
        for (bank, listed) in [(Bank::Sha256, &moment.sha256), (Bank::Sha384, &moment.sha384)] {
            let value = values.iter().find(|value| value.bank() == bank);
            let value = text(value.map(|value| at_phase(*value, &moment.phase)));
            if value != *listed {
                let phase = if moment.phase.is_empty() {
                    "the kernel's start"
                } else {
                    &moment.phase
                };
                problems.push(format!("PCR 11 ({bank}) at {phase} of profile {profile} comes to {value}; the manifest says {listed}"));
            }
        }
    }
    problems
}

fn compare_events(
    found: &[Event],
    predicted: &ManifestPcrs,
    place: &dyn Fn(&str) -> Place,
    notes: &mut Notes,
) {
    for (event, listed) in found.iter().zip(&predicted.events) {
        let same = event.pcr == listed.pcr
            && event.what == listed.what
            && text(event.digest(Bank::Sha256)) == listed.sha256
            && text(event.digest(Bank::Sha384)) == listed.sha384;
        if !same {
            let what = format!(
                "what PCR {} measures ({}) is not what the manifest predicts ({})",
                event.pcr, event.what, listed.what
            );
            notes.fail(place(esp::KERNELS), what);
        }
    }
    if found.len() != predicted.events.len() {
        let what = format!(
            "the boot measures {} things; the manifest predicts {}",
            found.len(),
            predicted.events.len()
        );
        notes.fail(place(esp::KERNELS), what);
    }
}

fn text(value: Option<Value>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
