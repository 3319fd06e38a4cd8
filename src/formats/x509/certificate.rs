//! Certificates: whose, from when until when, for what.

use std::fmt;

use der::asn1::{BitStringRef, ContextSpecific, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber};
use sha2::{Digest as _, Sha256};
use spki::AlgorithmIdentifierRef;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;
use x509_cert::time::Validity;

use super::key::{Algorithm, PublicKey, Scheme};
use super::{BadSignature, X509Error};
use crate::formats::pem;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");

/// An X.509 certificate. Equal where the bytes are.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    /// What the issuer signed, as encoded.
    body: Vec<u8>,
    signature: (ObjectIdentifier, Vec<u8>),
    /// `INTEGER`, `Name`, `Name`, as encoded.
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    names: [String; 2],
    not_before: i64,
    not_after: i64,
    public_key: PublicKey,
    /// `None` where the certificate says nothing about it.
    digital_signature: Option<bool>,
    purposes: Option<Vec<ObjectIdentifier>>,
    authority: bool,
}

/// What a certificate is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Its key signs programs that firmware starts, or root hashes that the kernel checks.
    CodeSigning,
    /// Its key signs data: variables of the firmware, requests.
    Signing,
    /// It names an authority that others are checked against; only the time counts.
    Trust,
}

/// Why a certificate is not for a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageFault {
    /// Seconds since 1970: the end, and the time asked for.
    Expired { until: i64, at: i64 },
    /// Seconds since 1970: the beginning, and the time asked for.
    NotYetValid { from: i64, at: i64 },
    /// The key usage leaves `digitalSignature` out.
    NoDigitalSignature {
        /// Whether it is an authority's.
        authority: bool,
    },
    /// The extended key usage leaves `codeSigning` out.
    NoCodeSigning,
}

impl Certificate {
    /// Reads a certificate in DER. Its signature is not looked at: see [`Self::issued_by`].
    ///
    /// # Errors
    /// Where it is none, or has a public key of a kind that is not understood.
    pub fn from_der(bytes: &[u8]) -> Result<Self, X509Error> {
        let mut reader = SliceReader::new(bytes).map_err(X509Error::Certificate)?;
        let outer = reader.sequence(|reader| {
            let body = reader.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            let signature = BitStringRef::decode(reader)?;
            let bits = signature.as_bytes().ok_or(Tag::BitString.value_error())?;
            Ok((body, algorithm.oid, bits.to_vec()))
        });
        let (body, oid, bits) = outer
            .and_then(|outer| reader.finish(outer))
            .map_err(X509Error::Certificate)?;
        let fields = Fields::read(body).map_err(X509Error::Certificate)?;
        let seconds = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
        };
        let mut certificate = Self {
            der: bytes.to_vec(),
            body: body.to_vec(),
            signature: (oid, bits),
            serial: fields.serial.to_vec(),
            issuer: fields.issuer.to_vec(),
            subject: fields.subject.to_vec(),
            names: [name(fields.issuer)?, name(fields.subject)?],
            not_before: seconds(fields.validity.not_before),
            not_after: seconds(fields.validity.not_after),
            public_key: PublicKey::from_spki(fields.public_key)?,
            digital_signature: None,
            purposes: None,
            authority: false,
        };
        for extension in &fields.extensions {
            certificate.extend(extension).map_err(X509Error::Certificate)?;
        }
        Ok(certificate)
    }

    fn extend(&mut self, extension: &Extension) -> der::Result<()> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            KEY_USAGE => {
                let usage = KeyUsage::from_der(value)?;
                self.digital_signature = Some(usage.digital_signature());
            }
            BASIC_CONSTRAINTS => self.authority = BasicConstraints::from_der(value)?.ca,
            EXTENDED_KEY_USAGE => self.purposes = Some(ExtendedKeyUsage::from_der(value)?.0),
            _ => {}
        }
        Ok(())
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// As `openssl x509` writes it.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der).to_string()
    }

    /// SHA-256 of the DER, by which manifests and systemd name certificates.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The part that the issuer signed (`TBSCertificate`), as encoded; `dbx` entries that revoke
    /// a certificate hold its hash.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.body
    }

    /// The subject for people (RFC 4514).
    pub fn subject(&self) -> &str {
        &self.names[1]
    }

    /// The issuer for people (RFC 4514).
    pub fn issuer(&self) -> &str {
        &self.names[0]
    }

    /// `Name` in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// `Name` in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// `INTEGER` in DER, tag and length included.
    pub fn serial_der(&self) -> &[u8] {
        &self.serial
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// First and last second of validity, since 1970.
    pub fn validity(&self) -> (i64, i64) {
        (self.not_before, self.not_after)
    }

    /// Whether it is an authority's (`CA:TRUE`).
    pub fn is_authority(&self) -> bool {
        self.authority
    }

    /// Whether it may be used for `usage` at `at`, in seconds since 1970.
    ///
    /// An authority may sign itself unless its key usage says otherwise: the certificates in
    /// firmware are mostly self-signed, and `openssl req -x509` marks them as authorities.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, at: i64, usage: Usage) -> Result<(), UsageFault> {
        if at > self.not_after {
            return Err(UsageFault::Expired {
                until: self.not_after,
                at,
            });
        }
        if at < self.not_before {
            return Err(UsageFault::NotYetValid {
                from: self.not_before,
                at,
            });
        }
        if usage == Usage::Trust {
            return Ok(());
        }
        if self.digital_signature == Some(false) {
            return Err(UsageFault::NoDigitalSignature {
                authority: self.authority,
            });
        }
        let named = |purposes: &Vec<ObjectIdentifier>| {
            let mut purposes = purposes.iter();
            purposes.any(|oid| [CODE_SIGNING, ANY_USAGE].contains(oid))
        };
        if usage == Usage::CodeSigning && !self.purposes.as_ref().is_none_or(named) {
            return Err(UsageFault::NoCodeSigning);
        }
        Ok(())
    }

    /// Whether `issuer` signed this certificate.
    ///
    /// # Errors
    /// Where the names do not meet, or the signature is not that key's.
    pub fn issued_by(&self, issuer: &Self) -> Result<(), BadSignature> {
        let (oid, signature) = &self.signature;
        let scheme = match (oid.to_string().as_str(), issuer.public_key.algorithm()) {
            ("1.2.840.113549.1.1.11", Algorithm::Rsa(_)) => Scheme::RsaPkcs1Sha256,
            ("1.2.840.113549.1.1.12", Algorithm::Rsa(_)) => Scheme::RsaPkcs1Sha384,
            ("1.2.840.113549.1.1.13", Algorithm::Rsa(_)) => Scheme::RsaPkcs1Sha512,
            ("1.2.840.10045.4.3.2", Algorithm::P256) => Scheme::EcdsaP256Sha256,
            ("1.2.840.10045.4.3.3", Algorithm::P384) => Scheme::EcdsaP384Sha384,
            ("1.3.101.112", Algorithm::Ed25519) => Scheme::Ed25519,
            _ => return Err(BadSignature),
        };
        if self.issuer != issuer.subject {
            return Err(BadSignature);
        }
        issuer.public_key.verify(scheme, &self.body, signature)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}

/// The fields of a `TBSCertificate`, names and numbers as encoded.
struct Fields<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    validity: Validity,
    subject: &'a [u8],
    public_key: &'a [u8],
    extensions: Vec<Extension>,
}

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(body)?;
        let fields = reader.sequence(|reader| {
            ContextSpecific::<u8>::decode_explicit(reader, TagNumber::N0)?;
            let serial = reader.tlv_bytes()?;
            if serial.first() != Some(&u8::from(Tag::Integer)) {
                return Err(Tag::Integer.value_error());
            }
            AlgorithmIdentifierRef::decode(reader)?;
            let issuer = reader.tlv_bytes()?;
            let validity = Validity::decode(reader)?;
            let subject = reader.tlv_bytes()?;
            let public_key = reader.tlv_bytes()?;
            // Unique identifiers of version 2, which nobody uses.
            for number in [TagNumber::N1, TagNumber::N2] {
                ContextSpecific::<BitStringRef<'_>>::decode_implicit(reader, number)?;
            }
            let extensions = ContextSpecific::<Vec<Extension>>::decode_explicit(reader, TagNumber::N3)?;
            Ok(Self {
                serial,
                issuer,
                validity,
                subject,
                public_key,
                extensions: extensions.map(|found| found.value).unwrap_or_default(),
            })
        })?;
        reader.finish(fields)
    }
}

fn name(der: &[u8]) -> Result<String, X509Error> {
    let name = Name::from_der(der).map_err(X509Error::Certificate)?;
    Ok(name.to_string())
}
