//! What a certificate says of its keys: which may sign, from when and until when.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::errors::Error as PgpError;
use pgp::packet::{PublicKey, PublicSubkey, RevocationCode, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Fingerprint, KeyDetails, KeyVersion, PublicParams, Tag};

use super::Fault;
use crate::store::hex;

/// RPM with its own parser accepts keys of old distributions down to this length.
const SHORTEST: u16 = 1024;

/// A certificate that packages may be signed by.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Of the primary key, upper-case hexadecimal.
    pub fingerprint: String,
    /// Its primary or first user id; empty where it has none.
    pub user_id: String,
    /// The file it was read from; the first, where it lies in several.
    pub file: PathBuf,
    pub(super) keys: Vec<Key>,
}

/// A primary key or subkey, with what decides whether its signatures count.
#[derive(Debug, Clone)]
pub(super) struct Key {
    public: Public,
    /// Upper-case hexadecimal.
    pub fingerprint: String,
    pub id: String,
    created: u32,
    /// Exclusive; of the key or its primary key, whichever is earlier.
    expires: Option<u64>,
    revocations: Vec<Revocation>,
    /// Why it can sign nothing at all.
    barred: Option<Fault>,
}

#[derive(Debug, Clone)]
enum Public {
    Primary(PublicKey),
    Subkey(PublicSubkey),
}

#[derive(Debug, Clone, Copy)]
struct Revocation {
    at: u32,
    /// Whether signatures made before it are void too: the key may be in foreign hands.
    hard: bool,
    reason: &'static str,
}

/// What the newest self-signature of a kind says.
#[derive(Debug, Clone, Copy, Default)]
struct Claims {
    /// Seconds after the key's creation.
    lifetime: Option<u32>,
    /// `None` where it has no key flags.
    signs: Option<bool>,
}

impl Key {
    fn new(public: Public, details: &impl KeyDetails) -> Self {
        let bits = short_bits(details.public_params());
        Self {
            fingerprint: upper_hex(details.fingerprint().as_bytes()),
            id: upper_hex(details.legacy_key_id().as_ref()),
            created: details.created_at().as_secs(),
            expires: None,
            revocations: Vec::new(),
            barred: bits.map(Fault::Short),
            public,
        }
    }

    /// Whether `signature` over `data` is by this key: mathematics only.
    pub fn holds(&self, signature: &Signature, data: impl std::io::Read) -> Result<(), PgpError> {
        match &self.public {
            Public::Primary(key) => signature.verify(key, data),
            Public::Subkey(key) => signature.verify(key, data),
        }
    }

    /// Whether the key could sign files at `time`.
    pub fn check_at(&self, time: u32) -> Result<(), Fault> {
        if let Some(fault) = &self.barred {
            return Err(fault.clone());
        }
        if let Some(revocation) = self.revocations.iter().find(|it| it.hard || time >= it.at) {
            let Revocation { at, reason, .. } = *revocation;
            return Err(Fault::Revoked { reason, at });
        }
        if time < self.created {
            return Err(Fault::Early { at: time });
        }
        match self.expires {
            Some(at) if u64::from(time) >= at => Err(Fault::Expired {
                at: u32::try_from(at).unwrap_or(u32::MAX),
            }),
            _ => Ok(()),
        }
    }

    fn expire(&mut self, lifetime: Option<u32>) {
        // A lifetime of 0 means none.
        if let Some(lifetime) = lifetime.filter(|&seconds| seconds > 0) {
            let at = u64::from(self.created) + u64::from(lifetime);
            self.expires = Some(self.expires.map_or(at, |other| other.min(at)));
        }
    }

    fn bar(&mut self, fault: Fault) {
        self.barred.get_or_insert(fault);
    }
}

impl Certificate {
    /// Evaluates a certificate's own signatures.
    ///
    /// # Errors
    /// Why none of its keys can be used, in words.
    pub(super) fn new(certificate: &SignedPublicKey, file: &Path) -> Result<Self, &'static str> {
        let primary = &certificate.primary_key;
        if !matches!(primary.version(), KeyVersion::V4 | KeyVersion::V6) {
            return Err("it is of a version whose fingerprints can be forged or that is not standardised");
        }
        let details = &certificate.details;
        let direct = newest(&details.direct_signatures, |signature| {
            signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
        });
        let mut certified = Vec::new();
        let mut named = Vec::new();
        for user in &details.users {
            let own = |signature: &Signature, revokes: bool| {
                (signature.typ() == Some(SignatureType::CertRevocation)) == revokes
                    && signature
                        .verify_certification(primary, Tag::UserId, &user.id)
                        .is_ok()
            };
            let Some(claim) = newest(&user.signatures, |signature| own(signature, false)) else {
                continue;
            };
            let revoked = newest(&user.signatures, |signature| own(signature, true));
            if revoked.is_some_and(|revoked| revoked.created() >= claim.created()) {
                continue;
            }
            named.push((Reverse(claim.is_primary()), shown(user.id.id())));
            certified.push(claim.clone());
        }
        let certified = newest(&certified, |_| true);
        if direct.is_none() && certified.is_none() {
            return Err("no signature by itself holds, so that nothing is known of its lifetime and use");
        }
        // Both kinds may limit the key, and neither may lift what the other says.
        let claims = [direct, certified].map(|signature| signature.map(claims).unwrap_or_default());

        let mut key = Key::new(Public::Primary(primary.clone()), primary);
        for claim in claims {
            key.expire(claim.lifetime);
        }
        key.revocations = revocations(&details.revocation_signatures, |signature| {
            signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
        });
        let mut keys: Vec<_> = certificate
            .public_subkeys
            .iter()
            .map(|subkey| bind(subkey, primary, &key))
            .collect();
        if claims.iter().any(|claim| claim.signs == Some(false)) {
            key.bar(Fault::NotForSigning);
        }
        keys.insert(0, key);
        named.sort_by_key(|(order, _)| *order);
        Ok(Self {
            fingerprint: keys[0].fingerprint.clone(),
            user_id: named.into_iter().next().map(|(_, name)| name).unwrap_or_default(),
            file: file.to_owned(),
            keys,
        })
    }
}

/// A subkey, with all that limits its primary key.
fn bind(subkey: &SignedPublicSubKey, primary: &PublicKey, primary_key: &Key) -> Key {
    let mut key = Key::new(Public::Subkey(subkey.key.clone()), &subkey.key);
    let binding = newest(&subkey.signatures, |signature| {
        signature.typ() == Some(SignatureType::SubkeyBinding)
            && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    });
    key.expires = primary_key.expires;
    match binding {
        None => key.bar(Fault::Unbound),
        Some(binding) => {
            let claims = claims(binding);
            key.expire(claims.lifetime);
            let confirmed = binding.embedded_signature().is_some_and(|back| {
                hash_binds(back) && back.verify_primary_key_binding(&subkey.key, primary).is_ok()
            });
            if claims.signs != Some(true) {
                key.bar(Fault::NotForSigning);
            } else if !confirmed {
                key.bar(Fault::Unconfirmed);
            }
        }
    }
    key.revocations = revocations(&subkey.signatures, |signature| {
        signature.typ() == Some(SignatureType::SubkeyRevocation)
            && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    });
    key.revocations.extend(&primary_key.revocations);
    key
}

/// The newest of those that `holds`; of two made at once, the one that limits more.
fn newest(signatures: &[Signature], holds: impl Fn(&Signature) -> bool) -> Option<&Signature> {
    let made = |signature: &Signature| {
        let lifetime = claims(signature).lifetime.filter(|&seconds| seconds > 0);
        (signature.created(), Reverse(lifetime.unwrap_or(u32::MAX)))
    };
    signatures
        .iter()
        .filter(|signature| signature.created().is_some() && hash_binds(signature) && holds(signature))
        .max_by_key(|signature| made(signature))
}

/// To forge a self-signature takes a second preimage: harder than the collision that forges a package's
/// signature, and out of reach with SHA-1, which many distributions' certificates still rest on.
fn hash_binds(signature: &Signature) -> bool {
    signature.hash_alg() != Some(HashAlgorithm::Md5)
}

fn claims(signature: &Signature) -> Claims {
    let flagged = signature.config().is_some_and(|config| {
        let mut subpackets = config.hashed_subpackets();
        subpackets.any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    });
    Claims {
        lifetime: signature.key_expiration_time().map(|time| time.as_secs()),
        signs: flagged.then(|| signature.key_flags().sign()),
    }
}

fn revocations(signatures: &[Signature], holds: impl Fn(&Signature) -> bool) -> Vec<Revocation> {
    let revocation = |signature: &Signature| {
        let (hard, reason) = match signature.revocation_reason_code() {
            Some(RevocationCode::KeySuperseded) => (false, "superseded"),
            Some(RevocationCode::KeyRetired) => (false, "retired"),
            Some(RevocationCode::CertUserIdInvalid) => (false, "user id invalid"),
            Some(RevocationCode::KeyCompromised) => (true, "compromised"),
            _ => (true, "no reason given"),
        };
        Revocation {
            at: signature.created().map_or(0, |time| time.as_secs()),
            hard,
            reason,
        }
    };
    signatures
        .iter()
        .filter(|signature| holds(signature))
        .map(revocation)
        .collect()
}

/// The length of an RSA or DSA key where it is too short.
fn short_bits(params: &PublicParams) -> Option<u16> {
    let mut numbers = Vec::new();
    match params {
        PublicParams::RSA(params) => params.to_writer(&mut numbers).ok()?,
        PublicParams::DSA(params) => params.to_writer(&mut numbers).ok()?,
        _ => return None,
    }
    // Both begin with the modulus, whose length in bits stands before it.
    let length: [u8; 2] = numbers.get(..2)?.try_into().ok()?;
    Some(u16::from_be_bytes(length)).filter(|&bits| bits < SHORTEST)
}

pub(super) fn upper_hex(bytes: &[u8]) -> String {
    hex(bytes).to_ascii_uppercase()
}

/// A key's id as it is printed, from the fingerprint that a signature names.
pub(super) fn id_of(fingerprint: &Fingerprint) -> String {
    let bytes = fingerprint.as_bytes();
    let id = match fingerprint {
        Fingerprint::V6(_) => bytes.get(..8),
        _ => bytes.len().checked_sub(8).and_then(|start| bytes.get(start..)),
    };
    upper_hex(id.unwrap_or(bytes))
}

/// Nothing that would steer a terminal.
fn shown(user_id: &[u8]) -> String {
    let text = String::from_utf8_lossy(user_id);
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pgp::crypto::public_key::PublicKeyAlgorithm;

    use super::*;

    #[test]
    fn short_keys_are_seen() {
        for (bits, expected) in [
            (768_u16, Some(768)),
            (1023, Some(1023)),
            (1024, None),
            (2048, None),
        ] {
            let mut modulus = vec![0xff; usize::from(bits).div_ceil(8)];
            modulus[0] >>= (8 - bits % 8) % 8;
            let exponent = [0, 17, 1, 0, 1];
            let bytes = [&bits.to_be_bytes()[..], &modulus, &exponent].concat();
            let params = PublicParams::try_from_reader(PublicKeyAlgorithm::RSA, None, &bytes[..]).unwrap();
            assert_eq!(short_bits(&params), expected, "{bits}");
        }
    }
}
