//! What firmware starts: boot loader, EFI stub, and where they lie on the ESP.

use super::ComposeError;
use super::addons::Addon;
use super::kernel::Kernel;
use super::signing::Keys;
use crate::definition::plan::{Arch, Plan};
use crate::disk;
use crate::formats::at::Content;
use crate::initrd::Initrd;
use crate::measure::{self, Chain};
use crate::report::ManifestSignature;
use crate::tree::Tree;
use crate::tree::path::TreePath;

/// Room for what a UKI holds beside stub, kernel and initrd: headers, command line, os-release.
const UKI_OVERHEAD: u64 = 64 << 10;
/// No menu and no editor: there is nothing to choose, and the command line is part of what is sealed.
const LOADER_CONF: &[u8] = b"timeout 0\neditor no\n";

/// The files of the boot path that the tree brings.
#[derive(Clone)]
pub struct Boot {
    pub stub: Vec<u8>,
    /// Empty where no add-on is wanted.
    pub addon_stub: Vec<u8>,
    pub os_release: Vec<u8>,
    pub loader: Vec<u8>,
    loader_path: &'static str,
}

impl Boot {
    /// Takes them from the tree.
    pub fn collect(plan: &Plan, tree: &Tree) -> Result<Self, ComposeError> {
        let suffix = match plan.image.arch {
            Arch::X86_64 => "x64",
            Arch::Aarch64 => "aa64",
        };
        let package = "systemd-boot-unsigned; systemd-boot-efi in Debian";
        let stub = format!("/usr/lib/systemd/boot/efi/linux{suffix}.efi.stub");
        let addon = format!("/usr/lib/systemd/boot/efi/addon{suffix}.efi.stub");
        let loader = format!("/usr/lib/systemd/boot/efi/systemd-boot{suffix}.efi");
        Ok(Self {
            stub: file(tree, &stub, "the EFI stub of the kernel image", package)?,
            addon_stub: match plan.uki.addons.is_empty() {
                true => Vec::new(),
                false => file(tree, &addon, "the EFI stub of add-ons", package)?,
            },
            os_release: file(
                tree,
                "/usr/lib/os-release",
                "which says what system this is",
                "a release package",
            )?,
            loader: file(tree, &loader, "the boot loader", package)?,
            loader_path: loader_path(plan.image.arch),
        })
    }

    /// Files that were taken from a tree before.
    pub fn of(plan: &Plan, stub: Vec<u8>, addon_stub: Vec<u8>, os_release: Vec<u8>, loader: Vec<u8>) -> Self {
        Self {
            stub,
            addon_stub,
            os_release,
            loader,
            loader_path: loader_path(plan.image.arch),
        }
    }

    /// Signs the boot loader.
    pub fn sign(&mut self, keys: &Keys) -> Result<Option<ManifestSignature>, ComposeError> {
        let loader = std::mem::take(&mut self.loader);
        let (loader, signature) = keys.sign_loader(self.loader_path, loader)?;
        self.loader = loader;
        Ok(signature)
    }

    /// Where the UKI lies on the ESP: with three tries, which the boot loader counts and
    /// systemd-bless-boot ends.
    pub fn uki_path(plan: &Plan) -> String {
        format!("EFI/Linux/{}+3.efi", plan.image.stem())
    }

    /// The files of the ESP, with their paths.
    pub fn esp_files<'a>(
        &'a self,
        uki_path: &'a str,
        uki: Content<'a>,
        addons: &'a [Addon],
    ) -> Vec<(&'a str, Content<'a>)> {
        let addons = addons.iter().filter_map(|addon| {
            let path = addon.esp_path.as_deref()?;
            Some((path, Content::bytes(&addon.bytes)))
        });
        let files = [
            (self.loader_path, Content::bytes(&self.loader)),
            (uki_path, uki),
            ("loader/loader.conf", Content::bytes(LOADER_CONF)),
        ];
        files.into_iter().chain(addons).collect()
    }

    /// What a boot of the default profile runs, in its order.
    pub fn chain<'a>(&'a self, uki: Content<'a>, addons: &'a [Addon]) -> Chain<'a> {
        let below = |top: &str| {
            let found = addons.iter().filter_map(|addon| {
                let name = addon.esp_path.as_deref()?.strip_prefix(top)?.rsplit('/').next()?;
                Some((name, Content::bytes(&addon.bytes)))
            });
            let mut found: Vec<_> = found.collect();
            found.sort_by_key(|(name, _)| *name);
            found
        };
        let addons = [below("loader/"), below("EFI/")].concat();
        Chain {
            loader: Content::bytes(&self.loader),
            loader_conf: LOADER_CONF,
            uki,
            profile: 0,
            addons: addons
                .into_iter()
                .map(|(name, content)| measure::Addon { name, content })
                .collect(),
        }
    }

    /// Whether the ESP will hold two UKIs and more, before anything is written.
    pub fn check_esp(&self, plan: &Plan, kernel: &Kernel, initrd: &Initrd) -> Result<(), ComposeError> {
        let parts = [
            self.stub.len() as u64,
            kernel.image.blob.size(),
            initrd.bytes.len() as u64,
            UKI_OVERHEAD,
        ];
        let path = Self::uki_path(plan);
        let sizes = [
            (self.loader_path, self.loader.len() as u64),
            (path.as_str(), parts.iter().sum()),
            ("loader/loader.conf", LOADER_CONF.len() as u64),
        ];
        Ok(disk::check_esp(plan.disk.esp.0, &sizes, &path)?)
    }
}

/// Where firmware looks for the boot loader of a disk.
fn loader_path(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "EFI/BOOT/BOOTX64.EFI",
        Arch::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
    }
}

/// A file of the tree, in memory.
fn file(
    tree: &Tree,
    path: &str,
    purpose: &'static str,
    package: &'static str,
) -> Result<Vec<u8>, ComposeError> {
    let absent = || ComposeError::MissingFile {
        path: path.to_owned(),
        purpose,
        package,
    };
    let place = TreePath::new(path).map_err(|_| absent())?;
    let file = tree.file(&place).ok_or_else(absent)?;
    file.blob.read_all().map_err(|source| ComposeError::Stored {
        path: place.clone(),
        source,
    })
}
