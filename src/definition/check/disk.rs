//! Sizes of partitions and of outputs.

use super::report;
use crate::definition::plan::{DiskFormat, EncryptionMode, ErofsCodec, Plan, VerityAlgorithm};
use crate::definition::reader::Context;
use crate::definition::values::ByteSize;
use crate::formats::fec;
use crate::formats::verity::{Algorithm, hash_device_size};

/// Bytes of the hash tree over `data` bytes with all that belongs to it, in whole MiB.
fn hash_tree_size(plan: &Plan, data: u64) -> u64 {
    let algorithm = match plan.verity.algorithm {
        VerityAlgorithm::Sha256 => Algorithm::Sha256,
        VerityAlgorithm::Sha512 => Algorithm::Sha512,
    };
    let tree = hash_device_size(data, algorithm);
    let parity = plan
        .verity
        .fec_roots
        .map(|roots| fec::area_size(data, tree, roots));
    tree.saturating_add(parity.unwrap_or(0))
        .next_multiple_of(ByteSize::MIB)
}

pub(super) fn disk(context: &Context<'_>, plan: &Plan) {
    let disk = &plan.disk;
    let sizes = [
        ("disk.size", Some(disk.size)),
        ("disk.esp", Some(disk.esp)),
        ("disk.usr", disk.usr),
        ("disk.usr-verity", disk.usr_verity),
        ("disk.root.minimum", Some(disk.root.minimum)),
    ];
    for (key, size) in sizes {
        if size.is_some_and(|size| size.0 % ByteSize::MIB != 0) {
            report(
                context,
                key,
                format!("`{key}` is no whole number of MiB"),
                "partitions begin and end on 1 MiB boundaries",
            );
        }
    }
    // 65,525 clusters of one sector, with two tables and the reserved sectors.
    if disk.esp < ByteSize::mib(34) {
        report(
            context,
            "disk.esp",
            format!("`disk.esp` is {}: too small for FAT32", disk.esp),
            "firmware reads smaller volumes as FAT16; two UKIs and 20 % need some 100MiB and more",
        );
    }
    if !(1..=2).contains(&disk.slots_in_image) {
        report(
            context,
            "disk.slots-in-image",
            format!("`disk.slots-in-image` is {}", disk.slots_in_image),
            "1: slot B is made at first boot; 2: it is in the image, empty",
        );
    }
    // LUKS2's headers and the file system's own tables, and something for files.
    let least = ByteSize::mib(512);
    if plan.encryption.root.mode == EncryptionMode::Build && disk.root.minimum < least {
        report(
            context,
            "disk.root.minimum",
            format!(
                "`disk.root.minimum` is {}, too little for an encrypted root",
                disk.root.minimum
            ),
            format!("at least \"{least}\""),
        );
    }
    let Some(usr) = disk.usr else {
        if disk.usr_verity.is_some() {
            let help = "give `disk.usr`, the size of the slot whose hash tree it holds, or leave both out";
            report(
                context,
                "disk.usr-verity",
                "`disk.usr-verity` is given without `disk.usr`",
                help,
            );
        }
        return;
    };
    let tree = ByteSize(hash_tree_size(plan, usr.0));
    if let Some(given) = disk.usr_verity
        && given < tree
    {
        report(
            context,
            "disk.usr-verity",
            format!("`disk.usr-verity` is {given}, but the hash tree of a full slot of {usr} has {tree}"),
            format!("make it \"{tree}\", or leave it out"),
        );
    }
    // Three partitions a slot: data, hash tree, signature; 1 MiB at each end for the tables.
    let slot = usr
        .0
        .saturating_add(disk.usr_verity.unwrap_or(tree).0)
        .saturating_add(ByteSize::MIB);
    let others = disk.partitions.iter().map(|partition| partition.size.least());
    let parts = [disk.esp.0, slot, slot, disk.root.minimum.0, 2 * ByteSize::MIB];
    let needed = ByteSize(parts.into_iter().chain(others).fold(0, u64::saturating_add));
    if needed > disk.size {
        report(
            context,
            "disk.size",
            format!("`disk.size` is {}, but its partitions need {needed}", disk.size),
            format!(
                "ESP {}, two slots of {}, root at least {}{}: enlarge the disk or shrink a partition",
                disk.esp,
                ByteSize(slot),
                disk.root.minimum,
                match disk.partitions.is_empty() {
                    true => "",
                    false => ", and those of `[[disk.partitions]]`",
                }
            ),
        );
    }
}

pub(super) fn outputs(context: &Context<'_>, plan: &Plan) {
    let outputs = &plan.outputs;
    if outputs.formats.is_empty() {
        report(
            context,
            "outputs.formats",
            "`outputs.formats` is empty",
            "name at least one: [\"raw\"]",
        );
    }
    let size = plan.disk.size;
    if outputs.formats.contains(&DiskFormat::Vhd) && (size < ByteSize::mib(20) || size > ByteSize::gib(1023))
    {
        report(
            context,
            "disk.size",
            format!("`disk.size` is {size}, which Azure takes for no VHD"),
            "a VHD to be uploaded has 20MiB to 1023GiB; or leave \"vhd\" out of `outputs.formats`",
        );
    }
    let erofs = &outputs.erofs;
    let levels = match erofs.compression {
        ErofsCodec::None | ErofsCodec::Lz4 => None,
        ErofsCodec::Lz4hc => Some(1..=12),
        ErofsCodec::Deflate => Some(1..=9),
        ErofsCodec::Zstd => Some(1..=22),
    };
    let codec = erofs.compression.as_str();
    match (erofs.level, levels) {
        (Some(_), None) => {
            let message = format!("`outputs.erofs.level` is given, but `{codec}` has no levels");
            report(
                context,
                "outputs.erofs.level",
                message,
                "leave it out, or choose \"lz4hc\", \"deflate\" or \"zstd\"",
            );
        }
        (Some(level), Some(levels)) if !levels.contains(&level) => {
            let message = format!("`outputs.erofs.level` is {level}");
            let help = format!(
                "levels of `{codec}` go from {} to {}",
                levels.start(),
                levels.end()
            );
            report(context, "outputs.erofs.level", message, help);
        }
        _ => {}
    }
    let cluster = erofs.cluster.0;
    if !cluster.is_power_of_two() || !(4096..=ByteSize::MIB).contains(&cluster) {
        report(
            context,
            "outputs.erofs.cluster",
            format!("`outputs.erofs.cluster` is {}", erofs.cluster),
            "a cluster is a power of two from 4KiB to 1MiB",
        );
    }
    let compresses = erofs.compression != ErofsCodec::None;
    for (key, is_set) in [
        ("outputs.erofs.fragments", erofs.fragments),
        ("outputs.erofs.dedupe", erofs.dedupe),
    ] {
        if is_set && !compresses {
            report(
                context,
                key,
                format!("`{key}` is about compressed files, but `outputs.erofs.compression` is \"none\""),
                "leave it out, or choose a compression; what is not compressed is stored once by `chunk`",
            );
        }
    }
    if let Some(chunk) = erofs.chunk {
        if compresses {
            report(
                context,
                "outputs.erofs.chunk",
                format!("`outputs.erofs.chunk` is given, but files are compressed by `{codec}`"),
                "leave it out, or say `compression = \"none\"`; equal clusters are stored once by `dedupe`",
            );
        }
        if !chunk.0.is_power_of_two() || !(4096..=ByteSize::MIB).contains(&chunk.0) {
            report(
                context,
                "outputs.erofs.chunk",
                format!("`outputs.erofs.chunk` is {chunk}"),
                "a chunk is a power of two from 4KiB to 1MiB",
            );
        }
    }
    if !(1..=22).contains(&plan.initrd.compression_level) {
        let message = format!("`initrd.compression-level` is {}", plan.initrd.compression_level);
        report(
            context,
            "initrd.compression-level",
            message,
            "levels of zstd go from 1 to 22",
        );
    }
}
