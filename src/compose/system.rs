//! The system's tree: packages, what the definition lays over them, accounts, units, layout.

use std::fs;
use std::sync::Arc;

use super::scriptlets::Scriptlets;
use super::{ComposeError, slot_size};
use crate::definition::plan::{self, ImaSignatures, PathAction, Plan, RpmDatabase};
use crate::disk::repart::{self, RootEntry, RootFormat};
use crate::disk::{self, Role};
use crate::formats::rpm::tag;
use crate::rpmset::{Contents, Filter, Package, RpmSet, States, rpmdb};
use crate::scriptlet::Done;
use crate::store::Store;
use crate::tree::identity::sysusers;
use crate::tree::layout::{self, Rule};
use crate::tree::merge::{self, Ima, Merged};
use crate::tree::path::TreePath;
use crate::tree::units::{self, Wishes};
use crate::tree::{Kind, Meta, Node, Origin, Tree, caches, identity, ldconfig, overlay, seal, selinux};

/// `_transaction_color` of RPM on both architectures.
const COLOR: u32 = 3;

/// Whether `package` is called `wanted` or provides it, in whatever version.
pub fn provides(package: &Package, wanted: &str) -> bool {
    let header = &package.preamble.header;
    package.nevra.name == wanted
        || header
            .strings(tag::PROVIDENAME)
            .is_ok_and(|names| names.contains(&wanted.as_bytes()))
}

/// Who put a node into the tree, for messages.
fn origin_name(set: &RpmSet) -> impl Fn(&Origin) -> String + '_ {
    |origin| match origin {
        Origin::Packages(owners) => {
            let owner = owners
                .first()
                .and_then(|&index| set.packages().get(index as usize));
            owner.map_or_else(String::new, |package| package.nevra.to_string())
        }
        Origin::Definition(what) => what.to_string(),
        Origin::Composer(what) => (*what).to_owned(),
    }
}

/// A tree, and what was done on the way to it.
pub struct Made {
    pub tree: Tree,
    /// Which files of the packages were installed.
    pub states: States,
    pub scriptlets: Done,
    /// Caches made in place of scriptlets.
    pub caches: Vec<caches::Report>,
}

/// Packages and definition, brought into the layout of ostree, with accounts and units.
/// Numbers of users and groups are those of the lock, if there is one.
pub fn make(
    plan: &Plan,
    set: &RpmSet,
    contents: &Contents,
    scriptlets: &Scriptlets<'_>,
    store: &Store,
) -> Result<Made, ComposeError> {
    let time = plan.image.released.epoch();
    let name = origin_name(set);
    let mut made = before_accounts(plan, set, contents, scriptlets)?;
    let tree = &mut made.tree;
    identity::apply(tree, time, scriptlets.ids)?;
    let names = |units: &[crate::definition::names::UnitName]| {
        units
            .iter()
            .map(|unit| unit.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let wishes = Wishes {
        enable: names(&plan.os.enable),
        disable: names(&plan.os.disable),
        mask: names(&plan.os.mask),
        default_target: plan.os.default_target.as_str().to_owned(),
    };
    units::apply(tree, &wishes, time)?;
    made.caches = caches::run_all(tree, time, &scriptlets.asked(), Some(store))?;
    scriptlets.check_replaced(&made.caches)?;
    layout::to_ostree(tree, time, &name)?;
    Ok(made)
}

/// Everything that says which accounts there are: packages, what their scriptlets do, and definition, owners still by name.
pub fn before_accounts(
    plan: &Plan,
    set: &RpmSet,
    contents: &Contents,
    scriptlets: &Scriptlets<'_>,
) -> Result<Made, ComposeError> {
    let time = plan.image.released.epoch();
    let name = origin_name(set);
    let options = merge::Options {
        filter: filter(plan),
        ima: match plan.rpms.ima {
            ImaSignatures::Drop => Ima::Drop,
            ImaSignatures::Keep => Ima::Keep,
        },
    };
    let Merged { mut tree, states } = merge::merge(set, contents, &options)?;
    let done = scriptlets.apply(plan, &mut tree)?;
    let rules: Vec<_> = plan.paths.iter().map(rule).collect();
    if let Some(path) = layout::apply_rules(&mut tree, &rules, &name)?.into_iter().next() {
        return Err(ComposeError::IdleRule { path });
    }
    lay_over(plan, &mut tree, time)?;
    rpm_database(plan, set, &states, &mut tree, time)?;
    identity::provided::put(&mut tree, set, time).map_err(identity::IdentityError::from)?;
    Ok(Made {
        tree,
        states,
        scriptlets: done,
        caches: Vec::new(),
    })
}

/// Which files of packages are installed.
fn filter(plan: &Plan) -> Filter<'_> {
    Filter {
        exclude_docs: plan.rpms.exclude_docs,
        languages: &plan.rpms.languages,
        color: COLOR,
    }
}

/// The database by which the image's own RPM, and scanners, know what is installed.
fn rpm_database(
    plan: &Plan,
    set: &RpmSet,
    states: &States,
    tree: &mut Tree,
    time: i64,
) -> Result<(), ComposeError> {
    if plan.rpms.database == RpmDatabase::None {
        return Ok(());
    }
    let options = rpmdb::Options {
        // RPM has 32 bits for it; definitions are read with years of four digits.
        time: u32::try_from(time).unwrap_or(u32::MAX),
        color: COLOR,
        states,
    };
    let bytes = rpmdb::write(set, &options)?;
    let place = format!("{}/{}", plan.rpms.database.as_str(), rpmdb::FILE_NAME);
    let path = TreePath::new(place).map_err(|_| ComposeError::NoUsr)?;
    let meta = Meta::root(0o644, time);
    overlay::put(tree, &path, meta, Kind::file(bytes), &Arc::from("rpms.database"))?;
    Ok(())
}

fn rule(rule: &plan::PathRule) -> (TreePath, Rule) {
    let action = match (rule.action, &rule.to) {
        (PathAction::Move, Some(to)) => Rule::Move(to.clone()),
        _ => Rule::Drop,
    };
    (rule.path.clone(), action)
}

/// What the definition lays over the packages.
fn lay_over(plan: &Plan, tree: &mut Tree, time: i64) -> Result<(), ComposeError> {
    for directory in &plan.os.overlays {
        overlay::lay_directory(tree, directory.as_path(), time)?;
    }
    let mut put = |path: &TreePath, kind: Kind, mode: u16, what: &str| {
        overlay::put(tree, path, Meta::root(mode, time), kind, &Arc::from(what))
    };
    let text = |text: String| Kind::file(text.into_bytes());
    put(
        &TreePath::literal("/etc/locale.conf"),
        text(format!("LANG={}\n", plan.os.locale)),
        0o644,
        "os.locale",
    )?;
    let zone = format!("../usr/share/zoneinfo/{}", plan.os.timezone);
    let zone = Kind::Symlink(zone.into_bytes().into());
    put(&TreePath::literal("/etc/localtime"), zone, 0o777, "os.timezone")?;
    if let Some(hostname) = &plan.os.hostname {
        put(
            &TreePath::literal("/etc/hostname"),
            text(format!("{hostname}\n")),
            0o644,
            "os.hostname",
        )?;
    }
    if let Some(lines) = accounts(plan) {
        put(
            &TreePath::literal(super::scriptlets::ACCOUNTS),
            text(lines),
            0o644,
            "os.users, os.groups",
        )?;
    }
    let owned = |mode: u16, user: &str, group: &str| {
        let name = |name: &str| (name != "root").then(|| Arc::from(name));
        Meta {
            user: name(user),
            group: name(group),
            ..Meta::root(mode, time)
        }
    };
    for (index, entry) in plan.directories.iter().enumerate() {
        let meta = owned(entry.mode.0, entry.user.as_str(), entry.group.as_str());
        overlay::put_directory(tree, &entry.path, meta, &format!("directories[{index}]").into())?;
    }
    for (index, entry) in plan.files.iter().enumerate() {
        let bytes = match &entry.content {
            plan::FileContent::Text(text) => text.clone().into_bytes(),
            plan::FileContent::Source(path) => {
                fs::read(path.as_path()).map_err(|source| ComposeError::Source {
                    path: path.as_path().to_owned(),
                    source,
                })?
            }
        };
        let meta = owned(entry.mode.0, entry.user.as_str(), entry.group.as_str());
        overlay::put(
            tree,
            &entry.path,
            meta,
            Kind::file(bytes),
            &format!("files[{index}]").into(),
        )?;
    }
    for (index, entry) in plan.symlinks.iter().enumerate() {
        let kind = Kind::Symlink(entry.target.as_bytes().into());
        let what = format!("symlinks[{index}]").into();
        overlay::put(tree, &entry.path, Meta::root(0o777, time), kind, &what)?;
    }
    release(plan, tree, time)
}

/// The definition's accounts as sysusers.d lines.
pub fn accounts(plan: &Plan) -> Option<String> {
    let mut lines = String::new();
    for group in &plan.os.groups {
        lines.push_str(&format!("g {} {}\n", group.name.as_str(), group.id));
    }
    for user in &plan.os.users {
        let (name, group) = (user.name.as_str(), user.group.as_str());
        let id = if name == group {
            user.id.to_string()
        } else {
            format!("{}:{group}", user.id)
        };
        let gecos = sysusers::quoted(&user.gecos);
        let [home, shell] = [&user.home, &user.shell].map(|path| sysusers::quoted_place(&path.to_string()));
        lines.push_str(&format!("u {name} {id} {gecos} {home} {shell}\n"));
        for group in &user.groups {
            lines.push_str(&format!("m {name} {}\n", group.as_str()));
        }
    }
    (!lines.is_empty()).then_some(lines)
}

/// `IMAGE_ID` and `IMAGE_VERSION` in os-release(5), by which machines tell versions apart.
fn release(plan: &Plan, tree: &mut Tree, time: i64) -> Result<(), ComposeError> {
    let path = TreePath::literal("/usr/lib/os-release");
    let file = tree.file(&path).ok_or(ComposeError::MissingFile {
        path: path.to_string(),
        purpose: "which says what system this is",
        package: "the distribution's release package",
    })?;
    let stored = |source| ComposeError::Stored {
        path: path.clone(),
        source,
    };
    let text = String::from_utf8_lossy(&file.blob.read_all().map_err(stored)?).into_owned();
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("IMAGE_ID=") && !line.starts_with("IMAGE_VERSION="));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    let (id, version) = (plan.image.id.as_str(), plan.image.version.as_str());
    text.push_str(&format!("IMAGE_ID={id}\nIMAGE_VERSION={version}\n"));
    let real = tree.resolve(&path).unwrap_or(path);
    if let Some(node) = tree.get_mut(&real) {
        node.kind = Kind::file(text.into_bytes());
        node.meta.mtime = time;
    }
    Ok(())
}

/// What depends on the whole tree: the linker's cache, the partitions that first boot makes, labels,
/// times.
pub fn finish(plan: &Plan, tree: &mut Tree, newest: i64) -> Result<selinux::Report, ComposeError> {
    let time = plan.image.released.epoch();
    ldconfig::run(tree, &TreePath::literal("/usr/etc"), time)?;
    // A last estimate would lack these few kilobytes; slots are counted in MiB.
    let slot = slot_size(plan, tree);
    let spec = super::outputs::disk_spec(plan, slot);
    let mut partitions = Vec::new();
    for partition in disk::repart_partitions(&spec, slot, super::outputs::algorithm(plan)) {
        partitions.push(repart::Partition {
            kind: match partition.type_uuid {
                Some(kind) => kind.to_string(),
                None => partition.role.name().to_owned(),
            },
            label: partition.label,
            size: (partition.role != Role::Root).then_some(partition.min_size),
            other: (partition.role == Role::Other).then_some(repart::Other {
                maximum: partition.max_size,
            }),
        });
    }
    let root = RootFormat {
        file_system: plan.disk.root.format.as_str().to_owned(),
        encryption: super::root::keyslots(plan),
        entries: root_entries(tree),
    };
    for (name, text) in repart::definitions(&partitions, &root)? {
        let path = TreePath::literal("/usr/lib/repart.d").join_name(name.as_bytes());
        let origin = Origin::Composer("partitions that first boot makes");
        let node = Node::new(Meta::root(0o644, time), Kind::file(text.into_bytes()), origin);
        tree.insert(&path, node)?;
    }
    super::partitions::lay(plan, tree)?;
    let labels = match plan.os.selinux.as_str() {
        "none" => selinux::Report::default(),
        policy => selinux::label(tree, policy)?,
    };
    seal::clamp_times(tree, newest.max(time), time);
    if let Some(usr) = tree.get_mut(&TreePath::literal("/usr")) {
        usr.meta.mtime = time;
    }
    Ok(labels)
}

/// What the root file system is born with: the commit's top level, and what only a booted system has.
pub fn root_entries(tree: &Tree) -> Vec<RootEntry> {
    let mut entries = Vec::new();
    for (name, node) in tree.root().children().into_iter().flatten() {
        let path = TreePath::root().join_name(name);
        match &node.kind {
            Kind::Symlink(target) => {
                let target = String::from_utf8_lossy(target).into_owned();
                entries.push(RootEntry::Symlink(path, target));
            }
            _ => entries.push(RootEntry::Directory(path)),
        }
    }
    // Mount points: of the ESP, and of the overlay whose upper layer lies in the very directory.
    for path in ["/efi", "/etc"] {
        entries.push(RootEntry::Directory(TreePath::literal(path)));
    }
    entries
}
