//! What a definition comes to: every value typed, every default filled in, every source path found.
//!
//! A [`Plan`] serialises into its *expanded form*: a definition without `extends` that says the
//! same. Read again from the same directory, it gives an equal plan.

use serde::Serialize;

pub use super::choices::*;
use super::measured_boot::MeasuredBoot;
use super::names::{
    Account, Identifier, ImageVersion, KernelArgument, OstreeRef, PolicyName, Reason, UnitName,
};
use super::partitions::DataPartition;
use super::sealing::{CommitSigning, KeyPair, SecureBoot, Verity};
use super::uki::Uki;
use super::values::{ByteSize, FileMode, Released, SourcePath};
use crate::path::TreePath;

/// A checked image definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    pub image: Image,
    pub rpms: Rpms,
    pub kernel: Kernel,
    pub initrd: Initrd,
    pub os: Os,
    pub disk: Disk,
    pub encryption: Encryption,
    /// `None`: no policy is signed, and nothing is bound to the image's measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_boot: Option<MeasuredBoot>,
    #[serde(skip_serializing_if = "Uki::is_empty")]
    pub uki: Uki,
    /// `None`: UKI and boot loader come out unsigned, which is said at every build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
    pub verity: Verity,
    /// `None`: the commit is not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSigning>,
    /// `None`: `SHA256SUMS` is not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<KeyPair>,
    pub outputs: Outputs,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DirectoryEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symlinks: Vec<SymlinkEntry>,
}

/// `[image]`: which image it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// `IMAGE_ID` of os-release.
    pub id: Identifier,
    /// `IMAGE_VERSION` of os-release.
    pub version: ImageVersion,
    /// For people; the id where none is given.
    pub name: String,
    /// The time of `/usr` and of everything that the composer makes.
    pub released: Released,
    pub arch: Arch,
}

impl Image {
    /// `<id>_<version>`: the stem of outputs, the UKI's name and the label of the slot's
    /// partitions. At most 36 UTF-16 units (checked).
    pub fn stem(&self) -> String {
        format!("{}_{}", self.id.as_str(), self.version.as_str())
    }
}

/// `[rpms]`: where the packages come from and whom to believe. All of them are installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rpms {
    /// `None`: to be named on the command line.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub source: Option<RpmSource>,
    /// Files with OpenPGP public keys that packages may be signed by.
    pub keys: Vec<SourcePath>,
    /// Names or capabilities, with a range of versions or not, that the set must provide, or it is the wrong set.
    pub require: Vec<String>,
    /// Leaves out the files that packages mark as documentation.
    pub exclude_docs: bool,
    /// Languages whose `%lang` files are kept; empty keeps all.
    pub languages: Vec<String>,
    /// What becomes of IMA signatures that packages carry.
    pub ima: ImaSignatures,
    /// Where the image has RPM's database of what is installed.
    pub database: RpmDatabase,
    /// Packages that may come unsigned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsigned: Vec<UnsignedException>,
    /// Requirements that no package of the set need satisfy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenException>,
    /// What is to be done about scriptlets, where it is not what the composer would do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scriptlets: Vec<ScriptletRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScriptletRule {
    /// `package:scriptlet`.
    pub scriptlet: String,
    pub action: ScriptletAction,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RpmSource {
    /// A lock file.
    Lock(SourcePath),
    /// A directory, of which every `*.rpm` is taken.
    Directory(SourcePath),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnsignedException {
    pub package: String,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenException {
    /// As RPM writes it: `name >= 1:2.0-3`.
    pub requires: String,
    pub reason: Reason,
}

/// `[kernel]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kernel {
    /// Name of the kernel's package, or a capability that exactly one package of the set provides.
    pub package: String,
    /// `.config` fragments that the kernel's own config must meet.
    pub require: Vec<SourcePath>,
    /// Arguments beside those that the composer writes (`usrhash=`, `root=`, `rw` …).
    pub cmdline: Vec<KernelArgument>,
}

/// `[initrd]`: what it holds beside what the layout itself needs. Everything comes from the
/// image's own tree; what is `optional` is taken where the tree has it, the rest must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Initrd {
    /// Kernel modules, `-` and `_` alike; each must exist as a module or be built in.
    pub modules: Vec<String>,
    pub modules_optional: Vec<String>,
    /// Units of the image, with the programs that they start.
    pub units: Vec<UnitName>,
    pub units_optional: Vec<UnitName>,
    /// Programs of the image, with their libraries.
    pub binaries: Vec<TreePath>,
    pub binaries_optional: Vec<TreePath>,
    /// Files of `rules.d`, by name, with the programs that they run.
    pub udev_rules: Vec<String>,
    pub udev_rules_optional: Vec<String>,
    /// Other files, and directories with all that is in them.
    pub files: Vec<TreePath>,
    pub files_optional: Vec<TreePath>,
    /// Directories whose contents are laid over the initrd's root.
    pub overlays: Vec<SourcePath>,
    pub compression: InitrdCodec,
    pub compression_level: u8,
    /// The build fails where the initrd comes out larger.
    pub max_size: ByteSize,
    /// An emergency shell on the console instead of a power-off: never for production.
    pub debug: bool,
    pub etc: EtcOverlays,
}

/// `[initrd.etc]`: what mounts `/etc`, laid over the initrd's root as `os.etc` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EtcOverlays {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<SourcePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transient: Option<SourcePath>,
}

impl Plan {
    /// Everything that is laid over the initrd's root, in order.
    pub fn initrd_overlays(&self) -> impl Iterator<Item = &SourcePath> {
        let etc = match self.os.etc {
            EtcMode::Persistent => &self.initrd.etc.persistent,
            EtcMode::Transient => &self.initrd.etc.transient,
        };
        self.initrd.overlays.iter().chain(etc)
    }
}

/// `[os]`: the system inside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Os {
    pub layout: Layout,
    pub etc: EtcMode,
    /// Name of the SELinux policy whose labels the files get; `none` labels nothing.
    pub selinux: PolicyName,
    /// The branch of the ostree commit.
    #[serde(rename = "ref")]
    pub reference: OstreeRef,
    /// The lock of user and group numbers; `None` where none is named and none lies beside the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<SourcePath>,
    /// Directories whose contents are laid over the image's root, in order: `usr/lib/systemd/system/…`.
    pub overlays: Vec<SourcePath>,
    /// Units on whatever the presets say.
    pub enable: Vec<UnitName>,
    /// Units off whatever the presets say.
    pub disable: Vec<UnitName>,
    /// Units that can never start.
    pub mask: Vec<UnitName>,
    pub default_target: UnitName,
    /// `None`: whatever the network gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `LANG` of locale.conf.
    pub locale: String,
    /// Zone below `/usr/share/zoneinfo`.
    pub timezone: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

/// `[[os.groups]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    pub name: Account,
    pub id: u32,
}

/// `[[os.users]]`: an account without password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    pub name: Account,
    pub id: u32,
    /// The primary group; where not given, one of the user's own name and number.
    pub group: Account,
    pub groups: Vec<Account>,
    pub home: TreePath,
    pub shell: TreePath,
    pub gecos: String,
}

/// `[disk]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Virtual size of the whole disk.
    pub size: ByteSize,
    /// The EFI system partition.
    pub esp: ByteSize,
    /// One slot's file system; `None`: 1.5 times the content, in whole MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usr: Option<ByteSize>,
    /// One slot's hash tree; `None`: what a full slot needs, in whole MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usr_verity: Option<ByteSize>,
    /// 1: systemd-repart makes slot B at first boot; 2: it is in the image, empty.
    pub slots_in_image: u8,
    pub root: RootPartition,
    /// Others, in the order in which they stand before the root partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<DataPartition>,
}

/// `[disk.root]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RootPartition {
    pub format: RootFormat,
    /// What both slots must leave.
    pub minimum: ByteSize,
}

/// `[encryption]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Encryption {
    pub root: RootEncryption,
}

/// `[encryption.root]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RootEncryption {
    pub mode: EncryptionMode,
    /// With `build`: the file whose bytes open the volume; `None`: one is made and delivered beside the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SourcePath>,
    /// With `build`: how a keyslot's key derives from the key file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kdf: Option<KeyDerivation>,
    /// With `build`: what becomes of the key at a machine's first boot; `None`: it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rekey: Option<Rekey>,
    /// How the data are reached without the machine's TPM; said where that has a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Why there is no recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl RootEncryption {
    /// Whether the machine's TPM has a key of it.
    pub fn is_bound(&self) -> bool {
        self.mode == EncryptionMode::FirstBoot || self.rekey.is_some()
    }
}

/// `encryption.root.recovery`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// Not at all: with the TPM, its firmware's keys or the PCR key the data are lost.
    None,
    /// By a key that each machine makes and wraps to this public key (PEM).
    #[serde(untagged)]
    Escrow { escrow: SourcePath },
}

/// `[outputs]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outputs {
    /// Disk formats; without repetition.
    pub formats: Vec<DiskFormat>,
    pub repo_mode: RepoMode,
    pub erofs: Erofs,
}

/// `[outputs.erofs]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Erofs {
    pub compression: ErofsCodec,
    /// `None`: the compressor's own default, or it has no levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Largest physical cluster.
    pub cluster: ByteSize,
    /// Small files and the ends of others are compressed together.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fragments: bool,
    /// Equal clusters are stored once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dedupe: bool,
    /// Without compression: equal chunks of this size are stored once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<ByteSize>,
}

/// `[[paths]]`: what becomes of a path of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PathRule {
    /// It and everything below it.
    pub path: TreePath,
    pub action: PathAction,
    /// The new place, with `move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<TreePath>,
    pub reason: Reason,
}

/// `[[directories]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirectoryEntry {
    pub path: TreePath,
    pub mode: FileMode,
    pub user: Account,
    pub group: Account,
}

/// `[[files]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileEntry {
    pub path: TreePath,
    #[serde(flatten)]
    pub content: FileContent,
    pub mode: FileMode,
    pub user: Account,
    pub group: Account,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileContent {
    /// Written in the definition.
    Text(String),
    /// Read at build.
    Source(SourcePath),
}

/// `[[symlinks]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SymlinkEntry {
    pub path: TreePath,
    /// As `readlink` gives it back.
    pub target: String,
}
