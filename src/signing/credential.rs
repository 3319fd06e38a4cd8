//! A key together with the certificate that vouches for it.

use super::error::SigningError;
use super::read::{KeySource, certificates, open_signer};
use super::{Certificate, Scheme, Signer, Usage};
use crate::formats::x509::UsageFault;

use std::fmt;
use std::path::Path;

/// A key and the certificate that vouches for it, checked to match.
pub struct Credential {
    signer: Box<dyn Signer>,
    certificate: Certificate,
    chain: Vec<Certificate>,
}

impl Credential {
    /// Pairs `signer` with its certificate, the first of `certificates`; the issuers follow it,
    /// each the issuer of the one before. `name` says which key it is in errors.
    ///
    /// # Errors
    /// Where they do not belong together.
    pub fn new(
        name: &str,
        signer: Box<dyn Signer>,
        certificates: Vec<Certificate>,
    ) -> Result<Self, SigningError> {
        let mut certificates = certificates.into_iter();
        let Some(certificate) = certificates.next() else {
            return Err(SigningError::NoCertificate { path: name.into() });
        };
        let (key, certified) = (signer.public_key(), certificate.public_key());
        // Encodings of one key may differ in parameters, not in the key itself.
        if (key.algorithm(), key.key()) != (certified.algorithm(), certified.key()) {
            return Err(SigningError::Mismatch {
                key: name.to_owned(),
                key_algorithm: key.algorithm(),
                subject: certificate.subject().to_owned(),
                certificate_algorithm: certified.algorithm(),
            });
        }
        let chain: Vec<_> = certificates.collect();
        let mut issued = &certificate;
        for issuer in &chain {
            issued.issued_by(issuer).map_err(|_| SigningError::Chain {
                issued: issued.subject().to_owned(),
                subject: issuer.subject().to_owned(),
            })?;
            issued = issuer;
        }
        Ok(Self {
            signer,
            certificate,
            chain,
        })
    }

    /// Opens the key `key` and the certificates in the file `certificate`; warnings are returned
    /// for whoever speaks with people.
    ///
    /// # Errors
    /// Where either cannot be used, or they do not belong together.
    pub fn open(key: &KeySource, certificate: &Path) -> Result<(Self, Vec<String>), SigningError> {
        let certificates = certificates(certificate)?;
        let opened = open_signer(key)?;
        let credential = Self::new(&key.to_string(), opened.signer, certificates)?;
        Ok((credential, opened.warnings))
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate's issuers, upwards.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    pub fn scheme(&self) -> Scheme {
        self.signer.scheme()
    }

    /// Signs `message`, which stands for `of`, and checks the signature before it is used: a fault of the
    /// machine while signing can give an RSA key away.
    ///
    /// # Errors
    /// Where the key refuses, or signs wrongly, or is elsewhere and has not answered yet.
    pub fn sign_for(&self, of: &str, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = self.signer.sign_for(of, self.scheme(), message)?;
        let key = self.certificate.public_key();
        key.verify(self.scheme(), message, &signature)
            .map_err(|_| SigningError::WrongSignature)?;
        Ok(signature)
    }

    /// As [`Self::sign_for`], of a message that is signed here or not at all.
    ///
    /// # Errors
    /// As [`Self::sign_for`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.sign_for("a message", message)
    }

    /// Whether certificate and chain may be used for `usage` at `at` (seconds since 1970).
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, at: i64, usage: Usage) -> Result<(), SigningError> {
        check_usage(&self.certificate, at, usage)?;
        let mut chain = self.chain.iter();
        chain.try_for_each(|issuer| check_usage(issuer, at, Usage::Trust))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.certificate.subject())
    }
}

/// [`Certificate::check`] in plain words.
///
/// # Errors
/// Why `certificate` may not be used for `usage` at `at` (seconds since 1970).
pub fn check_usage(certificate: &Certificate, at: i64, usage: Usage) -> Result<(), SigningError> {
    let Err(fault) = certificate.check(at, usage) else {
        return Ok(());
    };
    let (why, help) = match fault {
        UsageFault::Expired { until, at } => (
            format!("was valid until {}, before {}", date(until), date(at)),
            "take one that is valid at the image's `released`",
        ),
        UsageFault::NotYetValid { from, at } => (
            format!("is valid from {} on, after {}", date(from), date(at)),
            "take one that is valid at the image's `released`",
        ),
        UsageFault::NoDigitalSignature { authority: true } => (
            "is an authority's and may only sign certificates".to_owned(),
            "let the authority issue a certificate with the key usage `digitalSignature`, and sign with that",
        ),
        UsageFault::NoDigitalSignature { authority: false } => (
            "may not sign: its key usage leaves `digitalSignature` out".to_owned(),
            "take one with the key usage `digitalSignature`, or without key usage",
        ),
        UsageFault::NoCodeSigning => (
            "may not sign code: its extended key usage leaves `codeSigning` out".to_owned(),
            "take one with the extended key usage `codeSigning`, or without extended key usage",
        ),
    };
    Err(SigningError::Usage {
        subject: certificate.subject().to_owned(),
        why,
        help: help.to_owned(),
    })
}

/// The day of `seconds` since 1970, as `YYYY-MM-DD` in UTC.
fn date(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let day = std::time::Duration::from_secs(seconds);
    match der::DateTime::from_unix_duration(day) {
        Ok(time) => format!("{:04}-{:02}-{:02}", time.year(), time.month(), time.day()),
        Err(_) => format!("{seconds} seconds after 1970"),
    }
}
