//! The initrd, composed from the image's own tree: nothing of the machine that composes it, and
//! nothing that the image itself does not have.

mod error;
mod gather;
mod modules;
mod pack;
mod recipe;
mod units;

pub use error::InitrdError;
pub use recipe::Recipe;

use crate::tree::closure::{ClosureOptions, elf_closure};
use crate::tree::modules::ModuleSet;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};
use gather::Gather;

/// What an initrd is composed of, beside the image's tree.
#[derive(Debug, Clone, Copy)]
pub struct InitrdSpec<'a> {
    pub recipe: &'a Recipe,
    /// Trees that are laid over it, the last on top: `systemd-units/initrd-*`. Owners and modes
    /// are made regular (root; 0755 for directories and programs, 0644 for the rest).
    pub overlays: &'a [Tree],
    /// The modules of the image's kernel.
    pub modules: &'a ModuleSet,
    /// No file is younger: seconds since the epoch.
    pub newest: i64,
    /// Threads for compression. The bytes do not depend on it.
    pub workers: u32,
}

/// A composed initrd.
#[derive(Debug, Clone)]
pub struct Initrd {
    /// A newc archive under zstd, as the `.initrd` section of a UKI holds it.
    pub bytes: Vec<u8>,
    /// The archive's length before compression.
    pub unpacked_size: u64,
    /// The modules in it, in an order in which they can be loaded.
    pub modules: Vec<String>,
    /// What it holds.
    pub tree: Tree,
}

/// Directories that systemd mounts on, or that the new root goes to.
const MOUNT_POINTS: [&str; 8] = [
    "/dev", "/proc", "/sys", "/run", "/tmp", "/sysroot", "/sysusr", "/var",
];

/// Composes an initrd from `tree`, the image as it will be, with `/etc` in `/etc` or `/usr/etc`.
///
/// # Errors
/// What the recipe names and the image does not have; damaged modules or programs.
pub fn compose(tree: &Tree, spec: &InitrdSpec) -> Result<Initrd, InitrdError> {
    let mut gather = Gather::new(tree, Tree::new(Meta::root(0o755, spec.newest)));
    add_top_level(&mut gather, spec.newest)?;
    units::add(&mut gather, spec.recipe)?;
    for overlay in spec.overlays {
        lay_over(&mut gather.into, overlay)?;
    }
    units::add_programs(&mut gather)?;
    add_files(&mut gather, spec.recipe)?;
    add_libraries(&mut gather, spec.recipe)?;
    let modules = modules::add(&mut gather, spec.recipe, spec.modules, spec.newest)?;
    add_identity(&mut gather, spec.newest)?;

    let mut tree = gather.into;
    tree.for_each_mut(|_, node| {
        node.meta.mtime = node.meta.mtime.min(spec.newest);
        // An initramfs keeps none.
        node.meta.xattrs.clear();
    });
    let (bytes, unpacked_size) = pack::pack(&tree, spec.recipe.compression_level, spec.workers)?;
    Ok(Initrd {
        bytes,
        unpacked_size,
        modules,
        tree,
    })
}

/// The links `/bin`, `/lib` … as the image has them, `/init`, and empty directories.
fn add_top_level(gather: &mut Gather, mtime: i64) -> Result<(), InitrdError> {
    let top = gather.source().root().children().into_iter().flatten();
    for (name, node) in top {
        if let Kind::Symlink(target) = &node.kind
            && target.starts_with(b"usr/")
        {
            gather.add_node(&TreePath::root().join_name(name))?;
        }
    }
    for path in MOUNT_POINTS.iter().copied().chain(["/root"]) {
        let mode = if path == "/root" { 0o700 } else { 0o755 };
        put(gather, path, mode, mtime, Kind::Dir(Default::default()))?;
    }
    put(gather, "/var/run", 0o777, mtime, link("../run"))?;
    put(gather, "/init", 0o777, mtime, link("usr/lib/systemd/systemd"))
}

/// Lays `overlay` over `tree`: directories come together, everything else is replaced.
fn lay_over(tree: &mut Tree, overlay: &Tree) -> Result<(), InitrdError> {
    for (path, node) in overlay.walk().skip(1) {
        let both_dirs = node.children().is_some() && tree.get(&path).is_some_and(|n| n.children().is_some());
        if both_dirs {
            continue;
        }
        let (kind, mode) = match &node.kind {
            Kind::Dir(_) => (Kind::Dir(Default::default()), 0o755),
            Kind::Symlink(target) => (Kind::Symlink(target.clone()), 0o777),
            other if node.meta.mode & 0o111 != 0 => (other.clone(), 0o755),
            other => (other.clone(), 0o644),
        };
        let node = Node::new(Meta::root(mode, node.meta.mtime), kind, node.origin.clone());
        tree.insert(&path, node)?;
    }
    Ok(())
}

/// The recipe's programs, rules and files.
fn add_files(gather: &mut Gather, recipe: &Recipe) -> Result<(), InitrdError> {
    const RULES: &str = "/usr/lib/udev/rules.d";
    let lists = [
        ("binaries", &recipe.binaries, true, ""),
        ("binaries", &recipe.binaries_optional, false, ""),
        ("udev-rules", &recipe.udev_rules, true, RULES),
        ("udev-rules", &recipe.udev_rules_optional, false, RULES),
        ("files", &recipe.files, true, ""),
        ("files", &recipe.files_optional, false, ""),
    ];
    for (key, names, required, dir) in lists {
        for name in names {
            let path = TreePath::new(format!("{dir}/{name}"))?;
            if gather.add(&path)?.is_none() && required {
                let name = name.clone();
                return Err(InitrdError::Missing { key, name });
            }
        }
    }
    Ok(())
}

/// What the programs that are there load.
fn add_libraries(gather: &mut Gather, recipe: &Recipe) -> Result<(), InitrdError> {
    let source = gather.source();
    // Overlays bring no programs, and files of /etc may come from /usr/etc.
    let programs = gather.into.walk().filter(|(path, node)| {
        matches!(node.kind, Kind::File(_))
            && path.as_bytes().starts_with(b"/usr/")
            && source.get(path).is_some()
    });
    let programs: Vec<TreePath> = programs.map(|(path, _)| path).collect();
    let etc = ["/usr/etc", "/etc"].map(TreePath::literal);
    let [vendor, etc] = etc;
    let options = ClosureOptions {
        etc: if source.get(&vendor).is_some() {
            vendor
        } else {
            etc
        },
        features: recipe.dlopen_features.iter().cloned().collect(),
        ..ClosureOptions::default()
    };
    for path in &elf_closure(source, &programs, &options)? {
        gather.add_node(path)?;
    }
    Ok(())
}

/// What says who is who, and that this is an initrd.
fn add_identity(gather: &mut Gather, mtime: i64) -> Result<(), InitrdError> {
    const RELEASE: &str = "/usr/lib/os-release";
    let source = gather.source();
    let release = source
        .file(&TreePath::literal(RELEASE))
        .ok_or(InitrdError::MissingBase(RELEASE))?;
    put(
        gather,
        "/etc/initrd-release",
        0o644,
        mtime,
        Kind::File(release.clone()),
    )?;
    put(gather, "/etc/os-release", 0o777, mtime, link("initrd-release"))?;
    let users = account_lines(source, "/passwd")?;
    let groups = account_lines(source, "/group")?;
    put(
        gather,
        "/etc/passwd",
        0o644,
        mtime,
        Kind::file(users.into_bytes()),
    )?;
    put(
        gather,
        "/etc/group",
        0o644,
        mtime,
        Kind::file(groups.into_bytes()),
    )
}

/// The lines of an account file of the image that are the system's own: udev and tmpfiles know
/// them by name.
fn account_lines(tree: &Tree, file: &str) -> Result<String, InitrdError> {
    let mut lines = String::new();
    for dir in ["/etc", "/usr/etc"] {
        let path = TreePath::new(format!("{dir}{file}"))?;
        let Some(data) = tree.file(&path) else {
            continue;
        };
        let bytes = data.blob.read_all().map_err(|source| InitrdError::Read {
            path: path.clone(),
            source,
        })?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let id = line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok());
            if id.is_some_and(|id| id < 1000 || (65533..65536).contains(&id)) {
                lines.push_str(line);
                lines.push('\n');
            }
        }
        break;
    }
    Ok(lines)
}

fn link(target: &str) -> Kind {
    Kind::Symlink(target.as_bytes().into())
}

fn put(
    gather: &mut Gather,
    path: &'static str,
    mode: u16,
    mtime: i64,
    kind: Kind,
) -> Result<(), InitrdError> {
    let path = TreePath::literal(path);
    if matches!(kind, Kind::Dir(_)) && gather.into.get(&path).is_some() {
        return Ok(());
    }
    let node = Node::new(
        Meta::root(mode, mtime),
        kind,
        Origin::Composer("part of every initrd"),
    );
    gather.into.insert(&path, node)?;
    Ok(())
}
