//! `[secure-boot]`, `[verity]` and `[commit]`: who signs what an image consists of, and how `/usr` is sealed.

use serde::{Serialize, Serializer};

use super::plan::{VerityAlgorithm, VerityCorruption, VeritySignature};
use super::raw::{Kind, Value};
use super::reader::{Context, Section};
use super::typed::{FromValue, PresentDirectory, wrong_type};
use super::values::SourcePath;
use crate::formats::fec;

/// How keys on tokens are named (RFC 7512).
const PKCS11: &str = "pkcs11:";

/// Where a private key is. Whether it is there is seen when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A PEM file.
    File(SourcePath),
    /// A `pkcs11:` URI, without a PIN.
    Token(String),
}

impl Serialize for KeySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => path.serialize(serializer),
            Self::Token(uri) => serializer.serialize_str(uri),
        }
    }
}

impl FromValue for KeySource {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        match &value.kind {
            Kind::String(text) if text.starts_with(PKCS11) => {
                if text.contains("pin-value=") {
                    let message = format!(
                        "`{path}` holds a PIN (`pin-value`), which is refused: definitions are no secret"
                    );
                    context.report(context.problem(value.span, message).help(
                        "name a file with the PIN by `pin-source=/path`, or set HULLWRIGHT_PKCS11_PIN for the build",
                    ));
                    return None;
                }
                Some(Self::Token(text.clone()))
            }
            Kind::String(text) if text.contains("PRIVATE KEY") => {
                let message =
                    format!("`{path}` holds a private key, which is refused: definitions are no secret");
                let problem = context.problem(value.span, message);
                context
                    .report(problem.help("write the key into a file that only you can read, and name that"));
                None
            }
            Kind::String(_) => SourcePath::from_value(context, path, value).map(Self::File),
            _ => {
                wrong_type(context, path, value, "a string (a path, or a `pkcs11:` URI)");
                None
            }
        }
    }
}

/// A private key with its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyPair {
    /// `None`: it is elsewhere, and so are its signatures made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySource>,
    /// The certificate, and its issuers after it.
    pub cert: SourcePath,
}

/// `[secure-boot]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecureBoot {
    /// What signs UKI and boot loader; firmware has the certificate in `db`.
    pub db: KeyPair,
    /// Certificate of the platform key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pk: Option<SourcePath>,
    /// Certificate of the key exchange key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek: Option<SourcePath>,
    /// Certificates that firmware refuses.
    pub dbx: Vec<SourcePath>,
    /// A directory with `PK.auth`, `KEK.auth`, `db.auth` and perhaps `dbx.auth`, which the boot loader makes the firmware's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_enroll: Option<SourcePath>,
}

/// `[verity]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verity {
    pub algorithm: VerityAlgorithm,
    /// What the kernel does at a block that is not as sealed.
    pub corruption: VerityCorruption,
    /// Whether damaged blocks can be mended.
    #[serde(skip_serializing_if = "is_false")]
    pub fec: bool,
    /// Then: bytes of parity for each 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fec_roots: Option<u8>,
    /// Where the root hash's signature goes.
    pub signature: VeritySignature,
    /// What signs the root hash.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub pair: Option<KeyPair>,
}

/// `[commit]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitSigning {
    /// Ed25519.
    Key(KeySource),
    /// The public key of one that is elsewhere.
    Public(SourcePath),
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `cert`, and perhaps `key`.
fn pair(table: &Section<'_>) -> Option<KeyPair> {
    let key = table.get("key");
    let cert = table.require("cert", "\"keys/db.pem\"");
    Some(KeyPair { key, cert: cert? })
}

/// Reads `[secure-boot]`, where it is written.
pub(super) fn secure_boot(table: &Section<'_>) -> Option<SecureBoot> {
    let db = table.section("db");
    let pk = table.get("pk");
    let kek = table.get("kek");
    let dbx = table.set("dbx");
    let auto_enroll = table.get("auto-enroll").map(|PresentDirectory(path)| path);
    if !table.is_written() {
        // Asked for all the same, so that they are known.
        db.entry("key");
        db.entry("cert");
        return None;
    }
    Some(SecureBoot {
        db: pair(&db)?,
        pk,
        kek,
        dbx,
        auto_enroll,
    })
}

/// Reads `[verity]`; it need not be written.
pub(super) fn verity(table: &Section<'_>) -> Verity {
    let signature = table.or("signature", VeritySignature::None);
    let fec = table.or("fec", false);
    let roots: Option<u8> = table.get("fec-roots");
    let report = |key: &str, message: String, help: String| {
        let problem = table.context.problem_at(&table.path(key), message);
        table.context.report(problem.help(help));
    };
    if let Some(roots) = roots {
        if !fec {
            let help = "write `fec = true`, or leave it out";
            report(
                "fec-roots",
                "`verity.fec-roots` is given without `fec`".to_owned(),
                help.to_owned(),
            );
        } else if !fec::ROOTS.contains(&roots) {
            let (least, most) = (fec::ROOTS.start(), fec::ROOTS.end());
            report(
                "fec-roots",
                format!("`verity.fec-roots` is {roots}"),
                format!("the kernel takes {least} to {most} bytes of parity for each 255"),
            );
        }
    }
    let named = ["key", "cert"].map(|key| table.entry(key).is_some());
    let pair = match signature {
        VeritySignature::None => {
            for key in ["key", "cert"]
                .iter()
                .zip(named)
                .filter_map(|(key, named)| named.then_some(key))
            {
                let path = table.path(key);
                let problem = table.context.problem_at(
                    &path,
                    format!("`{path}` signs nothing: `verity.signature` is \"none\""),
                );
                table.context.report(
                    problem.help("write signature = \"partition\" or \"kernel\", or leave the key out"),
                );
            }
            None
        }
        VeritySignature::Partition | VeritySignature::Kernel => pair(table),
    };
    Verity {
        algorithm: table.or("algorithm", VerityAlgorithm::Sha256),
        corruption: table.or("corruption", VerityCorruption::Error),
        fec,
        fec_roots: fec.then(|| roots.unwrap_or(fec::DEFAULT_ROOTS)),
        signature,
        pair,
    }
}

/// Reads `[commit]`, where it is written.
pub(super) fn commit(table: &Section<'_>) -> Option<CommitSigning> {
    if !table.is_written() {
        table.entry("key");
        table.entry("public");
        return None;
    }
    let public = table.get("public").map(CommitSigning::Public);
    if public.is_some() && table.entry("key").is_none() {
        return public;
    }
    if public.is_some() {
        let problem = table.context.problem_at(
            &table.path("public"),
            "`commit.public` and `commit.key` exclude each other",
        );
        table
            .context
            .report(problem.help("`public` is for a key that is elsewhere: leave one out"));
    }
    table
        .require("key", "\"keys/commit.key\"")
        .map(CommitSigning::Key)
}

/// Reads `[release]`, where it is written.
pub(super) fn release(table: &Section<'_>) -> Option<KeyPair> {
    if !table.is_written() {
        table.entry("key");
        table.entry("cert");
        return None;
    }
    pair(table)
}
