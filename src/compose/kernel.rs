//! The kernel of the image: which it is, whether it will do, and how it is started.

use std::fs;

use super::ComposeError;
use super::composed::Facts;
use super::erofs_kernel;
use super::outputs::algorithm;
use super::pool::Pool;
use super::set::require;
use super::system::provides;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use crate::definition::plan::{Plan, VerityAlgorithm, VerityCorruption, VeritySignature};
use crate::formats::kconfig;
use crate::formats::verity::hash_device_size;
use crate::rpmset::{Package, RpmSet};
use crate::store::Store;
use crate::tree::modules::ModuleSet;
use crate::tree::path::TreePath;
use crate::tree::{FileData, Tree, depmod};

/// `COMMAND_LINE_SIZE` of x86 and arm64, less the NUL.
const LONGEST_COMMAND_LINE: usize = 2047;
/// What a kernel must have been built with to check root hashes against firmware's `db`.
const SIGNATURE_OPTIONS: [&str; 2] = [
    "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG",
    "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING",
];

/// The hash function that `verity.algorithm` may ask for; SHA-256 is in every kernel.
const SHA512: &str = "CONFIG_CRYPTO_SHA512";

/// What `verity.fec` needs.
const FEC: &str = "CONFIG_DM_VERITY_FEC";

/// The one kernel of an image.
pub struct Kernel {
    /// NEVRA of its package.
    pub package: String,
    /// As `uname -r` shows it.
    pub release: String,
    pub image: FileData,
    pub modules: ModuleSet,
}

/// The package that the definition names, by its name or by what it alone provides.
pub fn find_package(plan: &Plan, set: &RpmSet) -> Result<usize, ComposeError> {
    let wanted = plan.kernel.package.as_str();
    let packages = set.packages();
    if let Some(index) = packages.iter().position(|package| package.nevra.name == wanted) {
        return Ok(index);
    }
    let found: Vec<usize> = (0..packages.len())
        .filter(|&index| provides(&packages[index], wanted))
        .collect();
    match found.as_slice() {
        [] => {
            require(set, wanted, "kernel.package")?;
            Err(ComposeError::NoKernel {
                package: wanted.to_owned(),
            })
        }
        [index] => Ok(*index),
        several => Err(ComposeError::SeveralKernels {
            wanted: wanted.to_owned(),
            count: several.len(),
            packages: several
                .iter()
                .map(|&index| packages[index].nevra.to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

impl Kernel {
    /// Finds the kernel in `tree`, writes its modules' indexes, and holds its configuration against
    /// what the definition requires.
    pub fn prepare(
        plan: &Plan,
        set: &RpmSet,
        package: usize,
        tree: &mut Tree,
        store: &Store,
        pool: &Pool,
    ) -> Result<Self, ComposeError> {
        let package = &set.packages()[package];
        let none = || ComposeError::NoKernel {
            package: package.nevra.to_string(),
        };
        let release = release(package).ok_or_else(none)?;
        let directory = TreePath::literal("/usr/lib/modules").join_name(release.as_bytes());
        let image = tree
            .file(&directory.join_name(b"vmlinuz"))
            .cloned()
            .ok_or_else(none)?;
        check_config(plan, tree, &directory)?;
        erofs_kernel::check(&plan.outputs.erofs, &release, &directory, tree)?;
        let known = store.values(depmod::KEPT)?;
        pool.modules(|| depmod::outline(tree, &release), &known);
        let modules = depmod::run(tree, &release, plan.image.released.epoch(), Some(&known))?;
        known.keep()?;
        Ok(Self {
            package: package.nevra.to_string(),
            release,
            image,
            modules,
        })
    }
}

/// The release of the kernel that `package` holds: by its image's place.
fn release(package: &Package) -> Option<String> {
    package.files.iter().find_map(|file| {
        let path = std::str::from_utf8(file.path.as_bytes()).ok()?;
        let release = path.strip_prefix("/boot/vmlinuz-").or_else(|| {
            let rest = path
                .strip_prefix("/usr/lib/modules/")
                .or_else(|| path.strip_prefix("/lib/modules/"))?;
            rest.strip_suffix("/vmlinuz")
        })?;
        (!release.contains('/') && !file.is_symlink()).then(|| release.to_owned())
    })
}

fn check_config(plan: &Plan, tree: &Tree, directory: &TreePath) -> Result<(), ComposeError> {
    let signed = plan.verity.signature == VeritySignature::Kernel;
    let sha512 = plan.verity.algorithm == VerityAlgorithm::Sha512;
    let fec = plan.verity.fec;
    if plan.kernel.require.is_empty() && !signed && !sha512 && !fec {
        return Ok(());
    }
    let path = directory.join_name(b"config");
    let file = tree
        .file(&path)
        .ok_or_else(|| ComposeError::NoKernelConfig { path: path.clone() })?;
    let bytes = file.blob.read_all().map_err(|source| ComposeError::Stored {
        path: path.clone(),
        source,
    })?;
    let syntax = |file: String| move |source| ComposeError::KernelFragment { file, source };
    let config =
        kconfig::Config::parse(&String::from_utf8_lossy(&bytes)).map_err(syntax(path.to_string()))?;
    if signed {
        let lacks = |option: &&str| *config.get(option) != kconfig::Value::BuiltIn;
        if let Some(option) = SIGNATURE_OPTIONS.into_iter().find(lacks) {
            return Err(ComposeError::NoKernelSignatures {
                kernel: directory.to_string(),
                option,
            });
        }
    }
    // As a module it would have to be in the initrd, under a name that differs between kernels.
    if sha512 && *config.get(SHA512) != kconfig::Value::BuiltIn {
        return Err(ComposeError::NoSha512 {
            kernel: directory.to_string(),
            option: SHA512,
        });
    }
    if fec && *config.get(FEC) == kconfig::Value::Off {
        return Err(ComposeError::NoFec {
            kernel: directory.to_string(),
            option: FEC,
        });
    }
    let mut violations = Vec::new();
    for fragment in &plan.kernel.require {
        let name = fragment.to_string();
        let text = fs::read_to_string(fragment.as_path()).map_err(|source| ComposeError::Source {
            path: fragment.as_path().to_owned(),
            source,
        })?;
        let settings = kconfig::parse(&text).map_err(syntax(name.clone()))?;
        violations.extend(config.check(&name, &settings).violations);
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(ComposeError::KernelConfig { violations })
}

/// The command line that the UKI carries: what seals `/usr` first, then the definition's.
///
/// The machine's identity is made at first boot, without questions on the console.
///
/// # Errors
/// Where `signature`, of the root hash, makes it longer than the kernel takes.
pub(super) fn command_line(
    plan: &Plan,
    facts: &Facts,
    signature: Option<&[u8]>,
) -> Result<String, ComposeError> {
    let mut arguments = vec![format!("usrhash={}", facts.root_hash)];
    let mut options = Vec::new();
    match plan.verity.corruption {
        VerityCorruption::Error => {}
        VerityCorruption::Restart => options.push("restart-on-corruption".to_owned()),
        VerityCorruption::Panic => options.push("panic-on-corruption".to_owned()),
    }
    if let (Some(roots), Some(tail)) = (plan.verity.fec_roots, facts.root_hash_bytes().last_chunk::<16>()) {
        // Behind the tree, in the partition that the root hash names.
        let partition = Uuid::from_bytes(*tail);
        let offset = hash_device_size(facts.usr_size, algorithm(plan));
        options.push(format!(
            "fec-device=/dev/disk/by-partuuid/{partition},fec-offset={offset},fec-roots={roots}"
        ));
    }
    let kernel = plan.verity.signature == VeritySignature::Kernel;
    if let Some(signature) = signature.filter(|_| kernel) {
        options.push(format!(
            "root-hash-signature=base64:{}",
            STANDARD.encode(signature)
        ));
        // Else the kernel checks a signature that is there, and takes a volume without one as well.
        arguments.push("dm_verity.require_signatures=1".to_owned());
    }
    if !options.is_empty() {
        arguments.push(format!("systemd.verity_usr_options={}", options.join(",")));
    }
    let fixed = [
        "mount.usrfstype=erofs",
        "mount.usrflags=ro",
        "rw",
        "systemd.firstboot=no",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments.extend(super::root::arguments(plan));
    arguments.extend(
        plan.kernel
            .cmdline
            .iter()
            .map(|argument| argument.as_str().to_owned()),
    );
    let line = arguments.join(" ");
    let length = line.chars().count();
    if length > LONGEST_COMMAND_LINE {
        return Err(ComposeError::LongCommandLine {
            length,
            limit: LONGEST_COMMAND_LINE,
        });
    }
    Ok(line)
}
