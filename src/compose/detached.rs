//! Builds whose keys are elsewhere: the state that waits, what it asks for, and how it goes on.
//!
//! Below the output directory, `signing/` holds everything that sealing needs: `state.json`, `definition.toml` with the
//! certificates that it names, the programs that are put together, and `request/`: `request.json` and a file `NAME.tbs`
//! with the exact bytes for each signature that is awaited.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::boot::Boot;
use super::composed::{Composed, Facts};
use super::workspace::{Unfinished, Workspace, output};
use super::{Built, ComposeError, Keys, built_root, finish, firmware_keys, outputs, seal};
use crate::definition::{self, Plan, SpentDisk};
use crate::report::{Progress, file_digest};
use crate::scriptlet::Done;
use crate::signing::Answers;
use crate::store::{Blob, Digest, hex, unhex};

mod request;

pub use request::{Entry, Request};

/// Directory of the state, in the output directory.
pub const DIRECTORY: &str = "signing";
const STATE: &str = "state.json";
const DEFINITION: &str = "definition.toml";
const REQUEST: &str = "request";
const CERTIFICATES: &str = "certificates";
/// The programs that a kernel image is put together of.
const PROGRAMS: [&str; 6] = ["kernel", "initrd", "loader", "stub", "addon-stub", "os-release"];

/// What waits for signatures.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    state_version: u32,
    /// Another version of the program would seal otherwise.
    composer: String,
    round: u8,
    facts: Facts,
    /// SHA-256 of the files beside this one.
    files: BTreeMap<String, Digest>,
    /// Signatures that have come back, in hexadecimal, by what was signed.
    answers: BTreeMap<String, String>,
}

const COMPOSER: &str = concat!("hullwright ", env!("CARGO_PKG_VERSION"));

/// Leaves in `workspace` what waits for the signatures of `round`, and nothing that looks finished.
pub(super) fn suspend(
    plan: &Plan,
    made: &Composed,
    answers: &Answers,
    round: u8,
    workspace: &Workspace,
) -> Result<(), ComposeError> {
    let stem = plan.image.stem();
    let key = built_root::key_name(plan).unwrap_or_default();
    let kept = [
        format!("{stem}.usr.erofs"),
        format!("{stem}.usr.verity"),
        key,
        "repo".to_owned(),
    ];
    workspace.keep_only(&kept)?;

    let place = workspace.path(DIRECTORY);
    let at = |path: PathBuf| move |source| output(&path, source);
    fs::create_dir_all(place.join(CERTIFICATES)).map_err(at(place.clone()))?;
    let (spent, certificates) = plan.spent(Path::new(CERTIFICATES));
    let mut files = BTreeMap::new();
    let mut write = |name: &str, bytes: &[u8]| {
        files.insert(name.to_owned(), Digest::of(bytes));
        let path = place.join(name);
        fs::write(&path, bytes).map_err(at(path))
    };
    for file in certificates {
        for (from, name) in regular_files(&file.from, &file.name).map_err(at(file.from.clone()))? {
            let bytes = fs::read(&from).map_err(|source| ComposeError::Source { path: from, source })?;
            if let Some(parent) = place.join(&name).parent() {
                fs::create_dir_all(parent).map_err(at(parent.to_owned()))?;
            }
            write(&name, &bytes)?;
        }
    }
    let text = spent
        .to_toml()
        .map_err(|_| ComposeError::State { what: DEFINITION })?;
    write(DEFINITION, text.as_bytes())?;
    let programs = [
        made.kernel.read_all(),
        made.initrd.read_all(),
        Ok(made.boot.loader.clone()),
        Ok(made.boot.stub.clone()),
        Ok(made.boot.addon_stub.clone()),
        Ok(made.boot.os_release.clone()),
    ];
    for (name, bytes) in PROGRAMS.into_iter().zip(programs) {
        write(name, &bytes.map_err(at(place.join(name)))?)?;
    }
    let state = State {
        state_version: 1,
        composer: COMPOSER.to_owned(),
        round,
        facts: made.facts.clone(),
        files,
        answers: answers
            .given()
            .iter()
            .map(|(id, signature)| (id.to_string(), hex(signature)))
            .collect(),
    };
    let path = place.join(STATE);
    let text = serde_json::to_string_pretty(&state).unwrap_or_default();
    fs::write(&path, text + "\n").map_err(at(path))?;
    Request::new(plan, round, &answers.wanted()).write(&place.join(REQUEST))
}

/// `from` under `name`, or, where it is a directory, the files in it.
fn regular_files(from: &Path, name: &str) -> io::Result<Vec<(PathBuf, String)>> {
    if !from.is_dir() {
        return Ok(vec![(from.to_owned(), name.to_owned())]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(file) = path.file_name().filter(|_| path.is_file()) {
            let name = format!("{name}/{}", file.to_string_lossy());
            files.push((path, name));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether `directory` is an output that waits for signatures.
pub fn waits(directory: &Path) -> bool {
    directory.join(DIRECTORY).join(STATE).is_file()
}

/// Refuses an output that waits for signatures, for whoever wants its disk.
///
/// # Errors
/// [`ComposeError::WaitsForSignatures`].
pub fn refuse_waiting(directory: &Path) -> Result<(), ComposeError> {
    match waits(directory) {
        true => Err(ComposeError::WaitsForSignatures {
            path: directory.to_owned(),
        }),
        false => Ok(()),
    }
}

/// What the output in `directory` asks for.
///
/// # Errors
/// Where it waits for nothing, or its state is damaged.
pub fn open_request(directory: &Path) -> Result<Request, ComposeError> {
    if !waits(directory) {
        return Err(ComposeError::WaitsForNothing {
            path: directory.to_owned(),
        });
    }
    Request::read(&directory.join(DIRECTORY).join(REQUEST))
}

/// A state that was read again.
struct Suspended {
    plan: Plan,
    made: Composed,
    answers: BTreeMap<Digest, Vec<u8>>,
}

fn resume(directory: &Path) -> Result<Suspended, ComposeError> {
    let place = directory.join(DIRECTORY);
    let at = |path: PathBuf| move |source| output(&path, source);
    let path = place.join(STATE);
    let text = fs::read(&path).map_err(at(path))?;
    let damaged = |what| ComposeError::State { what };
    let state: State = serde_json::from_slice(&text).map_err(|_| damaged(STATE))?;
    if state.composer != COMPOSER || state.state_version != 1 {
        return Err(ComposeError::OtherComposer {
            found: state.composer,
            own: COMPOSER,
        });
    }
    for (name, expected) in &state.files {
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = place.join(name);
        if !inside || file_digest(&path).map_err(at(path))? != *expected {
            return Err(ComposeError::StateFile { name: name.clone() });
        }
    }
    let definition = definition::load_with(&SpentDisk, &place.join(DEFINITION))?;
    let plan = definition.plan;
    let program = |name: &str| {
        let path = place.join(name);
        fs::read(&path).map_err(at(path))
    };
    let stem = plan.image.stem();
    let volume = |suffix: &str, expected: Digest| {
        let name = format!("{stem}.usr.{suffix}");
        let path = directory.join(&name);
        if file_digest(&path).map_err(at(path.clone()))? != expected {
            return Err(ComposeError::StateFile { name });
        }
        File::open(&path).map_err(at(path))
    };
    let (usr, verity) = rayon::join(
        || volume("erofs", state.facts.usr_sha256),
        || volume("verity", state.facts.verity_sha256),
    );
    let (usr, verity) = (usr?, verity?);
    let mut answers = BTreeMap::new();
    for (id, signature) in &state.answers {
        let id: Digest = id.parse().map_err(|_| damaged(STATE))?;
        answers.insert(id, unhex(signature).ok_or(damaged(STATE))?);
    }
    let made = Composed {
        boot: Boot::of(
            &plan,
            program("stub")?,
            program("addon-stub")?,
            program("os-release")?,
            program("loader")?,
        ),
        kernel: Blob::from_bytes(program("kernel")?),
        initrd: Blob::from_bytes(program("initrd")?),
        facts: state.facts,
        usr,
        verity,
    };
    Ok(Suspended { plan, made, answers })
}

/// Takes the signatures in `answers` (a directory with a file `NAME.sig` for each `NAME.tbs` of the request) and goes on
/// sealing the output in `directory`: to its end, or to the next round.
///
/// # Errors
/// Answers that are missing, or belong to something else: then nothing is changed. Whatever sealing gives.
pub fn attach(
    directory: &Path,
    answers: &Path,
    unfinished: &Unfinished,
    progress: &Progress,
) -> Result<(Built, Plan), ComposeError> {
    let request = open_request(directory)?;
    let given = request.answers(answers)?;
    let mut suspended = progress.stage(
        "check the state",
        || resume(directory),
        |suspended| format!("{} packages", suspended.made.facts.packages.len()),
    )?;
    suspended.answers.extend(given);
    let Suspended { plan, made, answers } = suspended;
    let answers = Arc::new(Answers::new(answers));
    let keys = Keys::open(&plan, &answers, progress)?;
    let firmware_keys = firmware_keys::collect(&plan, progress)?;
    let directory = directory
        .canonicalize()
        .map_err(|source| output(directory, source))?;
    // Where it is now, under the name that it has now: it may have been moved since it was built.
    let out = directory.parent().unwrap_or(&directory);
    let name = directory.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| {
        output(
            &directory,
            io::Error::other("its name is not in UTF-8: rename it"),
        )
    })?;
    let workspace = Workspace::new(out, name, unfinished)?;
    workspace.link_from(&directory, "repo")?;
    for suffix in ["erofs", "verity"] {
        workspace.link_from(&directory, &format!("{}.usr.{suffix}", plan.image.stem()))?;
    }
    let secret = built_root::kept_secret(&plan, &directory, &workspace, progress)?;
    let secret = secret.as_ref().map(|secret| secret.as_slice());
    let sealed = seal::seal(&plan, &made, &keys, &firmware_keys, secret, &workspace, progress);
    let built = finish(&plan, &made, sealed, &answers, workspace, |workspace, _| {
        outputs::write_report(workspace, progress, &Done::default(), None)
    })?;
    Ok((built, plan))
}
