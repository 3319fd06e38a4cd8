//! What builders share through a remote store: whole composed stages (what is smaller is in the [pool](super::pool)).
//!
//! An entry `composed` has the parts `record` (what [`cache`](super::cache) keeps under the digest of the inputs), `object`
//! (a file that the record names) and `contents` (a bundle of the tree's ostree objects). They go into the store; from there
//! a build takes them as if it had made them.

use std::fs::File;
use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::cache::{self, Inputs};
use super::pool::Pool;
use super::{ComposeError, outputs};
use crate::definition::Plan;
use crate::ostree::Shared;
use crate::remote::{Content, Part, Remote, bytes_part, each, file_part};
use crate::report::Progress;
use crate::store::{Digest, Store};

const COMPOSED: &str = "composed";
const RECORD: &str = "record";
const OBJECT: &str = "object";
const CONTENTS: &str = "contents";
/// The longest record, in bytes.
const LONGEST: u64 = 64 << 20;

/// Brings what was composed elsewhere of the same `inputs` into the store; whether there was such a thing.
pub fn fetch_all(
    remote: &Remote,
    inputs: &Inputs,
    plan: &Plan,
    store: &Store,
    progress: &Progress,
) -> Result<bool, ComposeError> {
    let before = remote.counters().so_far();
    let fetched = progress.stage(
        "ask the remote store",
        || {
            let fetched = fetch(remote, inputs, plan, store);
            Ok::<_, ComposeError>(remote.counters().looked_for(fetched).is_some())
        },
        |fetched| match fetched {
            true => format!(
                "composed elsewhere, {}",
                mebibytes((remote.counters().so_far() - before).received)
            ),
            false => "not composed elsewhere".to_owned(),
        },
    )?;
    tell(remote, progress);
    Ok(fetched)
}

/// Adds to the remote store what this build has made, or had already, and that lacks.
pub fn add_all(
    remote: &Remote,
    inputs: &Inputs,
    plan: &Plan,
    pool: &Pool,
    store: &Store,
    progress: &Progress,
) -> Result<(), ComposeError> {
    if !remote.is_written() {
        tell(remote, progress);
        return Ok(());
    }
    let before = remote.counters().so_far();
    progress.stage(
        "add to the remote store",
        || {
            let pieces = pool.add(store);
            Ok::<_, ComposeError>((add(remote, inputs, plan, store).is_some(), pieces))
        },
        |(composed, pieces)| {
            let sent = mebibytes((remote.counters().so_far() - before).sent);
            match (composed, pieces) {
                (false, 0) => "nothing".to_owned(),
                (false, _) => format!("{pieces} pieces, {sent}"),
                (true, 0) => format!("what was composed, {sent}"),
                (true, _) => format!("what was composed and {pieces} pieces, {sent}"),
            }
        },
    )?;
    tell(remote, progress);
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn tell(remote: &Remote, progress: &Progress) {
    remote
        .take_warnings()
        .iter()
        .for_each(|warning| progress.warn(warning));
}

/// Brings what was composed elsewhere of the same inputs into the store. `None` where there is no such thing, or it is of
/// no use: then what has come of it does no harm.
fn fetch(remote: &Remote, inputs: &Inputs, plan: &Plan, store: &Store) -> Option<()> {
    let entry = remote.entry(COMPOSED, inputs.composed)?;
    let parts = |name: &'static str| entry.parts.iter().filter(move |part| part.name == name);
    let record = parts(RECORD).next().filter(|part| part.size <= LONGEST)?;
    let mut text = Vec::new();
    remote.fetch(COMPOSED, record, &mut text)?;
    let objects: Vec<&Part> = parts(OBJECT).collect();
    all(each(&objects, |part| fetch_object(remote, part, store)))?;
    let tree = cache::tree(&text, store)?;
    let shared = Shared::open(&tree, outputs::repo_mode(plan), store).ok()?;
    if !shared.is_whole() {
        let bundles: Vec<&Part> = parts(CONTENTS).collect();
        all(each(&bundles, |part| {
            // Decompressed only once its digest holds.
            let file = store.temporary().ok()?;
            remote.fetch(COMPOSED, part, &mut file.as_file())?;
            shared.read(file.reopen().ok()?).ok()
        }))?;
    }
    shared.finish().ok()?;
    store.keep_record(inputs.composed, &text).ok()
}

fn fetch_object(remote: &Remote, part: &Part, store: &Store) -> Option<()> {
    if store.object(part.sha256).ok()?.is_some() {
        return Some(());
    }
    let mut writer = store.new_object().ok()?;
    remote.fetch(COMPOSED, part, &mut writer)?;
    writer.keep(part.sha256).ok().map(drop)
}

/// Adds to the remote store what was composed of `inputs`, unless it has it. `None` where nothing was added.
fn add(remote: &Remote, inputs: &Inputs, plan: &Plan, store: &Store) -> Option<()> {
    if !remote.is_written() || remote.has_sound(COMPOSED, inputs.composed) {
        return None;
    }
    let text = store.record(inputs.composed).ok()??;
    let mut objects = Vec::new();
    for digest in cache::objects(&text)? {
        objects.push(store.object(digest).ok()??);
    }
    let tree = cache::tree(&text, store)?;
    let shared = Shared::open(&tree, outputs::repo_mode(plan), store).ok()?;
    let bundles = all(each(&shared.bundles(), |keys| bundle(&shared, keys, store)))?;
    let mut contents = vec![bytes_part(RECORD, &text)];
    for object in &objects {
        contents.push(file_part(OBJECT, object.path(), object.digest()).ok()?);
    }
    for (file, sha256, size) in &bundles {
        contents.push(Content {
            part: Part {
                name: CONTENTS.to_owned(),
                sha256: *sha256,
                size: *size,
            },
            open: Box::new(|| Ok(Box::new(file.reopen()?))),
        });
    }
    remote.add(COMPOSED, inputs.composed, &contents)
}

/// A bundle in a file of its own, which is gone when it is dropped; its digest and size in bytes.
fn bundle(
    shared: &Shared<'_>,
    keys: &[&[u8; 32]],
    store: &Store,
) -> Option<(tempfile::NamedTempFile, Digest, u64)> {
    let mut file = store.temporary().ok()?;
    let mut hashing = Hashing {
        file: file.as_file_mut(),
        hasher: Sha256::new(),
        size: 0,
    };
    shared.write(keys, &mut hashing).ok()?;
    let (digest, size) = (Digest::finish(hashing.hasher), hashing.size);
    Some((file, digest, size))
}

struct Hashing<'a> {
    file: &'a mut File,
    hasher: Sha256,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn all<T>(done: Vec<Option<T>>) -> Option<Vec<T>> {
    done.into_iter().collect()
}
