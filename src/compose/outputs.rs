//! What a build leaves: commit, UKI, disks, manifest; under their final names all at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use tempfile::NamedTempFile;

use super::ComposeError;
use super::addons::Addon;
use super::boot::Boot;
use super::built_root;
use super::cache::Stamp;
use super::composed::{self, Composed, Facts};
use super::firmware_keys;
use super::partitions;
use super::signing::{RootHashSignature, has_partition};
use super::system::Made;
use super::uki::KernelImage;
use super::workspace::{Workspace, output};
use super::{REPORT, wants_vhd};
use crate::definition::plan::{
    Arch, DiskFormat, KeyDerivation, Plan, RepoMode, RpmDatabase, VerityAlgorithm,
};
use crate::disk::{self, Contents, DiskDigests, DiskPlan, DiskSpec, Slots, Usr};
use crate::firmware::ImageFiles;
use crate::formats::at::Content;
use crate::formats::fat::FatFile;
use crate::formats::luks2;
use crate::formats::pcr::uki::SectionDigests;
use crate::formats::verity::Algorithm;
use crate::ostree::{self, CommitOptions, Value};
use crate::report::{
    Manifest, ManifestCommit, ManifestDifference, ManifestKernel, ManifestOpen, ManifestOutput,
    ManifestPackage, ManifestPartition, ManifestPcrs, ManifestSignature, ManifestVolume, Progress,
    file_digest, write_sums,
};
use crate::rpmset::RpmSet;
use crate::rpmset::closure::Open;
use crate::rpmset::signature::{Checked, Verdict};
use crate::scriptlet::Done;
use crate::store::Digest;
use crate::tree::{Kind, Tree, rpm_verify};

/// Checks that need no package: nothing has been written yet.
pub fn check_plan(plan: &Plan) -> Result<(), ComposeError> {
    if wants_vhd(plan) {
        disk::check_vhd(plan.disk.size.0)?;
    }
    let spec = disk_spec(plan, plan.disk.usr.map_or(disk::ALIGNMENT, |size| size.0));
    spec.check_label()?;
    disk::check_disk(
        &spec,
        plan.disk.usr.map_or(disk::ALIGNMENT, |size| size.0),
        algorithm(plan),
    )?;
    Ok(())
}

/// The hash function of `/usr`'s hash tree.
pub fn algorithm(plan: &Plan) -> Algorithm {
    match plan.verity.algorithm {
        VerityAlgorithm::Sha256 => Algorithm::Sha256,
        VerityAlgorithm::Sha512 => Algorithm::Sha512,
    }
}

/// The disk that the definition describes, with slots of `slot` bytes.
pub fn disk_spec(plan: &Plan, slot: u64) -> DiskSpec {
    DiskSpec {
        arch: match plan.image.arch {
            Arch::X86_64 => disk::Arch::X86_64,
            Arch::Aarch64 => disk::Arch::Aarch64,
        },
        image_id: plan.image.id.as_str().to_owned(),
        version: plan.image.version.as_str().to_owned(),
        size: plan.disk.size.0,
        esp_size: plan.disk.esp.0,
        slot_size: Some(slot),
        slots: if plan.disk.slots_in_image == 2 {
            Slots::AAndB
        } else {
            Slots::A
        },
        signed: has_partition(plan),
        fec_roots: plan.verity.fec_roots,
        min_root_size: plan.disk.root.minimum.0,
        root_in_image: built_root::is_wanted(plan),
        others: partitions::spec(plan),
    }
}

/// Whether `out` has room for what `tree` makes: the commit holds each content once, and `/usr`,
/// sealed and then on every disk, comes out at a third of its size at the least.
pub fn check_room(plan: &Plan, tree: &Tree, workspace: &Workspace) -> Result<(), ComposeError> {
    let mut contents = BTreeMap::new();
    for (_, node) in tree.walk() {
        if let Kind::File(file) = &node.kind {
            contents.insert(file.blob.sha256().0, file.blob.size());
        }
    }
    let content: u64 = contents.values().sum();
    let copies = 1 + plan.outputs.formats.len() as u64;
    let commit = match plan.outputs.repo_mode {
        RepoMode::BareUser => content,
        RepoMode::Archive => content / 3,
    };
    disk::check_space(workspace.out(), commit.saturating_add(content / 3 * copies))?;
    Ok(())
}

/// How the repository keeps contents.
pub fn repo_mode(plan: &Plan) -> ostree::RepoMode {
    match plan.outputs.repo_mode {
        RepoMode::Archive => ostree::RepoMode::Archive {
            level: ostree::RepoMode::DEFAULT_LEVEL,
        },
        RepoMode::BareUser => ostree::RepoMode::BareUser,
    }
}

/// What the commit says besides its tree.
pub fn commit_options(plan: &Plan, facts: &Facts, digests: &SectionDigests) -> CommitOptions {
    let text = |text: &str| Value::Str(text.to_owned());
    let mut metadata = BTreeMap::from([
        ("version".to_owned(), text(plan.image.version.as_str())),
        ("ostree.bootable".to_owned(), Value::Bool(true)),
        ("ostree.linux".to_owned(), text(&facts.kernel_release)),
        ("hullwright.image-id".to_owned(), text(plan.image.id.as_str())),
        ("hullwright.usr-root-hash".to_owned(), text(&facts.root_hash)),
    ]);
    // The commit comes before the UKI is complete (signed policies, its own signature), so it names what is
    // measured of it.
    let measured = digests.pcr_11(0);
    metadata.extend(measured.iter().map(|value| {
        (
            format!("hullwright.uki-pcr-11.{}", value.bank()),
            text(&value.to_string()),
        )
    }));
    CommitOptions {
        ref_name: plan.os.reference.as_str().to_owned(),
        bind_refs: Vec::new(),
        subject: format!("{} {}", plan.image.name, plan.image.version.as_str()),
        body: String::new(),
        timestamp: u64::try_from(plan.image.released.epoch()).unwrap_or(0),
        parent: None,
        metadata,
        mode: repo_mode(plan),
        sync: false,
    }
}

/// The disks, and what the manifest says of them.
pub struct Disks {
    pub plan: DiskPlan,
    digests: DiskDigests,
}

/// Everything that is signed, and what it is put together with.
pub struct Parts<'a> {
    pub made: &'a Composed,
    /// With the signed loader.
    pub boot: &'a Boot,
    pub uki: &'a KernelImage,
    pub addons: &'a [Addon],
    pub root_hash: Option<&'a RootHashSignature>,
    pub firmware_keys: &'a ImageFiles,
    /// What the kernel is given.
    pub cmdline: &'a str,
    /// What opens the root partition that the composer encrypts.
    pub secret: Option<&'a [u8]>,
}

/// Writes the disk: raw, as VHD, or as both.
pub fn write_disks(plan: &Plan, parts: &Parts<'_>, workspace: &Workspace) -> Result<Disks, ComposeError> {
    let Parts {
        made,
        boot,
        uki,
        addons,
        root_hash,
        firmware_keys,
        secret,
        ..
    } = *parts;
    let facts = &made.facts;
    let hash = facts.root_hash_bytes();
    let stem = plan.image.stem();
    let uki_path = Boot::uki_path(plan);
    let mut esp = boot.esp_files(&uki_path, Content::new(&uki.file, uki.size), addons);
    let updates = firmware_keys.esp.iter();
    esp.extend(updates.map(|(path, bytes)| (path.as_str(), Content::bytes(bytes))));
    let sizes: Vec<_> = esp
        .iter()
        .map(|(path, content)| (*path, content.size()))
        .collect();
    disk::check_esp(plan.disk.esp.0, &sizes, &uki_path)?;
    let esp: Vec<_> = esp
        .into_iter()
        .map(|(path, content)| FatFile { path, content })
        .collect();

    let usr = Usr {
        size: facts.usr_size,
        verity_size: facts.verity_size,
        algorithm: algorithm(plan),
        root_hash: &hash,
    };
    let seed = [stem.as_bytes(), b"\0", &hash].concat();
    let disk_plan = DiskPlan::new(&disk_spec(plan, facts.slot), usr, &seed)?;
    let time = plan.image.released.epoch();
    let keys = partitions::keys(plan, secret)?;
    let mut tree = facts.root.as_deref().map(composed::root_tree).transpose()?;
    for key in &keys {
        tree.iter_mut().for_each(|tree| key.lay(tree));
    }
    let root = secret.zip(tree.as_ref());
    let root = root.map(|(secret, tree)| built_root::volume(plan, secret, tree));
    let others = partitions::volumes(&keys, time);
    let contents = Contents {
        esp: &esp,
        usr: &made.usr,
        verity: &made.verity,
        root: root.as_ref(),
        others: &others,
        signature: root_hash.map(|signature| signature.partition.as_slice()),
        time,
    };
    let data = facts.usr_size + facts.verity_size + sizes.iter().map(|(_, size)| size).sum::<u64>();
    let copies = plan.outputs.formats.len().max(1) as u64;
    disk::check_space(workspace.directory(), data.saturating_mul(copies))?;

    let create = |format: DiskFormat| workspace.create(&format!("{stem}.{}", format.as_str()));
    let wants_raw = plan.outputs.formats.contains(&DiskFormat::Raw);
    let disk = match (wants_raw, wants_vhd(plan)) {
        (true, true) => {
            let raw = create(DiskFormat::Raw)?;
            disk::write_both(&disk_plan, &contents, &raw, &create(DiskFormat::Vhd)?)?;
            raw
        }
        (false, true) => {
            let vhd = create(DiskFormat::Vhd)?;
            disk::write_raw(&disk_plan, &contents, &vhd)?;
            disk::write_footer(&disk_plan, &vhd, time)?;
            vhd
        }
        _ => {
            let raw = create(DiskFormat::Raw)?;
            disk::write_raw(&disk_plan, &contents, &raw)?;
            raw
        }
    };
    let digests = DiskDigests::with_known(&disk_plan, &disk, time, &facts.usr_chunks)?;
    Ok(Disks {
        plan: disk_plan,
        digests,
    })
}

/// Writes `manifest.json`, and `SHA256SUMS` of everything but disks, repository and report.
pub fn write_manifest(
    plan: &Plan,
    parts: &Parts<'_>,
    commit: Digest,
    disks: &Disks,
    pcrs: ManifestPcrs,
    signatures: Vec<ManifestSignature>,
    workspace: &Workspace,
) -> Result<(), ComposeError> {
    let Parts {
        made,
        uki,
        addons,
        firmware_keys,
        ..
    } = *parts;
    let facts = &made.facts;
    let failed = |source| output(workspace.directory(), source);
    let stem = plan.image.stem();
    let mut files = vec![
        format!("{stem}.usr.erofs"),
        format!("{stem}.usr.verity"),
        uki.name.clone(),
    ];
    files.extend(addons.iter().map(|addon| addon.file.clone()));
    files.extend(firmware_keys::write(firmware_keys, workspace)?);
    // Those of `/usr` were read when they were made.
    let known = [facts.usr_sha256, facts.verity_sha256].map(Some);
    let known = known.into_iter().chain(std::iter::repeat(None));
    let mut outputs = Vec::new();
    let mut sums = Vec::new();
    for (file, known) in files.iter().zip(known) {
        let path = workspace.path(file);
        let digest = match known {
            Some(digest) => digest,
            None => file_digest(&path).map_err(failed)?,
        };
        sums.push((file.clone(), digest));
        outputs.push(ManifestOutput {
            file: file.clone(),
            size: fs::metadata(&path).map_err(failed)?.len(),
            sha256: Some(digest),
            tree_digest: None,
        });
    }
    for format in &plan.outputs.formats {
        let (size, digest) = match format {
            DiskFormat::Raw => (disks.plan.spec.size, disks.digests.raw),
            DiskFormat::Vhd => (disks.plan.spec.size + 512, disks.digests.vhd),
        };
        outputs.push(ManifestOutput {
            file: format!("{stem}.{}", format.as_str()),
            size,
            sha256: None,
            tree_digest: Some(digest),
        });
    }
    let partitions = disks.plan.partitions.iter().zip(&disks.digests.partitions);
    let manifest = Manifest {
        manifest_version: 1,
        composer: concat!("hullwright ", env!("CARGO_PKG_VERSION")).to_owned(),
        image: plan.image.id.as_str().to_owned(),
        version: plan.image.version.as_str().to_owned(),
        arch: plan.image.arch.as_str().to_owned(),
        released: plan.image.released.epoch(),
        kernel: ManifestKernel {
            package: facts.kernel_package.clone(),
            release: facts.kernel_release.clone(),
            command_line: parts.cmdline.to_owned(),
            initrd_modules: facts.initrd_modules.clone(),
        },
        commit: ManifestCommit {
            reference: plan.os.reference.as_str().to_owned(),
            checksum: commit,
        },
        usr_root_hash: facts.root_hash.clone(),
        pcrs,
        rpm_verify: facts.rpm_verify.clone(),
        signatures,

        usr_salt: facts.salt.to_string(),
        partitions: partitions
            .map(|(partition, digest)| ManifestPartition {
                number: partition.number,
                label: partition.label.clone(),
                type_uuid: partition.type_uuid.to_string(),
                uuid: partition.uuid.to_string(),
                offset: partition.offset,
                size: partition.size,
                volume: partition.volume.map(|ids| ManifestVolume {
                    luks_uuid: ids.luks.to_string(),
                    file_system_uuid: ids.file_system.to_string(),
                    cipher: luks2::CIPHER,
                    sector_size: 4096,
                    kdf: match (partition.role, plan.encryption.root.kdf) {
                        (disk::Role::Root, Some(kdf)) => kdf.as_str(),
                        // Keys of other partitions are random.
                        _ => KeyDerivation::Pbkdf2.as_str(),
                    },
                    key: (partition.role == disk::Role::Root)
                        .then(|| built_root::key_name(plan))
                        .flatten(),
                }),
                tree_digest: *digest,
            })
            .collect(),
        outputs,
        packages: facts.packages.clone(),
        scriptlets: facts.scriptlets.clone(),
        open_requirements: facts.open_requirements.clone(),
    };
    let path = workspace.path("manifest.json");
    let text = manifest.to_text();
    fs::write(&path, &text).map_err(|source| output(&path, source))?;
    sums.push(("manifest.json".to_owned(), Digest::of(text.as_bytes())));
    write_sums(workspace.directory(), &sums).map_err(failed)
}

/// What packages require and no package provides, with the definition's reasons.
pub fn open_requirements(open: &[(Open, String)]) -> Vec<ManifestOpen> {
    let describe = |(open, reason): &(Open, String)| ManifestOpen {
        requires: open.requirement.clone(),
        wanted_by: open
            .wanted_by
            .iter()
            .map(|wanter| wanter.package.clone())
            .collect(),
        reason: reason.clone(),
    };
    open.iter().map(describe).collect()
}

/// The packages of the image.
pub fn packages(set: &RpmSet, trust: &[Checked]) -> Vec<ManifestPackage> {
    use crate::formats::rpm::tag;
    let describe = |(package, checked): (&crate::rpmset::Package, &Checked)| {
        let header = &package.preamble.header;
        let text = |tag| {
            header
                .string(tag)
                .ok()
                .flatten()
                .map(|text| String::from_utf8_lossy(text).into_owned())
        };
        let file = package.path.file_name().unwrap_or_default();
        ManifestPackage {
            nevra: package.nevra.to_string(),
            file: file.to_string_lossy().into_owned(),
            size: package.size,
            sha256: package.sha256,
            header_sha256: Digest::of(header.raw()),
            payload_digest: package.claimed_payload_digest(),
            signed_by: match &checked.verdict {
                Verdict::Signed { signer, .. } => Some(signer.fingerprint.clone()),
                _ => None,
            },
            build_time: package.build_time,
            license: text(tag::LICENSE),
            source: text(tag::SOURCERPM),
        }
    };
    set.packages().iter().zip(trust).map(describe).collect()
}

/// Writes what was measured, which differs from build to build.
pub fn write_report(
    workspace: &Workspace,
    progress: &Progress,
    done: &Done,
    stamp: Option<&Stamp>,
) -> Result<(), ComposeError> {
    let scriptlets = done.durations.iter();
    let scriptlets: Vec<_> = scriptlets
        .map(|(name, seconds)| serde_json::json!({ "name": name, "seconds": seconds }))
        .collect();
    let report = serde_json::json!({
        "report_version": 1,
        "stages": progress.stages(),
        "scriptlets": scriptlets,
        "stamp": stamp,
    });
    let path = workspace.path(REPORT);
    fs::write(&path, format!("{report:#}\n")).map_err(|source| output(&path, source))
}

/// Puts the stages that have ended since into the report of outputs that are in their place. Without them it is as good.
pub fn update_report(directory: &Path, progress: &Progress) {
    let path = directory.join(REPORT);
    let update = || -> Option<()> {
        let mut report: serde_json::Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let stages = serde_json::to_value(progress.stages()).ok()?;
        report.as_object_mut()?.insert("stages".to_owned(), stages);
        // The outputs are in their place: a reader sees the one or the other, and so does whoever comes after a kill.
        let mut file = NamedTempFile::new_in(directory).ok()?;
        writeln!(file, "{report:#}").ok()?;
        let permissions = fs::metadata(&path).ok()?.permissions();
        file.as_file().set_permissions(permissions).ok()?;
        file.persist(&path).ok().map(drop)
    };
    let _ = update();
}

/// What `rpm -V --all` will say of the booted image.
pub fn rpm_verify(plan: &Plan, set: &RpmSet, made: &Made) -> Result<Vec<ManifestDifference>, ComposeError> {
    if plan.rpms.database == RpmDatabase::None {
        return Ok(Vec::new());
    }
    let rules: Vec<_> = plan
        .paths
        .iter()
        .map(|rule| (rule.path.clone(), rule.reason.as_str().to_owned()))
        .collect();
    let differences = rpm_verify::differences(set, &made.states, &made.tree, &rules)?;
    let describe = |difference: rpm_verify::Difference| ManifestDifference {
        path: difference.path.to_string(),
        package: difference.package,
        code: difference.code,
        mark: difference.mark,
        reason: difference.reason,
    };
    Ok(differences.into_iter().map(describe).collect())
}
