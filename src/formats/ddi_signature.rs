//! The signature partition of a verity device: a line of JSON, padded with zeroes.
//!
//! Specification: UAPI.3 *Discoverable Disk Image*; systemd reads at most 4 MiB.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// More than any signature takes, and less than systemd's limit.
const LARGEST: usize = 1 << 20;

/// What the partition says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DdiSignature {
    /// Lower-case hexadecimal.
    root_hash: String,
    /// SHA-256 of the signer's certificate in DER, lower-case hexadecimal.
    certificate_fingerprint: String,
    /// PKCS #7 in DER, over the root hash in hexadecimal; Base64.
    signature: String,
}

/// The partition holds no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DdiSignatureError {
    #[error("the signature partition is larger than any signature: {0} bytes")]
    Large(usize),
    #[error("the signature partition holds something behind its JSON")]
    Trailing,
    #[error("the signature partition holds no JSON of a signature: {0}")]
    Json(String),
    #[error("the signature partition's `{0}` is not what it should be")]
    Field(&'static str),
}

impl DdiSignature {
    /// `root_hash`: its bytes; `signature`: PKCS #7 in DER.
    pub fn new(root_hash: &[u8], certificate_fingerprint: &[u8; 32], signature: &[u8]) -> Self {
        Self {
            root_hash: hex(root_hash),
            certificate_fingerprint: hex(certificate_fingerprint),
            signature: STANDARD.encode(signature),
        }
    }

    /// The partition's bytes, padded to a multiple of 4 KiB.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Three strings always serialise.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    /// Reads the bytes of a partition.
    ///
    /// # Errors
    /// Where they are no signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, DdiSignatureError> {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        if end > LARGEST {
            return Err(DdiSignatureError::Large(end));
        }
        if bytes[end..].iter().any(|&byte| byte != 0) {
            return Err(DdiSignatureError::Trailing);
        }
        let read: Self = serde_json::from_slice(&bytes[..end])
            .map_err(|error| DdiSignatureError::Json(error.to_string()))?;
        let digits = |text: &str| {
            text.len().is_multiple_of(2) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !digits(&read.root_hash) || read.root_hash.len() < 64 {
            return Err(DdiSignatureError::Field("rootHash"));
        }
        if !digits(&read.certificate_fingerprint) || read.certificate_fingerprint.len() != 64 {
            return Err(DdiSignatureError::Field("certificateFingerprint"));
        }
        if STANDARD.decode(&read.signature).is_err() {
            return Err(DdiSignatureError::Field("signature"));
        }
        Ok(read)
    }

    /// Lower-case hexadecimal: what the signature covers, as text.
    pub fn root_hash(&self) -> &str {
        &self.root_hash
    }

    /// SHA-256 of the signer's certificate, lower-case hexadecimal.
    pub fn certificate_fingerprint(&self) -> &str {
        &self.certificate_fingerprint
    }

    /// PKCS #7 in DER.
    pub fn signature(&self) -> Vec<u8> {
        // Looked at by `parse`, or encoded by `new`.
        STANDARD.decode(&self.signature).unwrap_or_default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_one_line_of_json_and_zeroes() {
        let signature = DdiSignature::new(&[0xab; 32], &[1; 32], b"signature");
        let bytes = signature.to_bytes();
        assert_eq!(bytes.len(), 4096);
        let text = format!(
            "{{\"rootHash\":\"{}\",\"certificateFingerprint\":\"{}\",\"signature\":\"c2lnbmF0dXJl\"}}\0",
            "ab".repeat(32),
            "01".repeat(32)
        );
        assert!(bytes.starts_with(text.as_bytes()));
        let read = DdiSignature::parse(&[bytes.clone(), vec![0; 1 << 20]].concat()).unwrap();
        assert_eq!(read, signature);
        assert_eq!(read.signature(), b"signature");
        assert_eq!(
            DdiSignature::new(&[7; 64], &[1; 32], &[7; 5000]).to_bytes().len(),
            8192
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let good = DdiSignature::new(&[0xab; 32], &[1; 32], b"signature").to_bytes();
        let text = String::from_utf8(good.clone()).unwrap();
        let altered =
            |from: &str, to: &str| DdiSignature::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(altered("\"ab", "\"AB"), DdiSignatureError::Field("rootHash"));
        assert_eq!(
            altered("\"01", "\""),
            DdiSignatureError::Field("certificateFingerprint")
        );
        assert_eq!(altered("c2lnb", "*"), DdiSignatureError::Field("signature"));
        assert!(matches!(altered("rootHash", "root"), DdiSignatureError::Json(_)));
        assert_eq!(
            DdiSignature::parse(&[good, vec![1]].concat()),
            Err(DdiSignatureError::Trailing)
        );
        assert!(matches!(
            DdiSignature::parse(&[]),
            Err(DdiSignatureError::Json(_))
        ));
        assert_eq!(
            DdiSignature::parse(&vec![b' '; LARGEST + 1]),
            Err(DdiSignatureError::Large(LARGEST + 1))
        );
    }
}
