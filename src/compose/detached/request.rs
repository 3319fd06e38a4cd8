//! A request for signatures: `request.json`, and a file with the exact bytes for each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::compose::ComposeError;
use crate::compose::workspace::output;
use crate::definition::Plan;
use crate::signing::{PublicKey, Scheme, Wanted};
use crate::store::{Digest, hex};

const FILE: &str = "request.json";
/// The longest answer that is read; base64 of an RSA-4096 signature has 684 characters.
const LONGEST: u64 = 8192;

/// What one round asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Of this structure.
    pub request_version: u32,
    pub image: String,
    pub version: String,
    /// 1 to 4.
    pub round: u8,
    pub signatures: Vec<Entry>,
    /// The bytes to be signed, by the entries' names.
    #[serde(skip)]
    messages: BTreeMap<String, Vec<u8>>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `NAME.tbs` beside the request has the bytes to be signed, `NAME.sig` is the answer.
    pub name: String,
    /// What is signed: a file, `usr-root-hash`, a PCR policy, `commit`, `SHA256SUMS`.
    pub of: String,
    /// How, such as `rsa-pkcs1-sha256`.
    pub scheme: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub key: String,
    /// The public key in PEM.
    pub public_key: String,
    /// SHA-256 of the bytes to be signed.
    pub sha256: Digest,
    /// What signs it with plain OpenSSL; KEY stands for the private key.
    pub openssl: String,
}

impl Request {
    pub(super) fn new(plan: &Plan, round: u8, wanted: &[Wanted]) -> Self {
        let mut messages = BTreeMap::new();
        let entries = wanted.iter().enumerate().map(|(index, wanted)| {
            let plain = |c: char| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '-'
                }
            };
            let name = format!(
                "{:02}-{}",
                index + 1,
                wanted.of.chars().map(plain).collect::<String>()
            );
            messages.insert(name.clone(), wanted.message.clone());
            Entry {
                of: wanted.of.clone(),
                scheme: wanted.scheme.as_str().to_owned(),
                key: hex(&wanted.key.fingerprint()),
                public_key: wanted.key.to_pem(),
                sha256: Digest::of(&wanted.message),
                openssl: openssl(wanted.scheme, &name),
                name,
            }
        });
        let signatures = entries.collect();
        Self {
            request_version: 1,
            image: plan.image.id.as_str().to_owned(),
            version: plan.image.version.as_str().to_owned(),
            round,
            signatures,
            messages,
        }
    }

    /// Writes `request.json` and the bytes to be signed into `directory`, which is made; there is no such directory yet,
    /// or it is empty.
    ///
    /// # Errors
    /// A directory that holds something, and I/O.
    pub fn write(&self, directory: &Path) -> Result<(), ComposeError> {
        let at = |source| output(directory, source);
        fs::create_dir_all(directory).map_err(at)?;
        if fs::read_dir(directory).map_err(at)?.next().is_some() {
            return Err(ComposeError::RequestPlace {
                path: directory.to_owned(),
            });
        }
        for (name, message) in &self.messages {
            fs::write(directory.join(format!("{name}.tbs")), message).map_err(at)?;
        }
        fs::write(directory.join(FILE), self.to_json() + "\n").map_err(at)
    }

    /// The text of `request.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub(super) fn read(directory: &Path) -> Result<Self, ComposeError> {
        let damaged = || ComposeError::State { what: FILE };
        let path = directory.join(FILE);
        let text = fs::read(&path).map_err(|source| output(&path, source))?;
        let mut request: Self = serde_json::from_slice(&text).map_err(|_| damaged())?;
        for entry in &request.signatures {
            let name = format!("{}.tbs", entry.name);
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                return Err(damaged());
            }
            let path = directory.join(&name);
            let message = fs::read(&path).map_err(|source| output(&path, source))?;
            if Digest::of(&message) != entry.sha256 {
                return Err(ComposeError::StateFile { name });
            }
            request.messages.insert(entry.name.clone(), message);
        }
        Ok(request)
    }

    /// The answers in `directory`, each held against its key; by [`Wanted::id`].
    ///
    /// # Errors
    /// Answers that are missing or do not belong to what they answer; all of them are named.
    pub(super) fn answers(&self, directory: &Path) -> Result<BTreeMap<Digest, Vec<u8>>, ComposeError> {
        let mut all = Vec::new();
        for entry in &self.signatures {
            all.push((entry, self.wanted(entry)?));
        }
        let mut given = BTreeMap::new();
        let mut faults = Vec::new();
        for (entry, wanted) in &all {
            let name = format!("{}.sig", entry.name);
            let path = directory.join(&name);
            let bytes = match read_answer(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    faults.push(format!("{name} is missing: {}", entry.openssl));
                    continue;
                }
                Err(error) => {
                    faults.push(format!("{name} cannot be read: {error}"));
                    continue;
                }
            };
            let forms = forms(&bytes);
            if let Some(signature) = forms.iter().find(|form| wanted.is_answered_by(form)) {
                given.insert(wanted.id(), signature.clone());
                continue;
            }
            let belongs =
                |(_, other): &&(&Entry, Wanted)| forms.iter().any(|form| other.is_answered_by(form));
            faults.push(match all.iter().find(belongs) {
                Some((other, _)) => format!("{name} is the signature of {}.tbs ({})", other.name, other.of),
                None => format!(
                    "{name} is no {} signature of {}.tbs by the key {}…",
                    entry.scheme,
                    entry.name,
                    entry.key.get(..16).unwrap_or_default()
                ),
            });
        }
        match faults.is_empty() {
            true => Ok(given),
            false => Err(ComposeError::Answers {
                path: directory.to_owned(),
                faults,
            }),
        }
    }

    fn wanted(&self, entry: &Entry) -> Result<Wanted, ComposeError> {
        let damaged = || ComposeError::State { what: FILE };
        let spki = crate::formats::pem::blocks(&entry.public_key).map_err(|_| damaged())?;
        let spki = spki.first().ok_or_else(damaged)?;
        let key = PublicKey::from_spki(&spki.bytes).map_err(|_| damaged())?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|scheme| scheme.as_str() == entry.scheme);
        Ok(Wanted {
            of: entry.of.clone(),
            scheme: scheme.ok_or_else(damaged)?,
            key,
            message: self.messages.get(&entry.name).cloned().ok_or_else(damaged)?,
        })
    }
}

fn read_answer(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An answer as it is, and what it says in base64: services write either.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let decoded = [STANDARD.decode(&text), URL_SAFE_NO_PAD.decode(&text)];
    let decoded = decoded.into_iter().flatten();
    [bytes.to_vec()].into_iter().chain(decoded).collect()
}

fn openssl(scheme: Scheme, name: &str) -> String {
    let hash = match scheme {
        Scheme::RsaPkcs1Sha256 | Scheme::EcdsaP256Sha256 => "-sha256",
        Scheme::RsaPkcs1Sha384 | Scheme::EcdsaP384Sha384 => "-sha384",
        Scheme::RsaPkcs1Sha512 => "-sha512",
        Scheme::Ed25519 => {
            return format!("openssl pkeyutl -sign -rawin -inkey KEY -in {name}.tbs -out {name}.sig");
        }
    };
    format!("openssl dgst {hash} -sign KEY -out {name}.sig {name}.tbs")
}
