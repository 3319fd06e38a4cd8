//! What signs: keys in files or on tokens, the certificates that vouch for them, and the checks
//! that both are fit for it.

mod credential;
mod detached;
mod development;
mod error;
mod escrow;
mod generate;
mod pem_key;
pub mod pkcs11;
mod read;

pub use credential::{Credential, check_usage};
pub use detached::{Answers, Elsewhere, Wanted};
pub use development::{DevelopmentSet, Pair};
pub use error::SigningError;
pub use escrow::EscrowKey;
pub use generate::{NewKey, generate, self_signed};
pub use pem_key::PemKey;
pub use read::{KeySource, Opened, certificates, open_signer, public_key};

pub use crate::formats::x509::{Algorithm, Certificate, PublicKey, Scheme, Usage};

/// What signs: a PEM key, a token, or an answer that came from elsewhere.
pub trait Signer: Send + Sync {
    /// How it signs.
    fn scheme(&self) -> Scheme {
        self.public_key().scheme()
    }

    /// The key that its signatures are checked with.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, which it hashes by itself. RSA: as many bytes as the modulus, big-endian;
    /// ECDSA: DER; Ed25519: 64 bytes. The same message gives the same signature, but for tokens
    /// that draw ECDSA's nonce at random.
    ///
    /// # Errors
    /// Where the key, or what holds it, refuses.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;

    /// Signs `message` by `scheme`, where it is not the key's usual one: an RSA key with another
    /// hash.
    ///
    /// # Errors
    /// As [`Signer::sign`], and where the key cannot sign so.
    fn sign_by(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        if scheme == self.scheme() {
            return self.sign(message);
        }
        let why = format!(
            "it signs by {}, not by {}",
            self.scheme().as_str(),
            scheme.as_str()
        );
        Err(SigningError::Refused(why))
    }

    /// As [`Signer::sign_by`]; `of` tells people what the message stands for.
    ///
    /// # Errors
    /// As [`Signer::sign_by`], and [`SigningError::Awaited`] where the key is elsewhere.
    fn sign_for(&self, of: &str, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let _ = of;
        self.sign_by(scheme, message)
    }
}

#[cfg(test)]
mod tests;
