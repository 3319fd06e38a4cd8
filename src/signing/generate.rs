//! New keys, from the system's random source.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use rsa::rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use super::{Algorithm, Certificate, PemKey, Signer as _, SigningError};
use crate::formats::pem::{self, Block};
use crate::formats::x509::NewCertificate;

const LABEL: &str = "PRIVATE KEY";

/// A new key.
pub struct NewKey {
    /// PKCS #8 in PEM, not encrypted.
    pub pem: Zeroizing<String>,
    pub key: PemKey,
}

/// Draws a key. RSA keys have the exponent 65537.
///
/// # Errors
/// Where the random source fails, or RSA keys of this length cannot sign here (2048 to 4096 bits can).
pub fn generate(algorithm: Algorithm) -> Result<NewKey, SigningError> {
    let failed = |error: &dyn std::fmt::Display| SigningError::Refused(error.to_string());
    // The first call tells whether there is randomness at all: the generators below would panic.
    let mut seed = Zeroizing::new([0; 32]);
    OsRng
        .try_fill_bytes(&mut *seed)
        .map_err(|_| SigningError::Random)?;
    let document = match algorithm {
        Algorithm::Rsa(bits) => {
            let key = rsa::RsaPrivateKey::new(&mut OsRng, bits).map_err(|error| failed(&error))?;
            key.to_pkcs8_der()
        }
        Algorithm::P256 => p256::SecretKey::random(&mut OsRng).to_pkcs8_der(),
        Algorithm::P384 => p384::SecretKey::random(&mut OsRng).to_pkcs8_der(),
        Algorithm::Ed25519 => {
            // Without the public half: OpenSSL 3.0 reads no other form.
            let secret_key = SigningKey::from_bytes(&seed).to_bytes();
            KeypairBytes {
                secret_key,
                public_key: None,
            }
            .to_pkcs8_der()
        }
    };
    let document = document.map_err(|error| failed(&error))?;
    let block = Block {
        label: LABEL.to_owned(),
        encrypted: false,
        bytes: Zeroizing::new(document.as_bytes().to_vec()),
    };
    let key = PemKey::from_block(&block).map_err(SigningError::Refused)?;
    Ok(NewKey {
        pem: pem::encode(LABEL, &block.bytes),
        key,
    })
}

/// A certificate of `key`, signed by itself, with a serial number drawn at random. `validity`:
/// first and last second, since 1970.
///
/// # Errors
/// Where the random source fails or the key cannot sign.
pub fn self_signed(
    key: &PemKey,
    common_name: &str,
    validity: (i64, i64),
    code_signing: bool,
) -> Result<Certificate, SigningError> {
    let mut serial = [0; 16];
    OsRng
        .try_fill_bytes(&mut serial)
        .map_err(|_| SigningError::Random)?;
    // A positive number of always the same length.
    serial[0] = serial[0] & 0x3f | 0x40;
    let new = NewCertificate {
        common_name,
        public_key: key.public_key(),
        scheme: key.scheme(),
        serial,
        validity,
        code_signing,
    };
    let der = new.attach(&key.sign(&new.to_be_signed())?);
    Certificate::from_der(&der).map_err(|error| SigningError::Refused(error.to_string()))
}
