//! The keys of a definition, table by table, with their defaults. `docs/definition.md` is their manual.

use super::measured_boot;
use super::names::{Account, Identifier, KernelArgument, UnitName};
use super::partitions;
use super::plan::{
    Arch, DirectoryEntry, Disk, DiskFormat, Encryption, EncryptionMode, Erofs, ErofsCodec, EtcMode,
    EtcOverlays, FileContent, FileEntry, Group, ImaSignatures, Image, Initrd, InitrdCodec, Kernel,
    KeyDerivation, Layout, OpenException, Os, Outputs, PathAction, PathRule, Plan, Recovery, Rekey, RepoMode,
    RootEncryption, RootFormat, RootPartition, RpmDatabase, RpmSource, Rpms, ScriptletRule, SymlinkEntry,
    UnsignedException, User,
};
use super::raw::{Kind, Table};
use super::reader::{Context, Section};
use super::sealing;
use super::source::{Found, ids_beside};
use super::typed::{Present, PresentDirectory};
use super::uki;
use super::values::{ByteSize, FileMode, FromText, SourcePath};

/// Reads the whole definition; `None` where a key is missing or wrong, which has been reported.
pub(super) fn read(context: &Context<'_>, table: &Table) -> Option<Plan> {
    let top = Section::top(context, table);
    // Every table is read before the first missing one ends it, so that all problems are found.
    let image = image(&top.section("image"));
    let rpms = rpms(&top.section("rpms"));
    let kernel = kernel(&top.section("kernel"));
    let initrd = initrd(&top.section("initrd"));
    let os = os(&top.section("os"));
    let encryption = encryption(&top.section("encryption"));
    let disk = disk(&top.section("disk"), encryption.root.mode);
    let measured_boot = measured_boot::read(&top.section("measured-boot"));
    let uki = uki::read(&top.section("uki"));
    let secure_boot = sealing::secure_boot(&top.section("secure-boot"));
    let verity = sealing::verity(&top.section("verity"));
    let commit = sealing::commit(&top.section("commit"));
    let release = sealing::release(&top.section("release"));
    let outputs = outputs(&top.section("outputs"));
    let paths = top.entries("paths").iter().filter_map(path_rule).collect();
    let directories = top.entries("directories").iter().filter_map(directory).collect();
    let files = top.entries("files").iter().filter_map(file).collect();
    let symlinks = top.entries("symlinks").iter().filter_map(symlink).collect();
    Some(Plan {
        image: image?,
        rpms: rpms?,
        kernel: kernel?,
        initrd,
        os: os?,
        disk: disk?,
        encryption,
        measured_boot,
        uki,
        secure_boot,
        verity,
        commit,
        release,
        outputs,
        paths,
        directories,
        files,
        symlinks,
    })
}

fn image(table: &Section<'_>) -> Option<Image> {
    let id = table.require("id", "\"container-host\"");
    let version = table.require("version", "\"1.0\"");
    let name: Option<String> = table.get("name");
    let released = table.require("released", "2026-11-21");
    let arch = table.require::<Arch>("arch", "\"x86_64\"");
    let id: Identifier = id?;
    Some(Image {
        name: name.unwrap_or_else(|| id.to_string()),
        id,
        version: version?,
        released: released?,
        arch: arch?,
    })
}

fn rpms(table: &Section<'_>) -> Option<Rpms> {
    let lock = table.get("lock").map(RpmSource::Lock);
    let directory: Option<SourcePath> = table.get("directory");
    if lock.is_some() && directory.is_some() {
        let context = table.context;
        let lock = context.place_of("rpms.lock").unwrap_or_default();
        let problem = context.problem_at(
            "rpms.directory",
            "`rpms.lock` and `rpms.directory` exclude each other",
        );
        context.report(problem.help(format!("leave one of them out; the lock is named at {lock}")));
    }
    let unsigned = table.entries("unsigned");
    let unsigned = unsigned.iter().filter_map(|entry| {
        let package = entry.require("package", "\"name\"");
        let reason = entry.require("reason", "\"why it may come unsigned\"");
        Some(UnsignedException {
            package: package?,
            reason: reason?,
        })
    });
    let open = table.entries("open");
    let open = open.iter().filter_map(|entry| {
        let requires = entry.require("requires", "\"name >= 1.0\"");
        let reason = entry.require("reason", "\"why the image does without\"");
        Some(OpenException {
            requires: requires?,
            reason: reason?,
        })
    });
    let scriptlets = table.entries("scriptlets");
    let scriptlets = scriptlets.iter().filter_map(|entry| {
        let scriptlet = entry.require("scriptlet", "\"package:post\"");
        let action = entry.require("action", "\"skip\"");
        let reason = entry.require("reason", "\"why\"");
        Some(ScriptletRule {
            scriptlet: scriptlet?,
            action: action?,
            reason: reason?,
        })
    });
    Some(Rpms {
        scriptlets: scriptlets.collect(),
        unsigned: unsigned.collect(),
        open: open.collect(),
        source: lock.or(directory.map(RpmSource::Directory)),
        keys: table.set("keys"),
        require: table.set("require"),
        exclude_docs: table.or("exclude-docs", false),
        languages: table.set("languages"),
        ima: table.or("ima", ImaSignatures::Drop),
        database: table.or("database", RpmDatabase::Sysimage),
    })
}

fn kernel(table: &Section<'_>) -> Option<Kernel> {
    let package = table.require("package", "\"kernel\"");
    let require: Vec<Present> = table.list("require");
    let cmdline = table.list::<KernelArgument>("cmdline");
    let mut fragments: Vec<SourcePath> = Vec::new();
    for Present(fragment) in require {
        if !fragments.contains(&fragment) {
            fragments.push(fragment);
        }
    }
    Some(Kernel {
        package: package?,
        require: fragments,
        cmdline,
    })
}

fn directories(table: &Section<'_>, key: &'static str) -> Vec<SourcePath> {
    table
        .set::<PresentDirectory>(key)
        .into_iter()
        .map(|PresentDirectory(path)| path)
        .collect()
}

fn initrd(table: &Section<'_>) -> Initrd {
    let etc = table.section("etc");
    let mounts = |key| etc.get(key).map(|PresentDirectory(path)| path);
    Initrd {
        modules: table.set("modules"),
        modules_optional: table.set("modules-optional"),
        units: table.set("units"),
        units_optional: table.set("units-optional"),
        binaries: table.set("binaries"),
        binaries_optional: table.set("binaries-optional"),
        udev_rules: table.set("udev-rules"),
        udev_rules_optional: table.set("udev-rules-optional"),
        files: table.set("files"),
        files_optional: table.set("files-optional"),
        overlays: directories(table, "overlays"),
        compression: table.or("compression", InitrdCodec::Zstd),
        compression_level: table.or("compression-level", 7),
        max_size: table.or("max-size", ByteSize::mib(20)),
        debug: table.or("debug", false),
        etc: EtcOverlays {
            persistent: mounts("persistent"),
            transient: mounts("transient"),
        },
    }
}

fn os(table: &Section<'_>) -> Option<Os> {
    let reference = table.require("ref", "\"my-images/1.0/x86_64/container-host\"");
    let selinux = table.require("selinux", "\"none\"");
    let default_target: Option<UnitName> = match table.get("default-target") {
        Some(target) => Some(target),
        None => UnitName::from_text("multi-user.target").ok(),
    };
    let groups = table.entries("groups").iter().filter_map(group).collect();
    let users = table.entries("users").iter().filter_map(user).collect();
    Some(Os {
        ids: table.get("ids").or_else(|| lock_beside(table.context)),
        layout: table.or("layout", Layout::VerityUsr),
        etc: table.or("etc", EtcMode::Persistent),
        selinux: selinux?,
        overlays: directories(table, "overlays"),
        enable: table.set("enable"),
        disable: table.set("disable"),
        mask: table.set("mask"),
        hostname: table.get("hostname"),
        locale: table.or("locale", "C.UTF-8".into()),
        timezone: table.or("timezone", "UTC".into()),
        default_target: default_target?,
        reference: reference?,
        groups,
        users,
    })
}

/// The lock of numbers beside the definition that was asked for, where there is one.
fn lock_beside(context: &Context<'_>) -> Option<SourcePath> {
    let path = ids_beside(&context.sources.0.first()?.path);
    let shown = path.file_name()?.to_str()?.to_owned();
    let there = context.loader.found(&path) == Some(Found::File);
    there.then(|| SourcePath::new(path, shown))
}

fn group(table: &Section<'_>) -> Option<Group> {
    let name = table.require("name", "\"operators\"");
    let id = table.require("id", "990");
    Some(Group { name: name?, id: id? })
}

/// Keys that would put a secret, or a way in, into every machine made from the image.
const CREDENTIALS: &[&str] = &[
    "password",
    "hashed-password",
    "passwd",
    "authorized-keys",
    "ssh-authorized-keys",
    "ssh-keys",
];

fn user(table: &Section<'_>) -> Option<User> {
    for key in CREDENTIALS {
        if let Some(entry) = table.entry(key) {
            let message = format!(
                "`{}` is refused: an image carries no credentials",
                table.path(key)
            );
            let problem = table.context.problem(entry.key, message);
            table.context.report(problem.help(
                "accounts get keys when a machine is provisioned: cloud-init, or a systemd credential",
            ));
        }
    }
    let name: Option<Account> = table.require("name", "\"operator\"");
    let id = table.require("id", "990");
    let group = table.get("group");
    let groups = table.set("groups");
    let home = table.require("home", "\"/home/operator\"");
    let shell = table.require("shell", "\"/usr/sbin/nologin\"");
    let gecos = table.or("gecos", String::new());
    let name = name?;
    Some(User {
        group: group.unwrap_or_else(|| name.clone()),
        name,
        id: id?,
        groups,
        home: home?,
        shell: shell?,
        gecos,
    })
}

fn disk(table: &Section<'_>, root_mode: EncryptionMode) -> Option<Disk> {
    let size = table.require("size", "\"30GiB\"");
    let root = table.section("root");
    let root = RootPartition {
        format: root.or("format", RootFormat::Ext4),
        minimum: root.or("minimum", ByteSize::gib(2)),
    };
    let partitions = table.entries("partitions");
    let partitions = partitions
        .iter()
        .filter_map(|entry| partitions::read(entry, root_mode));
    Some(Disk {
        partitions: partitions.collect(),
        esp: table.or("esp", ByteSize::mib(256)),
        usr: table.get("usr"),
        usr_verity: table.get("usr-verity"),
        slots_in_image: table.or("slots-in-image", 1),
        root,
        size: size?,
    })
}

/// Keys by which someone would write a secret into the definition.
const SECRETS: &[&str] = &["passphrase", "password", "key", "secret", "luks-key"];

/// A definition is kept and shared; a secret in it would be as well.
fn refuse_secrets(table: &Section<'_>) {
    for key in SECRETS {
        if let Some(entry) = table.entry(key) {
            let message = format!(
                "`{}` is refused: a definition carries no secrets, since it is kept, shared and shown",
                table.path(key)
            );
            let problem = table.context.problem(entry.key, message);
            table.context.report(problem.help(
                "name a file that only you can read as `key-file`, or leave it out: then a key is made for each build",
            ));
        }
    }
}

fn encryption(table: &Section<'_>) -> Encryption {
    let root = table.section("root");
    refuse_secrets(&root);
    let mode = root.or("mode", EncryptionMode::FirstBoot);
    let rekey: Option<Rekey> = root.get("rekey");
    let bound = mode == EncryptionMode::FirstBoot || rekey.is_some();
    if bound && root.entry("recovery").is_none() {
        root.missing("recovery", "{ escrow = \"keys/escrow.pem\" }");
    }
    let key_file = root.get("key-file").map(|Present(path)| path);
    let kdf = match mode {
        EncryptionMode::Build => Some(root.or("kdf", KeyDerivation::Argon2id)),
        _ => root.get("kdf"),
    };
    Encryption {
        root: RootEncryption {
            mode,
            key_file,
            kdf,
            rekey,
            recovery: recovery(&root),
            reason: root.get("reason"),
        },
    }
}

/// `"none"`, or a table that names the escrow key.
fn recovery(root: &Section<'_>) -> Option<Recovery> {
    let value = &root.entry("recovery")?.value;
    if matches!(value.kind, Kind::Table(_)) {
        let table = root.section("recovery");
        let escrow = table.require("escrow", "\"keys/escrow.pem\"")?;
        return Some(Recovery::Escrow { escrow });
    }
    let text: String = root.get("recovery")?;
    if text != "none" {
        let path = root.path("recovery");
        let message = format!("`{path}`: \"{text}\" is not one of its values");
        let help = "write { escrow = \"keys/escrow.pem\" }, the public key whose holder may recover machines, or \"none\" with a `reason`";
        root.context
            .report(root.context.problem(value.span, message).help(help));
        return None;
    }
    Some(Recovery::None)
}

fn outputs(table: &Section<'_>) -> Outputs {
    let erofs = table.section("erofs");
    let formats = table.entry("formats").map(|_| table.set("formats"));
    Outputs {
        formats: formats.unwrap_or_else(|| vec![DiskFormat::Raw]),
        repo_mode: table.or("repo-mode", RepoMode::BareUser),
        erofs: Erofs {
            compression: erofs.or("compression", ErofsCodec::Lz4hc),
            level: erofs.get("level"),
            cluster: erofs.or("cluster", ByteSize(64 << 10)),
            fragments: erofs.or("fragments", false),
            dedupe: erofs.or("dedupe", false),
            chunk: erofs.get("chunk"),
        },
    }
}

fn path_rule(table: &Section<'_>) -> Option<PathRule> {
    let path = table.require("path", "\"/opt/vendor\"");
    let action: Option<PathAction> = table.require("action", "\"drop\"");
    let to = table.get("to");
    let reason = table.require("reason", "\"why\"");
    match action? {
        PathAction::Move if table.entry("to").is_none() => table.missing("to", "\"/usr/lib/vendor\""),
        PathAction::Drop if table.entry("to").is_some() => {
            let key = table.path("to");
            let problem = table
                .context
                .problem_at(&key, format!("`{key}` says where to move what is dropped"));
            table
                .context
                .report(problem.help("leave `to` out, or write action = \"move\""));
        }
        _ => {}
    }
    Some(PathRule {
        path: path?,
        action: action?,
        to,
        reason: reason?,
    })
}

/// Owner and group, root where not written.
fn owner(table: &Section<'_>, key: &'static str) -> Option<Account> {
    if table.entry(key).is_some() {
        table.get(key)
    } else {
        Account::from_text("root").ok()
    }
}

fn directory(table: &Section<'_>) -> Option<DirectoryEntry> {
    let path = table.require("path", "\"/usr/lib/vendor\"");
    let mode = table.or("mode", FileMode(0o755));
    let (user, group) = (owner(table, "user"), owner(table, "group"));
    Some(DirectoryEntry {
        path: path?,
        mode,
        user: user?,
        group: group?,
    })
}

fn file(table: &Section<'_>) -> Option<FileEntry> {
    let path = table.require("path", "\"/etc/motd\"");
    let mode = table.or("mode", FileMode(0o644));
    let (user, group) = (owner(table, "user"), owner(table, "group"));
    let text = table
        .entry("text")
        .map(|_| table.get("text").map(FileContent::Text));
    let source = table.entry("source").map(|_| {
        table
            .get("source")
            .map(|Present(source)| FileContent::Source(source))
    });
    let content =
        match (text, source) {
            (Some(content), None) | (None, Some(content)) => content,
            (Some(_), Some(_)) => {
                let problem = table
                    .context
                    .problem_at(&table.path("source"), "`text` and `source` exclude each other");
                table.context.report(problem.help(
                    "a file's content is written in the definition or read from a file: leave one out",
                ));
                None
            }
            (None, None) => {
                let problem = table
                    .context
                    .problem(table.span, format!("`{}` has no content", table.at));
                table
                    .context
                    .report(problem.help("add `text = \"…\"` or `source = \"path/of/a/file\"`"));
                None
            }
        };
    Some(FileEntry {
        path: path?,
        content: content?,
        mode,
        user: user?,
        group: group?,
    })
}

fn symlink(table: &Section<'_>) -> Option<SymlinkEntry> {
    let path = table.require("path", "\"/etc/resolv.conf\"");
    let target = table.require("target", "\"../run/systemd/resolve/stub-resolv.conf\"");
    Some(SymlinkEntry {
        path: path?,
        target: target?,
    })
}
