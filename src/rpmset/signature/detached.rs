//! Signatures that lie in a file of their own beside what they sign (`repomd.xml.asc`).

use pgp::armor::{Dearmor, DearmorOptions};
use pgp::crypto::hash::HashAlgorithm;
use pgp::errors::Error as PgpError;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType};
use std::io::{BufReader, Read as _};

use super::keyring::issuers;
use super::{Fault, Keyring, Signer, Verdict};

const TAG: &str = "of the file";
/// More than anyone signs with.
const MOST: usize = 64;

/// Holds the detached `signatures` (armored or binary OpenPGP) over `data` against `keyring`: [`Verdict::Signed`]
/// where a listed key's signature over a strong hash holds, and no listed key's signature is wrong.
pub fn verify_detached(data: &[u8], signatures: &[u8], keyring: &Keyring) -> Verdict {
    let found = match packets(signatures) {
        Ok(found) => found,
        Err(fault) => return Verdict::Bad { key_id: None, fault },
    };
    let mut good: Option<Signer> = None;
    let mut weak = None;
    let mut unknown = Vec::new();
    for signature in &found {
        let ids = issuers(signature);
        match examine(signature, data, keyring) {
            Ok(Some((signer, None))) => good = good.or(Some(signer)),
            Ok(Some((signer, Some(hash)))) => weak = weak.or(Some((signer, hash))),
            Ok(None) if ids.is_empty() => unknown.push("unnamed".to_owned()),
            Ok(None) => unknown.extend(ids),
            Err(fault) => {
                let key_id = ids.into_iter().next();
                return Verdict::Bad { key_id, fault };
            }
        }
    }
    unknown.sort();
    unknown.dedup();
    match (good, weak) {
        (Some(signer), _) => Verdict::Signed { signer, unknown },
        (None, Some((signer, hash))) => Verdict::Weak { signer, hash },
        (None, None) if found.is_empty() => Verdict::Unsigned,
        (None, None) => Verdict::Unknown { key_ids: unknown },
    }
}

/// Who made the signature, with the name of its hash where that is weak; `None`, where that is no listed key.
fn examine(
    signature: &Signature,
    data: &[u8],
    keyring: &Keyring,
) -> Result<Option<(Signer, Option<String>)>, Fault> {
    let candidates = keyring.candidates(signature);
    if candidates.is_empty() {
        return Ok(None);
    }
    let (kind, made) = match (signature.typ(), signature.created()) {
        (Some(kind), Some(made)) => (kind, made.as_secs()),
        (Some(_), None) => return Err(Fault::Timeless),
        // Of a version that is not known; then neither is its maker.
        (None, _) => return Ok(None),
    };
    if kind != SignatureType::Binary {
        return Err(Fault::Type(kind.into()));
    }
    let mut fault = Fault::Forged;
    for (certificate, key) in candidates {
        match key.holds(signature, data) {
            Ok(()) => {
                key.check_at(made)?;
                let signer = Signer {
                    fingerprint: certificate.fingerprint.clone(),
                    key_fingerprint: key.fingerprint.clone(),
                    user_id: certificate.user_id.clone(),
                    created: made,
                };
                let weak = match signature.hash_alg() {
                    Some(hash @ (HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160)) => {
                        Some(hash.to_string())
                    }
                    _ => None,
                };
                return Ok(Some((signer, weak)));
            }
            Err(error @ PgpError::Unsupported { .. }) => fault = Fault::Unsupported(error.to_string()),
            Err(_) => {}
        }
    }
    // Without a name on it, it may be anyone's.
    match issuers(signature).is_empty() {
        true => Ok(None),
        false => Err(fault),
    }
}

fn packets(bytes: &[u8]) -> Result<Vec<Signature>, Fault> {
    let malformed = |problem: String| Fault::Malformed { tag: TAG, problem };
    let armored = bytes.windows(11).any(|part| part == b"-----BEGIN ");
    let binary = match armored {
        false => bytes.to_vec(),
        true => {
            let mut binary = Vec::new();
            let options = DearmorOptions::new().set_limit(bytes.len());
            let mut dearmor = Dearmor::with_options(BufReader::new(bytes), options);
            dearmor
                .read_to_end(&mut binary)
                .map_err(|error| malformed(error.to_string()))?;
            binary
        }
    };
    let mut found = Vec::new();
    for packet in PacketParser::new(binary.as_slice()) {
        match packet {
            Ok(Packet::Signature(signature)) => found.push(signature),
            Ok(_) => return Err(malformed("another packet than a signature".to_owned())),
            Err(error) => return Err(malformed(error.to_string())),
        }
        if found.len() > MOST {
            return Err(malformed(format!("more than {MOST} signatures")));
        }
    }
    Ok(found)
}
