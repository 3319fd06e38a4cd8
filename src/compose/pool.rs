//! What builders share piece by piece: what does not depend on the whole definition, and so is of use to images that differ
//! a little.
//!
//! Small values go in runs: neighbours in the order in which they are asked for, of some MiB. Where a run ends, keys of its
//! values say, so two nearly equal lists have nearly all runs in common. A run lies in the remote store under the digest of
//! its keys: one request brings thousands of values, and the entry that names it names all others of that build.
//!
//! Beside the values of its runs, the pool has packed members of initrds.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::disk::usr::CLUSTERS;
use crate::formats::erofs;
use crate::remote::{Part, Remote, Unwanted, each};
use crate::store::{Digest, Key, Store, StoreError, Values};
use crate::tree::depmod;

/// Changes with every change of how runs are made.
const VERSION: &[u8] = b"hullwright run 1\0";
/// Bytes that a run of clusters is of, on average: what they were before they were compressed.
const CLUSTER_RUN: u64 = 8 << 20;
/// As [`CLUSTER_RUN`], of kernel modules: what is kept of them is a hundredth of their size.
const MODULE_RUN: u64 = 64 << 20;
/// Threads that fetch clusters while others compress.
const FETCHERS: usize = 4;
/// The longest member of an initrd, in bytes.
const LONGEST: u64 = 64 << 20;
const INITRD: &str = "initrd";

/// What this build takes from the pool, and has for it; shared by threads.
#[derive(Debug, Default)]
pub struct Pool {
    remote: Option<Arc<Remote>>,
    offers: Mutex<Vec<Offer>>,
}

/// What others may want.
#[derive(Debug)]
struct Offer {
    kind: &'static str,
    key: Digest,
    /// Keys of the values; empty for a record.
    values: Arc<[Key]>,
}

/// Values that are shared together.
#[derive(Debug, Clone)]
struct Run {
    key: Digest,
    values: Arc<[Key]>,
    /// How many values come before it.
    begin: usize,
    /// Bytes that the values are of.
    size: u64,
}

impl Pool {
    pub fn new(remote: Option<Arc<Remote>>) -> Self {
        Self {
            remote,
            offers: Mutex::default(),
        }
    }

    fn offers(&self) -> MutexGuard<'_, Vec<Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, kind: &'static str, key: Digest, values: &Arc<[Key]>) {
        if self.remote.as_ref().is_some_and(|remote| remote.is_written()) {
            let values = Arc::clone(values);
            self.offers().push(Offer { kind, key, values });
        }
    }

    /// The packed member of an initrd under `key`, as records keep it, from others; it is kept in `store`.
    pub fn initrd(&self, key: Digest, store: &Store) -> Option<Vec<u8>> {
        let remote = self.remote.as_ref()?;
        let fetched = remote.find(INITRD, key).and_then(|part| {
            let mut bytes = Vec::new();
            let is_short = part.size <= LONGEST;
            is_short.then(|| remote.fetch(INITRD, &part, &mut bytes))??;
            Some(bytes)
        });
        let bytes = remote.counters().looked_for(fetched)?;
        // That it is not kept costs the next build time, nothing else.
        let _ = store.keep_record(key, &bytes);
        Some(bytes)
    }

    /// That `store` has the packed member of an initrd under `key`.
    pub fn offer_initrd(&self, key: Digest) {
        self.offer(INITRD, key, &Arc::default());
    }

    /// Brings what others know of the modules of a kernel into `values`; `coming` gives those modules, as
    /// [`depmod::outline`] does.
    pub fn modules(&self, coming: impl FnOnce() -> Vec<(Key, u64)>, values: &Values) {
        let Some(remote) = &self.remote else { return };
        let mut wanted = Vec::new();
        for run in runs(&coming(), MODULE_RUN, 0) {
            self.offer(depmod::KEPT, run.key, &run.values);
            if !run.values.iter().all(|key| values.has(key)) {
                wanted.push(run);
            }
        }
        each(&wanted, |run| {
            let mut bytes = Vec::new();
            let value = fetch(remote, depmod::KEPT, run, &mut bytes).and_then(|()| decode(run, &bytes));
            let found = remote.counters().looked_for(value);
            for (key, value) in found.into_iter().flatten() {
                values.put(key, value);
            }
        });
    }

    /// `values`, and the clusters that others have made.
    pub fn clusters(&self, values: Values) -> Clusters<'_> {
        let values = Arc::new(values);
        Clusters {
            door: OpenDoor(Arc::new(Door {
                values: Mutex::new(Some(Arc::clone(&values))),
                closed: AtomicBool::new(false),
                asked: AtomicUsize::new(0),
                left: Mutex::default(),
            })),
            pool: self,
            values,
            expected: AtomicUsize::new(0),
        }
    }

    /// Adds to the remote store what this build has and that lacks; how many pieces.
    pub fn add(&self, store: &Store) -> u64 {
        let Some(remote) = &self.remote else { return 0 };
        let mut offers = std::mem::take(&mut *self.offers());
        offers.sort_by_key(|offer| offer.kind);
        let mut added = 0;
        for offers in offers.chunk_by(|a, b| a.kind == b.kind) {
            let kind = offers[0].kind;
            let keys: Vec<_> = offers.iter().map(|offer| offer.key).collect();
            added += match kind {
                INITRD => remote.add_batches(kind, &keys, |place| store.record(keys[place]).ok()?),
                _ => {
                    let Ok(values) = store.values(kind) else { continue };
                    remote.add_batches(kind, &keys, |place| encode(&offers[place].values, &values))
                }
            };
        }
        added
    }
}

/// Cuts `coming`, keys and the bytes that each is of, into runs. `begin` values came before.
fn runs(coming: &[(Key, u64)], mean: u64, mut begin: usize) -> Vec<Run> {
    let mut found = Vec::new();
    let (mut from, mut size) = (0, 0_u64);
    for (at, (key, length)) in coming.iter().enumerate() {
        size = size.saturating_add(*length);
        // The longer a value is, the more probably a run ends with it: whatever their sizes, runs come to the mean.
        let number = u64::from_be_bytes(*key.first_chunk().unwrap_or(&[0; 8]));
        let is_end = size >= mean / 4 && number < (u64::MAX / mean).saturating_mul(*length);
        if is_end || size >= mean * 4 || at + 1 == coming.len() {
            let values: Arc<[Key]> = coming[from..=at].iter().map(|(key, _)| *key).collect();
            found.push(Run {
                key: Digest::finish(Sha256::new_with_prefix(VERSION).chain_update(values.as_flattened())),
                begin,
                size,
                values,
            });
            begin += at + 1 - from;
            (from, size) = (at + 1, 0);
        }
    }
    found
}

/// The values under `keys`, each after its length (u32, little-endian). `None` where one is not there any more.
fn encode(keys: &[Key], values: &Values) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for key in keys {
        let value = values.get(key)?;
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(value);
    }
    Some(bytes)
}

/// The values in `bytes` with their keys; `None` where they are not just those of `run`.
fn decode<'a>(run: &'a Run, mut bytes: &'a [u8]) -> Option<Vec<(&'a Key, &'a [u8])>> {
    let values = run.values.iter().map(|key| {
        let (length, rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        bytes = rest;
        Some((key, value))
    });
    let values = values.collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(values)
}

fn fetch(remote: &Remote, kind: &'static str, run: &Run, out: &mut dyn Write) -> Option<()> {
    let part: Part = remote.find(kind, run.key)?;
    // What a value has beside compressed bytes is a small part of them, or a few words.
    let most = run.size.saturating_mul(2) + 1024 * run.values.len() as u64;
    (part.size <= most).then(|| remote.fetch(kind, &part, out))?
}

/// Clusters of this store and of others. While the writer of the file system goes from the first to the last and compresses
/// what is not there, others fetch from the last to the first: they meet where both take the same time, and a server that is
/// slow, or has nothing, is not waited for.
pub struct Clusters<'a> {
    pool: &'a Pool,
    values: Arc<Values>,
    door: OpenDoor,
    expected: AtomicUsize,
}

/// Where fetched clusters come in, until the file system is written.
#[derive(Debug)]
struct Door {
    /// Gone once nothing is wanted any more.
    values: Mutex<Option<Arc<Values>>>,
    closed: AtomicBool,
    /// How many values the writer has asked for.
    asked: AtomicUsize,
    /// Runs that are to be fetched, the next one last.
    left: Mutex<Vec<Run>>,
}

impl Clusters<'_> {
    /// Keeps what is new. What is still on its way is given up.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep(self) -> Result<(), StoreError> {
        let Self { values, door, .. } = self;
        drop(door);
        // Nobody else has them any more.
        Arc::into_inner(values).map_or(Ok(()), Values::keep)
    }
}

/// Closes the door behind whoever leaves, however he leaves.
struct OpenDoor(Arc<Door>);

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.lock_values().take();
    }
}

impl erofs::ClusterCache for Clusters<'_> {
    fn expect(&self, coming: &[(Key, u64)]) {
        let Some(remote) = &self.pool.remote else { return };
        let begin = self.expected.fetch_add(coming.len(), Ordering::Relaxed);
        let lengths = coming
            .iter()
            .copied()
            .collect::<std::collections::HashMap<_, _>>();
        let mut wanted = Vec::new();
        for run in runs(coming, CLUSTER_RUN, begin) {
            self.pool.offer(CLUSTERS, run.key, &run.values);
            let absent = run.values.iter().filter(|key| !self.values.has(key));
            let absent: u64 = absent.filter_map(|key| lengths.get(key)).sum();
            // Less is compressed in less time than the whole takes to come.
            if absent >= run.size / 2 {
                wanted.push(run);
            }
        }
        let count = FETCHERS.min(wanted.len());
        *self.door.0.lock_left() = wanted;
        for _ in 0..count {
            let (door, remote) = (Arc::clone(&self.door.0), Arc::clone(remote));
            // Nobody waits for them: the next byte that comes after the door is closed ends them.
            std::thread::spawn(move || while door.fetch_next(&remote).is_some() {});
        }
    }

    fn get(&self, key: &Key) -> Option<Vec<u8>> {
        self.door.0.asked.fetch_add(1, Ordering::Relaxed);
        self.values.get(key)
    }

    fn put(&self, key: &Key, value: &[u8]) {
        self.values.put(key, value);
    }
}

impl Door {
    fn lock_values(&self) -> MutexGuard<'_, Option<Arc<Values>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_left(&self) -> MutexGuard<'_, Vec<Run>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the writer has not come to `run` yet.
    fn wants(&self, run: &Run) -> bool {
        !self.closed.load(Ordering::Relaxed) && self.asked.load(Ordering::Relaxed) <= run.begin
    }

    /// Fetches a run; `None` where there is nothing more to do.
    fn fetch_next(&self, remote: &Remote) -> Option<()> {
        let run = self.lock_left().pop();
        // All that are left come before it.
        let run = run.filter(|run| self.wants(run))?;
        let mut wanted = Wanted {
            door: self,
            run: &run,
            bytes: Vec::new(),
        };
        let fetched = fetch(remote, CLUSTERS, &run, &mut wanted);
        let bytes = wanted.bytes;
        if fetched.is_none() && !self.wants(&run) {
            return None;
        }
        let found = fetched.and_then(|()| decode(&run, &bytes));
        let found = remote.counters().looked_for(found);
        if let Some(values) = &*self.lock_values() {
            for (key, value) in found.into_iter().flatten() {
                values.put(key, value);
            }
        }
        Some(())
    }
}

/// Takes the bytes of a run as long as it is wanted.
struct Wanted<'a> {
    door: &'a Door,
    run: &'a Run,
    bytes: Vec<u8>,
}

impl Write for Wanted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.door.wants(self.run) {
            return Err(io::Error::other(Unwanted));
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
