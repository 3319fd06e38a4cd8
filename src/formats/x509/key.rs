//! Public keys and the signatures that they check.

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use ring::signature as verify;
use sha2::{Digest as _, Sha256};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{BadSignature, X509Error};
use crate::formats::pem;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// How a message is hashed and signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    RsaPkcs1Sha256,
    RsaPkcs1Sha384,
    RsaPkcs1Sha512,
    EcdsaP256Sha256,
    EcdsaP384Sha384,
    Ed25519,
}

/// What kind of key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// With the modulus' length in bits.
    Rsa(usize),
    P256,
    P384,
    Ed25519,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    algorithm: Algorithm,
    /// The content of the bit string: `RSAPublicKey`, an uncompressed point, or 32 bytes.
    key: Vec<u8>,
    /// Modulus and exponent, big-endian, without leading zeroes; empty for other kinds than RSA.
    rsa: (Vec<u8>, Vec<u8>),
}

impl Scheme {
    pub const ALL: [Self; 6] = [
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::Ed25519,
    ];

    /// As it is called in the manifest and in requests for signatures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// Where it is none, or of a kind that is not understood.
    pub fn from_spki(spki: &[u8]) -> Result<Self, X509Error> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(X509Error::PublicKey)?;
        let key = info.subject_public_key.as_bytes().ok_or(X509Error::Malformed)?;
        let mut rsa = (Vec::new(), Vec::new());
        let algorithm = match info.algorithm.oid {
            RSA => {
                rsa = rsa_numbers(key).map_err(X509Error::PublicKey)?;
                let first = rsa.0.first().ok_or(X509Error::Malformed)?;
                let bits = rsa.0.len() * 8 - first.leading_zeros() as usize;
                if !(2048..=8192).contains(&bits) {
                    return Err(X509Error::Length(bits));
                }
                Algorithm::Rsa(bits)
            }
            EC => {
                let curve = info
                    .algorithm
                    .parameters_oid()
                    .map_err(|_| X509Error::Malformed)?;
                let (algorithm, length) = match curve {
                    P256 => (Algorithm::P256, 65),
                    P384 => (Algorithm::P384, 97),
                    other => return Err(X509Error::Kind(format!("ECDSA on the curve {other}"))),
                };
                if key.len() != length || key[0] != 4 {
                    return Err(X509Error::Malformed);
                }
                algorithm
            }
            ED25519 if key.len() == 32 => Algorithm::Ed25519,
            ED25519 => return Err(X509Error::Malformed),
            other => return Err(X509Error::Kind(other.to_string())),
        };
        Ok(Self {
            spki: spki.to_vec(),
            algorithm,
            key: key.to_vec(),
            rsa,
        })
    }

    /// Wraps the content of the bit string of a `SubjectPublicKeyInfo`: `RSAPublicKey` in DER, an
    /// uncompressed point, or an Ed25519 key's 32 bytes. The length given with
    /// [`Algorithm::Rsa`] does not matter.
    ///
    /// # Errors
    /// Where the bytes are no such key.
    pub fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, X509Error> {
        let (oid, parameters) = match algorithm {
            Algorithm::Rsa(_) => (RSA, Some(AnyRef::NULL)),
            Algorithm::P256 => (EC, Some(AnyRef::from(&P256))),
            Algorithm::P384 => (EC, Some(AnyRef::from(&P384))),
            Algorithm::Ed25519 => (ED25519, None),
        };
        let info = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid, parameters },
            subject_public_key: BitStringRef::from_bytes(key).map_err(X509Error::PublicKey)?,
        };
        Self::from_spki(&info.to_der().map_err(X509Error::PublicKey)?)
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// `SubjectPublicKeyInfo` in PEM, as `openssl pkey -pubout` writes it.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki).to_string()
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`; systemd names keys of PCR policies by it.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The content of the bit string; see [`Self::from_key`].
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Modulus and public exponent of an RSA key, big-endian, without leading zeroes.
    pub fn rsa(&self) -> Option<(&[u8], &[u8])> {
        let is_rsa = matches!(self.algorithm, Algorithm::Rsa(_));
        is_rsa.then_some((self.rsa.0.as_slice(), self.rsa.1.as_slice()))
    }

    /// The scheme that is signed with where nothing else is asked for.
    pub fn scheme(&self) -> Scheme {
        match self.algorithm {
            Algorithm::Rsa(_) => Scheme::RsaPkcs1Sha256,
            Algorithm::P256 => Scheme::EcdsaP256Sha256,
            Algorithm::P384 => Scheme::EcdsaP384Sha384,
            Algorithm::Ed25519 => Scheme::Ed25519,
        }
    }

    /// Whether `signature` is this key's over `message`, which is hashed here. ECDSA signatures are
    /// DER, RSA's as long as the modulus.
    ///
    /// # Errors
    /// Where it is not, or key and scheme do not fit.
    pub fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let algorithm: &dyn verify::VerificationAlgorithm = match (scheme, self.algorithm) {
            (Scheme::RsaPkcs1Sha256, Algorithm::Rsa(_)) => &verify::RSA_PKCS1_2048_8192_SHA256,
            (Scheme::RsaPkcs1Sha384, Algorithm::Rsa(_)) => &verify::RSA_PKCS1_2048_8192_SHA384,
            (Scheme::RsaPkcs1Sha512, Algorithm::Rsa(_)) => &verify::RSA_PKCS1_2048_8192_SHA512,
            (Scheme::EcdsaP256Sha256, Algorithm::P256) => &verify::ECDSA_P256_SHA256_ASN1,
            (Scheme::EcdsaP384Sha384, Algorithm::P384) => &verify::ECDSA_P384_SHA384_ASN1,
            (Scheme::Ed25519, Algorithm::Ed25519) => &verify::ED25519,
            _ => return Err(BadSignature),
        };
        verify::UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }
}

/// Modulus and exponent of an `RSAPublicKey`.
fn rsa_numbers(key: &[u8]) -> der::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(key)?;
    let numbers = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        let exponent = UintRef::decode(reader)?;
        Ok((modulus.as_bytes().to_vec(), exponent.as_bytes().to_vec()))
    })?;
    reader.finish(numbers)
}
