//! What can stop a build.

use std::io;
use std::path::PathBuf;

use crate::definition::DefinitionError;
use crate::disk::DiskError;
use crate::disk::repart::RepartError;
use crate::firmware::FirmwareError;
use crate::formats::authenticode::{AuthenticodeError, TrustFault};
use crate::formats::kconfig;
use crate::formats::uki::UkiError;
use crate::formats::verity::VerityError;
use crate::initrd::InitrdError;
use crate::measure::MeasureError;
use crate::rpmset::closure::{ClosureError, NotClosed};
use crate::rpmset::signature::SignatureError;
use crate::rpmset::{SetError, rpmdb};
use crate::scriptlet::ScriptletError;
use crate::signing::{Algorithm, SigningError};
use crate::store::StoreError;
use crate::tree::TreeError;
use crate::tree::caches::CacheError;
use crate::tree::depmod::DepmodError;
use crate::tree::identity::IdentityError;
use crate::tree::layout::LayoutError;
use crate::tree::ldconfig::LdconfigError;
use crate::tree::merge::MergeErrors;
use crate::tree::overlay::OverlayError;
use crate::tree::path::TreePath;
use crate::tree::rpm_verify::VerifyError;
use crate::tree::selinux::SelinuxError;
use crate::tree::units::UnitError;
use crate::{formats::erofs, ostree};

/// A build that cannot be finished.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ComposeError {
    #[error("neither the definition nor the command line says where the RPMs are")]
    #[diagnostic(help("give `--rpms DIR|LOCK`, or set `lock` or `directory` under `[rpms]`"))]
    NoRpms,
    #[error("the lock of numbers `{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("`hullwright lock --ids DEF` writes it"))]
    Ids { path: PathBuf, source: io::Error },
    #[error("the scriptlet `{scriptlet}` runs `{command}`, whose work the composer could not do: {why}")]
    #[diagnostic(help(
        "let it run: [[rpms.scriptlets]] scriptlet = \"{scriptlet}\", action = \"run\", with a reason"
    ))]
    NotReplaced {
        scriptlet: String,
        command: &'static str,
        why: &'static str,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Conflicts(#[from] MergeErrors),
    #[error("no package of the set provides `{wanted}`{}", nearest.iter().map(|nearest| format!("; {nearest}")).collect::<String>())]
    #[diagnostic(help("{place}: it is named there; add the package to the set, or correct the name"))]
    Missing {
        wanted: String,
        /// What comes nearest, in sentences.
        nearest: Vec<String>,
        place: String,
    },
    #[error("the image is for {wanted}, and these packages are not: {}", packages.join(", "))]
    #[diagnostic(help("take the packages built for {wanted}, or change `image.arch`"))]
    Architecture {
        packages: Vec<String>,
        wanted: &'static str,
    },
    #[error("{count} packages of the set provide `{wanted}`: {packages}")]
    #[diagnostic(help("name one of them as `kernel.package`, and leave the others out of the set"))]
    SeveralKernels {
        wanted: String,
        count: usize,
        packages: String,
    },
    #[error(
        "`{package}` holds no kernel: no file /usr/lib/modules/<version>/vmlinuz or /boot/vmlinuz-<version>"
    )]
    #[diagnostic(help(
        "name the package that holds the kernel itself as `kernel.package`; where several do, one of them"
    ))]
    NoKernel { package: String },
    #[error("the kernel's configuration `{path}` is not in the image, so `kernel.require` cannot be checked")]
    #[diagnostic(help("add the package that brings it, or leave `kernel.require` empty"))]
    NoKernelConfig { path: TreePath },
    #[error("the kernel does not meet {} requirements:\n{}", violations.len(), violations.iter().map(|v| format!("  {v}")).collect::<Vec<_>>().join("\n"))]
    #[diagnostic(help("take a kernel package that does, or relax the fragment"))]
    KernelConfig { violations: Vec<kconfig::Violation> },
    #[error("`{file}`: {source}")]
    #[diagnostic(help(
        "write lines as the kernel's own .config has them: `CONFIG_X=y`, `# CONFIG_X is not set`"
    ))]
    KernelFragment {
        file: String,
        source: kconfig::SyntaxError,
    },
    #[error("the image lacks `{path}`, {purpose}")]
    #[diagnostic(help("add the package that brings it (`{package}`) to the set"))]
    MissingFile {
        path: String,
        purpose: &'static str,
        package: &'static str,
    },
    #[error("the initrd takes {} KiB, more than the {} KiB that `initrd.max-size` allows", found >> 10, allowed >> 10)]
    #[diagnostic(help("leave modules, units or programs out of `[initrd]`, compress harder, or allow more"))]
    LargeInitrd { found: u64, allowed: u64 },
    #[error("the escrow key in {} is {algorithm}: no recovery key can be wrapped to it", path.display())]
    #[diagnostic(help(
        "`encryption.root.recovery` takes an RSA key of at least 2048 bits (`openssl genrsa 3072`)"
    ))]
    EscrowKey { path: PathBuf, algorithm: String },
    #[error("the initrd cannot make and open an encrypted root: it lacks {}", missing.join(", "))]
    #[diagnostic(help(
        "extend `common/encrypted-root.toml` (`common/rekeyed-root.toml` with `rekey`), which names them in `[initrd]`, and have their packages in the set"
    ))]
    NoWayToRoot { missing: Vec<String> },
    #[error("the image cannot make and open what `[[disk.partitions]]` declares: it lacks {}", missing.join(", "))]
    #[diagnostic(help("extend `common/partitions.toml`, and have the packages of the programs in the set"))]
    NoWayToPartitions { missing: Vec<String> },
    #[error("the kernel in `{kernel}` cannot mend damaged blocks: its configuration has no {option}")]
    #[diagnostic(help(
        "leave `verity.fec` out: a damaged block is found all the same, and `verity.corruption` says what then happens; or \
         choose a kernel that has it"
    ))]
    NoFec { kernel: String, option: &'static str },
    #[error("kernel {kernel} cannot read /usr: `outputs.erofs.{setting}` needs one from {since} on")]
    #[diagnostic(help("change that setting, or choose a newer kernel"))]
    OldForErofs {
        kernel: String,
        setting: &'static str,
        /// Major and minor version.
        since: String,
    },
    #[error(
        "the kernel in `{kernel}` cannot read /usr: its configuration has no {option}, which `outputs.erofs.compression` needs"
    )]
    #[diagnostic(help("choose another compression, or a kernel that has it"))]
    NoErofsOption { kernel: String, option: &'static str },
    #[error("the parity over /usr cannot be made: {0}")]
    Fec(#[from] crate::formats::fec::FecError),
    #[error("`{path}` under `[[paths]]` matches nothing in the packages")]
    #[diagnostic(help("remove the rule, or correct its path"))]
    IdleRule { path: TreePath },
    #[error("the packages have no /usr")]
    #[diagnostic(help("this is no set that a system can be made of"))]
    NoUsr,
    #[error("`{}` exists and is no output of this program: it has no manifest.json", path.display())]
    #[diagnostic(help("move it away, or choose another directory with `--out DIR`"))]
    Foreign { path: PathBuf },
    #[error("output directory `{}`: {source}", path.display())]
    #[diagnostic(help(
        "choose another directory with `--out DIR`, on a file system with room that you may write to"
    ))]
    Output { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be read: {source}", path.display())]
    #[diagnostic(help("the definition names it: correct the name, or make it readable"))]
    Source { path: PathBuf, source: io::Error },
    #[error("the initrd cannot open the root partition that is encrypted at build: it lacks {}", missing.join(", "))]
    #[diagnostic(help(
        "extend `common/built-root.toml`, which names them in `[initrd]`, and have their packages in the set"
    ))]
    NoOpener { missing: Vec<String> },
    #[error("the key file `{}` {why}", path.display())]
    #[diagnostic(help(
        "make one with `head -c 32 /dev/urandom >FILE` or `printf %s 'some words' >FILE`, or leave `key-file` out: then \
         a key is made and delivered beside the image"
    ))]
    KeyFile { path: PathBuf, why: String },
    #[error("reading `{path}` from the store failed: {source}")]
    #[diagnostic(help("the store is damaged: remove it, and build again"))]
    Stored { path: TreePath, source: io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scriptlet(#[from] ScriptletError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Set(#[from] SetError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Keys(#[from] SignatureError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Closure(#[from] ClosureError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotClosed(#[from] NotClosed),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rpmdb(#[from] rpmdb::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Units(#[from] UnitError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ldconfig(#[from] LdconfigError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Selinux(#[from] SelinuxError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Depmod(#[from] DepmodError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Initrd(#[from] InitrdError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    RpmVerify(#[from] VerifyError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Firmware(#[from] FirmwareError),
    #[error(transparent)]
    Repart(#[from] RepartError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Erofs(#[from] erofs::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Signing(#[from] SigningError),
    /// A build that stops here goes on when the signatures of this round have come back.
    #[error("signatures of round {round} are made elsewhere and have not come back yet")]
    Awaited { round: u8 },
    #[error("`{}` waits for no signature", path.display())]
    #[diagnostic(help(
        "`hullwright build` leaves what waits where the definition names certificates or public keys without their private keys"
    ))]
    WaitsForNothing { path: PathBuf },
    #[error("`{}` is not finished: it waits for signatures that are made elsewhere, and has no disk yet", path.display())]
    #[diagnostic(help(
        "`hullwright sign request {0} DIR` hands out what is to be signed; `hullwright sign attach {0} DIR` takes the signatures \
         in and goes on",
        path.display()
    ))]
    WaitsForSignatures { path: PathBuf },
    #[error("`{}` is not empty", path.display())]
    #[diagnostic(help("name a new directory for the request"))]
    RequestPlace { path: PathBuf },
    #[error("the signatures in `{}` do not answer the request:\n{}", path.display(), faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n"))]
    #[diagnostic(help(
        "nothing was changed: put the right files there, and run `hullwright sign attach` again"
    ))]
    Answers { path: PathBuf, faults: Vec<String> },
    #[error("the state was made by {found}, and this is {own}: they may not seal alike")]
    #[diagnostic(help("attach with the program that built it, or build the image again"))]
    OtherComposer { found: String, own: &'static str },
    #[error("{name} is not as it was when signatures were asked for")]
    #[diagnostic(help(
        "build the image again: signatures for the old one do not hold for what lies there now"
    ))]
    StateFile { name: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] DefinitionError),
    #[error("the state that waits for signatures is damaged: {what}")]
    #[diagnostic(help("build the image again"))]
    State { what: &'static str },
    #[error("`{name}` cannot be signed")]
    #[diagnostic(help("take the program from another package, or one that nobody has changed"))]
    Program { name: String, source: AuthenticodeError },
    #[error("firmware would refuse `{name}`, although it has just been signed: {source}")]
    #[diagnostic(help("`secure-boot.dbx` or the certificate of `secure-boot.db` is not what it should be"))]
    SelfCheck { name: String, source: Box<TrustFault> },
    #[error(
        "the debug add-on `{name}` would be signed with the key of `secure-boot.db`, and every machine would take it"
    )]
    #[diagnostic(help(
        "sign it with a key of its own, whose certificate is in the `db` of test machines alone"
    ))]
    DebugKey { name: String },
    #[error("`commit.key` is {found} ({key}); ostree's signatures are Ed25519")]
    #[diagnostic(help("`openssl genpkey -algorithm ED25519` makes one; so does `hullwright keys init`"))]
    CommitKey { key: String, found: Algorithm },
    #[error(
        "the command line has {length} characters, more than the {limit} that the kernel keeps: the signature of the root hash would be cut"
    )]
    #[diagnostic(help(
        "sign with a shorter key (ECDSA, RSA with 2048 bits), or leave arguments out of `kernel.cmdline`"
    ))]
    LongCommandLine { length: usize, limit: usize },
    #[error(
        "`verity.signature` is \"kernel\", and the kernel `{kernel}` does not check it: {option} is not set"
    )]
    #[diagnostic(help("take a kernel that has it, or write verity.signature = \"partition\""))]
    NoKernelSignatures { kernel: String, option: &'static str },
    #[error(
        "`verity.algorithm` is \"sha512\", which the kernel `{kernel}` has not built in: {option} is not `y`"
    )]
    #[diagnostic(help("write verity.algorithm = \"sha256\", or take a kernel that has it"))]
    NoSha512 { kernel: String, option: &'static str },
    #[error("sealing /usr failed: {0}")]
    Verity(#[from] VerityError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ostree(#[from] ostree::Error),
    #[error("the unified kernel image cannot be made: {0}")]
    Uki(#[from] UkiError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Measure(#[from] MeasureError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Disk(#[from] DiskError),
}
