//! PEM: binary data as Base64 between lines that name it.
//!
//! Specification: RFC 7468, and of RFC 1421 what OpenSSL's encrypted keys use. Text outside the
//! blocks is passed over, as `openssl` writes such before certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// A block of a PEM file.
pub struct Block {
    /// What stands between `BEGIN` and the dashes, such as `CERTIFICATE`.
    pub label: String,
    /// Whether header lines say that the bytes are encrypted, as in OpenSSL's older key files.
    pub encrypted: bool,
    /// The decoded bytes; wiped from memory afterwards, as they may be a key.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Text is no PEM. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("line {0}: the block that begins here has no `-----END {1}-----`")]
    Unended(usize, String),
    #[error("line {0}: the block ends by another name than it began with, `{1}`")]
    OtherEnd(usize, String),
    #[error("the block `{1}` that begins in line {0} is not Base64")]
    NotBase64(usize, String),
}

/// Whether `bytes` hold a PEM block rather than bare DER.
pub fn is_pem(bytes: &[u8]) -> bool {
    bytes
        .windows(BEGIN.len())
        .any(|window| window == BEGIN.as_bytes())
}

/// The blocks of `text` in order.
///
/// # Errors
/// Where a block is not ended, or holds no Base64.
pub fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    while let Some((start, line)) = lines.next() {
        let Some(label) = named(line, BEGIN) else {
            continue;
        };
        let mut encrypted = false;
        let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            let Some((at, line)) = lines.next() else {
                return Err(PemError::Unended(start + 1, label.to_owned()));
            };
            if let Some(end) = named(line, END) {
                if end != label {
                    return Err(PemError::OtherEnd(at + 1, label.to_owned()));
                }
                break;
            }
            // No header line is Base64, as each holds a colon.
            if let Some((name, value)) = line.split_once(':') {
                encrypted |= name == "Proc-Type" && value.contains("ENCRYPTED");
            } else {
                base64.push_str(line);
            }
        }
        let bytes = STANDARD
            .decode(base64.as_bytes())
            .map_err(|_| PemError::NotBase64(start + 1, label.to_owned()))?;
        blocks.push(Block {
            label: label.to_owned(),
            encrypted,
            bytes: Zeroizing::new(bytes),
        });
    }
    Ok(blocks)
}

/// `bytes` as a block called `label`, lines of 64 characters.
pub fn encode(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(bytes));
    let room = base64.len() + base64.len() / 64 + 2 * label.len() + 40;
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in [BEGIN, label, DASHES, "\n"] {
        text.push_str(part);
    }
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    for part in [END, label, DASHES, "\n"] {
        text.push_str(part);
    }
    text
}

fn named<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.strip_prefix(marker)?.strip_suffix(DASHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = format!(
            "Bag Attributes\r\n{}subject=x\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
             DEK-Info: AES-256-CBC,00\n\nAAEC\n-----END RSA PRIVATE KEY-----\n",
            *encode("CERTIFICATE", &bytes)
        );
        let found = blocks(&text).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|block| (block.label.as_str(), block.encrypted, block.bytes.len()))
            .collect();
        assert_eq!(seen, [("CERTIFICATE", false, 256), ("RSA PRIVATE KEY", true, 3)]);
        assert_eq!(*found[0].bytes, bytes);
        assert!(is_pem(text.as_bytes()) && !is_pem(&bytes));
        assert!(text.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn damaged_blocks_name_their_line() {
        for (text, error) in [
            ("\n-----BEGIN A-----\nAAEC\n", PemError::Unended(2, "A".into())),
            (
                "-----BEGIN A-----\nAAEC\n-----END B-----\n",
                PemError::OtherEnd(3, "A".into()),
            ),
            (
                "-----BEGIN A-----\n*\n-----END A-----\n",
                PemError::NotBase64(1, "A".into()),
            ),
        ] {
            assert_eq!(blocks(text).err(), Some(error), "{text}");
        }
        assert!(blocks("nothing of the kind").unwrap().is_empty());
    }
}
