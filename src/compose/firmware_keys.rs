//! What the build leaves about the keys that firmware is to trust.

use std::fs;

use super::ComposeError;
use super::workspace::{Workspace, output};
use crate::definition::plan::{Plan, VeritySignature};
use crate::definition::values::SourcePath;
use crate::firmware::{ImageFiles, ImageKeys, SECURE_BOOT_DIRECTORY};
use crate::report::Progress;

/// Reads and checks them; nothing without `[secure-boot]`.
pub fn collect(plan: &Plan, progress: &Progress) -> Result<ImageFiles, ComposeError> {
    let Some(secure_boot) = &plan.secure_boot else {
        return Ok(ImageFiles::default());
    };
    let dbx: Vec<_> = secure_boot.dbx.iter().map(SourcePath::as_path).collect();
    let by_kernel = plan.verity.signature == VeritySignature::Kernel;
    let verity = plan.verity.pair.as_ref().filter(|_| by_kernel);
    let keys = ImageKeys {
        db: Some(secure_boot.db.cert.as_path()),
        verity: verity.map(|pair| pair.cert.as_path()),
        pk: secure_boot.pk.as_ref().map(SourcePath::as_path),
        kek: secure_boot.kek.as_ref().map(SourcePath::as_path),
        dbx: &dbx,
        auto_enroll: secure_boot.auto_enroll.as_ref().map(SourcePath::as_path),
    };
    let files = keys.files()?;
    if files.output.is_empty() {
        progress.warn(
            "`secure-boot.pk` and `secure-boot.kek` are not both given: nothing is written for firmware to trust the image by",
        );
    }
    Ok(files)
}

/// Writes the files of the output directory; gives their names.
pub fn write(files: &ImageFiles, workspace: &Workspace) -> Result<Vec<String>, ComposeError> {
    if !files.output.is_empty() {
        let place = workspace.path(SECURE_BOOT_DIRECTORY);
        fs::create_dir(&place).map_err(|source| output(&place, source))?;
    }
    let mut names = Vec::new();
    for (name, bytes) in &files.output {
        let path = workspace.path(name);
        fs::write(&path, bytes).map_err(|source| output(&path, source))?;
        names.push(name.clone());
    }
    Ok(names)
}
