//! The initrd that the definition describes.

use super::ComposeError;
use super::built_root;
use super::kernel::Kernel;
use super::partitions;
use super::pool::Pool;
use super::root;
use super::tpm;
use crate::definition::plan::{InitrdCodec, Plan};
use crate::initrd::{self, Gathered, Initrd, InitrdError, InitrdSpec, Recipe};
use crate::store::{Digest, Store};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Tree, overlay, seal};

/// Changes with every change of how an initrd is packed.
const VERSION: &[u8] = b"hullwright initrd 2\0";

/// Composes the initrd from the image's own tree. A member that holds the same as an earlier one is taken from the store.
pub fn make(
    plan: &Plan,
    tree: &Tree,
    kernel: &Kernel,
    store: &Store,
    pool: &Pool,
) -> Result<Initrd, ComposeError> {
    let newest = plan.image.released.epoch();
    let mut overlays = Vec::new();
    for directory in plan.initrd_overlays() {
        let mut overlay = Tree::new(Meta::root(0o755, newest));
        overlay::lay_directory(&mut overlay, directory.as_path(), newest)?;
        overlays.push(overlay);
    }
    overlays.extend(root::overlay(plan)?);
    if plan.initrd.debug {
        overlays.push(shell(newest)?);
    }
    let recipe = recipe(plan);
    let workers = u32::try_from(rayon::current_num_threads()).unwrap_or(1);
    let spec = InitrdSpec {
        recipe: &recipe,
        overlays: &overlays,
        modules: &kernel.modules,
        newest,
        workers,
    };
    let Gathered { tree, modules } = initrd::gather(tree, &spec)?;
    let (mut bytes, mut unpacked_size) = (Vec::new(), 0);
    for member in initrd::members(&tree).map_err(InitrdError::from)? {
        let (packed, size) = packed(&member, &spec, store, pool)?;
        bytes.extend(packed);
        unpacked_size += size;
    }
    let made = Initrd {
        bytes,
        unpacked_size,
        modules,
        tree,
    };
    built_root::check_initrd(plan, &made.tree)?;
    root::check_initrd(plan, &made.tree)?;
    partitions::check_initrd(plan, &made.tree)?;
    let found = made.bytes.len() as u64;
    if found > plan.initrd.max_size.0 {
        let allowed = plan.initrd.max_size.0;
        return Err(ComposeError::LargeInitrd { found, allowed });
    }
    Ok(made)
}

/// The archive of `tree`, a member of an initrd, and its length before compression.
fn packed(
    tree: &Tree,
    spec: &InitrdSpec<'_>,
    store: &Store,
    pool: &Pool,
) -> Result<(Vec<u8>, u64), ComposeError> {
    let level = spec.recipe.compression_level.to_le_bytes();
    let content = seal::digest(tree, &TreePath::root());
    let key = Digest::of(&[VERSION, &level, &content.0].concat());
    pool.offer_initrd(key);
    if let Some(kept) = store.record(key)?.or_else(|| pool.initrd(key, store))
        && let Some((size, bytes)) = kept.split_first_chunk()
    {
        return Ok((bytes.to_vec(), u64::from_le_bytes(*size)));
    }
    let (bytes, size) = initrd::pack(tree, spec)?;
    let kept = [&size.to_le_bytes()[..], &bytes].concat();
    // That it is not kept costs the next build time, nothing else.
    let _ = store.keep_record(key, &kept);
    Ok((bytes, size))
}

/// Drop-ins by which an initrd that cannot go on gives a shell: `initrd.debug`.
fn shell(time: i64) -> Result<Tree, ComposeError> {
    let mut tree = Tree::new(Meta::root(0o755, time));
    for unit in ["emergency", "rescue"] {
        let path = TreePath::new(format!("/etc/systemd/system/{unit}.service.d/50-debug.conf"))
            .map_err(InitrdError::from)?;
        let kind = Kind::file(SHELL.as_bytes().to_vec());
        overlay::put(
            &mut tree,
            &path,
            Meta::root(0o644, time),
            kind,
            &"initrd.debug".into(),
        )?;
    }
    Ok(tree)
}

/// In place of the power-off.
const SHELL: &str = "[Service]
StandardInput=tty-force
ExecStart=
ExecStart=-/usr/bin/echo -e \"\\n\\nThe initrd cannot go on: `journalctl -b` says why. Switched off when this shell ends.\\n\"
ExecStart=-/usr/bin/sh
ExecStart=/usr/bin/systemctl --force --no-block poweroff
";

fn recipe(plan: &Plan) -> Recipe {
    let initrd = &plan.initrd;
    let units = |units: &[crate::definition::names::UnitName]| {
        units
            .iter()
            .map(|unit| unit.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let paths = |paths: &[TreePath]| paths.iter().map(TreePath::to_string).collect::<Vec<_>>();
    let mut binaries_optional = paths(&initrd.binaries_optional);
    binaries_optional.extend(tpm::libraries(plan));
    Recipe {
        compression_level: match initrd.compression {
            InitrdCodec::Zstd => i32::from(initrd.compression_level),
            InitrdCodec::None => 0,
        },
        modules: initrd.modules.clone(),
        modules_optional: initrd.modules_optional.clone(),
        units: units(&initrd.units),
        units_optional: units(&initrd.units_optional),
        binaries: paths(&initrd.binaries),
        binaries_optional,
        dlopen_features: [
            tpm::features(plan),
            root::features(plan),
            built_root::features(plan),
        ]
        .concat(),
        udev_rules: initrd.udev_rules.clone(),
        udev_rules_optional: initrd.udev_rules_optional.clone(),
        files: paths(&initrd.files),
        files_optional: paths(&initrd.files_optional),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_shell_takes_the_place_of_the_power_off() {
        let tree = shell(0).unwrap();
        for unit in ["emergency", "rescue"] {
            let path = TreePath::new(format!("/etc/systemd/system/{unit}.service.d/50-debug.conf"));
            let text = tree.file(&path.unwrap()).unwrap().blob.read_all().unwrap();
            let text = String::from_utf8(text).unwrap();
            let commands: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("ExecStart="))
                .collect();
            // The empty one takes back what the unit itself starts.
            assert_eq!(commands[0], "");
            assert_eq!(commands[2], "-/usr/bin/sh");
        }
    }
}
