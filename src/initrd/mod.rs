//! The initrd, composed from the image's own tree: nothing of the machine that composes it, and
//! nothing that the image itself does not have.

mod error;
mod gather;
mod modules;
mod pack;
mod recipe;
mod units;

pub use error::InitrdError;
pub use pack::members;
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
    /// Newc archives, each under zstd, as the `.initrd` section of a UKI holds them.
    pub bytes: Vec<u8>,
    /// The archives' length before compression.
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

/// What an initrd will hold.
#[derive(Debug, Clone)]
pub struct Gathered {
    pub tree: Tree,
    /// The modules in it, in an order in which they can be loaded.
    pub modules: Vec<String>,
}

/// Composes an initrd from `tree`, the image as it will be, with `/etc` in `/etc` or `/usr/etc`.
///
/// # Errors
/// What the recipe names and the image does not have; damaged modules or programs.
pub fn compose(tree: &Tree, spec: &InitrdSpec) -> Result<Initrd, InitrdError> {
    let Gathered { tree, modules } = gather(tree, spec)?;
    let (mut bytes, mut unpacked_size) = (Vec::new(), 0);
    for member in members(&tree)? {
        let (packed, size) = pack(&member, spec)?;
        bytes.extend(packed);
        unpacked_size += size;
    }
    Ok(Initrd {
        bytes,
        unpacked_size,
        modules,
        tree,
    })
}

/// Packs and compresses `tree`, one of the [`members`]; gives also its length before compression.
///
/// # Errors
/// Contents that cannot be read.
pub fn pack(tree: &Tree, spec: &InitrdSpec) -> Result<(Vec<u8>, u64), InitrdError> {
    pack::pack(tree, spec.recipe.compression_level, spec.workers)
}

/// The first part of [`compose`]: what the initrd holds.
///
/// # Errors
/// As [`compose`].
pub fn gather(tree: &Tree, spec: &InitrdSpec) -> Result<Gathered, InitrdError> {
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
    Ok(Gathered { tree, modules })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::depmod;
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    const NEWEST: i64 = 1000;

    fn image() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let mut put = |at: &str, mode, kind| {
            let mut meta = Meta::root(mode, NEWEST + 1);
            meta.xattrs.insert((*b"user.x").into(), (*b"1").into());
            let node = Node::new(meta, kind, Origin::Composer("test"));
            tree.insert(&TreePath::new(at).unwrap(), node).unwrap();
        };
        put("/bin", 0o777, link("usr/bin"));
        put("/home", 0o777, link("var/home"));
        put("/usr/bin/tool", 0o755, Kind::file(*b"not a script"));
        put("/usr/bin/unused", 0o755, Kind::file(*b"no"));
        put("/usr/etc/tool.conf", 0o600, Kind::file(*b"conf"));
        put("/usr/lib/os-release", 0o644, Kind::file(*b"ID=x\n"));
        put(
            "/usr/lib/systemd/system/a.service",
            0o644,
            Kind::file(*b"[Service]\nExecStart=tool\n"),
        );
        put("/usr/lib/udev/rules.d/1.rules", 0o644, Kind::file(*b"#"));
        let accounts = *b"root:x:0:\nuser:x:1000:\nnobody:x:65534:\nbroken\n";
        put("/usr/etc/passwd", 0o644, Kind::file(accounts));
        put("/usr/etc/group", 0o644, Kind::file(accounts));
        let modules = "/usr/lib/modules/1.0";
        put(&format!("{modules}/modules.order"), 0o644, Kind::file(*b""));
        put(
            &format!("{modules}/modules.builtin"),
            0o644,
            Kind::file(*b"kernel/fs/ext4/ext4.ko\n"),
        );
        put(
            &format!("{modules}/modules.builtin.modinfo"),
            0o644,
            Kind::file(*b""),
        );
        tree
    }

    fn overlay() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let mut meta = Meta::root(0o660, NEWEST + 5);
        (meta.uid, meta.gid) = (1000, 1000);
        let text = Kind::file(*b"[Service]\nExecStart=-/usr/bin/absent\n");
        let node = Node::new(meta, text, Origin::Composer("test"));
        let path = TreePath::literal("/etc/systemd/system/b.service");
        tree.insert(&path, node).unwrap();
        tree
    }

    fn recipe() -> Recipe {
        Recipe {
            modules: vec!["ext4".into()],
            modules_optional: vec!["absent".into()],
            units: vec!["a.service".into()],
            udev_rules: vec!["1.rules".into()],
            files: vec!["/etc/tool.conf".into()],
            files_optional: vec!["/etc/absent".into()],
            ..Recipe::default()
        }
    }

    fn composed(recipe: &Recipe, workers: u32) -> Result<Initrd, InitrdError> {
        let image = image();
        let modules = depmod::load(&image, "1.0").unwrap();
        let spec = InitrdSpec {
            recipe,
            overlays: &[overlay()],
            modules: &modules,
            newest: NEWEST,
            workers,
        };
        compose(&image, &spec)
    }

    #[test]
    fn an_initrd_holds_what_was_chosen_and_nothing_else() {
        let initrd = composed(&recipe(), 1).unwrap();
        let files: Vec<String> = initrd
            .tree
            .walk()
            .filter(|(path, node)| {
                node.children().is_none() && !path.as_bytes().starts_with(b"/usr/lib/modules")
            })
            .map(|(path, node)| format!("{path} {:o} {}", node.meta.mode, node.meta.uid))
            .collect();
        assert_eq!(
            files,
            [
                "/bin 777 0",
                "/etc/group 644 0",
                "/etc/initrd-release 644 0",
                "/etc/os-release 777 0",
                "/etc/passwd 644 0",
                "/etc/systemd/system/b.service 644 0",
                "/etc/tool.conf 600 0",
                "/init 777 0",
                "/usr/bin/tool 755 0",
                "/usr/lib/systemd/system/a.service 644 0",
                "/usr/lib/udev/rules.d/1.rules 644 0",
                "/var/run 777 0",
            ]
        );
        let passwd = initrd.tree.file(&TreePath::literal("/etc/passwd")).unwrap();
        assert_eq!(passwd.blob.read_all().unwrap(), b"root:x:0:\nnobody:x:65534:\n");
        for (path, node) in initrd.tree.walk() {
            assert!(node.meta.mtime <= NEWEST && node.meta.xattrs.is_empty(), "{path}");
        }
        let index = TreePath::literal("/usr/lib/modules/1.0/modules.dep.bin");
        assert!(initrd.tree.file(&index).is_some());
    }

    #[test]
    fn cpio_lists_what_the_tree_holds() {
        let initrd = composed(&recipe(), 2).unwrap();
        assert_eq!(initrd.bytes, composed(&recipe(), 1).unwrap().bytes);
        let archive = zstd::decode_all(&initrd.bytes[..]).unwrap();
        assert_eq!(archive.len() as u64, initrd.unpacked_size);
        let cpio = Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = cpio else {
            crate::testing::skip("cpio is missing");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        // It ends with the first archive.
        let members = members(&initrd.tree).unwrap();
        let expected: Vec<String> = members[0]
            .walk()
            .skip(1)
            .map(|(path, _)| path.to_string().split_off(1))
            .collect();
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
        let paths = |tree: &Tree| tree.walk().map(|(path, _)| path).collect::<BTreeSet<_>>();
        let all = members.iter().flat_map(paths).collect::<BTreeSet<_>>();
        assert_eq!(all, paths(&initrd.tree));
    }

    #[test]
    fn what_the_image_lacks_is_named_with_its_list() {
        let cases = [
            (
                Recipe {
                    binaries: vec!["/usr/bin/gone".into()],
                    ..recipe()
                },
                "`/usr/bin/gone`, which `binaries` of [initrd] names, is not in the image",
            ),
            (
                Recipe {
                    udev_rules: vec!["9.rules".into()],
                    ..recipe()
                },
                "`9.rules`, which `udev-rules` of [initrd] names, is not in the image",
            ),
            (
                Recipe {
                    modules: vec!["zfs".into()],
                    ..recipe()
                },
                "kernel 1.0 has no module `zfs`, neither as a file nor built in",
            ),
            (
                Recipe {
                    files: vec!["/../etc/shadow".into()],
                    ..recipe()
                },
                "[initrd]: `//../etc/shadow` has a `..` component: it could leave the image's root",
            ),
        ];
        for (recipe, expected) in cases {
            assert_eq!(composed(&recipe, 1).unwrap_err().to_string(), expected);
        }
    }
}
