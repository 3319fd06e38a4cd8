//! Public keys, read from files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pgp::armor::DearmorOptions;
use pgp::composed::{Deserializable as _, SignedPublicKey};
use pgp::packet::Signature;
use pgp::types::KeyDetails as _;

use super::Certificate;
use super::certificate::{Key, id_of, upper_hex};

/// More than any distribution's keys take.
const LARGEST: u64 = 16 << 20;
const BEGIN: &str = "-----BEGIN PGP ";
const END: &str = "-----END PGP ";

/// The keys that packages may be signed by, in the order of their fingerprints.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
}

/// A file of keys cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SignatureError {
    #[error("key file `{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("correct its name under `rpms.keys` or after `--key`, or make it readable"))]
    Io { path: PathBuf, source: io::Error },
    #[error("key file `{}` is larger than {} MiB", path.display(), LARGEST >> 20)]
    #[diagnostic(help("name a file that holds the keys of this image's packages only"))]
    TooLarge { path: PathBuf },
    #[error("key file `{}` holds no OpenPGP public key", path.display())]
    #[diagnostic(help(
        "name a file with the distribution's public key, armored (`-----BEGIN PGP PUBLIC KEY BLOCK-----`) or binary"
    ))]
    NoKey { path: PathBuf },
    #[error("key file `{}` holds a secret key", path.display())]
    #[diagnostic(help("take it away from here, and name the public key: `gpg --armor --export KEYID`"))]
    Secret { path: PathBuf },
    #[error("key file `{}` is malformed: {problem}", path.display())]
    #[diagnostic(help("fetch it again, or export it again: `gpg --armor --export KEYID`"))]
    Malformed { path: PathBuf, problem: String },
    #[error("key {fingerprint} in `{}` cannot be used: {problem}", path.display())]
    #[diagnostic(help("fetch the key again from its owner, or remove it"))]
    Unusable {
        path: PathBuf,
        fingerprint: String,
        problem: &'static str,
    },
}

impl Keyring {
    /// Reads the certificates in `paths`, each armored (any number of blocks) or binary. One that lies in
    /// several files counts with the revocations and signatures of all.
    ///
    /// # Errors
    /// Where a file cannot be read, holds anything but public keys, or a key that cannot be used.
    pub fn read(paths: &[PathBuf]) -> Result<Self, SignatureError> {
        let mut merged: BTreeMap<Vec<u8>, (SignedPublicKey, &Path)> = BTreeMap::new();
        for path in paths {
            for certificate in parse(&bytes(path)?, path)? {
                let fingerprint = certificate.fingerprint().as_bytes().to_vec();
                match merged.get_mut(&fingerprint) {
                    Some((first, _)) => merge(first, certificate),
                    None => {
                        merged.insert(fingerprint, (certificate, path));
                    }
                }
            }
        }
        let certificate = |(fingerprint, (certificate, path)): (Vec<u8>, (SignedPublicKey, &Path))| {
            Certificate::new(&certificate, path).map_err(|problem| SignatureError::Unusable {
                path: path.to_owned(),
                fingerprint: upper_hex(&fingerprint),
                problem,
            })
        };
        Ok(Self {
            certificates: merged.into_iter().map(certificate).collect::<Result<_, _>>()?,
        })
    }

    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The keys that `signature` names as its maker; all, where it names none.
    pub(super) fn candidates(&self, signature: &Signature) -> Vec<(&Certificate, &Key)> {
        let ids = issuers(signature);
        self.certificates
            .iter()
            .flat_map(|certificate| certificate.keys.iter().map(move |key| (certificate, key)))
            .filter(|(_, key)| ids.is_empty() || ids.contains(&key.id))
            .collect()
    }
}

/// The ids of the keys that a signature says it is by.
pub(super) fn issuers(signature: &Signature) -> Vec<String> {
    let ids = signature.issuer_key_id();
    let mut ids: Vec<_> = ids.iter().map(|id| upper_hex(id.as_ref())).collect();
    ids.extend(signature.issuer_fingerprint().into_iter().map(id_of));
    ids.sort();
    ids.dedup();
    ids
}

fn bytes(path: &Path) -> Result<Vec<u8>, SignatureError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|source| SignatureError::Io {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > LARGEST {
        return Err(SignatureError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The certificates in the bytes of a file; `path` is for messages.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Vec<SignedPublicKey>, SignatureError> {
    let malformed = |problem: String| SignatureError::Malformed {
        path: path.to_owned(),
        problem,
    };
    let failed = |error: pgp::errors::Error| malformed(error.to_string());
    let mut found = Vec::new();
    match armored(bytes) {
        None => {
            for certificate in SignedPublicKey::from_bytes_many(bytes).map_err(failed)? {
                found.push(certificate.map_err(failed)?);
            }
        }
        Some(text) => {
            let mut rest = text.as_ref();
            while let Some(at) = rest.find(BEGIN) {
                let block = &rest[at..];
                if block.starts_with("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
                    return Err(SignatureError::Secret {
                        path: path.to_owned(),
                    });
                }
                let end = block
                    .find(END)
                    .ok_or_else(|| malformed("an armored block has no end".to_owned()))?;
                let end = block[end..].find('\n').map_or(block.len(), |line| end + line + 1);
                // The checksum at the block's end is not looked at (RFC 9580, 6.1): self-signatures tell more.
                let options = DearmorOptions::new().set_limit(block.len());
                let (certificates, _) =
                    SignedPublicKey::from_armor_many_buf_with_options(&block.as_bytes()[..end], options)
                        .map_err(failed)?;
                for certificate in certificates {
                    found.push(certificate.map_err(failed)?);
                }
                rest = &block[end..];
            }
        }
    }
    if found.is_empty() {
        return Err(SignatureError::NoKey {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// The text of an armored file, from its first block on. Comments between blocks may be in any encoding; the
/// blocks themselves are ASCII.
fn armored(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let at = bytes
        .windows(BEGIN.len())
        .position(|part| part == BEGIN.as_bytes())?;
    Some(String::from_utf8_lossy(&bytes[at..]))
}

fn merge(into: &mut SignedPublicKey, other: SignedPublicKey) {
    let details = other.details;
    into.details
        .revocation_signatures
        .extend(details.revocation_signatures);
    into.details.direct_signatures.extend(details.direct_signatures);
    for user in details.users {
        let mut users = into.details.users.iter_mut();
        match users.find(|known| known.id.id() == user.id.id()) {
            Some(known) => known.signatures.extend(user.signatures),
            None => into.details.users.push(user),
        }
    }
    for subkey in other.public_subkeys {
        let mut subkeys = into.public_subkeys.iter_mut();
        match subkeys.find(|known| known.fingerprint() == subkey.fingerprint()) {
            Some(known) => known.signatures.extend(subkey.signatures),
            None => into.public_subkeys.push(subkey),
        }
    }
}
