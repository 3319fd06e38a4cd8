//! The pipeline, from top to bottom: packages → tree → sealed `/usr` → commit, UKI, disk.

mod addons;
mod boot;
mod built_root;
mod error;
mod firmware_keys;
mod ids;
mod initrd;
mod kernel;
mod outputs;
mod partitions;
mod pcrs;
mod root;
mod scriptlets;
mod set;
mod signing;
mod system;
mod uki;
mod workspace;

use std::fs::File;
use std::path::PathBuf;

use rayon::join;

pub use error::ComposeError;
pub use ids::{Locked, lock_ids};
pub use workspace::Unfinished;

use crate::definition::Definition;
use crate::definition::plan::{DiskFormat, ErofsCodec, Plan, RpmSource};
use crate::disk::{self, derive_uuid, usr};
use crate::fetch::{self, Fetcher};
use crate::formats::{erofs, fec, verity};
use crate::report::Progress;
use crate::rpmset::signature::{Checked, Exception, Keyring, Policy};
use crate::rpmset::{RpmSet, SetError, SetSource};
use crate::scriptlet::{Schedule, ledger};
use crate::store::{Digest, Store, hex};
use crate::tree::Tree;
use crate::tree::path::TreePath;
use crate::tree::seal;
use boot::Boot;
use kernel::Kernel;
use scriptlets::Scriptlets;
use signing::Keys;
use uki::KernelImage;
use workspace::Workspace;

/// What a build is told beside its definition.
#[derive(Debug, Clone)]
pub struct Request {
    /// In place of the set that the definition names.
    pub rpms: Option<PathBuf>,
    /// Files with OpenPGP keys that packages may be signed with, beside those of the definition.
    pub keys: Vec<PathBuf>,
    /// Where the directory `<id>_<version>` comes to lie.
    pub out: PathBuf,
    pub store: PathBuf,
    /// How locked packages are fetched that lie on servers.
    pub fetch: fetch::Options,
    /// The program itself: scriptlets that must run start it again as the first process of their sandbox.
    pub program: PathBuf,
    /// `SOURCE_DATE_EPOCH`: no time of a package's file is later. By default, the newest build
    /// time of the set.
    pub newest: Option<i64>,
    /// Tells whoever ends the program early what to remove.
    pub unfinished: Unfinished,
}

/// What a build left behind.
#[derive(Debug, Clone)]
pub struct Built {
    pub directory: PathBuf,
    pub commit: Digest,
    pub root_hash: String,
    pub packages: usize,
    /// Files, directories and links of the tree.
    pub paths: usize,
    /// SELinux labels; empty where the definition wants none.
    pub labels: crate::tree::selinux::Report,
    /// Name and size in bytes of what lies in the directory.
    pub outputs: Vec<(String, u64)>,
}

/// A sealed `/usr`, on disk.
struct SealedUsr {
    erofs: File,
    verity: File,
    /// Bytes.
    size: u64,
    verity_size: u64,
    root_hash: Vec<u8>,
    salt: Digest,
}

/// Builds the image that `definition` describes.
///
/// # Errors
/// Whatever cannot be done or verified. Then nothing is left under the output's name.
pub fn build(definition: &Definition, request: &Request, progress: &Progress) -> Result<Built, ComposeError> {
    let plan = &definition.plan;
    outputs::check_plan(plan)?;
    let policy_key = uki::policy_key(plan, progress)?;
    let store = Store::open(&request.store)?;
    let keys = Keys::open(plan, progress)?;
    let firmware_keys = firmware_keys::collect(plan, progress)?;
    let workspace = Workspace::new(&request.out, &plan.image.stem(), &request.unfinished)?;

    let secret = built_root::secret(plan, &workspace, progress)?;
    if let Some(name) = built_root::key_name(plan) {
        progress.note(&format!(
            "{name}: the key of the root partition, made for this build; whoever has it and the image reads every machine"
        ));
    }

    let ids = ids::read(plan)?;
    if ids.is_none() {
        progress.note(ids::NOT_FIXED);
    }
    let set = read_set(plan, request, &store, progress)?;
    let trust = progress.stage(
        "check signatures",
        || check_signatures(plan, request, &set),
        |trust| {
            let excepted = trust.iter().filter(|checked| checked.excepted.is_some()).count();
            match excepted {
                0 => format!("{} packages signed", trust.len()),
                _ => format!("{} packages signed, {excepted} excepted", trust.len() - excepted),
            }
        },
    )?;
    for (package, checked) in set.packages().iter().zip(&trust) {
        if let Some(reason) = &checked.excepted {
            progress.warn(&format!(
                "{}: taken on trust, {}: {reason}",
                package.nevra, checked.verdict
            ));
        }
    }
    set::check(definition, &set)?;
    let open = set::check_closure(plan, &set, progress)?;
    let rules = scriptlets::rules(plan);
    let scriptlets = Scriptlets {
        schedule: scriptlets::schedule(plan, &set, &rules)?,
        set: &set,
        request,
        ids: ids.as_ref(),
    };
    let kernel_package = kernel::find_package(plan, &set)?;
    let contents = progress.stage(
        "unpack and verify",
        || set.contents(&store),
        |contents| format!("{} files", contents.iter().flatten().flatten().count()),
    )?;
    let (made, kernel, labels) = progress.stage(
        "make the tree",
        || -> Result<_, ComposeError> {
            let mut made = system::make(plan, &set, &contents, &scriptlets)?;
            let kernel = Kernel::prepare(plan, &set, kernel_package, &mut made.tree)?;
            let newest = request
                .newest
                .unwrap_or_else(|| i64::from(set.newest_build_time()));
            let labels = system::finish(plan, &mut made.tree, newest)?;
            Ok((made, kernel, labels))
        },
        |(made, _, labels)| {
            let paths = format!("{} paths", made.tree.walk().count());
            match plan.os.selinux.as_str() {
                "none" => paths,
                policy => format!("{paths}, {} labelled by SELinux policy {policy}", labels.labelled),
            }
        },
    )?;
    for cache in &made.caches {
        for remark in &cache.remarks {
            progress.warn(&format!("{}: {remark}", cache.command));
        }
    }
    scriptlets::tell(progress, &made.scriptlets.ledger);
    let tree = &made.tree;
    outputs::check_room(plan, tree, &workspace)?;

    let initrd = progress.stage(
        "compose the initrd",
        || initrd::make(plan, tree, &kernel),
        |initrd| {
            format!(
                "{} KiB, {} modules",
                initrd.bytes.len() >> 10,
                initrd.modules.len()
            )
        },
    )?;
    let mut boot = Boot::collect(plan, tree)?;
    let mut signatures = Vec::from_iter(boot.sign(&keys)?);
    boot.check_esp(plan, &kernel, &initrd)?;
    let sealed = progress.stage(
        "seal /usr",
        || seal_usr(plan, tree, &workspace),
        |sealed| {
            format!(
                "{} MiB, root hash {}…",
                sealed.size >> 20,
                &hex(&sealed.root_hash)[..12]
            )
        },
    )?;
    let sealing = keys.sign_root_hash(&sealed.root_hash)?;
    let message = sealing.as_ref().map(|signature| signature.message.as_slice());
    let cmdline = kernel::command_line(plan, &sealed, message)?;
    let mut uki = progress.stage(
        "write the UKI",
        || {
            KernelImage::write(
                plan,
                &kernel,
                &initrd,
                &boot,
                &cmdline,
                policy_key.as_ref(),
                &workspace,
            )
        },
        |uki| format!("{} MiB", uki.size >> 20),
    )?;
    signatures.extend(uki.sign(&keys)?);
    signatures.extend(sealing.iter().map(|signature| signature.manifest.clone()));

    let addons = addons::write(plan, &kernel, &boot, &keys, &mut signatures, &workspace)?;
    let (commit, disks) = join(
        || {
            progress.stage(
                "write the commit",
                || outputs::write_commit(plan, tree, &kernel, &uki, &sealed, &workspace),
                |commit| {
                    format!(
                        "{}… on {}",
                        &commit.checksum.to_string()[..12],
                        plan.os.reference.as_str()
                    )
                },
            )
        },
        || {
            progress.stage(
                "write disks",
                || {
                    let secret = secret.as_ref().map(|secret| secret.as_slice());
                    outputs::write_disks(
                        plan,
                        tree,
                        &boot,
                        &uki,
                        &addons,
                        &sealed,
                        sealing.as_ref(),
                        &firmware_keys,
                        secret,
                        &workspace,
                    )
                },
                |_| format!("disk {} GiB", plan.disk.size.0 >> 30),
            )
        },
    );
    let (commit, disks) = (commit?, disks?);
    signatures.extend(keys.sign_commit(&workspace.path("repo"), &commit.checksum)?);
    progress.stage(
        "write the manifest",
        || {
            outputs::write_manifest(
                plan,
                &set,
                &made,
                &trust,
                &open,
                &kernel,
                &initrd,
                &cmdline,
                &boot,
                &uki,
                &addons,
                &commit,
                &sealed,
                &disks,
                signatures,
                &firmware_keys,
                &workspace,
            )
        },
        |()| String::new(),
    )?;
    outputs::write_report(&workspace, progress, &made.scriptlets)?;
    let outputs = workspace.list()?;
    Ok(Built {
        directory: workspace.publish()?,
        commit: commit.checksum,
        root_hash: hex(&sealed.root_hash),
        packages: set.packages().len(),
        paths: tree.walk().count(),
        labels,
        outputs,
    })
}

/// What [`build`] would do about every scriptlet of the set; nothing is built, and nothing runs.
///
/// # Errors
/// Where the set cannot be read, or rules of the definition do not fit it.
pub fn explain_scriptlets(
    definition: &Definition,
    request: &Request,
    progress: &Progress,
) -> Result<Vec<ledger::Entry>, ComposeError> {
    let store = Store::open(&request.store)?;
    let set = read_set(&definition.plan, request, &store, progress)?;
    let rules = scriptlets::rules(&definition.plan);
    let schedule = Schedule::new(set.packages(), &rules)?;
    Ok(schedule.ledger())
}

fn rpm_source(plan: &Plan, request: &Request) -> Result<PathBuf, ComposeError> {
    match (&request.rpms, &plan.rpms.source) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(RpmSource::Lock(path) | RpmSource::Directory(path))) => Ok(path.as_path().to_owned()),
        (None, None) => Err(ComposeError::NoRpms),
    }
}

/// Reads the set, after what lies on servers has been fetched.
fn read_set(
    plan: &Plan,
    request: &Request,
    store: &Store,
    progress: &Progress,
) -> Result<RpmSet, ComposeError> {
    let mut source = SetSource::open(&rpm_source(plan, request)?, Some(store))?;
    let (absent, bytes) = source.absent();
    if absent > 0 && !request.fetch.offline {
        let fetcher = Fetcher::new(request.fetch.clone()).map_err(SetError::Fetch)?;
        progress.transfer(
            "fetch packages",
            bytes,
            |watch| source.fetch(&fetcher, store, watch),
            |()| format!("{absent} packages, {} MiB", bytes >> 20),
        )?;
    }
    let set = progress.stage(
        "read packages",
        || source.load(),
        |set| format!("{} packages", set.packages().len()),
    )?;
    Ok(set)
}

fn check_signatures(plan: &Plan, request: &Request, set: &RpmSet) -> Result<Vec<Checked>, ComposeError> {
    let listed = plan.rpms.keys.iter().map(|key| key.as_path().to_owned());
    let keys: Vec<_> = listed.chain(request.keys.iter().cloned()).collect();
    let exceptions = plan.rpms.unsigned.iter().map(|exception| Exception {
        package: exception.package.clone(),
        reason: exception.reason.as_str().to_owned(),
    });
    let exceptions: Vec<_> = exceptions.collect();
    let keyring = Keyring::read(&keys)?;
    Ok(set.verify_signatures(&keyring, &Policy::default(), &exceptions)?)
}

/// Writes `/usr` as an erofs and its hash tree. Salt and UUIDs derive from what they seal.
fn seal_usr(plan: &Plan, tree: &Tree, workspace: &Workspace) -> Result<SealedUsr, ComposeError> {
    let path = TreePath::literal("/usr");
    let directory = tree.get(&path).ok_or(ComposeError::NoUsr)?;
    let seed = seal::digest(tree, &path).0;
    let level = |default: u8| plan.outputs.erofs.level.unwrap_or(default);
    let options = erofs::Options {
        uuid: derive_uuid("erofs", &seed).into_bytes(),
        build_time: plan.image.released.epoch(),
        compression: match plan.outputs.erofs.compression {
            ErofsCodec::None => erofs::Compression::None,
            ErofsCodec::Lz4 => erofs::Compression::Lz4,
            ErofsCodec::Lz4hc => erofs::Compression::Lz4hc(level(9)),
            ErofsCodec::Zstd => erofs::Compression::Zstd(level(3)),
        },
        cluster_size: u32::try_from(plan.outputs.erofs.cluster.0).unwrap_or(u32::MAX),
        ..erofs::Options::default()
    };
    let stem = plan.image.stem();
    let file = workspace.create(&format!("{stem}.usr.erofs"))?;
    usr::write_erofs(directory, &options, &file)?;
    let size = workspace.size(&file)?;

    let salt = Digest::of(&[b"hullwright verity salt\0".as_slice(), &seed].concat());
    let params = verity::Params {
        algorithm: outputs::algorithm(plan),
        salt: salt.0.to_vec(),
        uuid: derive_uuid("verity", &seed),
    };
    let hashes = workspace.create(&format!("{stem}.usr.verity"))?;
    let root_hash = verity::format(&file, size, &hashes, &params)?;
    if let Some(roots) = plan.verity.fec_roots {
        let hash_size = verity::hash_device_size(size, params.algorithm);
        let protected = fec::Protected {
            data: &file,
            data_size: size,
            hash: &hashes,
            hash_size,
            roots,
        };
        protected.write(&hashes, hash_size)?;
    }
    Ok(SealedUsr {
        verity_size: workspace.size(&hashes)?,
        erofs: file,
        verity: hashes,
        size,
        root_hash,
        salt,
    })
}

/// Checks of the disk that need no content: see [`disk::check_disk`].
fn wants_vhd(plan: &Plan) -> bool {
    plan.outputs.formats.contains(&DiskFormat::Vhd)
}

/// The slot that every version of the image fits into. The default comes from what `/usr` holds
/// unpacked, because repart.d, which names it, lies inside the volume whose size is not known yet.
fn slot_size(plan: &Plan, tree: &Tree) -> u64 {
    plan.disk.usr.map_or_else(
        || {
            let sizes = tree.walk().map(|(_, node)| match &node.kind {
                crate::tree::Kind::File(file) => file.blob.size().next_multiple_of(4096),
                _ => 512,
            });
            disk::default_slot_size(sizes.sum())
        },
        |size| size.0,
    )
}
