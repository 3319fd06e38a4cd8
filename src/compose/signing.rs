//! Signing what an image consists of: keys are opened before anything is built, and every
//! signature is checked before it is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::workspace::output;
use super::{ComposeError, uki};
use crate::definition::plan::{AddonKind, Plan, VeritySignature};
use crate::definition::sealing::{self, CommitSigning};
use crate::definition::uki::UkiAddon;
use crate::firmware::{Databases, OWNER, read_into};
use crate::formats::authenticode::{self, AuthenticodeError, Trust};
use crate::formats::cms::SignedData;
use crate::formats::ddi_signature::DdiSignature;
use crate::formats::pe_append;
use crate::measure::PolicyKey;
use crate::report::{ManifestSignature, Progress};
use crate::signing::{
    Algorithm, Answers, Certificate, Credential, Elsewhere, KeySource, Signer, SigningError, Usage,
    certificates, check_usage, open_signer, public_key,
};
use crate::store::{Digest, hex};

/// The keys that the definition names, ready to sign.
#[derive(Default)]
pub struct Keys {
    db: Option<Credential>,
    trust: Trust,
    /// Of debug add-ons, by the names of the add-ons.
    debug: BTreeMap<String, Credential>,
    verity: Option<Credential>,
    commit: Option<Box<dyn Signer>>,
    release: Option<Credential>,
    /// Of PCR policies.
    pub policy: Option<PolicyKey>,
}

/// The signature of a root hash.
pub struct RootHashSignature {
    /// PKCS #7 in DER, over the root hash in hexadecimal.
    pub message: Vec<u8>,
    /// What the signature partition holds.
    pub partition: Vec<u8>,
    pub manifest: ManifestSignature,
}

/// The signature of a commit.
pub struct CommitSignature {
    /// 64 bytes.
    pub signature: Vec<u8>,
    pub manifest: ManifestSignature,
}

pub(super) fn source(key: &sealing::KeySource) -> Result<KeySource, SigningError> {
    match key {
        sealing::KeySource::File(path) => Ok(KeySource::File(path.as_path().to_owned())),
        sealing::KeySource::Token(uri) => KeySource::token(uri),
    }
}

/// What opens keys, and how.
struct Opening<'a> {
    /// Time of the image, at which certificates must be valid.
    released: i64,
    answers: &'a Arc<Answers>,
    progress: &'a Progress,
}

impl Opening<'_> {
    fn credential(&self, pair: &sealing::KeyPair, usage: Usage) -> Result<Credential, ComposeError> {
        let credential = match &pair.key {
            Some(key) => {
                let (credential, warnings) = Credential::open(&source(key)?, pair.cert.as_path())?;
                warnings.iter().for_each(|warning| self.progress.warn(warning));
                credential
            }
            None => {
                let certificates = certificates(pair.cert.as_path())?;
                let path = || pair.cert.as_path().to_owned();
                let first = certificates
                    .first()
                    .ok_or_else(|| SigningError::NoCertificate { path: path() })?;
                let signer = Box::new(Elsewhere::new(first.public_key().clone(), self.answers));
                Credential::new(&pair.cert.to_string(), signer, certificates)?
            }
        };
        credential.check(self.released, usage)?;
        Ok(credential)
    }

    /// The Ed25519 key of commits.
    fn commit(&self, commit: &CommitSigning) -> Result<Box<dyn Signer>, ComposeError> {
        let (key, signer): (_, Box<dyn Signer>) = match commit {
            CommitSigning::Key(key) => {
                let key = source(key)?;
                let opened = open_signer(&key)?;
                opened
                    .warnings
                    .iter()
                    .for_each(|warning| self.progress.warn(warning));
                (key.to_string(), opened.signer)
            }
            CommitSigning::Public(path) => {
                let key = public_key(path.as_path())?;
                (path.to_string(), Box::new(Elsewhere::new(key, self.answers)))
            }
        };
        match signer.public_key().algorithm() {
            Algorithm::Ed25519 => Ok(signer),
            found => Err(ComposeError::CommitKey { key, found }),
        }
    }
}

impl Keys {
    /// Opens the keys of `plan` and holds their certificates against its time. Of those that are elsewhere,
    /// `answers` has the signatures that have come back.
    pub fn open(plan: &Plan, answers: &Arc<Answers>, progress: &Progress) -> Result<Self, ComposeError> {
        let released = plan.image.released.epoch();
        let opening = Opening {
            released,
            answers,
            progress,
        };
        let mut keys = Self {
            policy: uki::policy_key(plan, answers, progress)?,
            ..Self::default()
        };
        if let Some(secure_boot) = &plan.secure_boot {
            let db = opening.credential(&secure_boot.db, Usage::CodeSigning)?;
            for path in secure_boot.pk.iter().chain(&secure_boot.kek) {
                for certificate in certificates(path.as_path())? {
                    check_usage(&certificate, released, Usage::Trust)?;
                }
            }
            let mut databases = Databases::default();
            databases.db.add_certificate(OWNER, db.certificate().der());
            for path in &secure_boot.dbx {
                read_into(path.as_path(), OWNER, &mut databases.dbx)?;
            }
            keys.trust = databases.trust();
            keys.db = Some(db);
        } else {
            progress.warn(
                "`[secure-boot]` is not given: UKI and boot loader come out unsigned, and firmware with Secure Boot refuses them",
            );
        }
        for addon in &plan.uki.addons {
            let Some(signer) = &addon.signer else { continue };
            let pair = sealing::KeyPair {
                key: Some(signer.key.clone()),
                cert: signer.cert.clone(),
            };
            let own = opening.credential(&pair, Usage::CodeSigning)?;
            let db = keys.db.as_ref().map(Credential::certificate);
            if db.is_some_and(|db| db.public_key() == own.certificate().public_key()) {
                let name = addon.name.to_string();
                return Err(ComposeError::DebugKey { name });
            }
            keys.debug.insert(addon.name.to_string(), own);
        }
        if let Some(pair) = &plan.verity.pair {
            keys.verity = Some(opening.credential(pair, Usage::Signing)?);
        }
        if let Some(commit) = &plan.commit {
            keys.commit = Some(opening.commit(commit)?);
        }
        if let Some(pair) = &plan.release {
            keys.release = Some(opening.credential(pair, Usage::Signing)?);
        }
        Ok(keys)
    }

    /// Signs the program in `file`, of `size` bytes, which the manifest calls `name`; gives its new size.
    pub fn sign_program(
        &self,
        name: &str,
        file: &File,
        size: u64,
    ) -> Result<(u64, Option<ManifestSignature>), ComposeError> {
        match &self.db {
            Some(db) => {
                let (size, signature) = sign(db, &self.trust, name, file, size)?;
                Ok((size, Some(signature)))
            }
            None => Ok((size, None)),
        }
    }

    /// As [`Self::sign_program`], of an add-on; those for debugging only with their own key.
    pub fn sign_addon(
        &self,
        addon: &UkiAddon,
        name: &str,
        file: &File,
        size: u64,
    ) -> Result<(u64, Option<ManifestSignature>), ComposeError> {
        if addon.kind == AddonKind::Ordinary {
            return self.sign_program(name, file, size);
        }
        let Some(own) = self.debug.get(addon.name.as_str()) else {
            return Ok((size, None));
        };
        let trust = Trust {
            certificates: vec![own.certificate().clone()],
            ..Trust::default()
        };
        let (size, signature) = sign(own, &trust, name, file, size)?;
        Ok((size, Some(signature)))
    }

    /// As [`Self::sign_program`], of a program in memory. What stands behind its sections, such as a
    /// table of symbols, is left out: programs disagree over the digest of such a file.
    pub fn sign_loader(
        &self,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<ManifestSignature>), ComposeError> {
        if self.db.is_none() {
            return Ok((bytes, None));
        }
        let failed = |source| output(Path::new(name), source);
        let file = tempfile::tempfile().map_err(failed)?;
        let size = match authenticode::scan(&bytes, bytes.len() as u64) {
            Err(AuthenticodeError::Gap { .. }) => {
                let written = pe_append::append(&bytes, &[], true, &file);
                let program = |source: AuthenticodeError| ComposeError::Program {
                    name: name.to_owned(),
                    source,
                };
                written.map_err(|error| program(error.into()))?.size
            }
            _ => {
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).map_err(failed)?;
                bytes.len() as u64
            }
        };
        let (size, signature) = self.sign_program(name, &file, size)?;
        let mut signed = vec![0; usize::try_from(size).unwrap_or_default()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut signed, 0).map_err(failed)?;
        Ok((signed, signature))
    }

    /// Signs the root hash of `/usr`.
    pub fn sign_root_hash(&self, root_hash: &[u8]) -> Result<Option<RootHashSignature>, ComposeError> {
        let Some(verity) = &self.verity else {
            return Ok(None);
        };
        let certificate: &Certificate = verity.certificate();
        let text = hex(root_hash);
        let prepared = SignedData::detached(text.as_bytes(), certificate).prepare();
        let message = prepared.attach(&verity.sign_for("usr-root-hash", prepared.to_sign())?);
        let fingerprint = certificate.fingerprint();
        Ok(Some(RootHashSignature {
            partition: DdiSignature::new(root_hash, &fingerprint, &message).to_bytes(),
            message,
            manifest: ManifestSignature {
                of: "usr-root-hash".to_owned(),
                kind: "pkcs7",
                scheme: verity.scheme().as_str(),
                digest: text,
                subject: Some(certificate.subject().to_owned()),
                signer: hex(&fingerprint),
            },
        }))
    }

    /// Signs the commit object `bytes`.
    pub fn sign_commit(&self, bytes: &[u8]) -> Result<Option<CommitSignature>, ComposeError> {
        let Some(signer) = &self.commit else {
            return Ok(None);
        };
        let signature = signer.sign_for("commit", signer.scheme(), bytes)?;
        let key = signer.public_key();
        key.verify(signer.scheme(), bytes, &signature)
            .map_err(|_| SigningError::WrongSignature)?;
        Ok(Some(CommitSignature {
            signature,
            manifest: ManifestSignature {
                of: "commit".to_owned(),
                kind: "ostree.sign.ed25519",
                scheme: signer.scheme().as_str(),
                digest: Digest::of(bytes).to_string(),
                subject: None,
                signer: hex(&key.fingerprint()),
            },
        }))
    }

    /// Signs the text of `SHA256SUMS`: PKCS #7 in DER, detached.
    pub fn sign_sums(&self, sums: &[u8]) -> Result<Option<Vec<u8>>, ComposeError> {
        let Some(release) = &self.release else {
            return Ok(None);
        };
        let prepared = SignedData::detached(sums, release.certificate()).prepare();
        Ok(Some(
            prepared.attach(&release.sign_for("SHA256SUMS", prepared.to_sign())?),
        ))
    }
}

/// Whether the disk has partitions for root hash signatures.
pub fn has_partition(plan: &Plan) -> bool {
    plan.verity.signature != VeritySignature::None
}

/// Signs the program in `file` and holds the signature against `trust`; gives its new size.
fn sign(
    credential: &Credential,
    trust: &Trust,
    name: &str,
    file: &File,
    size: u64,
) -> Result<(u64, ManifestSignature), ComposeError> {
    let program = |source| ComposeError::Program {
        name: name.to_owned(),
        source,
    };
    let scanned = authenticode::scan(file, size).map_err(program)?;
    let prepared = authenticode::prepare(&scanned.sha256, credential.certificate(), credential.chain());
    let message = prepared.attach(&credential.sign_for(name, prepared.to_sign())?);
    let size = authenticode::append(&scanned, &message, file).map_err(program)?;
    authenticode::verify(file, size, trust).map_err(|source| ComposeError::SelfCheck {
        name: name.to_owned(),
        source: Box::new(source),
    })?;
    let signature = ManifestSignature {
        of: name.to_owned(),
        kind: "authenticode",
        scheme: credential.scheme().as_str(),
        digest: Digest(scanned.sha256).to_string(),
        subject: Some(credential.certificate().subject().to_owned()),
        signer: hex(&credential.certificate().fingerprint()),
    };
    Ok((size, signature))
}
