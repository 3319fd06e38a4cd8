//! A store that a fleet of builders shares through an object store: `--remote-store URL`.
//!
//! | name | what |
//! | --- | --- |
//! | `v1/objects/<2 digits>/<62 digits>` | bytes under their SHA-256 |
//! | `v1/entries/<kind>/<2 digits>/<62 digits>` | signed entries ([`Entry`]) under the SHA-256 of kind, key and program; one that stands for many keys under each ([`Remote::find`]) |
//!
//! Nobody needs to trust the server. What it gives is held against its digest when it arrives, and the digest comes from an
//! entry that a builder has signed whose key the reader lists. Nor does anybody need the server: once it fails, it is left
//! alone, and the build goes on without it.

mod batch;
mod envelope;
mod http;
mod place;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};

use batch::Catalogue;
pub use envelope::{Entry, Part, Refusal, open as open_entry};
use place::{Place, Trouble};

use crate::formats::x509::PublicKey;
use crate::report::Counters;
use crate::signing::{KeySource, Signer, SigningError, open_signer, public_key};
use crate::store::Digest;

/// The largest object that is fetched, in bytes.
const LARGEST: u64 = 64 << 30;
/// Requests at a time.
const REQUESTS: usize = 8;

/// How a remote store is used.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    /// Files with the public keys (PEM) of builders whose entries are read.
    pub keys: Vec<PathBuf>,
    /// Signs what this build adds; without it nothing is added.
    pub sign: Option<KeySource>,
    /// The program itself, which entries are bound to.
    pub program: PathBuf,
}

/// A remote store cannot be used as it was asked for.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RemoteError {
    #[error("the remote store `{url}` cannot be used: {why}")]
    #[diagnostic(help("name one as s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIRECTORY"))]
    Url { url: String, why: String },
    #[error("nothing in the remote store could be relied on: no key is named")]
    #[diagnostic(help(
        "name the public keys of the builders that you trust (`--remote-key FILE`), or a private key of your own to add entries with (`--remote-sign FILE`)"
    ))]
    NoKey,
    #[error("a key of the remote store cannot be used")]
    Key(
        #[from]
        #[source]
        #[diagnostic_source]
        SigningError,
    ),
    #[error("the program `{}` cannot be read", path.display())]
    Program { path: PathBuf, source: io::Error },
}

/// A remote store in use by one build; shared by threads.
pub struct Remote {
    url: String,
    place: Place,
    trusted: Vec<PublicKey>,
    signer: Option<Box<dyn Signer>>,
    program: Digest,
    /// Set once the place has failed.
    down: AtomicBool,
    warnings: Mutex<Vec<String>>,
    refused: Mutex<BTreeSet<(Refusal, &'static str)>>,
    /// Objects that are not what their names say: sent anew, though they are there.
    rotten: Mutex<BTreeSet<Digest>>,
    catalogue: Catalogue,
    counters: Arc<Counters>,
    said: OnceLock<()>,
}

/// Content for a part of an entry.
pub struct Content<'a> {
    pub part: Part,
    /// Opens it, from its beginning.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read>> + Sync + 'a>,
}

impl Remote {
    /// Reads keys and URL. No server is asked anything.
    ///
    /// # Errors
    /// Where they cannot be used.
    pub fn new(options: &Options) -> Result<Self, RemoteError> {
        let place = Place::parse(&options.url).map_err(|why| RemoteError::Url {
            url: options.url.split('?').next().unwrap_or_default().to_owned(),
            why,
        })?;
        let mut trusted = Vec::new();
        for path in &options.keys {
            trusted.push(public_key(path)?);
        }
        let mut warnings = Vec::new();
        let opened = options.sign.as_ref().map(open_signer).transpose()?;
        let signer = opened.map(|opened| {
            warnings.extend(opened.warnings);
            trusted.push(opened.signer.public_key().clone());
            opened.signer
        });
        if trusted.is_empty() {
            return Err(RemoteError::NoKey);
        }
        let program = crate::report::file_digest(&options.program);
        Ok(Self {
            url: options.url.clone(),
            place,
            trusted,
            signer,
            program: program.map_err(|source| RemoteError::Program {
                path: options.program.clone(),
                source,
            })?,
            down: AtomicBool::new(false),
            warnings: Mutex::new(warnings),
            refused: Mutex::default(),
            rotten: Mutex::default(),
            catalogue: Catalogue::default(),
            counters: Arc::default(),
            said: OnceLock::new(),
        })
    }

    /// Whether this build adds entries, and the place has not failed.
    pub fn is_written(&self) -> bool {
        self.signer.is_some() && !self.is_down()
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// The entry of `kind` under `key`, where there is one that can be relied on.
    pub fn entry(&self, kind: &'static str, key: Digest) -> Option<Entry> {
        self.entry_where(kind, key, |entry| entry.key == key)
    }

    /// Whether the entry is there and nothing of it has proved to be useless.
    pub fn has_sound(&self, kind: &'static str, key: Digest) -> bool {
        let entry = self.entry(kind, key);
        let rotten = self.rotten();
        entry.is_some_and(|entry| !entry.parts.iter().any(|part| rotten.contains(&part.sha256)))
    }

    /// Writes the content of `part` to `out`, which may fail with [`Unwanted`]; `None` where it is not to be had. Then what was written is of no use, and it
    /// has been said why.
    pub fn fetch(&self, kind: &'static str, part: &Part, out: &mut dyn Write) -> Option<()> {
        let mut hashing = Hashing {
            out,
            hasher: Sha256::new(),
        };
        let read = self.read(&object_name(part.sha256), part.size.min(LARGEST), &mut hashing);
        match read {
            Ok(count) if count == part.size && Digest::finish(hashing.hasher) == part.sha256 => Some(()),
            Err(Trouble::Here(error)) if is_unwanted(&error) => None,
            Ok(_) | Err(Trouble::Absent | Trouble::TooLong) => {
                self.rotten().insert(part.sha256);
                self.refuse(Refusal::Parts, kind);
                None
            }
            Err(_) => None,
        }
    }

    /// Adds an entry: first its parts, as far as they are not there, then the entry that names them. `None` where it
    /// could not; it has been said why.
    pub fn add(&self, kind: &'static str, key: Digest, contents: &[Content<'_>]) -> Option<()> {
        self.signer.as_deref()?;
        let sent = each(contents, |content| self.send(content));
        if sent.iter().any(Option::is_none) {
            return None;
        }
        let entry = Entry {
            kind: kind.to_owned(),
            key,
            program: self.program,
            parts: contents.iter().map(|content| content.part.clone()).collect(),
        };
        let bytes = self.sealed(&entry)?;
        self.write(
            &self.entry_name(kind, key),
            bytes.len() as u64,
            &mut bytes.as_slice(),
        )?;
        Some(())
    }

    fn sealed(&self, entry: &Entry) -> Option<Vec<u8>> {
        match envelope::seal(entry, self.signer.as_deref()?) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.fail(&format!("the key signs nothing: {error}"));
                None
            }
        }
    }

    fn send(&self, content: &Content<'_>) -> Option<()> {
        let name = object_name(content.part.sha256);
        if self.has(&name, content.part.size, content.part.sha256)? {
            return Some(());
        }
        let mut opened = match (content.open)() {
            Ok(opened) => opened,
            Err(error) => {
                self.note(&Trouble::Here(error));
                return None;
            }
        };
        self.write(&name, content.part.size, &mut opened)
    }

    /// Whether the object is there, of that size and as far as is known sound; `None` where the place does not say.
    fn has(&self, name: &str, size: u64, sha256: Digest) -> Option<bool> {
        if self.is_down() {
            return None;
        }
        match self.place.has(name, size) {
            Ok(found) => Some(found && !self.rotten().contains(&sha256)),
            Err(trouble) => {
                self.note(&trouble);
                None
            }
        }
    }

    fn write(&self, name: &str, size: u64, content: &mut dyn Read) -> Option<()> {
        if self.is_down() {
            return None;
        }
        match self.place.write(name, size, content) {
            Ok(()) => {
                self.counters.sent(size);
                Some(())
            }
            Err(trouble) => {
                self.note(&trouble);
                None
            }
        }
    }

    fn read(&self, name: &str, limit: u64, out: &mut dyn Write) -> Result<u64, Trouble> {
        if self.is_down() {
            return Err(Trouble::Absent);
        }
        let read = self.place.read(name, limit, out);
        match &read {
            Ok(count) => self.counters.received(*count),
            Err(Trouble::Here(error)) if is_unwanted(error) => {}
            Err(trouble) => self.note(trouble),
        }
        read
    }

    /// Leaves the place alone from now on, where `trouble` is its own.
    fn note(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Absent | Trouble::TooLong => {}
            Trouble::Place(why) => self.fail(why),
            Trouble::Here(error) => self.fail(&error.to_string()),
        }
    }

    fn fail(&self, why: &str) {
        self.down.store(true, Ordering::Relaxed);
        if self.said.set(()).is_ok() {
            let url = &self.url;
            self.warn(format!(
                "the remote store `{url}` is left alone, and the build goes on without it: {why}"
            ));
        }
    }

    fn refuse(&self, refusal: Refusal, kind: &'static str) {
        // A part that is missing because the place has failed is not the entry's fault.
        if self.is_down() {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.insert((refusal, kind)) {
            let url = &self.url;
            self.warn(format!(
                "an entry `{kind}` of the remote store `{url}` is ignored, and what it should hold is made here: {refusal}"
            ));
        }
    }

    fn rotten(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.rotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(text);
    }

    /// What people should know, since it was last asked.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What goes back and forth.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn entry_name(&self, kind: &str, key: Digest) -> String {
        let name = [kind.as_bytes(), b"\0", &key.0, &self.program.0].concat();
        let name = Digest::of(&name).to_string();
        let (fan, rest) = name.split_at(2);
        format!("v1/entries/{kind}/{fan}/{rest}")
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.url)
    }
}

fn object_name(digest: Digest) -> String {
    let name = digest.to_string();
    let (fan, rest) = name.split_at(2);
    format!("v1/objects/{fan}/{rest}")
}

/// What a writer fails with that has no more use for what comes: nobody's fault.
#[derive(Debug, thiserror::Error)]
#[error("it is not wanted any more")]
pub struct Unwanted;

fn is_unwanted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<Unwanted>())
}

/// Passes on what is written, hashing it.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What `work` makes of each of `items`, in their order; a few at a time on threads of their own, as most of them wait.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..REQUESTS.min(items.len())).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        let joined = joined.map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A part whose content is in memory.
pub fn bytes_part<'a>(name: &str, bytes: &'a [u8]) -> Content<'a> {
    Content {
        part: Part {
            name: name.to_owned(),
            sha256: Digest::of(bytes),
            size: bytes.len() as u64,
        },
        open: Box::new(move || Ok(Box::new(io::Cursor::new(bytes.to_vec())))),
    }
}

/// A part whose content is the file `path`, of the digest `sha256`.
///
/// # Errors
/// Where the file is not there.
pub fn file_part<'a>(name: &str, path: &'a Path, sha256: Digest) -> io::Result<Content<'a>> {
    Ok(Content {
        part: Part {
            name: name.to_owned(),
            sha256,
            size: std::fs::metadata(path)?.len(),
        },
        open: Box::new(move || Ok(Box::new(std::fs::File::open(path)?))),
    })
}

#[cfg(test)]
mod tests;
