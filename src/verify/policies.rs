//! Signed PCR policies in kernel images: that each is the PCR key's, and for a moment of this very image's boot.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::kernel::{Facts, KernelImage};
use super::{Notes, Place, Subject};
use crate::formats::at::ReadAt;
use crate::formats::pcr::Bank;
use crate::formats::pcr::policy::{Policy, STUB_PCR};
use crate::formats::pcr::uki::{PHASES, SectionDigests, at_phase};
use crate::formats::pe::Section;
use crate::formats::{pcr, pem};
use crate::signing::{PublicKey, Scheme};
use crate::store::{hex, unhex};

const MAX_SECTION: u32 = 1 << 20;

/// A policy, as systemd-measure(1) writes it.
#[derive(Debug, Deserialize)]
struct Signed {
    pcrs: Vec<u8>,
    pkfp: String,
    pol: String,
    sig: String,
}

/// Check `pcr-policies`.
pub fn policies(subject: &Subject, notes: &mut Notes) {
    let (Some(medium), Some((entry, Ok(_)))) = (subject.medium(), &subject.esp) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    let mut count = 0;
    for kernel in &subject.kernels {
        let Ok(facts) = &kernel.facts else { continue };
        let place = || {
            let disk = Place::file(&medium.name).partition(entry.number);
            disk.path(kernel.path.clone())
        };
        let mut without = false;
        match check(kernel, facts, medium.partition(entry)) {
            Ok(Found::Policies(found)) => count += found,
            Ok(Found::KeyOnly) => without = true,
            Ok(Found::Nothing) => {}
            Err(problems) => problems
                .into_iter()
                .for_each(|problem| notes.fail(place(), problem)),
        }
        if without {
            notes.not_checked(format!(
                "`{}` has a PCR key and no policies signed by it yet",
                kernel.path
            ));
        }
    }
    notes.held(match count {
        0 => "no kernel image has signed policies".to_owned(),
        _ => format!("{count} policies signed by the key in the kernel image"),
    });
}

enum Found {
    Nothing,
    /// A key, and nothing that it signed.
    KeyOnly,
    Policies(usize),
}

fn check(kernel: &KernelImage, facts: &Facts, part: impl ReadAt + Copy) -> Result<Found, Vec<String>> {
    let one = |problem: String| vec![problem];
    let content = kernel.file.content(part);
    let digests = SectionDigests::of_image(&facts.image, &content, &Bank::ALL)
        .map_err(|error| one(format!("it cannot be measured: {error}")))?;
    let mut found = Found::Nothing;
    let mut problems = Vec::new();
    for profile in 0..digests.profiles() {
        let find = pcr::uki::sections(facts.image.sections(), Section::name, profile);
        let text = |name: &str| {
            let Some(section) = find(name) else {
                return Ok(None);
            };
            read(section, &content).map(Some)
        };
        let (key, signed) = (text(".pcrpkey").map_err(one)?, text(".pcrsig").map_err(one)?);
        match (key, signed) {
            (None, None) => {}
            (Some(_), None) => found = Found::KeyOnly,
            (None, Some(_)) => {
                problems.push("it has signed PCR policies, and no key that they are by".to_owned())
            }
            (Some(key), Some(signed)) => {
                // Policies of other profiles may stand there too.
                let values = (0..digests.profiles())
                    .flat_map(|profile| digests.pcr_11(profile))
                    .collect::<Vec<_>>();
                match check_policies(&key, &signed, &values) {
                    Ok(count) => found = Found::Policies(count),
                    Err(found) => problems.extend(found),
                }
            }
        }
    }
    match problems.is_empty() {
        true => Ok(found),
        false => Err(problems),
    }
}

fn read(section: &Section, content: &impl ReadAt) -> Result<String, String> {
    let size = section.content_size();
    if size > MAX_SECTION {
        return Err(format!("its section `{}` is larger than 1 MiB", section.name()));
    }
    let mut bytes = vec![0; size as usize];
    content
        .read_exact_at(&mut bytes, section.raw_offset.into())
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("its section `{}` is not UTF-8 text", section.name()))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// The number of policies in `signed` (JSON), where each is signed by `key` (PEM) and for a moment of a boot that
/// leaves one of `values` in PCR 11.
fn check_policies(key: &str, signed: &str, values: &[pcr::Value]) -> Result<usize, Vec<String>> {
    let blocks = pem::blocks(key).unwrap_or_default();
    let block = blocks.iter().find(|block| block.label == "PUBLIC KEY");
    let key = block.and_then(|block| PublicKey::from_spki(&block.bytes).ok());
    let key = key.ok_or_else(|| vec!["its section `.pcrpkey` holds no public key in PEM".to_owned()])?;
    let banks: BTreeMap<String, Vec<Signed>> = serde_json::from_str(signed).map_err(|error| {
        vec![format!(
            "its section `.pcrsig` is not the JSON of signed policies: {error}"
        )]
    })?;
    let fingerprint = Bank::Sha256.digest(key.key()).to_string();
    let mut problems = Vec::new();
    let mut count = 0;
    for (name, entries) in &banks {
        let scheme = match name.as_str() {
            "sha256" => Scheme::RsaPkcs1Sha256,
            "sha384" => Scheme::RsaPkcs1Sha384,
            "sha512" => Scheme::RsaPkcs1Sha512,
            _ => {
                problems.push(format!("it has policies for the bank `{}`", name.escape_debug()));
                continue;
            }
        };
        let of_bank = values.iter().filter(|value| value.bank().name() == name.as_str());
        let known: Vec<String> = of_bank.flat_map(|value| moments(*value)).collect();
        for entry in entries {
            let signature = BASE64.decode(&entry.sig).unwrap_or_default();
            let policy = unhex(&entry.pol).unwrap_or_default();
            if entry.pcrs != [STUB_PCR] {
                problems.push(format!(
                    "a policy is over the PCRs {:?}, not PCR 11 alone",
                    entry.pcrs
                ));
            } else if entry.pkfp != fingerprint {
                problems.push(format!(
                    "a policy ({name}) names another key than its section `.pcrpkey` holds"
                ));
            } else if key.verify(scheme, &policy, &signature).is_err() {
                problems.push(format!(
                    "the signature of the policy {} ({name}) is not the PCR key's",
                    entry.pol.escape_debug()
                ));
            } else if !known.contains(&entry.pol) {
                problems.push(format!(
                    "the signed policy {} ({name}) is for no moment of this kernel image's boot",
                    entry.pol
                ));
            } else {
                count += 1;
            }
        }
    }
    match problems.is_empty() {
        true => Ok(count),
        false => Err(problems),
    }
}

/// The policies of every moment of a boot that leaves `value` as the kernel is started.
fn moments(value: pcr::Value) -> Vec<String> {
    let phases = (0..=PHASES.len()).map(|count| PHASES.get(..count).unwrap_or_default().join(":"));
    phases
        .map(|phase| hex(&Policy::new(at_phase(value, &phase), &phase).digest))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pcr::policy::{self, to_json};
    use crate::signing::{Algorithm, Signer as _, generate};

    #[test]
    fn policies_are_held_against_key_and_image() {
        let key = generate(Algorithm::Rsa(2048)).unwrap().key;
        let value = Bank::Sha256.digest(b"a kernel image");
        let sign = |value: pcr::Value, phase: &str| {
            let policy = Policy::new(at_phase(value, phase), phase);
            let signature = key.sign_by(Scheme::RsaPkcs1Sha256, &policy.digest).unwrap();
            policy::Signed { policy, signature }
        };
        let pem = key.public_key().to_pem();
        let json = |signed: &[policy::Signed]| to_json(signed, key.public_key().key());
        let good = json(&[
            sign(value, "enter-initrd"),
            sign(value, "enter-initrd:leave-initrd"),
        ]);
        assert_eq!(check_policies(&pem, &good, &[value]), Ok(2));

        let other = Bank::Sha256.digest(b"another kernel image");
        let mut forged = sign(value, "enter-initrd");
        forged.signature[5] ^= 1;
        let stranger = generate(Algorithm::P256).unwrap().key.public_key().to_pem();
        let cases = [
            (
                pem.clone(),
                json(&[sign(other, "enter-initrd")]),
                "for no moment of this kernel image's boot",
            ),
            (pem.clone(), json(&[sign(value, "leave-initrd")]), "for no moment"),
            (pem.clone(), json(&[forged]), "is not the PCR key's"),
            (
                pem.clone(),
                good.replace("[11]", "[11,12]"),
                "over the PCRs [11, 12]",
            ),
            (
                pem.clone(),
                good.replace("\"pkfp\":\"", "\"pkfp\":\"0"),
                "names another key",
            ),
            (pem.clone(), good.replace("sha256", "sha1"), "the bank `sha1`"),
            (pem.clone(), "{".to_owned(), "not the JSON"),
            (stranger, good.clone(), "names another key"),
            (String::new(), good, "no public key"),
        ];
        for (pem, json, words) in cases {
            let problems = check_policies(&pem, &json, &[value]).unwrap_err();
            assert!(
                problems.iter().any(|problem| problem.contains(words)),
                "{words}: {problems:?}"
            );
        }
    }
}
