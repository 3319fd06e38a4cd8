//! A set of keys for development: one of each kind that an image can use.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::generate::{generate, self_signed};
use super::{Algorithm, Signer as _, SigningError};

const DAY: i64 = 86_400;
/// Images may have been released before their keys were made.
const BEFORE: i64 = 366 * DAY;
const AFTER: i64 = 3652 * DAY;
/// What X.520 lets a common name have, less the longest word that is put behind it.
const LONGEST_NAME: usize = 64 - 32;

/// What is asked of a set.
#[derive(Debug, Clone)]
pub struct DevelopmentSet {
    /// Begins the certificates' subjects.
    pub name: String,
    /// Length of RSA keys but those of PCR policies, which are 2048 bits long: TPMs need know no others.
    pub bits: usize,
    /// ECDSA on P-256 in place of RSA where certificates sign; firmware may not know it.
    pub ec: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// A pair of files that was written.
#[derive(Debug, Clone)]
pub struct Pair {
    pub key: PathBuf,
    /// Certificate or public key.
    pub public: PathBuf,
    pub algorithm: Algorithm,
    /// What it is for.
    pub purpose: &'static str,
    /// SHA-256 of certificate or public key, in DER.
    pub fingerprint: [u8; 32],
}

/// A kind of key.
struct Kind {
    stem: &'static str,
    purpose: &'static str,
    /// What the certificate's subject ends with, and whether it is for code alone; `None`: a
    /// public key is written in place of a certificate.
    certificate: Option<(&'static str, bool)>,
    algorithm: fn(&DevelopmentSet) -> Algorithm,
}

const KINDS: [Kind; 7] = [
    Kind {
        stem: "PK",
        purpose: "platform key: whoever has it may replace all the others in firmware",
        certificate: Some(("Platform Key", false)),
        algorithm: certified,
    },
    Kind {
        stem: "KEK",
        purpose: "key exchange key: signs changes of db and dbx",
        certificate: Some(("Key Exchange Key", false)),
        algorithm: certified,
    },
    Kind {
        stem: "db",
        purpose: "signs UKIs, boot loaders and add-ons",
        certificate: Some(("Signature Database", true)),
        algorithm: certified,
    },
    Kind {
        stem: "verity",
        purpose: "signs the root hash of /usr",
        certificate: Some(("Verity", false)),
        algorithm: certified,
    },
    Kind {
        stem: "pcr",
        purpose: "signs the PCR policies that secrets are bound to",
        certificate: None,
        algorithm: |_| Algorithm::Rsa(2048),
    },
    Kind {
        stem: "commit",
        purpose: "signs ostree commits",
        certificate: None,
        algorithm: |_| Algorithm::Ed25519,
    },
    Kind {
        stem: "escrow",
        purpose: "opens the recovery keys of machines, which are wrapped to it",
        certificate: None,
        algorithm: |set| Algorithm::Rsa(set.bits),
    },
];

fn certified(set: &DevelopmentSet) -> Algorithm {
    if set.ec {
        Algorithm::P256
    } else {
        Algorithm::Rsa(set.bits)
    }
}

impl DevelopmentSet {
    /// Draws the keys and writes them into `directory`, which is made where it is not there:
    /// `NAME.key` (PKCS #8, mode 0600) and `NAME.pem`, certificate or public key (mode 0644).
    ///
    /// # Errors
    /// Where one of the files is there already; then nothing is written.
    pub fn write(&self, directory: &Path) -> Result<Vec<Pair>, SigningError> {
        self.check_name()?;
        let failed = |path: &Path, source| SigningError::Write {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| failed(directory, source))?;
        let files: Vec<_> = KINDS
            .iter()
            .map(|kind| ["key", "pem"].map(|suffix| directory.join(format!("{}.{suffix}", kind.stem))))
            .collect();
        if let Some(path) = files
            .iter()
            .flatten()
            .find(|path| path.symlink_metadata().is_ok())
        {
            return Err(SigningError::Exists { path: path.clone() });
        }
        let made: Vec<_> = KINDS.par_iter().map(|kind| self.make(kind)).collect();
        let mut pairs = Vec::new();
        for ((kind, [key, public]), made) in KINDS.iter().zip(files).zip(made) {
            let made = made?;
            write(&key, 0o600, made.key.as_bytes()).map_err(|source| failed(&key, source))?;
            write(&public, 0o644, made.public.as_bytes()).map_err(|source| failed(&public, source))?;
            pairs.push(Pair {
                key,
                public,
                algorithm: made.algorithm,
                purpose: kind.purpose,
                fingerprint: made.fingerprint,
            });
        }
        Ok(pairs)
    }

    fn check_name(&self) -> Result<(), SigningError> {
        let length = self.name.chars().count();
        let printable = !self.name.chars().any(char::is_control) && self.name.trim() == self.name;
        if printable && (1..=LONGEST_NAME).contains(&length) {
            return Ok(());
        }
        Err(SigningError::Name {
            name: self.name.clone(),
            longest: LONGEST_NAME,
        })
    }

    fn make(&self, kind: &Kind) -> Result<Made, SigningError> {
        let new = generate((kind.algorithm)(self))?;
        let key = new.key.public_key();
        let (public, fingerprint) = match kind.certificate {
            Some((role, code_signing)) => {
                let today = self.now - self.now.rem_euclid(DAY);
                let validity = (today - BEFORE, today + AFTER - 1);
                let subject = format!("{} {role}", self.name);
                let certificate = self_signed(&new.key, &subject, validity, code_signing)?;
                (certificate.to_pem(), certificate.fingerprint())
            }
            None => (key.to_pem(), key.fingerprint()),
        };
        Ok(Made {
            algorithm: key.algorithm(),
            key: new.pem,
            public,
            fingerprint,
        })
    }
}

struct Made {
    key: zeroize::Zeroizing<String>,
    public: String,
    algorithm: Algorithm,
    fingerprint: [u8; 32],
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // Whatever the user's mask takes away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{Credential, KeySource, Usage, open_signer};

    #[test]
    fn a_set_is_complete_usable_and_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("keys");
        let now = 1_800_000_000;
        let set = DevelopmentSet {
            name: "Test".to_owned(),
            bits: 2048,
            ec: true,
            now,
        };
        let pairs = set.write(&directory).unwrap();
        let names: Vec<_> = pairs
            .iter()
            .map(|pair| pair.key.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "PK.key",
                "KEK.key",
                "db.key",
                "verity.key",
                "pcr.key",
                "commit.key",
                "escrow.key"
            ]
        );
        for pair in &pairs {
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            assert_eq!((mode(&pair.key), mode(&pair.public)), (0o600, 0o644));
            let source = KeySource::File(pair.key.clone());
            let opened = open_signer(&source).unwrap();
            assert_eq!(opened.warnings, Vec::<String>::new());
            assert_eq!(opened.signer.public_key().algorithm(), pair.algorithm);
            let text = fs::read_to_string(&pair.public).unwrap();
            if text.contains("CERTIFICATE") {
                let (credential, _) = Credential::open(&source, &pair.public).unwrap();
                assert_eq!(credential.certificate().fingerprint(), pair.fingerprint);
                for at in [now, now - 300 * DAY, now + 3000 * DAY] {
                    credential.check(at, Usage::Signing).unwrap();
                }
                assert!(credential.check(now + 3700 * DAY, Usage::Signing).is_err());
                let subject = credential.certificate().subject();
                let is_db = pair.key.ends_with("db.key");
                assert_eq!(subject == "CN=Test Signature Database", is_db, "{subject}");
                assert!(!is_db || credential.check(now, Usage::CodeSigning).is_ok());
            } else {
                assert_eq!(opened.signer.public_key().to_pem(), text);
            }
        }
        let before = fs::read(directory.join("db.key")).unwrap();
        for removed in ["PK.key", "PK.pem"] {
            fs::remove_file(directory.join(removed)).unwrap();
        }
        let error = set.write(&directory).unwrap_err();
        assert!(
            matches!(&error, SigningError::Exists { path } if path.ends_with("KEK.key")),
            "{error}"
        );
        assert!(!directory.join("PK.key").exists());
        assert_eq!(fs::read(directory.join("db.key")).unwrap(), before);
        for name in ["", "a\nb", " a", &"x".repeat(33)] {
            let error = DevelopmentSet {
                name: name.to_owned(),
                ..set.clone()
            };
            let error = error.write(&parent.path().join("other")).unwrap_err();
            assert!(matches!(error, SigningError::Name { .. }), "{name}: {error}");
        }
    }
}
