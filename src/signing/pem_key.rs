//! Private keys in PEM files.

use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512};

use super::{Algorithm, PublicKey, Scheme, Signer, SigningError};
use crate::formats::pem::Block;

/// A private key, held in memory.
pub struct PemKey {
    key: Key,
    public: PublicKey,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(SigningKey),
}

impl PemKey {
    /// Takes the key out of a PEM block: PKCS #8 (`PRIVATE KEY`), PKCS #1 (`RSA PRIVATE KEY`) or
    /// SEC 1 (`EC PRIVATE KEY`), not encrypted.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow a colon.
    pub fn from_block(block: &Block) -> Result<Self, String> {
        let bytes = &block.bytes;
        let key = match block.label.as_str() {
            "RSA PRIVATE KEY" => rsa(RsaKeyPair::from_der(bytes))?,
            "EC PRIVATE KEY" => sec1(bytes)?,
            _ => pkcs8(bytes)?,
        };
        let public = key.public()?;
        Ok(Self { key, public })
    }
}

impl Key {
    fn public(&self) -> Result<PublicKey, String> {
        let (algorithm, bytes) = match self {
            Self::Rsa(key) => (Algorithm::Rsa(0), key.public().as_ref().to_vec()),
            Self::P256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                (Algorithm::P256, point.as_bytes().to_vec())
            }
            Self::P384(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                (Algorithm::P384, point.as_bytes().to_vec())
            }
            Self::Ed25519(key) => (Algorithm::Ed25519, key.verifying_key().to_bytes().to_vec()),
        };
        PublicKey::from_key(algorithm, &bytes).map_err(|error| error.to_string())
    }
}

impl Signer for PemKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.sign_by(self.scheme(), message)
    }

    fn sign_by(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let hash = match (&self.key, scheme) {
            (Key::Rsa(_), Scheme::RsaPkcs1Sha384) => &RSA_PKCS1_SHA384,
            (Key::Rsa(_), Scheme::RsaPkcs1Sha512) => &RSA_PKCS1_SHA512,
            _ if scheme == self.scheme() => &RSA_PKCS1_SHA256,
            _ => {
                let why = format!(
                    "it signs by {}, not by {}",
                    self.scheme().as_str(),
                    scheme.as_str()
                );
                return Err(SigningError::Refused(why));
            }
        };
        let refused = |error: p256::ecdsa::Error| SigningError::Refused(error.to_string());
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                // The random source blinds the computation; PKCS #1 v1.5 signatures hold none of it.
                key.sign(hash, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| SigningError::WrongSignature)?;
                Ok(signature)
            }
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).map_err(refused)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Key::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message).map_err(refused)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Key::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
        }
    }
}

fn rsa(key: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Key, String> {
    match key {
        Ok(key) => Ok(Key::Rsa(Box::new(key))),
        Err(error) => Err(match error.to_string().as_str() {
            "TooSmall" => "an RSA key of less than 2048 bits".to_owned(),
            "TooLarge" => "an RSA key of more than 4096 bits".to_owned(),
            why => format!("as an RSA key it is refused ({why})"),
        }),
    }
}

/// The key's algorithm is told apart by trying: each reader looks at the algorithm identifier first.
fn pkcs8(bytes: &[u8]) -> Result<Key, String> {
    let info = ed25519_dalek::pkcs8::PrivateKeyInfo::try_from(bytes)
        .map_err(|error| format!("it is no PKCS #8 key ({error})"))?;
    let failed = |error: ed25519_dalek::pkcs8::Error| error.to_string();
    match info.algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => rsa(RsaKeyPair::from_pkcs8(bytes)),
        "1.2.840.10045.2.1" => {
            let curve = info.algorithm.parameters_oid();
            match curve.map(|oid| oid.to_string()).unwrap_or_default().as_str() {
                "1.2.840.10045.3.1.7" => p256::SecretKey::from_pkcs8_der(bytes)
                    .map(|key| Key::P256(key.into()))
                    .map_err(failed),
                "1.3.132.0.34" => p384::SecretKey::from_pkcs8_der(bytes)
                    .map(|key| Key::P384(key.into()))
                    .map_err(failed),
                other => Err(format!("it lies on the curve {other}")),
            }
        }
        "1.3.101.112" => SigningKey::from_pkcs8_der(bytes)
            .map(Key::Ed25519)
            .map_err(failed),
        other => Err(format!("its algorithm {other} is not known")),
    }
}

fn sec1(bytes: &[u8]) -> Result<Key, String> {
    let p256 = p256::SecretKey::from_sec1_der(bytes).map(|key| Key::P256(key.into()));
    p256.or_else(|_| p384::SecretKey::from_sec1_der(bytes).map(|key| Key::P384(key.into())))
        .map_err(|_| "it is no key on P-256 or P-384 in SEC 1".to_owned())
}
