//! From what a build has composed to its outputs: signed, written to disks, described.
//!
//! Signatures are made in rounds, each over what the rounds before it gave: (1) root hash, boot loader, add-ons; (2) PCR
//! policies, commit; (3) the kernel image; (4) `SHA256SUMS`. Where keys are elsewhere, all of a round is asked for
//! before the build stops at it.

use std::fs;

use rayon::join;

use super::ComposeError;
use super::addons;
use super::composed::Composed;
use super::kernel;
use super::outputs::{self, Parts};
use super::pcrs;
use super::signing::Keys;
use super::uki::Measured;
use super::workspace::{Workspace, output};
use crate::definition::plan::Plan;
use crate::firmware::ImageFiles;
use crate::measure::MeasureError;
use crate::ostree;
use crate::report::Progress;
use crate::signing::SigningError;
use crate::store::Digest;

/// Name of the signature of `SHA256SUMS`.
const SUMS_SIGNATURE: &str = "SHA256SUMS.p7s";

/// `None` where a signature is awaited: it has been asked for.
fn unless_awaited<T>(result: Result<T, ComposeError>) -> Result<Option<T>, ComposeError> {
    match result {
        Err(
            ComposeError::Signing(SigningError::Awaited { .. })
            | ComposeError::Measure(MeasureError::Signing(SigningError::Awaited { .. })),
        ) => Ok(None),
        result => result.map(Some),
    }
}

/// Seals `made` into `workspace`; gives the commit's checksum. `secret` opens the root partition that the composer
/// encrypts.
///
/// # Errors
/// [`ComposeError::Awaited`] where signatures are to come back first; whatever signing and writing give.
pub fn seal(
    plan: &Plan,
    made: &Composed,
    keys: &Keys,
    firmware_keys: &ImageFiles,
    secret: Option<&[u8]>,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Digest, ComposeError> {
    let facts = &made.facts;
    let mut boot = made.boot.clone();
    let loader = unless_awaited(boot.sign(keys))?;
    let root_hash = unless_awaited(keys.sign_root_hash(&facts.root_hash_bytes()))?;
    let addons = unless_awaited(addons::write(plan, made, keys, workspace))?;
    let (Some(loader), Some(root_hash), Some((addons, addon_signatures))) = (loader, root_hash, addons)
    else {
        return Err(ComposeError::Awaited { round: 1 });
    };

    let message = root_hash.as_ref().map(|signature| signature.message.as_slice());
    let cmdline = kernel::command_line(plan, facts, message)?;
    let measured = Measured::new(plan, made, &cmdline, keys.policy.as_ref())?;
    let policies = unless_awaited(measured.sign(plan, keys.policy.as_ref()))?;
    let options = outputs::commit_options(plan, facts, &measured.digests);
    let commit = ostree::commit_object(&facts.tree, &options)?;
    let commit_signature = unless_awaited(keys.sign_commit(&commit))?;
    let (Some(policies), Some(commit_signature)) = (policies, commit_signature) else {
        return Err(ComposeError::Awaited { round: 2 });
    };

    let written = progress.stage(
        "write the UKI",
        || {
            let mut uki = measured.write(plan, made, &policies, workspace)?;
            let signature = unless_awaited(uki.sign(keys))?;
            Ok::<_, ComposeError>(signature.map(|signature| (uki, signature)))
        },
        |written: &Option<_>| match written {
            Some((uki, _)) => format!("{} MiB", uki.size >> 20),
            None => String::new(),
        },
    )?;
    let Some((uki, uki_signature)) = written else {
        return Err(ComposeError::Awaited { round: 3 });
    };

    let parts = Parts {
        made,
        boot: &boot,
        uki: &uki,
        addons: &addons,
        root_hash: root_hash.as_ref(),
        firmware_keys,
        cmdline: &cmdline,
        secret,
    };
    let signatures: Vec<_> = commit_signature
        .iter()
        .map(|made| made.signature.clone())
        .collect();
    let ((commit, pcrs), disks) = join(
        || {
            let commit = ostree::publish_commit(&commit, &signatures, &options, &workspace.path("repo"));
            (commit, pcrs::describe(&boot, &uki, &addons, firmware_keys))
        },
        || {
            progress.stage(
                "write disks",
                || outputs::write_disks(plan, &parts, workspace),
                |_| format!("disk {} GiB", plan.disk.size.0 >> 30),
            )
        },
    );
    let (commit, pcrs, disks) = (commit?, pcrs?, disks?);
    let signatures = loader
        .into_iter()
        .chain(uki_signature)
        .chain(root_hash.iter().map(|signature| signature.manifest.clone()))
        .chain(addon_signatures)
        .chain(commit_signature.map(|signature| signature.manifest));
    let signatures = signatures.collect();
    progress.stage(
        "write the manifest",
        || outputs::write_manifest(plan, &parts, commit, &disks, pcrs, signatures, workspace),
        |()| String::new(),
    )?;

    let path = workspace.path("SHA256SUMS");
    let sums = fs::read(&path).map_err(|source| output(&path, source))?;
    let Some(signature) = unless_awaited(keys.sign_sums(&sums))? else {
        return Err(ComposeError::Awaited { round: 4 });
    };
    if let Some(signature) = signature {
        let path = workspace.path(SUMS_SIGNATURE);
        fs::write(&path, signature).map_err(|source| output(&path, source))?;
    }
    Ok(commit)
}
