//! The key that signs policies over PCR 11.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MeasureError;
use crate::formats::pcr::Bank;
use crate::formats::pcr::policy::{Policy, Signed, to_json};
use crate::signing::{
    Algorithm, Answers, Elsewhere, KeySource, PublicKey, Scheme, Signer, SigningError, certificates,
    open_signer, public_key,
};

/// Where the public half is.
#[derive(Debug, Clone, Copy)]
pub enum PublicSource<'a> {
    /// A file with a public key.
    Key(&'a Path),
    /// A file with a certificate.
    Certificate(&'a Path),
}

/// The key of PCR policies.
pub struct PolicyKey {
    public: PublicKey,
    signer: Box<dyn Signer>,
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyKey({})", self.public.algorithm())
    }
}

impl PolicyKey {
    /// Opens `key`, and reads its public half where it is named; `None` where neither is given. Without `key`, policies
    /// are signed elsewhere, and `answers` holds what has come back. Warnings are returned for whoever speaks with people.
    ///
    /// # Errors
    /// Where either cannot be used, they do not belong together, or the key is not RSA.
    pub fn open(
        key: Option<&KeySource>,
        public: Option<PublicSource<'_>>,
        answers: &Arc<Answers>,
    ) -> Result<Option<(Self, Vec<String>)>, MeasureError> {
        let named = match public {
            None => None,
            Some(PublicSource::Key(path)) => Some((path, public_key(path)?)),
            Some(PublicSource::Certificate(path)) => {
                let certificates = certificates(path)?;
                let key = certificates
                    .first()
                    .map(|certificate| certificate.public_key().clone());
                Some((
                    path,
                    key.ok_or(SigningError::NoCertificate {
                        path: path.to_owned(),
                    })?,
                ))
            }
        };
        let opened = key
            .map(|key| Ok::<_, SigningError>((key, open_signer(key)?)))
            .transpose()?;
        let (place, public) = match (&opened, named) {
            (None, None) => return Ok(None),
            (None, Some((path, public))) => (path.to_owned(), public),
            (Some((key, opened)), named) => {
                let place = PathBuf::from(key.to_string());
                let public = opened.signer.public_key().clone();
                if let Some((path, _)) = named.filter(|(_, named)| named.key() != public.key()) {
                    return Err(MeasureError::Mismatch {
                        public: path.to_owned(),
                        key: place,
                    });
                }
                (place, public)
            }
        };
        if !matches!(public.algorithm(), Algorithm::Rsa(_)) {
            return Err(MeasureError::NotRsa {
                path: place,
                algorithm: public.algorithm(),
            });
        }
        let (signer, warnings) = match opened {
            None => {
                let elsewhere: Box<dyn Signer> = Box::new(Elsewhere::new(public.clone(), answers));
                (elsewhere, Vec::new())
            }
            Some((_, opened)) => (opened.signer, opened.warnings),
        };
        Ok(Some((Self { public, signer }, warnings)))
    }

    /// The content of `.pcrpkey`.
    pub fn public_pem(&self) -> String {
        self.public.to_pem()
    }

    /// The content of `.pcrsig`, for the UKI's profile called `profile`. Each signature is checked before it is used.
    ///
    /// # Errors
    /// Where the key refuses, or signs wrongly; where it is elsewhere, after all have been asked for.
    pub fn sign(&self, profile: &str, policies: Vec<Policy>) -> Result<String, MeasureError> {
        let sign = |policy: Policy| {
            let scheme = scheme(policy.bank)?;
            let of = format!("pcr-policy {} {} {profile}", policy.bank, policy.phase);
            let signature = self.signer.sign_for(&of, scheme, &policy.digest)?;
            self.public
                .verify(scheme, &policy.digest, &signature)
                .map_err(|_| SigningError::WrongSignature)?;
            Ok::<_, MeasureError>(Signed { policy, signature })
        };
        let signed: Vec<_> = policies.into_iter().map(sign).collect();
        let signed: Vec<_> = signed.into_iter().collect::<Result<_, _>>()?;
        Ok(to_json(&signed, self.public.key()))
    }
}

/// How policies of `bank` are signed.
fn scheme(bank: Bank) -> Result<Scheme, SigningError> {
    match bank {
        Bank::Sha256 => Ok(Scheme::RsaPkcs1Sha256),
        Bank::Sha384 => Ok(Scheme::RsaPkcs1Sha384),
        Bank::Sha512 => Ok(Scheme::RsaPkcs1Sha512),
        Bank::Sha1 => Err(SigningError::Refused(
            "SHA-1 is no hash for signatures any more".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::formats::at::Content;
    use crate::formats::pcr::uki::{Measured, SectionDigests};
    use crate::formats::testing::{run, tool};

    /// A private key in `dir/name`, and its public half beside it as `name.pub`.
    fn key(dir: &Path, name: &str, options: &[&str]) -> KeySource {
        let path = dir.join(name);
        let made = [&["genpkey", "-quiet", "-out", path.to_str().unwrap()], options].concat();
        run("openssl", made);
        let public = dir.join(format!("{name}.pub"));
        let public = [
            "pkey",
            "-in",
            path.to_str().unwrap(),
            "-pubout",
            "-out",
            public.to_str().unwrap(),
        ];
        run("openssl", public);
        KeySource::File(path)
    }

    const RSA: [&str; 4] = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    const EC: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

    fn open(
        key: Option<&KeySource>,
        public: Option<PublicSource<'_>>,
    ) -> Result<Option<(PolicyKey, Vec<String>)>, MeasureError> {
        PolicyKey::open(key, public, &Arc::default())
    }

    #[test]
    fn policies_are_signed_as_systemd_measure_signs_them() {
        if !tool("openssl") || !tool("systemd-measure") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let source = key(dir.path(), "pcr.key", &RSA);
        let public = PublicSource::Key(&path("pcr.key.pub"));
        let (key, warnings) = open(Some(&source), Some(public)).unwrap().unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(key.public_pem(), fs::read_to_string(path("pcr.key.pub")).unwrap());

        fs::write(path("linux"), b"kernel").unwrap();
        let banks = [Bank::Sha256, Bank::Sha384, Bank::Sha512];
        let sections = [Measured::new(".linux", Content::bytes(b"kernel"))];
        let values = SectionDigests::of(&sections, &banks).unwrap().pcr_11(0);
        let phases = ["enter-initrd".to_owned(), "enter-initrd:leave-initrd".to_owned()];
        let ours = key.sign("main", Policy::all(&values, &phases)).unwrap();
        let mut command = vec!["sign".to_owned(), format!("--linux={}", path("linux").display())];
        command.extend(banks.iter().map(|bank| format!("--bank={bank}")));
        command.extend(phases.iter().map(|phase| format!("--phase={phase}")));
        command.push(format!("--private-key={}", path("pcr.key").display()));
        assert_eq!(ours, run("systemd-measure", command));

        let answers = Arc::new(Answers::default());
        let opened = PolicyKey::open(None, Some(public), &answers).unwrap();
        let (elsewhere, _) = opened.unwrap();
        assert!(elsewhere.sign("main", Policy::all(&values, &phases)).is_err());
        let wanted: Vec<_> = answers.wanted().into_iter().map(|one| one.of).collect();
        assert_eq!(wanted.len(), banks.len() * phases.len());
        assert_eq!(wanted[1], "pcr-policy sha384 enter-initrd main");
        assert_eq!(elsewhere.public_pem(), key.public_pem());
        assert!(open(None, None).unwrap().is_none());
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        if !tool("openssl") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let rsa = key(dir.path(), "rsa", &RSA);
        let other = key(dir.path(), "other", &RSA);
        let ec = key(dir.path(), "ec", &EC);
        let public = dir.path().join("rsa.pub");
        let said = |key, public| open(key, public).unwrap_err().to_string();
        let error = said(Some(&other), Some(PublicSource::Key(&public)));
        assert!(error.contains("rsa.pub is not the public half"), "{error}");
        assert!(
            said(Some(&ec), None).ends_with("is ECDSA P-256"),
            "{}",
            said(Some(&ec), None)
        );
        let ec = dir.path().join("ec.pub");
        assert!(said(None, Some(PublicSource::Key(&ec))).ends_with("is ECDSA P-256"));
        let KeySource::File(private) = &rsa else {
            panic!("{rsa}");
        };
        let error = said(None, Some(PublicSource::Key(private)));
        assert!(error.contains("holds no public key"), "{error}");
        let error = said(None, Some(PublicSource::Certificate(&public)));
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
