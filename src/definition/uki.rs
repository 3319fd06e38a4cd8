//! `[[uki.profiles]]` and `[[uki.addons]]`: other ways to boot the image, and signed arguments added to it.

use serde::Serialize;

use super::measured_boot::MeasuredBoot;
use super::names::{Identifier, KernelArgument};
use super::plan::{AddonKind, AddonPlace};
use super::reader::{Context, Section};
use super::sealing::KeySource;
use super::values::SourcePath;

/// `[uki]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Uki {
    /// Beside the one that boots by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<UkiProfile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<UkiAddon>,
}

impl Uki {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty() && self.addons.is_empty()
    }
}

/// `[[uki.profiles]]`: a way to boot the image, which the boot loader shows as an entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UkiProfile {
    pub id: Identifier,
    /// For people.
    pub title: String,
    /// Arguments that follow the image's own.
    pub cmdline: Vec<KernelArgument>,
}

/// `[[uki.addons]]`: arguments in a signed file of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UkiAddon {
    /// Of the file, `<name>.addon.efi`.
    pub name: Identifier,
    pub cmdline: Vec<KernelArgument>,
    pub kind: AddonKind,
    pub place: AddonPlace,
    /// Whether it fits this image's kernel alone.
    pub bound: bool,
    /// What signs a debug add-on.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub signer: Option<AddonSigner>,
}

/// Key and certificate that sign an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddonSigner {
    pub key: KeySource,
    pub cert: SourcePath,
}

/// The profile that boots by default.
pub const MAIN_PROFILE: &str = "main";
/// What the header of an EFI program has room for, with what the UKI itself needs: four sections a profile.
const MOST_PROFILES: usize = 4;

/// Arguments that give whoever sits at the console, or whoever they name, a way in.
const WAYS_IN: &[&str] = &[
    "systemd.debug_shell",
    "rd.systemd.debug_shell",
    "systemd.default_debug_tty",
    "systemd.unit",
    "rd.systemd.unit",
    "systemd.wants",
    "rd.systemd.wants",
    "systemd.mask",
    "rd.systemd.mask",
    "systemd.run",
    "systemd.set_credential",
    "systemd.set_credential_binary",
    "systemd.import_credentials",
    "systemd.setenv",
    "systemd_sulogin_force",
    "systemd.volatile",
    "systemd.crash_shell",
    "systemd.confirm_spawn",
    "fstab",
    "luks",
    "rd.luks",
    "module_blacklist",
    "modprobe.blacklist",
    "selinux",
    "enforcing",
    "lockdown",
    "security",
    "lsm",
    "rd.break",
    "rescue",
    "emergency",
    "single",
    "s",
    "1",
    "b",
    "kgdboc",
    "kgdbwait",
];

/// Whether an argument of the kernel gives someone a way into the machine, or takes a guard from it.
pub fn opens_a_way_in(argument: &str) -> bool {
    let name = argument.trim_matches('"').split('=').next();
    let name = name.unwrap_or_default().replace('-', "_").to_lowercase();
    WAYS_IN.contains(&name.as_str())
}

/// Reads the tables.
pub(super) fn read(table: &Section<'_>) -> Uki {
    let profiles = table.entries("profiles");
    let addons = table.entries("addons");
    Uki {
        profiles: profiles.iter().filter_map(profile).collect(),
        addons: addons.iter().filter_map(addon).collect(),
    }
}

fn profile(table: &Section<'_>) -> Option<UkiProfile> {
    let id: Option<Identifier> = table.require("id", "\"factory-reset\"");
    let title: Option<String> = table.require("title", "\"Forget this machine's state\"");
    let cmdline = arguments(table);
    Some(UkiProfile {
        id: id?,
        title: title?,
        cmdline: cmdline?,
    })
}

fn addon(table: &Section<'_>) -> Option<UkiAddon> {
    let name = table.require("name", "\"console\"");
    let cmdline = arguments(table);
    let kind = table.or("kind", AddonKind::Ordinary);
    let place = table.or("place", AddonPlace::Beside);
    let bound = table.or("bound", false);
    let key = table.get("key");
    let cert = table.get("cert");
    let signer = match (key, cert) {
        (Some(key), Some(cert)) => Some(AddonSigner { key, cert }),
        (None, None) => None,
        (Some(_), None) => {
            table.missing("cert", "\"keys/debug.pem\"");
            None
        }
        (None, Some(_)) => {
            table.missing("key", "\"keys/debug.key\"");
            None
        }
    };
    Some(UkiAddon {
        name: name?,
        cmdline: cmdline?,
        kind,
        place,
        bound,
        signer,
    })
}

fn arguments(table: &Section<'_>) -> Option<Vec<KernelArgument>> {
    if table.entry("cmdline").is_none() {
        table.missing("cmdline", "[\"console=ttyS1\"]");
        return None;
    }
    let arguments = table.list("cmdline");
    if arguments.is_empty() {
        let path = table.path("cmdline");
        let problem = table.context.problem_at(&path, format!("`{path}` adds nothing"));
        table
            .context
            .report(problem.help("name the arguments that it adds"));
    }
    Some(arguments)
}

/// Reports what contradicts itself, and what would let someone in.
pub(super) fn check(context: &Context<'_>, uki: &Uki) {
    let report = |key: &str, message: String, help: &str| {
        context.report(context.problem_at(key, message).help(help));
    };
    if uki.profiles.len() > MOST_PROFILES {
        let message = format!(
            "{} profiles are more than a kernel image has room for",
            uki.profiles.len()
        );
        report(
            "uki.profiles",
            message,
            "four beside the one that boots by default",
        );
    }
    for (index, profile) in uki.profiles.iter().enumerate() {
        let key = format!("uki.profiles[{index}]");
        let earlier = uki.profiles.iter().take(index);
        if profile.id.as_str() == MAIN_PROFILE || earlier.clone().any(|other| other.id == profile.id) {
            let message = format!("`{}` is the name of another profile", profile.id);
            report(
                &format!("{key}.id"),
                message,
                "give each its own; `main` is the one that boots by default",
            );
        }
        if profile.title.trim().is_empty()
            || profile
                .title
                .chars()
                .any(|c| c.is_control() || "\"\\$`".contains(c))
        {
            let message = format!("`{key}.title` is no title");
            report(
                &format!("{key}.title"),
                message,
                "a title is one line without quotes",
            );
        }
        ways_in(
            context,
            &key,
            &profile.cmdline,
            "a profile is signed with the image: make it a debug add-on",
        );
    }
    for (index, addon) in uki.addons.iter().enumerate() {
        let key = format!("uki.addons[{index}]");
        if uki
            .addons
            .iter()
            .take(index)
            .any(|other| other.name == addon.name)
        {
            let message = format!("`{}` is the name of another add-on", addon.name);
            report(&format!("{key}.name"), message, "give each its own");
        }
        match addon.kind {
            AddonKind::Ordinary => {
                if addon.signer.is_some() {
                    let message = format!(
                        "`{}` is signed as the image is, and has no key of its own",
                        addon.name
                    );
                    report(
                        &format!("{key}.key"),
                        message,
                        "leave `key` and `cert` out, or write kind = \"debug\"",
                    );
                }
                ways_in(
                    context,
                    &key,
                    &addon.cmdline,
                    "write kind = \"debug\", and name a key of its own",
                );
            }
            AddonKind::Debug if addon.place != AddonPlace::Beside => {
                let message = format!("the debug add-on `{}` would lie in the image", addon.name);
                report(
                    &format!("{key}.place"),
                    message,
                    "debug add-ons are delivered beside the image: leave `place` out",
                );
            }
            AddonKind::Debug => {}
        }
    }
}

fn ways_in(context: &Context<'_>, key: &str, arguments: &[KernelArgument], help: &str) {
    for (index, argument) in arguments.iter().enumerate() {
        if opens_a_way_in(argument.as_str()) {
            let key = format!("{key}.cmdline[{index}]");
            let message = format!("`{argument}` opens a way into the machine, or takes a guard from it");
            context.report(context.problem_at(&key, message).help(help));
        }
    }
}

/// Says what weakens the seal.
pub(super) fn warn(context: &Context<'_>, uki: &Uki, measured: Option<&MeasuredBoot>) {
    for (index, addon) in uki.addons.iter().enumerate() {
        let key = format!("uki.addons[{index}].name");
        if addon.place != AddonPlace::Beside && measured.is_some() {
            let message = format!("the add-on `{}` is measured into PCR 12", addon.name);
            let problem = context.problem_at(&key, message);
            let help =
                "what is bound to PCR 12 is bound to this add-on: it cannot be taken off a machine later";
            context.warnings.borrow_mut().push(problem.help(help).warning());
        }
        if addon.kind == AddonKind::Debug && addon.signer.is_none() {
            let message = format!("the debug add-on `{}` is not signed", addon.name);
            let problem = context.problem_at(&key, message);
            let help = "name `key` and `cert`, which must never be in a production machine's db";
            context.warnings.borrow_mut().push(problem.help(help).warning());
        }
    }
}
