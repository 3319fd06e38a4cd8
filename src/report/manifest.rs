//! `manifest.json`: what an image is made of and what came out, the same bytes for the same build.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scriptlet::ledger::Entry;
use crate::store::Digest;

/// The manifest. Digests are SHA-256 in hexadecimal; sizes and offsets are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// Of this structure.
    pub manifest_version: u32,
    /// Name and version of the program.
    pub composer: String,
    pub image: String,
    pub version: String,
    pub arch: String,
    /// Seconds since the epoch.
    pub released: i64,
    pub kernel: ManifestKernel,
    pub commit: ManifestCommit,
    /// Root hash of `/usr`, which the UKI's command line carries.
    pub usr_root_hash: String,
    pub usr_salt: String,
    pub pcrs: ManifestPcrs,
    pub partitions: Vec<ManifestPartition>,
    pub outputs: Vec<ManifestOutput>,
    pub packages: Vec<ManifestPackage>,
    /// Who signed what. Absent where nothing is signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ManifestSignature>,
    /// What `rpm -V --all` says in a machine that has booted the image and was left alone.
    pub rpm_verify: Vec<ManifestDifference>,
    /// What became of everything that an installation by RPM would have run, in its order. Absent where there is
    /// nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scriptlets: Vec<Entry>,
    /// What packages require and no package provides, by exception. Absent where there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open_requirements: Vec<ManifestOpen>,
}

/// A signature in the image.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestSignature {
    /// A file of the output directory or of the ESP, `usr-root-hash` or `commit`.
    pub of: String,
    /// `authenticode`, `pkcs7` or `ostree.sign.ed25519`.
    pub kind: &'static str,
    pub scheme: &'static str,
    /// What the signature is about: the program's Authenticode digest (SHA-256), the root hash, the commit.
    pub digest: String,
    /// Subject of the signer's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// SHA-256 of the signer's certificate, or of the public key where there is none.
    pub signer: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestOpen {
    /// As RPM writes it: `name >= 1:2.0-3`.
    pub requires: String,
    /// NEVRAs.
    pub wanted_by: Vec<String>,
    /// Why it may stay open.
    pub reason: String,
}

/// A path that is not as its package has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestDifference {
    pub path: String,
    /// NEVRA.
    pub package: String,
    /// The nine characters of `rpm -V` (`S.5....T.`), or `missing`.
    pub code: String,
    /// RPM's letter for what the file is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<char>,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct ManifestKernel {
    /// NEVRA of its package.
    pub package: String,
    /// As `uname -r` shows it.
    pub release: String,
    pub command_line: String,
    /// Modules in the initrd.
    pub initrd_modules: Vec<String>,
}

/// What the machine's TPM will hold. Values are in hexadecimal, by bank.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestPcrs {
    /// PCR 11: the UKI as systemd-stub measures it, and how far the boot has come.
    pub uki: Vec<ManifestUkiPcr>,
    /// Registers as the kernel is started, by the firmware that boots the image's default profile.
    pub firmware: Vec<ManifestFirmwarePcrs>,
    /// What the image itself makes firmware, stub and kernel measure then, in order within each register.
    pub events: Vec<ManifestPcrEvent>,
}

/// PCR 11 at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestUkiPcr {
    /// Number of the UKI's profile; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<usize>,
    /// As systemd-measure names it; empty: as the kernel is started.
    pub phase: String,
    pub sha256: String,
    pub sha384: String,
}

/// Registers by number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestFirmwarePcrs {
    /// Which firmware, and whether it enforces Secure Boot.
    pub firmware: String,
    pub sha256: BTreeMap<u32, String>,
    pub sha384: BTreeMap<u32, String>,
}

/// One measuring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestPcrEvent {
    pub pcr: u32,
    /// For people.
    pub what: String,
    pub sha256: String,
    pub sha384: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct ManifestCommit {
    #[serde(rename = "ref")]
    pub reference: String,
    pub checksum: Digest,
}

#[derive(Debug, Clone, Serialize)]
pub struct ManifestPartition {
    pub number: u32,
    pub label: String,
    pub type_uuid: String,
    pub uuid: String,
    pub offset: u64,
    pub size: u64,
    /// Of the encrypted volume that it is made with.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub volume: Option<ManifestVolume>,
    /// Tree digest of its bytes.
    pub tree_digest: Digest,
}

/// An encrypted volume that is in the image.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestVolume {
    /// UUID of the LUKS2 header.
    pub luks_uuid: String,
    pub file_system_uuid: String,
    /// As LUKS2 names it; its key has 512 bits.
    pub cipher: &'static str,
    /// Bytes that are encrypted at once.
    pub sector_size: u32,
    /// How the keyslot's key derives from what opens it.
    pub kdf: &'static str,
    /// The output with its key, where that was made for this build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One file of the output directory: flat digests for files, tree digests for disks (SHA-256 over
/// the SHA-256 of each MiB, the last piece as long as it is).
#[derive(Debug, Clone, Serialize)]
pub struct ManifestOutput {
    pub file: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_digest: Option<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManifestPackage {
    pub nevra: String,
    /// Name of the file it was read from.
    pub file: String,
    pub size: u64,
    pub sha256: Digest,
    pub header_sha256: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_digest: Option<String>,
    /// Fingerprint of the key whose signature was verified; absent where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    pub build_time: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Manifest {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        // Plain structs of strings and numbers always serialise.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
