//! What must hold between the values of a plan.

mod disk;
mod partitions;
mod places;

use std::collections::BTreeMap;

use super::measured_boot;
use super::plan::{EncryptionMode, PcrBank, Plan, Recovery, ScriptletAction};
use super::reader::Context;
use super::uki;

/// Reports everything in `plan` that contradicts itself or cannot be built.
pub(super) fn check(context: &Context<'_>, plan: &Plan) {
    image(context, plan);
    disk::disk(context, plan);
    disk::outputs(context, plan);
    partitions::check(context, plan);
    units(context, plan);
    accounts(context, plan);
    places::paths(context, plan);
    encryption(context, plan);
    built_root(context, plan);
    texts(context, plan);
    uki::check(context, &plan.uki);
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

/// What only a volume made at build has.
fn built_root(context: &Context<'_>, plan: &Plan) {
    let root = &plan.encryption.root;
    if root.mode == EncryptionMode::Build {
        return;
    }
    let given = [
        ("encryption.root.key-file", root.key_file.is_some()),
        ("encryption.root.kdf", root.kdf.is_some()),
        ("encryption.root.rekey", root.rekey.is_some()),
    ];
    for (key, _) in given.iter().filter(|(_, given)| *given) {
        report(
            context,
            key,
            format!(
                "`{key}` is of a volume that is made at build, and `encryption.root.mode` is \"{}\"",
                root.mode.as_str()
            ),
            "leave it out, or set `mode = \"build\"`",
        );
    }
}

/// How an encrypted root is recovered is decided before there is one.
fn encryption(context: &Context<'_>, plan: &Plan) {
    let root = &plan.encryption.root;
    let banks = plan.measured_boot.as_ref().map(|measured| &measured.banks);
    if root.is_bound() && banks.is_none_or(|banks| !banks.contains(&PcrBank::Sha256)) {
        let message = match banks {
            None => "nothing signs the policy over PCR 11 that an encrypted root is bound to",
            Some(_) => "no policy is signed for the PCR bank `sha256`, which an encrypted root is bound to",
        };
        let help = "add `[measured-boot]` with key = \"keys/pcr.key\", and leave `banks` out of it or name \"sha256\"";
        report(context, "encryption.root.mode", message, help);
    }
    match (root.is_bound(), &root.recovery, &root.reason) {
        (true, Some(Recovery::None), None) => report(
            context,
            "encryption.root.recovery",
            "`encryption.root.recovery` is \"none\" without a reason",
            "add `reason`: why the data of these machines may be lost",
        ),
        (true, Some(Recovery::Escrow { .. }), Some(_)) => report(
            context,
            "encryption.root.reason",
            "`encryption.root.reason` says why there is no recovery, and there is one",
            "leave it out",
        ),
        (false, Some(_), _) if root.mode == EncryptionMode::None => report(
            context,
            "encryption.root.recovery",
            "`encryption.root.recovery` is of a root that is not encrypted",
            "leave it out, or set `mode`",
        ),
        (false, Some(_), _) => report(
            context,
            "encryption.root.recovery",
            "`encryption.root.recovery` is of a root that is bound to a TPM, and this one has the image's key",
            "leave it out, or add rekey = \"tpm\"",
        ),
        _ => {}
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
    for (index, wanted) in plan.rpms.require.iter().enumerate() {
        let words: Vec<_> = wanted.split_ascii_whitespace().collect();
        let fits = match words[..] {
            [name] => name == wanted,
            [_, operator, _] => matches!(operator, "<" | "<=" | "=" | ">=" | ">"),
            _ => false,
        };
        if !fits || wanted.contains(char::is_control) {
            let key = format!("rpms.require[{index}]");
            report(
                context,
                &key,
                format!("`{key}` is neither a name nor a name with a version: {wanted:?}"),
                "the name of a package, or of what it provides: \"glibc\", or \"glibc >= 2.38\"",
            );
        }
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
        let fields = [
            ("gecos", user.gecos.clone()),
            ("home", user.home.to_string()),
            ("shell", user.shell.to_string()),
        ];
        for (field, value) in fields {
            if value.contains(|c: char| c == ':' || c.is_control()) {
                let key = format!("os.users[{index}].{field}");
                report(
                    context,
                    &key,
                    format!("`{key}` holds a colon or a control character"),
                    "it is a field of /etc/passwd",
                );
            }
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
    if plan.encryption.root.mode == EncryptionMode::Build && plan.encryption.root.rekey.is_none() {
        warn(
            "encryption.root.mode",
            "every machine made from this image has the same key for its root partition",
            "whoever has the image and the key reads and changes what any of them writes: keep the key apart from the image",
        );
    }
    partitions::warn(context, plan);
    if let (Some(Recovery::None), Some(reason)) =
        (&plan.encryption.root.recovery, &plan.encryption.root.reason)
    {
        warn(
            "encryption.root.recovery",
            &format!("the root partition cannot be recovered: {reason}"),
            "its data are lost with the machine's TPM, and with a change of its firmware's keys",
        );
    }
    if plan.initrd.debug {
        warn(
            "initrd.debug",
            "the initrd opens a shell when it fails",
            "leave `initrd.debug` out of production images",
        );
    }
    if let Some(measured) = &plan.measured_boot {
        measured_boot::warn(context, measured);
    }
    uki::warn(context, &plan.uki, plan.measured_boot.as_ref());
    for (index, exception) in plan.rpms.unsigned.iter().enumerate() {
        let message = format!("`{}` may come unsigned: {}", exception.package, exception.reason);
        warn(
            &format!("rpms.unsigned[{index}]"),
            &message,
            "leave the exception out once the package is signed",
        );
    }
    for (index, rule) in plan.rpms.scriptlets.iter().enumerate() {
        let what = match rule.action {
            ScriptletAction::Skip => "is left out",
            ScriptletAction::Run => "is run, not replaced",
            ScriptletAction::MayFail => "may fail",
        };
        let message = format!("scriptlet `{}` {what}: {}", rule.scriptlet, rule.reason);
        warn(
            &format!("rpms.scriptlets[{index}]"),
            &message,
            "leave the entry out once it is not needed",
        );
    }
}
