//! What must hold between the values of a plan.

use std::collections::BTreeMap;

use super::plan::{DiskFormat, EncryptionMode, ErofsCodec, PathAction, Plan};
use super::reader::Context;
use super::values::ByteSize;
use crate::tree::path::TreePath;

/// Reports everything in `plan` that contradicts itself or cannot be built.
pub(super) fn check(context: &Context<'_>, plan: &Plan) {
    image(context, plan);
    disk(context, plan);
    outputs(context, plan);
    units(context, plan);
    accounts(context, plan);
    paths(context, plan);
    texts(context, plan);
    warnings(context, plan);
}

fn report(context: &Context<'_>, key: &str, message: impl Into<String>, help: impl Into<String>) {
    context.report(context.problem_at(key, message).help(help));
}

fn image(context: &Context<'_>, plan: &Plan) {
    let stem = plan.image.stem();
    // GPT names are 36 UTF-16 units; id and version are ASCII.
    if stem.len() > 36 {
        report(
            context,
            "image.version",
            format!(
                "the partition label `{stem}` has {} characters, more than the 36 of a GPT",
                stem.len()
            ),
            format!("shorten `image.id` or `image.version` by {}", stem.len() - 36),
        );
    }
    let version = plan.image.version.as_str();
    let released = plan.image.released.compact_date();
    let dated = version
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| is_date(part));
    if let (Some(dated), Some(released)) = (dated, released)
        && dated != released
    {
        report(
            context,
            "image.released",
            format!(
                "`image.released` is {}, but the version `{version}` carries the date {dated}",
                plan.image.released
            ),
            "let both name the same day",
        );
    }
}

/// Whether `digits` read as `YYYYMMDD` of this century.
fn is_date(digits: &str) -> bool {
    let number = |at: std::ops::Range<usize>| digits.get(at).and_then(|part| part.parse::<u32>().ok());
    digits.len() == 8
        && digits.starts_with("20")
        && number(4..6).is_some_and(|month| (1..=12).contains(&month))
        && number(6..8).is_some_and(|day| (1..=31).contains(&day))
}

/// Bytes of a dm-verity hash tree (version 1, SHA-256, 4 KiB blocks, with superblock) over `data`
/// bytes, in whole MiB.
fn hash_tree_size(data: u64) -> u64 {
    let mut blocks = data.div_ceil(4096);
    let mut total = 1;
    while blocks > 1 {
        blocks = blocks.div_ceil(128);
        total += blocks;
    }
    (total * 4096).next_multiple_of(ByteSize::MIB)
}

fn disk(context: &Context<'_>, plan: &Plan) {
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
    let tree = ByteSize(hash_tree_size(usr.0));
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
    let parts = [disk.esp.0, slot, slot, disk.root.minimum.0, 2 * ByteSize::MIB];
    let needed = ByteSize(parts.into_iter().fold(0, u64::saturating_add));
    if needed > disk.size {
        report(
            context,
            "disk.size",
            format!("`disk.size` is {}, but its partitions need {needed}", disk.size),
            format!(
                "ESP {}, two slots of {}, root at least {}: enlarge the disk or shrink a partition",
                disk.esp,
                ByteSize(slot),
                disk.root.minimum
            ),
        );
    }
}

fn outputs(context: &Context<'_>, plan: &Plan) {
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
                "leave it out, or choose \"lz4hc\" or \"zstd\"",
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

fn units(context: &Context<'_>, plan: &Plan) {
    let lists = [
        ("os.enable", &plan.os.enable),
        ("os.disable", &plan.os.disable),
        ("os.mask", &plan.os.mask),
    ];
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, units) in lists {
        for unit in units {
            if let Some(before) = seen.insert(unit.as_str(), key) {
                let help = format!(
                    "leave it in one of them; an included `{before}` is changed by `{{ remove = [\"{unit}\"] }}`"
                );
                report(
                    context,
                    key,
                    format!("`{unit}` is both in `{before}` and in `{key}`"),
                    help,
                );
            }
        }
    }
    if !plan.os.default_target.as_str().ends_with(".target") {
        let message = format!(
            "`os.default-target` is `{}`, which is no target",
            plan.os.default_target
        );
        report(
            context,
            "os.default-target",
            message,
            "for example \"multi-user.target\"",
        );
    }
}

fn accounts(context: &Context<'_>, plan: &Plan) {
    let users = plan.os.users.iter().map(|user| (user.name.as_str(), user.id));
    let groups = plan.os.groups.iter().map(|group| (group.name.as_str(), group.id));
    for (list, accounts) in [
        ("os.users", users.collect::<Vec<_>>()),
        ("os.groups", groups.collect()),
    ] {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
        for (index, (name, id)) in accounts.into_iter().enumerate() {
            let key = format!("{list}[{index}]");
            if let Some(first) = names.insert(name, index) {
                let first = context.place_of(&format!("{list}[{first}]")).unwrap_or_default();
                report(
                    context,
                    &format!("{key}.name"),
                    format!("`{name}` is twice in `[[{list}]]`"),
                    format!("the first stands at {first}"),
                );
            } else if let Some(other) = ids.insert(id, name) {
                let message = format!("`{name}` has the number {id} of `{other}`");
                report(context, &format!("{key}.id"), message, "give each its own");
            }
            if matches!(id, 0 | 65_534 | 65_535) || id > 0x7fff_ffff {
                let help = "0 is root, 65534 nobody, 65535 no account at all; numbers go up to 2147483647";
                report(
                    context,
                    &format!("{key}.id"),
                    format!("`{name}` cannot have the number {id}"),
                    help,
                );
            }
        }
    }
}

/// Whether a file of the image can lie at `path`, or why not.
fn outside(path: &TreePath) -> Option<String> {
    let below = |top: &'static str| path.starts_with(&TreePath::literal(top));
    if below("/usr/etc") {
        return Some("write `/etc/…`: it is laid out as `/usr/etc` by the composer".into());
    }
    if below("/usr/local") {
        return Some("`/usr/local` belongs to the machine and lies on its root partition".into());
    }
    if below("/usr") || below("/etc") {
        return None;
    }
    let merged = ["/bin", "/sbin", "/lib", "/lib64"].into_iter().any(below);
    Some(if merged {
        format!("write `/usr{path}`: `{path}` is reached through a symbolic link")
    } else {
        "an image holds `/usr` and `/etc`; what a machine has elsewhere is made at boot: ship a tmpfiles.d file".into()
    })
}

fn paths(context: &Context<'_>, plan: &Plan) {
    let directories = plan.directories.iter().map(|entry| &entry.path);
    let files = plan.files.iter().map(|entry| &entry.path);
    let symlinks = plan.symlinks.iter().map(|entry| &entry.path);
    let all = (directories
        .enumerate()
        .map(|(index, path)| ("directories", index, path)))
    .chain(files.enumerate().map(|(index, path)| ("files", index, path)))
    .chain(
        symlinks
            .enumerate()
            .map(|(index, path)| ("symlinks", index, path)),
    );
    let mut seen: BTreeMap<&TreePath, String> = BTreeMap::new();
    for (list, index, path) in all {
        let key = format!("{list}[{index}].path");
        if let Some(why) = outside(path) {
            report(context, &key, format!("`{path}` is no place of the image"), why);
        }
        if let Some(first) = seen.insert(path, key.clone()) {
            let first = context.place_of(&first).unwrap_or_default();
            report(
                context,
                &key,
                format!("`{path}` is given twice"),
                format!("the first stands at {first}"),
            );
        }
    }
    let leaves = plan
        .files
        .iter()
        .map(|entry| &entry.path)
        .chain(plan.symlinks.iter().map(|entry| &entry.path));
    for (path, key) in &seen {
        if let Some(leaf) = leaves.clone().find(|leaf| path.starts_with(leaf) && path != leaf) {
            report(
                context,
                key,
                format!("`{path}` lies below `{leaf}`, which is no directory"),
                "change one of them",
            );
        }
    }
    for (index, rule) in plan.paths.iter().enumerate() {
        if let (PathAction::Move, Some(to)) = (rule.action, &rule.to) {
            let key = format!("paths[{index}].to");
            if let Some(why) = outside(to) {
                report(context, &key, format!("`{to}` is no place of the image"), why);
            }
            if to.starts_with(&rule.path) {
                report(
                    context,
                    &key,
                    format!("`{to}` lies inside `{}`, which is moved there", rule.path),
                    "choose a place outside",
                );
            }
        }
        if let Some(first) = plan
            .paths
            .iter()
            .take(index)
            .position(|other| other.path == rule.path)
        {
            let first = context
                .place_of(&format!("paths[{first}].path"))
                .unwrap_or_default();
            report(
                context,
                &format!("paths[{index}].path"),
                format!("`{}` has two rules", rule.path),
                format!("the first stands at {first}"),
            );
        }
    }
}

/// Values that end up as lines of configuration files.
fn texts(context: &Context<'_>, plan: &Plan) {
    let text = |key: &str, value: &str, fits: fn(char) -> bool, what: &str| {
        if let Some(c) = value.chars().find(|&c| !fits(c)) {
            report(context, key, format!("`{key}` cannot hold {c:?}"), what);
        } else if value.is_empty() {
            report(context, key, format!("`{key}` is empty"), what);
        }
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.+@/:".contains(c);
    let package = |c: char| !c.is_whitespace() && !c.is_control();
    text(
        "image.name",
        &plan.image.name,
        |c| !c.is_control() && !"\"\\$`".contains(c),
        "a name is one line without quotes",
    );
    text(
        "os.locale",
        &plan.os.locale,
        word,
        "a locale such as \"C.UTF-8\" or \"en_US.UTF-8\"",
    );
    text(
        "os.timezone",
        &plan.os.timezone,
        word,
        "a zone such as \"UTC\" or \"Europe/Berlin\"",
    );
    text(
        "kernel.package",
        &plan.kernel.package,
        package,
        "the name of a package, or of what it provides",
    );
    if let Some(hostname) = &plan.os.hostname {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        text(
            "os.hostname",
            hostname,
            letters,
            "a hostname has letters, digits, `-` and `.`",
        );
        if hostname.len() > 64 {
            report(
                context,
                "os.hostname",
                format!("`os.hostname` has {} characters", hostname.len()),
                "Linux takes at most 64",
            );
        }
    }
    for (index, name) in plan.rpms.require.iter().enumerate() {
        text(
            &format!("rpms.require[{index}]"),
            name,
            package,
            "the name of a package, or of what it provides",
        );
    }
    for (index, name) in plan.initrd.modules.iter().enumerate() {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        text(
            &format!("initrd.modules[{index}]"),
            name,
            letters,
            "the name of a module, without path and `.ko`",
        );
    }
    for (index, user) in plan.os.users.iter().enumerate() {
        if user.gecos.contains([':', '\n', '\0']) {
            let key = format!("os.users[{index}].gecos");
            report(
                context,
                &key,
                format!("`{key}` holds a colon or a line break"),
                "it is a field of /etc/passwd",
            );
        }
    }
    for (index, link) in plan.symlinks.iter().enumerate() {
        text(
            &format!("symlinks[{index}].target"),
            &link.target,
            |c| c != '\0',
            "where the link leads",
        );
    }
}

/// What can be built and should be said.
fn warnings(context: &Context<'_>, plan: &Plan) {
    let warn = |key: &str, message: &str, help: &str| {
        context
            .warnings
            .borrow_mut()
            .push(context.problem_at(key, message).help(help).warning());
    };
    if plan.encryption.root.mode == EncryptionMode::None {
        let help = "whoever reads the disk reads /var and /etc, and whoever writes it plants what the machine will run";
        warn(
            "encryption.root.mode",
            "the root partition is not encrypted",
            help,
        );
    }
    if plan.initrd.debug {
        warn(
            "initrd.debug",
            "the initrd opens a shell when it fails",
            "leave `initrd.debug` out of production images",
        );
    }
    for exception in &plan.rpms.unsigned {
        let message = format!("`{}` may come unsigned: {}", exception.package, exception.reason);
        warn(
            "rpms.unsigned",
            &message,
            "leave the exception out once the package is signed",
        );
    }
}
