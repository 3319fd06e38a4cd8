//! Add-ons of the kernel image: made, and laid where the definition wants them.

use std::fs;

use super::ComposeError;
use super::composed::Composed;
use super::signing::Keys;
use super::workspace::{Workspace, output};
use crate::definition::names::KernelArgument;
use crate::definition::plan::{AddonPlace, Plan};
use crate::definition::uki::UkiAddon;
use crate::formats::uki_addon;
use crate::report::ManifestSignature;

/// An add-on as it lies in the output directory.
pub struct Addon {
    /// Of its file there.
    pub file: String,
    /// On the ESP, where it lies there too.
    pub esp_path: Option<String>,
    pub bytes: Vec<u8>,
}

/// Where add-on `name` lies on the ESP. The stub leaves the boot counter out when it looks for the directory.
fn esp_path(plan: &Plan, name: &str, place: AddonPlace) -> Option<String> {
    match place {
        AddonPlace::Beside => None,
        AddonPlace::Uki => Some(format!(
            "EFI/Linux/{}.efi.extra.d/{name}.addon.efi",
            plan.image.stem()
        )),
        AddonPlace::Loader => Some(format!("loader/addons/{name}.addon.efi")),
    }
}

/// Writes the add-ons of the definition, signed where there are keys, in its order.
pub fn write(
    plan: &Plan,
    made: &Composed,
    keys: &Keys,
    workspace: &Workspace,
) -> Result<(Vec<Addon>, Vec<ManifestSignature>), ComposeError> {
    let write = |addon: &UkiAddon| {
        let arguments: Vec<_> = addon.cmdline.iter().map(KernelArgument::as_str).collect();
        let cmdline = arguments.join(" ");
        let made = uki_addon::Addon {
            stub: &made.boot.addon_stub,
            cmdline: &cmdline,
            uname: addon.bound.then_some(made.facts.kernel_release.as_str()),
        };
        let file = format!("{}.{}.addon.efi", plan.image.stem(), addon.name);
        let out = workspace.create(&file)?;
        made.write(&out)?;
        let (_, signature) = keys.sign_addon(addon, &file, &out, workspace.size(&out)?)?;
        let path = workspace.path(&file);
        let bytes = fs::read(&path).map_err(|source| output(&path, source))?;
        let addon = Addon {
            esp_path: esp_path(plan, addon.name.as_str(), addon.place),
            file,
            bytes,
        };
        Ok((addon, signature))
    };
    // All are asked for, before the first that is awaited stops the build.
    let written: Vec<_> = plan.uki.addons.iter().map(write).collect();
    let written: Result<Vec<_>, ComposeError> = written.into_iter().collect();
    let (addons, signatures): (Vec<_>, Vec<_>) = written?.into_iter().unzip();
    Ok((addons, signatures.into_iter().flatten().collect()))
}
