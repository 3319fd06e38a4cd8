//! Many contents of a kind in one entry, each under a key of its own.
//!
//! A part of such an entry is called by its key, in hexadecimal; the entry's own key is the digest of these names. It lies
//! under the key of each of its parts: whoever asks for one of them learns of all that the builder has added at once, which
//! nearly always is what he asks for next.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::envelope::{Entry, Part, Refusal};
use super::place::Trouble;
use super::{Remote, each, envelope, object_name};
use crate::store::Digest;

/// Parts of an entry: it is written as often.
const MOST: usize = 64;

/// What is known of one kind: the part under each key; `None` where it was asked for and is not there.
type Known = BTreeMap<Digest, Option<Part>>;

/// What a build has learnt so far.
#[derive(Default)]
pub(super) struct Catalogue {
    known: Mutex<BTreeMap<&'static str, Known>>,
    /// Held by the first who asks, so that the others do not ask for what he learns.
    first: Mutex<()>,
}

impl Catalogue {
    fn get(&self, kind: &'static str, key: Digest) -> Option<Option<Part>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(kind)?.get(&key).cloned()
    }

    fn has_answers(&self, kind: &'static str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(kind)
    }

    fn learn(&self, kind: &'static str, key: Digest, entry: Option<Entry>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(kind).or_default();
        for part in entry.into_iter().flat_map(|entry| entry.parts) {
            if let Ok(key) = part.name.parse() {
                // What was found first stays.
                let place = known.entry(key).or_default();
                *place = place.take().or(Some(part));
            }
        }
        known.entry(key).or_default();
    }
}

impl Remote {
    /// The content of `kind` under `key`, where somebody trusted has added it and nothing of it has proved to be useless.
    /// The server is asked once.
    pub fn find(&self, kind: &'static str, key: Digest) -> Option<Part> {
        let part = match self.catalogue.get(kind, key) {
            Some(known) => known,
            None => self.ask(kind, key),
        };
        part.filter(|part| !self.rotten().contains(&part.sha256))
    }

    fn ask(&self, kind: &'static str, key: Digest) -> Option<Part> {
        let first = (!self.catalogue.has_answers(kind)).then(|| {
            self.catalogue
                .first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        });
        if let Some(known) = first.as_ref().and_then(|_| self.catalogue.get(kind, key)) {
            return known;
        }
        let name = key.to_string();
        let entry = self.entry_where(kind, key, |entry| {
            entry.key == batch_key(entry.parts.iter()) && entry.parts.iter().any(|part| part.name == name)
        });
        if !self.is_down() {
            self.catalogue.learn(kind, key, entry);
        }
        drop(first);
        self.catalogue.get(kind, key).flatten()
    }

    /// Adds contents of `kind`: `make` gives what belongs under the key of that place in `keys`, or `None` where it is not to
    /// be had any more. How many were added; it has been said why it were not all.
    pub fn add_batches(
        &self,
        kind: &'static str,
        keys: &[Digest],
        make: impl Fn(usize) -> Option<Vec<u8>> + Sync,
    ) -> u64 {
        if !self.is_written() {
            return 0;
        }
        let places: Vec<usize> = (0..keys.len()).collect();
        let lacking = each(&places, |place| self.find(kind, keys[*place]).is_none());
        let mut places = places;
        places.retain(|place| lacking[*place]);
        let mut added = 0;
        for places in places.chunks(MOST) {
            let parts = each(places, |place| {
                let bytes = make(*place)?;
                let sha256 = Digest::of(&bytes);
                self.send_bytes(sha256, &bytes)?;
                Some(Part {
                    name: keys[*place].to_string(),
                    sha256,
                    size: bytes.len() as u64,
                })
            });
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            added += self.add_batch(kind, parts).unwrap_or(0);
        }
        added
    }

    /// Writes the entry of `parts`, which are there.
    fn add_batch(&self, kind: &'static str, parts: Vec<Part>) -> Option<u64> {
        if parts.is_empty() || !self.is_written() {
            return None;
        }
        let keys: Vec<Digest> = parts.iter().filter_map(|part| part.name.parse().ok()).collect();
        let bytes = self.sealed(&Entry {
            kind: kind.to_owned(),
            key: batch_key(parts.iter()),
            program: self.program,
            parts,
        })?;
        let written = each(&keys, |key| {
            self.write(
                &self.entry_name(kind, *key),
                bytes.len() as u64,
                &mut bytes.as_slice(),
            )
        });
        Some(written.iter().flatten().count() as u64)
    }

    fn send_bytes(&self, sha256: Digest, bytes: &[u8]) -> Option<()> {
        let (name, size) = (object_name(sha256), bytes.len() as u64);
        match self.has(&name, size, sha256)? {
            true => Some(()),
            false => self.write(&name, size, &mut &*bytes),
        }
    }

    /// The entry of `kind` that lies under `key`, where it can be relied on and `is_it`.
    pub(super) fn entry_where(
        &self,
        kind: &'static str,
        key: Digest,
        is_it: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        let mut bytes = Vec::new();
        let read = self.read(&self.entry_name(kind, key), envelope::LARGEST, &mut bytes);
        match read {
            Ok(_) => {}
            Err(Trouble::TooLong) => {
                self.refuse(Refusal::Malformed, kind);
                return None;
            }
            Err(_) => return None,
        }
        let opened = envelope::open(&bytes, &self.trusted).and_then(|entry| {
            let is_it = entry.kind == kind && entry.program == self.program && is_it(&entry);
            if is_it { Ok(entry) } else { Err(Refusal::Moved) }
        });
        match opened {
            Ok(entry) => Some(entry),
            Err(refusal) => {
                self.refuse(refusal, kind);
                None
            }
        }
    }
}

/// The key of an entry that has `parts`.
fn batch_key<'a>(parts: impl Iterator<Item = &'a Part>) -> Digest {
    let names: Vec<&str> = parts.map(|part| part.name.as_str()).collect();
    Digest::of(names.join(" ").as_bytes())
}
