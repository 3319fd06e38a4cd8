//! Authenticode signatures of what firmware starts: boot loader, kernel images, add-ons.

use super::{Notes, Place, Subject, esp};
use crate::formats::authenticode::{self, Trust};
use crate::formats::efi::{Entry, SignatureDatabase};
use crate::formats::x509::Certificate;

/// Check `signatures`.
pub fn signatures(subject: &Subject, notes: &mut Notes) {
    let (Some(medium), Some((entry, Ok(volume)))) = (subject.medium(), &subject.esp) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    let part = medium.partition(entry);
    let mut unsigned = Vec::new();
    let mut believed = Vec::new();
    for file in volume.files.iter().filter(|file| esp::is_program(&file.path)) {
        let place = || {
            let disk = Place::file(&medium.name).partition(entry.number);
            disk.path(file.path.clone())
        };
        let content = file.content(part);
        if !subject.certificates.is_empty() {
            let trust = Trust {
                certificates: subject.certificates.clone(),
                ..forbidden(&subject.forbidden)
            };
            match authenticode::verify(&content, file.size, &trust) {
                Ok(Some(signer)) => notes.held(format!("{} by {}", file.path, signer.subject())),
                Ok(None) => {}
                Err(fault) => notes.fail(
                    place(),
                    format!("firmware with these certificates refuses it: {fault}"),
                ),
            }
            continue;
        }
        // Without a certificate to believe in, a signature can still be one of other bytes.
        let read = || {
            let digest = authenticode::digest(&content, file.size)?;
            let signatures = authenticode::signatures(&content, file.size)?;
            let others = signatures
                .iter()
                .filter(|signature| signature.digest != digest)
                .count();
            Ok::<_, authenticode::AuthenticodeError>((signatures.len(), others))
        };
        match read() {
            Ok((0, _)) => unsigned.push(file.path.as_str()),
            Ok((_, 0)) => believed.push(file.path.as_str()),
            Ok(_) => notes.fail(
                place(),
                "its signature was made for other bytes: it was changed after it was signed",
            ),
            Err(error) => notes.fail(place(), format!("its signatures cannot be read: {error}")),
        }
    }
    if !unsigned.is_empty() {
        notes.not_checked(format!(
            "not signed, so firmware that enforces Secure Boot refuses it: {}",
            unsigned.join(", ")
        ));
    }
    if !believed.is_empty() {
        let files = believed.join(", ");
        notes.not_checked(format!(
            "who signed {files}: give the certificates of db with `--cert FILE`"
        ));
    }
}

/// What `dbx` forbids.
fn forbidden(dbx: &SignatureDatabase) -> Trust {
    let mut trust = Trust::default();
    for entry in dbx.entries() {
        match entry {
            // One that cannot be read signed nothing that can be.
            Entry::Certificate(der) => trust.forbidden_certificates.extend(Certificate::from_der(der)),
            Entry::Image(digest) => trust.forbidden_images.push(*digest),
            Entry::CertificateDigest(digest, _) => {
                trust.forbidden_hashes.extend(<[u8; 32]>::try_from(digest))
            }
            Entry::Other(..) => {}
        }
    }
    trust
}
