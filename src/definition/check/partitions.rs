//! Partitions beside those of the layout.

use super::report;
use crate::definition::partitions::{DataPartition, PartitionSize, PartitionType};
use crate::definition::plan::{DiskFormat, EncryptionMode, Plan, RootFormat};
use crate::definition::reader::Context;
use crate::definition::values::ByteSize;
use crate::path::TreePath;

/// More than anyone needs, and few enough for two digits in the names of repart's files.
const MOST: usize = 8;
/// Names of other partitions, and of the volumes that are opened from them.
const TAKEN: [&str; 3] = ["esp", "root", "usr"];
/// What a file system with its journal, and LUKS2's headers, need.
const LEAST: ByteSize = ByteSize::mib(64);
/// Places that are something else on a machine, with what lies below.
const SYSTEM: [&str; 9] = [
    "/usr", "/etc", "/boot", "/efi", "/proc", "/sys", "/dev", "/run", "/sysroot",
];

pub(super) fn check(context: &Context<'_>, plan: &Plan) {
    let partitions = &plan.disk.partitions;
    if partitions.len() > MOST {
        let count = partitions.len();
        report(
            context,
            "disk.partitions[8]",
            format!("`[[disk.partitions]]` has {count} entries"),
            format!("at most {MOST}"),
        );
    }
    for (index, partition) in partitions.iter().enumerate() {
        let at = |key: &str| format!("disk.partitions[{index}].{key}");
        let label = partition.label.as_str();
        if TAKEN.contains(&label) || label == plan.image.stem() || label.len() > 36 {
            let why = if label.len() > 36 {
                "is longer than the 36 characters of a GPT"
            } else {
                "is what another partition of the layout is called"
            };
            report(
                context,
                &at("label"),
                format!("`{label}` {why}"),
                "choose another name",
            );
        }
        sizes(context, plan, index, partition);
        if partition.kind == PartitionType::SWAP {
            swap(context, plan, index, partition);
        } else {
            file_system(context, plan, index, partition);
        }
        for (other, first) in partitions.iter().enumerate().take(index) {
            if let (Some(mount), Some(there)) = (&partition.mount, &first.mount)
                && mount == there
            {
                let first = context.place_of(&format!("disk.partitions[{other}]"));
                report(
                    context,
                    &at("mount"),
                    format!("two partitions are mounted at `{mount}`"),
                    format!("the first stands at {}", first.unwrap_or_default()),
                );
            }
        }
    }
}

fn sizes(context: &Context<'_>, plan: &Plan, index: usize, partition: &DataPartition) {
    let at = |key: &str| format!("disk.partitions[{index}].{key}");
    let written = match partition.size {
        PartitionSize::Fixed { size } => vec![("size", size)],
        PartitionSize::Range { minimum, maximum } => {
            let maximum = maximum.map(|size| ("maximum", size));
            [("minimum", minimum)].into_iter().chain(maximum).collect()
        }
    };
    for (key, size) in written {
        if size.0 % ByteSize::MIB != 0 {
            report(
                context,
                &at(key),
                format!("`{}` is no whole number of MiB", at(key)),
                "partitions begin and end on 1 MiB boundaries",
            );
        }
    }
    if let PartitionSize::Range { minimum, maximum } = partition.size {
        if maximum.is_some_and(|maximum| maximum < minimum) {
            report(
                context,
                &at("maximum"),
                format!("`{}` is less than its `minimum`", at("maximum")),
                "exchange them, or write one `size`",
            );
        }
        if plan.encryption.root.mode == EncryptionMode::Build {
            report(
                context,
                &at("minimum"),
                format!(
                    "`{}` leaves the size open, but the partition is in the image",
                    partition.label
                ),
                "the root partition is in the image and stands behind it: write a `size`",
            );
        }
    }
    if partition.kind != PartitionType::SWAP && partition.size.least() < LEAST.0 {
        let key = match partition.size {
            PartitionSize::Fixed { .. } => "size",
            PartitionSize::Range { .. } => "minimum",
        };
        report(
            context,
            &at(key),
            format!("`{}` is too small for a file system", partition.label),
            format!("at least \"{LEAST}\""),
        );
    }
}

fn swap(context: &Context<'_>, plan: &Plan, index: usize, partition: &DataPartition) {
    let at = |key: &str| format!("disk.partitions[{index}].{key}");
    for (key, written) in [
        ("format", partition.format.is_some()),
        ("mount", partition.mount.is_some()),
    ] {
        if written {
            let message = format!("`{}` is given for swap", at(key));
            report(context, &at(key), message, "leave it out");
        }
    }
    if partition.encryption == EncryptionMode::Build {
        report(
            context,
            &at("encryption"),
            "swap cannot be encrypted at build: nothing in it outlives a boot",
            "\"first-boot\", the default, gives it a key of its own at each boot",
        );
    }
    if plan.outputs.formats.contains(&DiskFormat::Vhd) {
        report(
            context,
            &at("type"),
            "an image for Azure has no swap on its disk",
            "Azure's certification refuses it, since that disk lies on remote storage; agents make swap on the machine's \
             temporary disk (`ResourceDisk.EnableSwap` of waagent, `mounts` of cloud-init). Leave it out, or \"vhd\" out of \
             `outputs.formats`",
        );
    }
}

fn file_system(context: &Context<'_>, plan: &Plan, index: usize, partition: &DataPartition) {
    let at = |key: &str| format!("disk.partitions[{index}].{key}");
    let label = &partition.label;
    match &partition.mount {
        None => report(
            context,
            &format!("disk.partitions[{index}]"),
            format!("`{label}` is mounted nowhere"),
            "add `mount = \"/var/lib/containers\"`",
        ),
        Some(mount) => {
            let below = |top: &&'static str| mount.starts_with(&TreePath::literal(top));
            if let Some(top) = SYSTEM.iter().find(|top| below(top)) {
                report(
                    context,
                    &at("mount"),
                    format!(
                        "`{label}` cannot be mounted at `{mount}`: `{top}` is the image's or the system's own"
                    ),
                    "what machines write lies in /var, /home, /srv, /opt or /mnt",
                );
            }
            let text = mount.to_string();
            if text.contains(|c: char| !c.is_ascii_alphanumeric() && !"/-_.".contains(c)) {
                report(
                    context,
                    &at("mount"),
                    format!("`{mount}` has other characters than letters, digits, `-`, `_` and `.`"),
                    "choose a plain name",
                );
            }
        }
    }
    let root = plan.encryption.root.mode;
    match partition.encryption {
        EncryptionMode::None => {}
        EncryptionMode::FirstBoot if root == EncryptionMode::None => report(
            context,
            &at("encryption"),
            format!("the key of `{label}` would lie on a root partition that anyone can read"),
            "encrypt the root, too (`[encryption.root]`), or write encryption = \"none\"",
        ),
        EncryptionMode::Build if root != EncryptionMode::Build => report(
            context,
            &at("encryption"),
            format!(
                "the key of `{label}` has no place: the image has no encrypted root partition that could hold it"
            ),
            "write \"first-boot\", where the root is encrypted then, or encrypt the root at build, too",
        ),
        EncryptionMode::Build if plan.encryption.root.rekey.is_some() => report(
            context,
            &at("encryption"),
            format!("`{label}` would keep the image's key, while the root gets one of the machine's own"),
            "write encryption = \"first-boot\"",
        ),
        EncryptionMode::Build if partition.format != Some(RootFormat::Ext4) => report(
            context,
            &at("format"),
            "only ext4 is made at build",
            "write \"ext4\", or encryption = \"first-boot\"",
        ),
        EncryptionMode::Build | EncryptionMode::FirstBoot => {}
    }
}

/// Says what is not protected.
pub(super) fn warn(context: &Context<'_>, plan: &Plan) {
    for (index, partition) in plan.disk.partitions.iter().enumerate() {
        let label = &partition.label;
        let (message, help) = match (partition.encryption, partition.kind) {
            (EncryptionMode::None, _) => (
                format!("the partition `{label}` is not encrypted"),
                "whoever reads the disk reads it, and whoever writes it plants what the machine will find there",
            ),
            (EncryptionMode::Build, _) => (
                format!("every machine made from this image has the same key for its partition `{label}`"),
                "encryption = \"first-boot\" gives each machine its own",
            ),
            (EncryptionMode::FirstBoot, _) => continue,
        };
        let problem = context.problem_at(&format!("disk.partitions[{index}].encryption"), message);
        context.warnings.borrow_mut().push(problem.help(help).warning());
    }
}
