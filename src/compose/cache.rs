//! What is kept of a build for the next one: everything before sealing, under the digest of all that it is made from; and
//! whether an output that is there is the very one that would be made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rayon::join;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::boot::Boot;
use super::composed::{Composed, Facts};
use super::workspace::Workspace;
use super::{Built, Request, deltas, outputs};
use crate::definition::Plan;
use crate::firmware::SECURE_BOOT_DIRECTORY;
use crate::ostree::{self, TreeRecord};
use crate::report::file_digest;
use crate::rpmset::RpmSet;
use crate::rpmset::signature::{Checked, Verdict};
use crate::store::{Blob, Digest, Object, Store};

/// Parts of a plan that matter only once everything is composed.
const SEALING: [(&str, &[&str]); 6] = [
    ("kernel", &["cmdline"]),
    ("secure-boot", &[]),
    ("verity", &["key", "cert"]),
    ("commit", &[]),
    ("release", &[]),
    ("outputs", &["formats"]),
];

/// What the program itself is: another one may compose otherwise, whatever its version says.
fn program(request: &Request, store: &Store) -> io::Result<Digest> {
    let metadata = fs::metadata(&request.program)?;
    let mut hasher = Sha256::new_with_prefix(b"hullwright program\0");
    hasher.update(request.program.as_os_str().as_bytes());
    for number in [metadata.ino(), metadata.dev(), metadata.len()] {
        hasher.update(number.to_le_bytes());
    }
    for number in [
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ] {
        hasher.update(number.to_le_bytes());
    }
    let key = Digest::finish(hasher);
    let known = store.record(key).ok().flatten();
    if let Some(digest) = known.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(Digest(digest));
    }
    let digest = file_digest(&request.program)?;
    // That it is not kept costs time, nothing else.
    let _ = store.keep_record(key, &digest.0);
    Ok(digest)
}

/// Adds content, mode and type of `path`, and of everything below it.
fn add_source(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mut add = |kind: &[u8], bytes: &[u8]| {
        hasher.update(kind);
        hasher.update((metadata.permissions().mode() & 0o7777).to_le_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    if metadata.is_symlink() {
        add(b"link", fs::read_link(path)?.as_os_str().as_bytes());
    } else if metadata.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        add(b"directory", &(names.len() as u64).to_le_bytes());
        for name in names {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            add_source(hasher, &path.join(&name))?;
        }
    } else {
        add(b"file", &file_digest(path)?.0);
    }
    Ok(())
}

/// Digests of everything that an image is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// Of what is composed.
    pub composed: Digest,
    /// Of the finished outputs.
    pub all: Digest,
}

impl Inputs {
    /// Reads every source that `plan` names; `None` where one cannot be read, which whoever needs it will say better.
    pub fn read(
        plan: &Plan,
        request: &Request,
        set: &RpmSet,
        trust: &[Checked],
        store: &Store,
    ) -> Option<Self> {
        let whole = plan.without_places().to_json().ok()?;
        let mut part = whole.clone();
        for (table, keys) in SEALING {
            if keys.is_empty() {
                part.as_object_mut()?.remove(table);
            } else if let Some(Value::Object(table)) = part.get_mut(table) {
                keys.iter().for_each(|key| drop(table.remove(*key)));
            }
        }
        let mut hasher = Sha256::new_with_prefix(b"hullwright composed 1\0");
        hasher.update(program(request, store).ok()?.0);
        hasher.update(part.to_string());
        hasher.update(request.newest.unwrap_or(i64::MIN).to_le_bytes());
        for (package, checked) in set.packages().iter().zip(trust) {
            hasher.update(package.sha256.0);
            let name = package.path.file_name().unwrap_or_default().as_bytes();
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
            if let Verdict::Signed { signer, .. } = &checked.verdict {
                hasher.update(&signer.fingerprint);
            }
        }
        for source in plan.composed_from() {
            add_source(&mut hasher, source.as_path()).ok()?;
        }
        let composed = Digest::finish(hasher);
        let mut hasher = Sha256::new_with_prefix(b"hullwright outputs 1\0");
        hasher.update(composed.0);
        hasher.update(whole.to_string());
        for source in plan.sealed_with() {
            add_source(&mut hasher, &source).ok()?;
        }
        for earlier in deltas::open(plan, request).ok()? {
            hasher.update(earlier.commit.0);
        }
        Some(Self {
            composed,
            all: Digest::finish(hasher),
        })
    }
}

/// What is kept of what was composed.
#[derive(Serialize, Deserialize)]
struct Kept {
    facts: Facts,
    kernel: Digest,
    initrd: Digest,
    loader: Digest,
    stub: Digest,
    addon_stub: Digest,
    os_release: Digest,
    /// [`TreeRecord`].
    tree: Digest,
}

/// The files that the record `kept` names.
pub fn objects(kept: &[u8]) -> Option<Vec<Digest>> {
    let kept: Kept = serde_json::from_slice(kept).ok()?;
    Some(vec![
        kept.kernel,
        kept.initrd,
        kept.loader,
        kept.stub,
        kept.addon_stub,
        kept.os_release,
        kept.tree,
        kept.facts.usr_sha256,
        kept.facts.verity_sha256,
    ])
}

/// The tree that the record `kept` names.
pub fn tree(kept: &[u8], store: &Store) -> Option<TreeRecord> {
    let kept: Kept = serde_json::from_slice(kept).ok()?;
    TreeRecord::from_bytes(&store.content(kept.tree).ok()??)
}

/// Keeps `made` under `inputs`. Failing to costs the next build time, nothing else.
pub fn keep(
    inputs: &Inputs,
    plan: &Plan,
    made: &Composed,
    tree: &TreeRecord,
    workspace: &Workspace,
    store: &Store,
) -> Option<()> {
    let put = |bytes: &[u8]| store.keep_content(bytes).ok();
    let kept = Kept {
        kernel: put(&made.kernel.read_all().ok()?)?,
        initrd: put(&made.initrd.read_all().ok()?)?,
        loader: put(&made.boot.loader)?,
        stub: put(&made.boot.stub)?,
        addon_stub: put(&made.boot.addon_stub)?,
        os_release: put(&made.boot.os_release)?,
        tree: put(&tree.to_bytes())?,
        facts: made.facts.clone(),
    };
    let stem = plan.image.stem();
    let volumes = [
        (format!("{stem}.usr.erofs"), kept.facts.usr_sha256),
        (format!("{stem}.usr.verity"), kept.facts.verity_sha256),
    ];
    for (name, digest) in volumes {
        store.adopt(&workspace.path(&name), digest).ok()?;
    }
    let text = serde_json::to_vec(&kept).ok()?;
    store.keep_record(inputs.composed, &text).ok()
}

/// What an earlier build composed.
pub struct Restored {
    pub made: Composed,
    /// The file system of `/usr`: the only part that has not been read and checked yet.
    pub usr: Object,
}

/// What was kept under `inputs`, its files in `workspace`; `None` where something is not there any more, or damaged.
pub fn restore(inputs: &Inputs, plan: &Plan, workspace: &Workspace, store: &Store) -> Option<Restored> {
    let kept = store.record(inputs.composed).ok()??;
    let kept: Kept = serde_json::from_slice(&kept).ok()?;
    let bytes = |digest: Digest| store.content(digest).ok()?;
    let blob = |digest: Digest| bytes(digest).map(Blob::from_bytes);
    let stem = plan.image.stem();
    let shared = |suffix: &str, object: &Object| -> Option<File> {
        let path = workspace.path(&format!("{stem}.usr.{suffix}"));
        object.share(&path).ok()?;
        object.file().try_clone().ok()
    };
    let facts = kept.facts;
    let usr = store.object(facts.usr_sha256).ok()??;
    let (verity, repository) = join(
        || shared("verity", &store.object(facts.verity_sha256).ok()??.check().ok()??),
        || -> Option<bool> {
            let tree = TreeRecord::from_bytes(&bytes(kept.tree)?)?;
            ostree::restore_tree(&tree, outputs::repo_mode(plan), &workspace.path("repo"), store).ok()
        },
    );
    if repository != Some(true) {
        return None;
    }
    let made = Composed {
        boot: Boot::of(
            plan,
            bytes(kept.stub)?,
            bytes(kept.addon_stub)?,
            bytes(kept.os_release)?,
            bytes(kept.loader)?,
        ),
        kernel: blob(kept.kernel)?,
        initrd: blob(kept.initrd)?,
        usr: shared("erofs", &usr)?,
        verity: verity?,
        facts,
    };
    Some(Restored { made, usr })
}

/// What `build-report.json` says of the outputs beside it, so that the next build knows whether they are its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stamp {
    /// [`Inputs::all`].
    inputs: Digest,
    built: Built,
    /// Size in bytes and time of change in nanoseconds of each file outside the repository, by path.
    files: BTreeMap<String, (u64, i128)>,
}

impl Stamp {
    /// Of the outputs in `directory`.
    pub fn new(inputs: &Inputs, built: Built, directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for (name, _) in &built.outputs {
            files.insert(name.clone(), state(directory, name)?);
        }
        let keys = directory.join(SECURE_BOOT_DIRECTORY);
        for entry in keys
            .is_dir()
            .then(|| fs::read_dir(&keys))
            .transpose()?
            .into_iter()
            .flatten()
        {
            let name = entry?.file_name();
            let name = format!("{SECURE_BOOT_DIRECTORY}/{}", name.to_string_lossy());
            files.insert(name.clone(), state(directory, &name)?);
        }
        Ok(Self {
            inputs: inputs.all,
            built,
            files,
        })
    }
}

fn state(directory: &Path, name: &str) -> io::Result<(u64, i128)> {
    let metadata = fs::symlink_metadata(directory.join(name))?;
    let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok((metadata.len(), time))
}

/// What lies in `directory`, where it was made from the same `inputs` and nobody has changed it since.
pub fn unchanged(inputs: &Inputs, directory: &Path) -> Option<Built> {
    let report = fs::read(directory.join(super::REPORT)).ok()?;
    let report: Value = serde_json::from_slice(&report).ok()?;
    let stamp: Stamp = serde_json::from_value(report.get("stamp")?.clone()).ok()?;
    let same = |(name, kept): (&String, &(u64, i128))| {
        name == super::REPORT || state(directory, name).is_ok_and(|found| found == *kept)
    };
    let commit = stamp.built.commit?.to_string();
    let (fan, rest) = commit.split_at(2);
    let object = directory
        .join("repo/objects")
        .join(fan)
        .join(format!("{rest}.commit"));
    let whole = stamp.inputs == inputs.all && stamp.files.iter().all(same) && object.is_file();
    whole.then(|| Built {
        directory: directory.to_owned(),
        unchanged: true,
        ..stamp.built
    })
}
