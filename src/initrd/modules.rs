//! The kernel modules of an initrd, with what they need and the firmware that they name.

use super::error::InitrdError;
use super::gather::Gather;
use super::recipe::Recipe;
use crate::formats::kmod;
use crate::tree::modules::ModuleSet;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Node, Origin, depmod};

const FIRMWARE: &str = "/usr/lib/firmware";
/// What depmod reads beside the modules.
const LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// Takes over the recipe's modules, decompressed (compressed ones would not shrink a second time
/// with the initrd around them), and indexes them anew. Gives their names in the order of loading.
pub fn add(
    gather: &mut Gather,
    recipe: &Recipe,
    set: &ModuleSet,
    mtime: i64,
) -> Result<Vec<String>, InitrdError> {
    let mut names: Vec<&str> = recipe.modules.iter().map(String::as_str).collect();
    let optional = recipe.modules_optional.iter().map(String::as_str);
    names.extend(optional.filter(|name| set.closure(&[name]).is_ok()));
    let closure = set.closure(&names)?;
    for module in &closure.modules {
        let Some(node) = gather.source().get(&module.path) else {
            continue;
        };
        let Kind::File(file) = &node.kind else {
            continue;
        };
        let plain = kmod::decompress(file.blob.reader()).map_err(|source| InitrdError::Module {
            path: module.path.clone(),
            source,
        })?;
        let path = TreePath::new(plain_name(module.path.as_bytes()))?;
        let node = Node::new(
            node.meta.clone(),
            Kind::file(plain),
            Origin::Composer("a module of the initrd"),
        );
        gather.into.insert(&path, node)?;
    }
    for list in LISTS {
        gather.add(&set.dir.join(list)?)?;
    }
    for pattern in &closure.firmware {
        add_firmware(gather, pattern)?;
    }
    depmod::run(&mut gather.into, &set.kver, mtime, None)?;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    Ok(closure.modules.iter().map(|module| text(&module.name)).collect())
}

/// The path of a module as it is called when it is not compressed.
fn plain_name(path: &[u8]) -> &[u8] {
    [&b".xz"[..], b".zst", b".gz"]
        .iter()
        .find_map(|ending| path.strip_suffix(*ending))
        .unwrap_or(path)
}

/// Takes over the firmware files that fit `pattern`, compressed as they are: the kernel unpacks
/// them. Modules name more firmware than any image has, so that none may be missing.
fn add_firmware(gather: &mut Gather, pattern: &str) -> Result<(), InitrdError> {
    let dir = TreePath::new(FIRMWARE)?;
    let source = gather.source();
    if pattern.contains(['*', '?', '[']) {
        let found: Vec<TreePath> = source
            .walk_from(&dir)
            .filter(|(path, node)| {
                let below = path.as_bytes().get(FIRMWARE.len() + 1..).unwrap_or_default();
                node.children().is_none() && kmod::alias_matches(pattern.as_bytes(), plain_name(below))
            })
            .map(|(path, _)| path)
            .collect();
        for path in found {
            gather.add(&path)?;
        }
    } else {
        for ending in ["", ".xz", ".zst"] {
            gather.add(&dir.join(format!("{pattern}{ending}"))?)?;
        }
    }
    Ok(())
}
