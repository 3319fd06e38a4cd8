//! The pipeline, from top to bottom: packages → tree → sealed `/usr` → commit, UKI, disk.

mod addons;
mod boot;
mod built_root;
mod cache;
mod composed;
mod deltas;
pub mod detached;
mod earlier;
mod erofs_kernel;
mod error;
mod firmware_keys;
mod ids;
mod initrd;
mod kernel;
mod outcome;
mod outputs;
mod partitions;
mod pcrs;
mod pool;
mod root;
mod scriptlets;
mod seal;
mod set;
mod shared;
mod signing;
mod system;
mod tpm;
mod uki;
mod usr;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;

use rayon::join;
use serde::{Deserialize, Serialize};

pub use error::ComposeError;
pub use ids::{Locked, lock_ids};
pub use workspace::Unfinished;

use crate::definition::Definition;
use crate::definition::plan::{DiskFormat, Plan, RpmSource};
use crate::disk;
use crate::fetch::{self, Fetcher};
use crate::ostree;
use crate::remote::Remote;
use crate::report::Progress;
use crate::rpmset::signature::{Checked, Exception, Keyring, Policy};
use crate::rpmset::{RpmSet, SetError, SetSource};
use crate::scriptlet::{Schedule, ledger};
use crate::signing::Answers;
use crate::store::{Blob, Digest, Store, hex};
use crate::tree::Tree;
use boot::Boot;
use cache::{Inputs, Stamp};
use composed::{Composed, Facts};
use earlier::{Earlier, Waited};
use kernel::Kernel;
use outcome::{Beside, Keep, Made, Outcome};
use pool::Pool;
use scriptlets::Scriptlets;
use signing::Keys;
use workspace::Workspace;

/// What a build is told beside its definition.
#[derive(Debug, Clone)]
pub struct Request {
    /// In place of the set that the definition names.
    pub rpms: Option<PathBuf>,
    /// Files with OpenPGP keys that packages may be signed with, beside those of the definition.
    pub keys: Vec<PathBuf>,
    /// Where the directory `<id>_<version>` comes to lie.
    pub out: PathBuf,
    /// Composes anew what an earlier build has composed, and outputs that are there already.
    pub fresh: bool,
    /// Output directories or repositories of earlier versions: from each comes a static delta.
    pub delta_from: Vec<PathBuf>,
    pub store: PathBuf,
    /// What the store shares with those of other builders.
    pub remote: Option<Arc<Remote>>,
    /// How locked packages are fetched that lie on servers.
    pub fetch: fetch::Options,
    /// The program itself: scriptlets that must run start it again as the first process of their sandbox.
    pub program: PathBuf,
    /// `SOURCE_DATE_EPOCH`: no time of a package's file is later. By default, the newest build
    /// time of the set.
    pub newest: Option<i64>,
    /// Tells whoever ends the program early what to remove.
    pub unfinished: Unfinished,
}

/// Name of the file that says how the build went.
const REPORT: &str = "build-report.json";

/// What a build left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    pub directory: PathBuf,
    /// `None` where signatures are awaited.
    pub commit: Option<Digest>,
    /// The round of signatures that the image waits for, and how many they are.
    pub awaited: Option<(u8, usize)>,
    /// Whether it was there already, made from the same.
    pub unchanged: bool,
    pub root_hash: String,
    pub packages: usize,
    /// Files, directories and links of the tree.
    pub paths: usize,
    /// SELinux labels; empty where the definition wants none.
    pub labels: crate::tree::selinux::Report,
    /// Name and size in bytes of what lies in the directory.
    pub outputs: Vec<(String, u64)>,
}

/// Builds the image that `definition` describes. Where keys are elsewhere, it stops at the first signature that is to
/// come back: [`Built::awaited`].
///
/// # Errors
/// Whatever cannot be done or verified. Then nothing is left under the output's name.
pub fn build(definition: &Definition, request: &Request, progress: &Progress) -> Result<Built, ComposeError> {
    let plan = &definition.plan;
    outputs::check_plan(plan)?;
    let answers = Arc::default();
    let keys = Keys::open(plan, &answers, progress)?;
    let firmware_keys = firmware_keys::collect(plan, progress)?;
    let earlier = deltas::open(plan, request)?;
    let workspace = Workspace::new(&request.out, &plan.image.stem(), &request.unfinished)?;

    let secret = built_root::secret(plan, &workspace, progress)?;
    let pool = Pool::new(request.remote.clone());
    let store = Store::open(&request.store)?;
    let (made, sealed) = loop {
        let (made, beside) = match compose(definition, request, &store, &pool, &workspace, progress)? {
            Outcome::Unchanged(built) => return Ok(*built),
            Outcome::Made(made) => *made,
        };
        if let Some(name) = built_root::key_name(plan) {
            progress.note(&format!(
                "{name}: the key of the root partition, made for this build; whoever has it and the image reads every machine"
            ));
        }
        let secret = secret.as_ref().map(|secret| secret.as_slice());
        let composed = &made.composed;
        let (sealed, sound) = join(
            || {
                seal::seal(
                    plan,
                    composed,
                    &keys,
                    &firmware_keys,
                    secret,
                    &workspace,
                    progress,
                )
            },
            || beside.run(plan, composed, &workspace, &store, progress),
        );
        if sound? {
            break (made, sealed);
        }
        workspace.keep_only(&Vec::from_iter(built_root::key_name(plan)))?;
    };
    let Made {
        composed: made,
        scriptlets,
        inputs,
    } = made;
    let built = finish(plan, &made, sealed, &answers, workspace, |workspace, built| {
        deltas::write(&earlier, built.commit.as_ref(), workspace, progress)?;
        let stamp = inputs.filter(|_| built.commit.is_some());
        let stamp = stamp.map(|inputs| Stamp::new(&inputs, built.clone(), workspace.directory()));
        let stamp = stamp
            .transpose()
            .map_err(|source| workspace::output(workspace.directory(), source))?;
        outputs::write_report(workspace, progress, &scriptlets, stamp.as_ref())
    })?;
    if let (Some(remote), Some(inputs)) = (&request.remote, &inputs) {
        shared::add_all(remote, inputs, plan, &pool, &store, progress)?;
        outputs::update_report(&built.directory, progress);
    }
    Ok(built)
}

/// Publishes what `sealed` came to: the outputs, or a state that waits for signatures.
fn finish(
    plan: &Plan,
    made: &Composed,
    sealed: Result<Digest, ComposeError>,
    answers: &Answers,
    workspace: Workspace,
    report: impl FnOnce(&Workspace, &Built) -> Result<(), ComposeError>,
) -> Result<Built, ComposeError> {
    let (commit, awaited) = match sealed {
        Ok(commit) => (Some(commit), None),
        Err(ComposeError::Awaited { round }) => {
            detached::suspend(plan, made, answers, round, &workspace)?;
            (None, Some((round, answers.wanted().len())))
        }
        Err(error) => return Err(error),
    };
    let facts = &made.facts;
    let mut built = Built {
        directory: workspace.target().to_owned(),
        commit,
        awaited,
        unchanged: false,
        root_hash: facts.root_hash.clone(),
        packages: facts.packages.len(),
        paths: facts.paths,
        labels: facts.labels.clone(),
        outputs: workspace.list()?,
    };
    report(&workspace, &built)?;
    built.outputs = workspace.list()?;
    workspace.publish()?;
    Ok(built)
}

/// Makes everything that is sealed: from packages to the tree, the sealed `/usr`, the commit's objects and the initrd.
fn compose(
    definition: &Definition,
    request: &Request,
    store: &Store,
    pool: &Pool,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Outcome, ComposeError> {
    let plan = &definition.plan;
    progress.watch(store.lookups());
    if let Some(remote) = &request.remote {
        progress.watch_remote(Arc::clone(remote.counters()));
    }
    let ids = ids::read(plan)?;
    if ids.is_none() {
        progress.note(ids::NOT_FIXED);
    }
    let set = read_set(plan, request, store, progress)?;
    let trust = progress.stage(
        "check signatures",
        || check_signatures(plan, request, &set),
        |trust| {
            let excepted = trust.iter().filter(|checked| checked.excepted.is_some()).count();
            match excepted {
                0 => format!("{} packages signed", trust.len()),
                _ => format!("{} packages signed, {excepted} excepted", trust.len() - excepted),
            }
        },
    )?;
    for (package, checked) in set.packages().iter().zip(&trust) {
        if let Some(reason) = &checked.excepted {
            progress.warn(&format!(
                "{}: taken on trust, {}: {reason}",
                package.nevra, checked.verdict
            ));
        }
    }
    set::check(definition, &set)?;
    let open = set::check_closure(plan, &set, progress)?;
    let inputs = match request.fresh {
        true => None,
        false => Inputs::read(plan, request, &set, &trust, store),
    };
    if let Some(inputs) = &inputs
        && let Some(built) = cache::unchanged(inputs, workspace.target())
    {
        return Ok(Outcome::Unchanged(Box::new(built)));
    }
    let earlier = Earlier {
        plan,
        inputs: inputs.as_ref(),
        workspace,
        store,
        remote: request.remote.as_deref(),
        progress,
    };
    if let Some(made) = earlier.find()? {
        return Ok(Made::taken(made, inputs));
    }
    let rules = scriptlets::rules(plan);
    let scriptlets = Scriptlets {
        schedule: scriptlets::schedule(plan, &set, &rules)?,
        set: &set,
        request,
        ids: ids.as_ref(),
    };
    let kernel_package = kernel::find_package(plan, &set)?;
    let turn = match earlier.wait(&set)? {
        Waited::Composed(made) => return Ok(Made::taken(*made, inputs)),
        Waited::Turn(turn) => turn,
    };
    let contents = progress.stage(
        "unpack and verify",
        || set.contents(store),
        |contents| format!("{} files", contents.iter().flatten().flatten().count()),
    )?;
    let (made, kernel, labels) = progress.stage(
        "make the tree",
        || -> Result<_, ComposeError> {
            let mut made = system::make(plan, &set, &contents, &scriptlets, store)?;
            let kernel = Kernel::prepare(plan, &set, kernel_package, &mut made.tree, store, pool)?;
            let newest = request
                .newest
                .unwrap_or_else(|| i64::from(set.newest_build_time()));
            let labels = system::finish(plan, &mut made.tree, newest)?;
            Ok((made, kernel, labels))
        },
        |(made, _, labels)| {
            let paths = format!("{} paths", made.tree.walk().count());
            match plan.os.selinux.as_str() {
                "none" => paths,
                policy => format!("{paths}, {} labelled by SELinux policy {policy}", labels.labelled),
            }
        },
    )?;
    let remarks = made.caches.iter().flat_map(|cache| {
        let remarks = cache.remarks.iter();
        remarks.map(|remark| format!("{}: {remark}", cache.command))
    });
    let remarks: Vec<_> = remarks.collect();
    tell(progress, &remarks, &made.scriptlets.ledger);
    let tree = &made.tree;
    outputs::check_room(plan, tree, workspace)?;

    let initrd = progress.stage(
        "compose the initrd",
        || initrd::make(plan, tree, &kernel, store, pool),
        |initrd| {
            format!(
                "{} KiB, {} modules",
                initrd.bytes.len() >> 10,
                initrd.modules.len()
            )
        },
    )?;
    let boot = Boot::collect(plan, tree)?;
    boot.check_esp(plan, &kernel, &initrd)?;
    let (sealed, objects) = join(
        || {
            progress.stage(
                "seal /usr",
                || usr::seal(plan, tree, store, pool, workspace),
                |sealed| {
                    format!(
                        "{} MiB, root hash {}…",
                        sealed.size >> 20,
                        &hex(&sealed.root_hash)[..12]
                    )
                },
            )
        },
        || {
            progress.stage(
                "write ostree objects",
                || {
                    let (mode, repo) = (outputs::repo_mode(plan), workspace.path("repo"));
                    ostree::write_tree(tree, mode, &repo, Some(store))
                },
                |(objects, _)| format!("{} of them", objects.objects_written),
            )
        },
    );
    let (sealed, (objects, record)) = (sealed?, objects?);
    let root = match built_root::is_wanted(plan) {
        true => Some(built_root::tree(plan, tree, &system::root_entries(tree))?),
        false => None,
    };
    let facts = Facts {
        kernel_package: kernel.package.clone(),
        kernel_release: kernel.release.clone(),
        initrd_modules: initrd.modules.clone(),
        usr_size: sealed.size,
        verity_size: sealed.verity_size,
        usr_sha256: sealed.sha256,
        verity_sha256: sealed.verity_sha256,
        usr_chunks: sealed.chunks,
        root_hash: hex(&sealed.root_hash),
        salt: sealed.salt,
        slot: slot_size(plan, tree),
        tree: objects,
        root: root.as_ref().map(composed::root_nodes),
        packages: outputs::packages(&set, &trust),
        rpm_verify: progress.stage(
            "foretell rpm -V",
            || outputs::rpm_verify(plan, &set, &made),
            |differences| format!("{} paths differ from their packages", differences.len()),
        )?,
        scriptlets: made.scriptlets.ledger.clone(),
        open_requirements: outputs::open_requirements(&open),
        remarks,
        paths: tree.walk().count(),
        labels,
    };
    let composed = Composed {
        facts,
        boot,
        kernel: kernel.image.blob.clone(),
        initrd: Blob::from_bytes(initrd.bytes),
        usr: sealed.erofs,
        verity: sealed.verity,
    };
    outcome::tell_damage(store, progress);
    let keep = Keep { inputs, record, turn };
    let made = Made {
        composed,
        scriptlets: made.scriptlets,
        inputs,
    };
    Ok(Outcome::Made(Box::new((made, Beside::Keep(keep)))))
}

/// Tells people what they should know of what was composed.
fn tell(progress: &Progress, remarks: &[String], scriptlets: &[ledger::Entry]) {
    remarks.iter().for_each(|remark| progress.warn(remark));
    scriptlets::tell(progress, scriptlets);
}

/// What [`build`] would do about every scriptlet of the set; nothing is built, and nothing runs.
///
/// # Errors
/// Where the set cannot be read, or rules of the definition do not fit it.
pub fn explain_scriptlets(
    definition: &Definition,
    request: &Request,
    progress: &Progress,
) -> Result<Vec<ledger::Entry>, ComposeError> {
    let store = Store::open(&request.store)?;
    let set = read_set(&definition.plan, request, &store, progress)?;
    let rules = scriptlets::rules(&definition.plan);
    let schedule = Schedule::new(set.packages(), &rules)?;
    Ok(schedule.ledger())
}

fn rpm_source(plan: &Plan, request: &Request) -> Result<PathBuf, ComposeError> {
    match (&request.rpms, &plan.rpms.source) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(RpmSource::Lock(path) | RpmSource::Directory(path))) => Ok(path.as_path().to_owned()),
        (None, None) => Err(ComposeError::NoRpms),
    }
}

/// Reads the set, after what lies on servers has been fetched.
fn read_set(
    plan: &Plan,
    request: &Request,
    store: &Store,
    progress: &Progress,
) -> Result<RpmSet, ComposeError> {
    let mut source = SetSource::open(&rpm_source(plan, request)?, Some(store))?;
    let (absent, bytes) = source.absent();
    if absent > 0 && !request.fetch.offline {
        let fetcher = Fetcher::new(request.fetch.clone()).map_err(SetError::Fetch)?;
        progress.transfer(
            "fetch packages",
            bytes,
            |watch| source.fetch(&fetcher, store, watch),
            |()| format!("{absent} packages, {} MiB", bytes >> 20),
        )?;
    }
    let set = progress.stage(
        "read packages",
        || source.load(),
        |set| format!("{} packages", set.packages().len()),
    )?;
    Ok(set)
}

fn check_signatures(plan: &Plan, request: &Request, set: &RpmSet) -> Result<Vec<Checked>, ComposeError> {
    let listed = plan.rpms.keys.iter().map(|key| key.as_path().to_owned());
    let keys: Vec<_> = listed.chain(request.keys.iter().cloned()).collect();
    let exceptions = plan.rpms.unsigned.iter().map(|exception| Exception {
        package: exception.package.clone(),
        reason: exception.reason.as_str().to_owned(),
    });
    let exceptions: Vec<_> = exceptions.collect();
    let keyring = Keyring::read(&keys)?;
    Ok(set.verify_signatures(&keyring, &Policy::default(), &exceptions)?)
}

/// Checks of the disk that need no content: see [`disk::check_disk`].
fn wants_vhd(plan: &Plan) -> bool {
    plan.outputs.formats.contains(&DiskFormat::Vhd)
}

/// The slot that every version of the image fits into. The default comes from what `/usr` holds
/// unpacked, because repart.d, which names it, lies inside the volume whose size is not known yet.
fn slot_size(plan: &Plan, tree: &Tree) -> u64 {
    plan.disk.usr.map_or_else(
        || {
            let sizes = tree.walk().map(|(_, node)| match &node.kind {
                crate::tree::Kind::File(file) => file.blob.size().next_multiple_of(4096),
                _ => 512,
            });
            disk::default_slot_size(sizes.sum())
        },
        |size| size.0,
    )
}
