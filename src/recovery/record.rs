//! The file on the ESP: one JSON object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

/// The only scheme there is yet.
const SCHEME: &str = "RSA-OAEP-SHA256";
/// RSA-16384: more than any key has.
const LONGEST: usize = 2048;

/// A recovery key, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the escrow key (SubjectPublicKeyInfo, DER), in lower-case hex.
    pub escrow_key: String,
    /// The UUID that firmware gives the machine; `unknown` where it gives none.
    pub machine: String,
    /// The ciphertext.
    pub wrapped: Vec<u8>,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("it is not the JSON object that machines write ({0})")]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0}, and this program knows version 1")]
    Version(u64),
    #[error("it is wrapped by `{0}`, and this program knows `{SCHEME}`")]
    Scheme(String),
    #[error("`escrow-key` is no SHA-256 in hex")]
    EscrowKey,
    #[error("`machine` is longer than any UUID, or not in plain letters")]
    Machine,
    #[error("`wrapped` is no base64 of at most {LONGEST} bytes")]
    Wrapped,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    version: u64,
    scheme: String,
    escrow_key: String,
    machine: String,
    wrapped: String,
}

impl Record {
    /// Reads what a machine wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let written: Written = serde_json::from_slice(bytes)?;
        if written.version != 1 {
            return Err(RecordError::Version(written.version));
        }
        if written.scheme != SCHEME {
            return Err(RecordError::Scheme(
                written.scheme.escape_debug().take(64).collect(),
            ));
        }
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if written.escrow_key.len() != 64 || !written.escrow_key.bytes().all(digit) {
            return Err(RecordError::EscrowKey);
        }
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if written.machine.len() > 64 || !written.machine.bytes().all(letter) {
            return Err(RecordError::Machine);
        }
        let wrapped = BASE64
            .decode(&written.wrapped)
            .map_err(|_| RecordError::Wrapped)?;
        if wrapped.is_empty() || wrapped.len() > LONGEST {
            return Err(RecordError::Wrapped);
        }
        Ok(Self {
            escrow_key: written.escrow_key,
            machine: written.machine,
            wrapped,
        })
    }
}
