//! Partitions that a definition declares beside those of the layout: what the booted system is told of them. What it
//! does with them is in `systemd-units/partitions`.

use zeroize::Zeroizing;

use super::{ComposeError, built_root};
use crate::definition::partitions::{DataPartition, PartitionType};
use crate::definition::plan::{EncryptionMode, Plan, RootFormat};
use crate::disk::{DiskError, EncryptedVolume, OtherPartition};
use crate::formats::ext4;
use crate::formats::luks2::{Kdf, VolumeKey};
use crate::store::hex;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

const UNITS: &str = "/usr/lib/systemd/system";
const SETTINGS: &str = "/usr/lib/hullwright/partitions";
/// Where keys lie on the root partition, with a mark beside each whose volume is complete.
const STATE: &str = "/var/lib/hullwright/partitions";
/// What makes and opens them, and what that starts.
const PROGRAMS: [&str; 17] = [
    "/usr/lib/systemd/system/partition@.service",
    "/usr/lib/hullwright/open-partition",
    "/usr/lib/hullwright/boot-disk",
    "/usr/lib/hullwright/built-header.jq",
    "/usr/bin/cat",
    "/usr/bin/dd",
    "/usr/bin/jq",
    "/usr/bin/ln",
    "/usr/bin/mv",
    "/usr/bin/readlink",
    "/usr/bin/sync",
    "/usr/bin/tail",
    "/usr/bin/tr",
    "/usr/bin/udevadm",
    "/usr/bin/wc",
    "/usr/sbin/cryptsetup",
    "/usr/sbin/wipefs",
];

/// The mount waits for its device from the moment that the system starts, by default not as long as the service that brings it
/// may take.
const DEVICE: &str = "# The composer writes this for `[[disk.partitions]]`: partition@.service, which brings the device, ends first.\n\
    [Unit]\nJobRunningTimeoutSec=1200\n";

/// A key of a partition that is made with the image, to be laid on its root.
pub struct PartitionKey {
    label: String,
    key: Zeroizing<String>,
}

/// What the disk's plan must know of them.
pub fn spec(plan: &Plan) -> Vec<OtherPartition> {
    let partitions = plan.disk.partitions.iter();
    let spec = |partition: &DataPartition| OtherPartition {
        label: partition.label.to_string(),
        type_uuid: partition.kind.0,
        min_size: partition.size.least(),
        max_size: partition.size.most(),
        volume: is_built(partition),
    };
    partitions.map(spec).collect()
}

fn is_built(partition: &DataPartition) -> bool {
    partition.encryption == EncryptionMode::Build
}

/// The keys of those that are made with the image: each derives from the root's `secret`, at the cost that guessing that
/// has, and none gives it or another away.
///
/// # Errors
/// What the derivation refuses.
pub fn keys(plan: &Plan, secret: Option<&[u8]>) -> Result<Vec<PartitionKey>, ComposeError> {
    let Some(secret) = secret else {
        return Ok(Vec::new());
    };
    let kdf = built_root::kdf(plan);
    let built = plan.disk.partitions.iter().filter(|it| is_built(it));
    built
        .map(|partition| {
            let label = partition.label.to_string();
            let context = format!("partition {} {label}", plan.image.stem());
            let key = VolumeKey::from_secret(secret, &kdf, context.as_bytes()).map_err(DiskError::from)?;
            let key = Zeroizing::new(hex(key.as_bytes()));
            Ok(PartitionKey { label, key })
        })
        .collect()
}

/// The volumes of `keys`, each with an empty file system.
pub fn volumes(keys: &[PartitionKey], time: i64) -> Vec<(&str, EncryptedVolume<'_>)> {
    let empty = |mode| {
        let kind = ext4::Kind::Directory(Default::default());
        ext4::Inode::root(mode, time, kind)
    };
    let mut volumes = Vec::new();
    for key in keys {
        let lost = (b"lost+found".as_slice().into(), empty(0o700));
        let volume = EncryptedVolume {
            secret: key.key.as_bytes(),
            kdf: Kdf::RANDOM_KEY,
            label: "data",
            root: ext4::Inode::root(0o755, time, ext4::Kind::Directory([lost].into())),
        };
        volumes.push((key.label.as_str(), volume));
    }
    volumes
}

impl PartitionKey {
    /// Puts the key where [`lay_room`] has left room for it.
    pub fn lay(&self, root: &mut Tree) {
        let path = TreePath::literal(STATE).join_name(format!("{}.key", self.label).as_bytes());
        if let Some(node) = root.get_mut(&path) {
            node.kind = Kind::file(self.key.as_bytes().to_vec());
        }
    }
}

/// Leaves room in `root` for the keys of partitions that are made with the image, which are secret and come last; and puts
/// the marks there that their volumes are complete.
///
/// # Errors
/// Paths of the root that are in the way.
pub fn lay_room(plan: &Plan, root: &mut Tree) -> Result<(), ComposeError> {
    let time = plan.image.released.epoch();
    let origin = || Origin::Composer("the key of a partition");
    let state = TreePath::literal(STATE);
    for partition in plan.disk.partitions.iter().filter(|it| is_built(it)) {
        if root.get(&state).is_none() {
            let directory = Kind::Dir(Default::default());
            root.insert(&state, Node::new(Meta::root(0o700, time), directory, origin()))?;
        }
        for ending in ["key", "made"] {
            let path = state.join_name(format!("{}.{ending}", partition.label).as_bytes());
            let file = Kind::file(Vec::new());
            root.insert(&path, Node::new(Meta::root(0o600, time), file, origin()))?;
        }
    }
    Ok(())
}

/// Writes settings and units into `tree`.
///
/// # Errors
/// What the image lacks to make or open them.
pub fn lay(plan: &Plan, tree: &mut Tree) -> Result<(), ComposeError> {
    let partitions = &plan.disk.partitions;
    if partitions.is_empty() {
        return Ok(());
    }
    check_programs(plan, tree)?;
    let places: Vec<_> = partitions.iter().map(|it| place(tree, it)).collect();
    let time = plan.image.released.epoch();
    let mut put = |path: String, kind: Kind| -> Result<(), ComposeError> {
        let mode = if matches!(kind, Kind::Symlink(_)) {
            0o777
        } else {
            0o644
        };
        let path = TreePath::new(path).map_err(|_| ComposeError::NoUsr)?;
        let node = Node::new(Meta::root(mode, time), kind, Origin::Composer("disk.partitions"));
        tree.insert(&path, node)?;
        Ok(())
    };
    let text = |text: String| Kind::file(text.into_bytes());
    let mut mounts = Vec::new();
    for (partition, place) in partitions.iter().zip(&places) {
        let label = &partition.label;
        put(format!("{SETTINGS}/{label}.conf"), text(settings(partition)))?;
        let Some(place) = place else {
            let unit = format!("{UNITS}/swap.target.wants/partition@{label}.service");
            put(unit, Kind::Symlink(b"../partition@.service".as_slice().into()))?;
            continue;
        };
        let unit = format!("{}.mount", escape(place));
        put(format!("{UNITS}/{unit}"), text(mount(partition, place)))?;
        let link = format!("../{unit}").into_bytes();
        put(
            format!("{UNITS}/local-fs.target.requires/{unit}"),
            Kind::Symlink(link.into()),
        )?;
        if let Some(device) = source(partition).strip_prefix("/dev/") {
            let unit = format!("dev-{}.device", escape(device));
            put(
                format!("{UNITS}/{unit}.d/20-partition.conf"),
                text(DEVICE.to_owned()),
            )?;
        }
        mounts.push((place.as_str(), unit));
    }
    // Keys lie below /var: what is mounted there hides them.
    let hiding: Vec<&str> = mounts
        .iter()
        .filter(|(place, _)| STATE.starts_with(&format!("{place}/")))
        .map(|(_, unit)| unit.as_str())
        .collect();
    if !hiding.is_empty() {
        let order = format!("[Unit]\nBefore={}\n", hiding.join(" "));
        put(format!("{UNITS}/partition@.service.d/20-keys.conf"), text(order))?;
    }
    if plan.os.selinux.as_str() != "none" && !mounts.is_empty() {
        // What mkfs made has no labels.
        let lines = mounts
            .iter()
            .map(|(place, _)| format!("z {place}\nz {place}/lost+found\n"));
        put(
            "/usr/lib/tmpfiles.d/hullwright-partitions.conf".to_owned(),
            text(lines.collect()),
        )?;
    }
    Ok(())
}

/// Whether the initrd has what makes them.
///
/// # Errors
/// What it lacks.
pub fn check_initrd(plan: &Plan, initrd: &Tree) -> Result<(), ComposeError> {
    // systemd-repart, which formats swap by itself.
    let mkswap = "/usr/sbin/mkswap";
    let made_there = plan.encryption.root.mode != EncryptionMode::Build;
    let swap = plan
        .disk
        .partitions
        .iter()
        .any(|it| it.kind == PartitionType::SWAP);
    if made_there && swap && initrd.resolve(&TreePath::literal(mkswap)).is_none() {
        let missing = vec![format!("{mkswap} in the initrd")];
        return Err(ComposeError::NoWayToPartitions { missing });
    }
    Ok(())
}

fn check_programs(plan: &Plan, tree: &Tree) -> Result<(), ComposeError> {
    let mut wanted: Vec<String> = PROGRAMS.iter().map(|path| (*path).to_owned()).collect();
    for partition in &plan.disk.partitions {
        match partition.format {
            Some(format) => wanted.push(format!("/usr/sbin/mkfs.{}", format.as_str())),
            None => wanted.extend(["mkswap", "swapon"].map(|name| format!("/usr/sbin/{name}"))),
        }
        if partition.format == Some(RootFormat::Ext4) {
            wanted.push("/usr/sbin/fsck.ext4".to_owned());
        }
    }
    wanted.sort();
    wanted.dedup();
    let lacks = |path: &String| TreePath::new(path).is_ok_and(|path| tree.resolve(&path).is_none());
    let missing: Vec<String> = wanted.into_iter().filter(lacks).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ComposeError::NoWayToPartitions { missing })
    }
}

/// Where it is mounted, no link among the directories above: a unit's name is that of the place itself.
fn place(tree: &Tree, partition: &DataPartition) -> Option<String> {
    let mount = partition.mount.as_ref()?;
    let mut components = mount.components();
    let top = TreePath::root().join_name(components.next()?);
    let target = match tree.get(&top).map(|node| &node.kind) {
        Some(Kind::Symlink(target)) => TreePath::root().join(target).ok(),
        _ => None,
    };
    let place = components.fold(target.unwrap_or(top), |path, name| path.join_name(name));
    Some(place.to_string())
}

/// What the script reads.
fn settings(partition: &DataPartition) -> String {
    let (mode, format) = (partition.encryption.as_str(), partition.format);
    let usage = if partition.kind == PartitionType::SWAP {
        "swap"
    } else {
        "file-system"
    };
    let format = format.map_or_else(String::new, |format| format!("FORMAT={}\n", format.as_str()));
    format!("USE={usage}\nMODE={mode}\nTYPE={}\n{format}", partition.kind.0)
}

/// What is mounted.
fn source(partition: &DataPartition) -> String {
    let label = &partition.label;
    match partition.encryption {
        EncryptionMode::None => format!("/run/hullwright/partitions/{label}"),
        _ => format!("/dev/mapper/{label}"),
    }
}

fn mount(partition: &DataPartition, place: &str) -> String {
    let (label, source) = (&partition.label, source(partition));
    let format = partition.format.map_or("auto", |format| format.as_str());
    // What is made with the image is small at first.
    let grow = match partition.encryption {
        EncryptionMode::Build => format!("Wants=systemd-growfs@{}.service\n", escape(place)),
        _ => String::new(),
    };
    format!(
        "# The composer writes this for `[[disk.partitions]]`.\n[Unit]\nDescription=Partition {label}\n\
         Requires=partition@{label}.service\nAfter=partition@{label}.service\n{grow}\n\
         [Mount]\nWhat={source}\nWhere={place}\nType={format}\n"
    )
}

/// A path as the name of a unit (systemd-escape(1), `--path`).
fn escape(path: &str) -> String {
    let mut name = String::new();
    for (at, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}
