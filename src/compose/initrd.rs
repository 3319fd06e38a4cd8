//! The initrd that the definition describes.

use super::ComposeError;
use super::built_root;
use super::kernel::Kernel;
use crate::definition::plan::{InitrdCodec, Plan};
use crate::initrd::{self, Initrd, InitrdSpec, Recipe};
use crate::tree::path::TreePath;
use crate::tree::{Meta, Tree, overlay};

/// Composes the initrd from the image's own tree.
pub fn make(plan: &Plan, tree: &Tree, kernel: &Kernel) -> Result<Initrd, ComposeError> {
    let newest = plan.image.released.epoch();
    let mut overlays = Vec::new();
    for directory in plan.initrd_overlays() {
        let mut overlay = Tree::new(Meta::root(0o755, newest));
        overlay::lay_directory(&mut overlay, directory.as_path(), newest)?;
        overlays.push(overlay);
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
    let made = initrd::compose(tree, &spec)?;
    built_root::check_initrd(plan, &made.tree)?;
    let found = made.bytes.len() as u64;
    if found > plan.initrd.max_size.0 {
        let allowed = plan.initrd.max_size.0;
        return Err(ComposeError::LargeInitrd { found, allowed });
    }
    Ok(made)
}

fn recipe(plan: &Plan) -> Recipe {
    let initrd = &plan.initrd;
    let units = |units: &[crate::definition::names::UnitName]| {
        units
            .iter()
            .map(|unit| unit.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let paths = |paths: &[TreePath]| paths.iter().map(TreePath::to_string).collect::<Vec<_>>();
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
        binaries_optional: paths(&initrd.binaries_optional),
        dlopen_features: built_root::features(plan),
        udev_rules: initrd.udev_rules.clone(),
        udev_rules_optional: initrd.udev_rules_optional.clone(),
        files: paths(&initrd.files),
        files_optional: paths(&initrd.files_optional),
    }
}
