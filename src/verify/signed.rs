//! Signatures beside what firmware checks: of the root hash, and of the commit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::commit;
use super::kernel::Facts;
use super::table::NO_TABLE;
use super::{Notes, Place, Subject};
use crate::disk::Role;
use crate::formats::at::ReadAt as _;
use crate::formats::cms::Message;
use crate::formats::ddi_signature::DdiSignature;
use crate::ostree;
use crate::signing::{Algorithm, Scheme};
use crate::store::hex;

/// More than a signature takes, and less than systemd reads.
const LARGEST: u64 = 1 << 20;

/// Check `verity-signature`.
pub fn root_hash(subject: &Subject, notes: &mut Notes) {
    let Some((medium, entries)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let hashes = subject.root_hashes();
    let mut partitions = 0;
    for entry in entries {
        if subject.role(entry) != Some(Role::UsrVeritySig) || entry.label == "_empty" {
            continue;
        }
        partitions += 1;
        let place = || {
            let disk = Place::file(&medium.name).partition(entry.number);
            disk.at(entry.offset())
        };
        let part = medium.partition(entry);
        let mut bytes = vec![0; part.size.min(LARGEST) as usize];
        if let Err(error) = part.read_exact_at(&mut bytes, 0) {
            notes.fail(place(), format!("it cannot be read: {error}"));
            continue;
        }
        let signature = match DdiSignature::parse(&bytes) {
            Ok(signature) => signature,
            Err(error) => {
                notes.fail(place(), error.to_string());
                continue;
            }
        };
        if !hashes.iter().any(|(_, hash)| hex(hash) == signature.root_hash()) {
            let found = signature.root_hash();
            notes.fail(
                place(),
                format!("it is for the root hash {found}, which no kernel image has"),
            );
        }
        match check(subject, &signature.signature(), signature.root_hash()) {
            Ok(Signer::Known(subject, fingerprint)) => {
                if fingerprint != signature.certificate_fingerprint() {
                    notes.fail(
                        place(),
                        "it names another certificate than the one that made its signature",
                    );
                }
                notes.held(format!("root hash signed by {subject}"));
            }
            Ok(Signer::Unknown) => notes.not_checked(UNKNOWN),
            Err(problem) => notes.fail(place(), problem),
        }
    }
    let mut on_command_lines = 0;
    for (kernel, hash) in hashes {
        let Some(text) = kernel.facts.as_ref().ok().and_then(on_command_line) else {
            continue;
        };
        on_command_lines += 1;
        let place = || Place::file(&medium.name).path(kernel.path.clone());
        let Ok(message) = BASE64.decode(text) else {
            notes.fail(
                place(),
                "the root hash's signature on its command line is no base64",
            );
            continue;
        };
        match check(subject, &message, &hex(hash)) {
            Ok(Signer::Known(subject, _)) => notes.held(format!("on the command line: {subject}")),
            Ok(Signer::Unknown) => notes.not_checked(UNKNOWN),
            Err(problem) => notes.fail(place(), format!("on its command line, {problem}")),
        }
    }
    if partitions + on_command_lines == 0 {
        notes.held("no root hash is signed");
    }
}

const UNKNOWN: &str = "who signed the root hash: give the certificate with `--verity-cert FILE`";

enum Signer {
    /// Subject and fingerprint of a certificate that was given.
    Known(String, String),
    /// Sound, as far as can be seen without the certificate.
    Unknown,
}

/// Whether `message` (PKCS #7, DER) is a signature of `root_hash`, in hexadecimal; in words what is wrong.
fn check(subject: &Subject, message: &[u8], root_hash: &str) -> Result<Signer, String> {
    let message = Message::parse(message)
        .map_err(|error| format!("the root hash's signature cannot be read: {error}"))?;
    let trusted = match subject.verity_certificates.is_empty() {
        // Where nothing else is said, one key signs everything.
        true => &subject.certificates,
        false => &subject.verity_certificates,
    };
    if trusted.is_empty() {
        return Ok(Signer::Unknown);
    }
    match message.verify(Some(root_hash.as_bytes()), trusted) {
        Ok(signers) => {
            let signer = signers.first();
            signer
                .map(|signer| Signer::Known(signer.subject().to_owned(), hex(&signer.fingerprint())))
                .ok_or_else(|| "the root hash's signature has no signer".to_owned())
        }
        Err(error) => Err(format!("the root hash's signature does not hold: {error}")),
    }
}

/// The signature that the kernel is told of, in base64.
fn on_command_line(facts: &Facts) -> Option<&str> {
    let mut words = facts.cmdline.split_ascii_whitespace();
    let options = words.find_map(|word| word.strip_prefix("systemd.verity_usr_options="))?;
    let mut options = options.split(',');
    options.find_map(|option| option.strip_prefix("root-hash-signature=base64:"))
}

/// Check `commit-signature`.
pub fn commit_signature(subject: &Subject, notes: &mut Notes) {
    let Some((_, checksum)) = commit::find(subject, notes) else {
        return;
    };
    let Some(directory) = &subject.directory else {
        return;
    };
    let repo = directory.join(commit::REPO);
    let place = || Place::file(commit::REPO);
    let read = ostree::commit_bytes(&repo, &checksum)
        .and_then(|bytes| Ok((bytes, ostree::read_signatures(&repo, &checksum)?)));
    let (bytes, signatures) = match read {
        Ok(read) => read,
        Err(error) => return notes.fail(place(), error.to_string()),
    };
    match (&subject.commit_key, signatures.len()) {
        (None, 0) => notes.held("the commit is not signed"),
        (None, count) => notes.not_checked(format!(
            "who made {count} signature(s) of the commit: give the public key with `--commit-key FILE`"
        )),
        (Some(_), 0) => notes.fail(place(), "the commit is not signed"),
        (Some(key), _) => {
            let good = |signature: &Vec<u8>| key.verify(Scheme::Ed25519, &bytes, signature).is_ok();
            if key.algorithm() != Algorithm::Ed25519 {
                let algorithm = key.algorithm();
                notes.fail(
                    place(),
                    format!("commits are signed with Ed25519; the key that was given is {algorithm}"),
                );
            } else if signatures.iter().any(good) {
                notes.held(format!("signed by {}…", &hex(&key.fingerprint())[..16]));
            } else {
                notes.fail(
                    place(),
                    "none of the commit's signatures is by the key that was given",
                );
            }
        }
    }
}
