//! Entries of a remote store, and the signatures that make them worth reading.
//!
//! An entry says: *of this kind, under this key, made by this program, these are the parts.* It is signed as a whole, in a
//! [DSSE](https://github.com/secure-systems-lab/dsse) envelope, so none can be passed off as another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::formats::x509::PublicKey;
use crate::signing::{Signer, SigningError};
use crate::store::{Digest, hex};

const TYPE: &str = "application/vnd.hullwright.remote-entry.v1+json";
/// The largest envelope, in bytes.
pub(super) const LARGEST: u64 = 8 << 20;
/// More signatures than this no entry has: checking them takes time.
const MOST_SIGNATURES: usize = 16;

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub kind: String,
    /// Digest of all that the entry depends on.
    pub key: Digest,
    /// SHA-256 of the program that made it: another one may make something else of the same.
    pub program: Digest,
    pub parts: Vec<Part>,
}

/// A piece of an entry: an object of the remote store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is, in words of the entry's kind.
    pub name: String,
    /// Of the object's content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    /// Base64.
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    /// SHA-256 of the public key's DER, in hexadecimal.
    keyid: String,
    /// Base64.
    sig: String,
}

/// Why an entry is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    #[error("it is no entry")]
    Malformed,
    #[error("it is not signed by a key that is trusted here")]
    Foreign,
    #[error("its signature does not hold")]
    Forged,
    #[error("it was signed as another entry")]
    Moved,
    #[error("what it names is missing or is not what was signed")]
    Parts,
}

/// The envelope of `entry`.
///
/// # Errors
/// Where the key refuses.
pub fn seal(entry: &Entry, signer: &dyn Signer) -> Result<Vec<u8>, SigningError> {
    let refused = |error: serde_json::Error| SigningError::Refused(error.to_string());
    let payload = serde_json::to_vec(entry).map_err(refused)?;
    let signature = signer.sign(&to_be_signed(TYPE, &payload))?;
    let envelope = Envelope {
        payload_type: TYPE.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![Signature {
            keyid: hex(&signer.public_key().fingerprint()),
            sig: STANDARD.encode(signature),
        }],
    };
    serde_json::to_vec(&envelope).map_err(refused)
}

/// The entry in the envelope `bytes`, which somebody has to have signed whose key is `trusted`.
///
/// # Errors
/// Why it cannot be relied on.
pub fn open(bytes: &[u8], trusted: &[PublicKey]) -> Result<Entry, Refusal> {
    let malformed = |_| Refusal::Malformed;
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(malformed)?;
    if envelope.payload_type != TYPE {
        return Err(Refusal::Malformed);
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|_| Refusal::Malformed)?;
    let message = to_be_signed(TYPE, &payload);
    let mut refusal = Refusal::Foreign;
    for signature in envelope.signatures.iter().take(MOST_SIGNATURES) {
        let Some(key) = trusted
            .iter()
            .find(|key| hex(&key.fingerprint()) == signature.keyid)
        else {
            continue;
        };
        let Ok(bytes) = STANDARD.decode(&signature.sig) else {
            return Err(Refusal::Malformed);
        };
        if key.verify(key.scheme(), &message, &bytes).is_ok() {
            return serde_json::from_slice(&payload).map_err(malformed);
        }
        refusal = Refusal::Forged;
    }
    Err(refusal)
}

/// DSSE's pre-authentication encoding.
fn to_be_signed(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{Algorithm, PemKey, generate};

    fn key(algorithm: Algorithm) -> PemKey {
        generate(algorithm).unwrap().key
    }

    fn entry() -> Entry {
        Entry {
            kind: "test".to_owned(),
            key: Digest::of(b"key"),
            program: Digest::of(b"program"),
            parts: vec![Part {
                name: "one".to_owned(),
                sha256: Digest::of(b"one"),
                size: 3,
            }],
        }
    }

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let message = to_be_signed("http://example.com/HelloWorld", b"hello world");
        assert_eq!(message, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_entries_of_trusted_keys_are_opened() {
        let (ours, theirs) = (key(Algorithm::P256), key(Algorithm::P256));
        let bytes = seal(&entry(), &ours).unwrap();
        let trust = |key: &PemKey| vec![key.public_key().clone()];
        assert_eq!(open(&bytes, &trust(&ours)), Ok(entry()));
        assert_eq!(open(&bytes, &trust(&theirs)), Err(Refusal::Foreign));
        assert_eq!(open(&bytes, &[]), Err(Refusal::Foreign));
        // Somebody puts the trusted key's name on a signature of his own.
        let forged = String::from_utf8(seal(&entry(), &theirs).unwrap()).unwrap();
        let names = [&theirs, &ours].map(|key| hex(&key.public_key().fingerprint()));
        let forged = forged.replace(&names[0], &names[1]);
        assert_eq!(open(forged.as_bytes(), &trust(&ours)), Err(Refusal::Forged));
        for end in 0..bytes.len() {
            assert_eq!(
                open(&bytes[..end], &trust(&ours)),
                Err(Refusal::Malformed),
                "{end}"
            );
        }
    }

    #[test]
    fn no_change_of_an_entry_goes_by() {
        let signer = key(Algorithm::Ed25519);
        let trusted = [signer.public_key().clone()];
        let bytes = seal(&entry(), &signer).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(open(&changed, &trusted).is_err(), "byte {at}");
        }
    }
}
