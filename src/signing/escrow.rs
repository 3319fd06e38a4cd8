//! The private half of an escrow key: what was wrapped to its public half is unwrapped.

use std::path::Path;

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::OsRng;
use rsa::sha2::Sha256;
use rsa::{Oaep, RsaPrivateKey};
use zeroize::Zeroizing;

use super::read::private_key_block;
use super::{PublicKey, SigningError};
use crate::store::hex;

/// An RSA key that opens what was wrapped to it by RSA-OAEP (PKCS #1 2.2) with SHA-256, in MGF1 as well, without a label.
pub struct EscrowKey {
    key: RsaPrivateKey,
    /// SHA-256 of the public key, in hex.
    fingerprint: String,
}

impl EscrowKey {
    /// Reads the key in the PEM file `path`.
    ///
    /// # Errors
    /// Where it holds none, or one of another kind than RSA.
    pub fn read(path: &Path) -> Result<Self, SigningError> {
        let (block, _) = private_key_block(path)?;
        let unusable = |why: String| SigningError::UnusableKey {
            path: path.to_owned(),
            why,
        };
        let key = if block.label == "RSA PRIVATE KEY" {
            RsaPrivateKey::from_pkcs1_der(&block.bytes).map_err(|error| unusable(error.to_string()))?
        } else {
            RsaPrivateKey::from_pkcs8_der(&block.bytes).map_err(|error| unusable(error.to_string()))?
        };
        let spki = key.to_public_key().to_public_key_der();
        let spki = spki.map_err(|error| unusable(error.to_string()))?;
        let public = PublicKey::from_spki(spki.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            key,
            fingerprint: hex(&public.fingerprint()),
        })
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER), in lower-case hex.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// What was wrapped.
    ///
    /// # Errors
    /// Where it was wrapped to another key or in another way, or is damaged.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        // Blinded: what takes how long says nothing of the key.
        let plain = self
            .key
            .decrypt_blinded(&mut OsRng, Oaep::new::<Sha256>(), wrapped);
        plain
            .map(Zeroizing::new)
            .map_err(|error| SigningError::Refused(error.to_string()))
    }
}
