//! Keys and certificates from files.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::pkcs11::{TokenKey, TokenUri};
use super::{Certificate, PemKey, PublicKey, Signer, SigningError};
use crate::formats::pem::{self, Block};

/// The largest file of keys or certificates that is read.
const LARGEST: u64 = 1 << 20;

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A PEM file.
    File(PathBuf),
    /// A key on a token.
    Token(TokenUri),
}

/// A key that is ready to sign.
pub struct Opened {
    pub signer: Box<dyn Signer>,
    /// What people should know of how the key is kept.
    pub warnings: Vec<String>,
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Token(uri) => uri.fmt(f),
        }
    }
}

impl KeySource {
    /// A key on a token, by its `pkcs11:` URI.
    ///
    /// # Errors
    /// Where the URI is malformed.
    pub fn token(uri: &str) -> Result<Self, SigningError> {
        TokenUri::parse(uri).map(Self::Token).map_err(SigningError::Uri)
    }
}

/// Opens the key at `source`.
///
/// # Errors
/// Where there is none, or it cannot sign.
pub fn open_signer(source: &KeySource) -> Result<Opened, SigningError> {
    match source {
        KeySource::File(path) => key_file(path),
        KeySource::Token(uri) => {
            let (key, warnings) = TokenKey::open(uri)?;
            Ok(Opened {
                signer: Box::new(key),
                warnings,
            })
        }
    }
}

fn key_file(path: &Path) -> Result<Opened, SigningError> {
    let (block, mode) = private_key_block(path)?;
    let key = PemKey::from_block(&block).map_err(|why| SigningError::UnusableKey {
        path: path.to_owned(),
        why,
    })?;
    Ok(Opened {
        signer: Box::new(key),
        warnings: readable_by_all(path, mode, "private key").into_iter().collect(),
    })
}

/// The one private key in the PEM file `path`, not encrypted, and the file's mode.
///
/// # Errors
/// Where there is none, or more than one, or it is encrypted.
pub(super) fn private_key_block(path: &Path) -> Result<(Block, u32), SigningError> {
    let (bytes, mode) = read(path)?;
    let found = |found: &str| SigningError::NoKey {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| found("it is not PEM text"))?;
    let mut blocks = blocks(path, text)?;
    let is_key = |block: &Block| block.label.ends_with("PRIVATE KEY");
    let Some(index) = blocks.iter().position(is_key) else {
        let labels: Vec<_> = blocks.iter().map(|block| format!("`{}`", block.label)).collect();
        return Err(match labels[..] {
            [] => found("it holds no PEM block"),
            _ => found(&format!("it holds {}", labels.join(", "))),
        });
    };
    let block = blocks.swap_remove(index);
    if blocks.iter().any(is_key) {
        return Err(SigningError::ManyKeys {
            path: path.to_owned(),
        });
    }
    if block.encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
        return Err(SigningError::Encrypted {
            path: path.to_owned(),
        });
    }
    Ok((block, mode))
}

/// Says so where a secret is none.
fn readable_by_all(path: &Path, mode: u32, what: &str) -> Option<String> {
    (mode & 0o004 != 0).then(|| {
        format!(
            "{}: everyone on this machine may read this {what} (mode {:04o}): `chmod 600` it, and replace it if others could",
            path.display(),
            mode & 0o7777
        )
    })
}

/// The text of a file that holds a secret, and a warning where everyone may read it.
pub(super) fn read_secret(
    path: &Path,
    what: &str,
) -> Result<(Zeroizing<String>, Option<String>), SigningError> {
    let (bytes, mode) = read(path)?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| SigningError::NoText {
        path: path.to_owned(),
    })?;
    Ok((text.into(), readable_by_all(path, mode, what)))
}

/// The certificates in the file `path`, PEM or DER, in order; at least one.
///
/// # Errors
/// Where it holds none, or one that cannot be read.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>, SigningError> {
    let (bytes, _) = read(path)?;
    let parse = |der: &[u8]| {
        Certificate::from_der(der).map_err(|source| SigningError::Certificate {
            path: path.to_owned(),
            source,
        })
    };
    if !pem::is_pem(&bytes) {
        return Ok(vec![parse(&bytes)?]);
    }
    let none = || SigningError::NoCertificate {
        path: path.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| none())?;
    let blocks = blocks(path, text)?;
    let labels = ["CERTIFICATE", "X509 CERTIFICATE"];
    let blocks = blocks
        .iter()
        .filter(|block| labels.contains(&block.label.as_str()));
    let certificates = blocks
        .map(|block| parse(&block.bytes))
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(none());
    }
    Ok(certificates)
}

/// The public key in the file `path`, PEM (`PUBLIC KEY`).
///
/// # Errors
/// Where it holds none, or one that cannot be used.
pub fn public_key(path: &Path) -> Result<PublicKey, SigningError> {
    let (bytes, _) = read(path)?;
    let none = || SigningError::NoPublicKey {
        path: path.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| none())?;
    let blocks = blocks(path, text)?;
    let block = blocks.iter().find(|block| block.label == "PUBLIC KEY");
    PublicKey::from_spki(&block.ok_or_else(none)?.bytes).map_err(|source| SigningError::PublicKey {
        path: path.to_owned(),
        source,
    })
}

fn blocks(path: &Path, text: &str) -> Result<Vec<Block>, SigningError> {
    pem::blocks(text).map_err(|source| SigningError::Pem {
        path: path.to_owned(),
        source,
    })
}

/// The bytes of a file and its mode.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), SigningError> {
    let failed = |source| SigningError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 16));
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(SigningError::TooLarge {
            path: path.to_owned(),
            limit: LARGEST,
        });
    }
    Ok((bytes, mode))
}
