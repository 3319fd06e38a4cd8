//! Keys for Azure: `properties.securityProfile.uefiSettings` of an image version in a Compute Gallery (API 2023-07-03 and later).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::{Database, Databases, FirmwareError};
use crate::formats::efi::{Entry, SignatureDatabase};

/// A set of signatures that Azure knows, to which an image's own are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureTemplate {
    /// None: only the image's keys count, `PK` among them.
    #[default]
    None,
    /// Microsoft's keys, and its authority for other vendors' boot loaders.
    MicrosoftUefi,
    /// Microsoft's keys for Windows.
    MicrosoftWindows,
}

impl SignatureTemplate {
    /// Azure's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NoSignatureTemplate",
            Self::MicrosoftUefi => "MicrosoftUefiCertificateAuthorityTemplate",
            Self::MicrosoftWindows => "MicrosoftWindowsTemplate",
        }
    }
}

/// The value of `uefiSettings`. A machine has one platform key: with a template of Microsoft's, whose it is, `databases`' own
/// is left out.
///
/// # Errors
/// [`Databases::check`] fails where there is no template; an entry is neither a certificate nor the digest of an image.
pub fn uefi_settings(databases: &Databases, template: SignatureTemplate) -> Result<Value, FirmwareError> {
    let own = template == SignatureTemplate::None;
    if own {
        databases.check()?;
    }
    let mut signatures = Map::new();
    for database in Database::ALL {
        let mut keys = keys(database, databases.get(database))?;
        let value = match database {
            Database::Pk if !own => continue,
            Database::Pk => keys.pop(),
            _ => (!keys.is_empty()).then_some(Value::Array(keys)),
        };
        if let Some(value) = value {
            signatures.insert(database.name().to_ascii_lowercase(), value);
        }
    }
    Ok(json!({
        "signatureTemplateNames": [template.name()],
        "additionalSignatures": signatures,
    }))
}

/// Entries by type, each with all its values: DER or digest in base64, on one line.
fn keys(database: Database, lists: &SignatureDatabase) -> Result<Vec<Value>, FirmwareError> {
    let (mut certificates, mut digests) = (Vec::new(), Vec::new());
    for entry in lists.entries() {
        match entry {
            Entry::Certificate(der) => certificates.push(BASE64.encode(der)),
            Entry::Image(digest) => digests.push(BASE64.encode(digest)),
            Entry::CertificateDigest(..) => {
                return Err(FirmwareError::Azure {
                    database: database.name(),
                    what: "the digest of a certificate".into(),
                });
            }
            Entry::Other(kind, _) => {
                return Err(FirmwareError::Azure {
                    database: database.name(),
                    what: format!("a signature of type {kind}"),
                });
            }
        }
    }
    let kinds = [("x509", certificates), ("sha256", digests)];
    let filled = kinds.into_iter().filter(|(_, values)| !values.is_empty());
    Ok(filled
        .map(|(kind, values)| json!({ "type": kind, "value": values }))
        .collect())
}
