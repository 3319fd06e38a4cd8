//! A pack: the regular files of one package, unpacked once and kept.
//!
//! Layout: the contents one after the other; then the index, 52 bytes an entry (file number u32,
//! offset u64, size u64, SHA-256); then the footer: number of entries u32, SHA-256 of the index,
//! magic. Little-endian. A pack gets its name only when it is complete.
//!
//! Large contents are not in it but objects of their own, the offset of which is [`ALONE`]: so that an ostree
//! repository can share them instead of copying them. A pack is whole only while the store has all of them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::packed::{PackFile, Packed};
use super::{Blob, Digest, ObjectWriter, Store, StoreError};

const MAGIC: &[u8; 8] = b"hwpack\0\x02";
/// In place of an offset: the content is an object.
const ALONE: u64 = u64::MAX;
/// Contents of so many bytes and more are objects: most of a system's bytes are in few of its files.
const LARGE: u64 = 64 << 10;
const ENTRY: usize = 4 + 8 + 8 + 32;
/// Small files are gathered; what is as large as this goes out as it is.
const BUFFER: usize = 64 << 10;
const FOOTER: usize = 4 + 32 + 8;

/// The contents of a package, by the number that its file list gives each file.
#[derive(Debug, Clone)]
pub struct Pack {
    entries: Vec<(u32, Blob)>,
    pub(super) file: Arc<PackFile>,
}

impl Pack {
    /// Number of file and content, in the order in which they were written.
    pub fn entries(&self) -> &[(u32, Blob)] {
        &self.entries
    }

    /// What is wrong with the contents that are in the pack, all of which are read.
    pub(super) fn damage(&self) -> Option<String> {
        let damaged = self.entries.iter();
        let damaged = damaged.filter(|(_, blob)| {
            blob.packed()
                .is_some_and(|entry| !entry.is_alone() && !entry.is_sound())
        });
        let numbers: Vec<_> = damaged.map(|(number, _)| number.to_string()).collect();
        (!numbers.is_empty()).then(|| match numbers.as_slice() {
            [one] => format!("file number {one} is damaged"),
            many => format!("files number {} are damaged", many.join(", ")),
        })
    }

    /// Notes that the contents which are objects are used now; whether the store has all of them.
    pub(super) fn use_objects(&self) -> io::Result<bool> {
        let entries = self.entries.iter().filter_map(|(_, blob)| blob.packed());
        for entry in entries.filter(|entry| entry.is_alone()) {
            if !self.file.store().uses_object(entry.sha256(), entry.size())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells how the package is unpacked anew into the store, should a file prove to be damaged when
    /// it is read. Then the pack is dropped, and its blobs go on with the new one.
    pub fn remade_by(&self, remake: impl FnOnce() -> io::Result<Self> + Send + 'static) {
        self.file.set_remake(Box::new(remake));
    }

    /// Reads the index of the pack at `path`, opened as `file`; `None` where it is not whole.
    /// `verified`: whether its contents need not be verified, as this program has just written them.
    pub(super) fn open(store: &Store, path: PathBuf, file: File, verified: bool) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let Some(index_end) = length.checked_sub(FOOTER as u64) else {
            return Ok(None);
        };
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, index_end)?;
        let count = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
        let Some(index_start) = index_end.checked_sub(count * ENTRY as u64) else {
            return Ok(None);
        };
        if &footer[36..] != MAGIC {
            return Ok(None);
        }
        let mut index = vec![0; usize::try_from(index_end - index_start).map_err(io::Error::other)?];
        file.read_exact_at(&mut index, index_start)?;
        if Digest::of(&index).0 != footer[4..36] {
            return Ok(None);
        }
        let file = Arc::new(PackFile::new(store.clone(), path, file));
        let mut entries = Vec::with_capacity(index.len() / ENTRY);
        for entry in index.chunks_exact(ENTRY) {
            let mut words = [[0; 8]; 2];
            words[0].copy_from_slice(&entry[4..12]);
            words[1].copy_from_slice(&entry[12..20]);
            let [offset, size] = words.map(u64::from_le_bytes);
            let mut digest = [0; 32];
            digest.copy_from_slice(&entry[20..]);
            let digest = Digest(digest);
            let offset = match offset {
                ALONE => None,
                offset if offset.checked_add(size).is_some_and(|end| end <= index_start) => Some(offset),
                _ => return Ok(None),
            };
            let number = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let entry = Packed::new(Arc::clone(&file), offset, size, digest, verified);
            entries.push((number, Blob::from_pack(entry)));
        }
        Ok(Some(Self { entries, file }))
    }
}

/// Writes a pack; dropped unfinished, it leaves nothing.
pub struct PackWriter<'a> {
    store: &'a Store,
    out: BufWriter<NamedTempFile>,
    index: Vec<u8>,
    start: u64,
    end: u64,
    /// The current file, if it is large, and its bytes so far.
    alone: Option<(ObjectWriter, u64)>,
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(store: &'a Store) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            out: BufWriter::with_capacity(BUFFER, store.temporary()?),
            index: Vec::new(),
            start: 0,
            end: 0,
            alone: None,
        })
    }

    /// Begins a file of `size` bytes.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn begin_file(&mut self, size: u64) -> Result<(), StoreError> {
        if size >= LARGE {
            self.alone = Some((self.store.new_object()?, 0));
        }
        Ok(())
    }

    /// Appends to the content of the current file.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let length = piece.len() as u64;
        let written = match &mut self.alone {
            Some((object, size)) => {
                *size += length;
                object.write_all(piece)
            }
            None => {
                self.end += length;
                self.out.write_all(piece)
            }
        };
        written.map_err(|error| self.store.failed(error))
    }

    /// Ends the current file: its number, and the SHA-256 of what was written for it. A large one is in the store
    /// from now on, whatever becomes of the pack.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn end_file(&mut self, number: u32, sha256: Digest) -> Result<(), StoreError> {
        let (offset, size) = match self.alone.take() {
            Some((object, size)) => {
                object.keep(sha256)?;
                (ALONE, size)
            }
            None => (self.start, self.end - self.start),
        };
        self.index.extend(number.to_le_bytes());
        self.index.extend(offset.to_le_bytes());
        self.index.extend(size.to_le_bytes());
        self.index.extend(sha256.0);
        self.start = self.end;
        Ok(())
    }

    /// Completes the pack under `key`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn finish(mut self, key: Digest) -> Result<Pack, StoreError> {
        let count = u32::try_from(self.index.len() / ENTRY).unwrap_or(u32::MAX);
        let footer = [&count.to_le_bytes()[..], &Digest::of(&self.index).0, MAGIC].concat();
        let written = self
            .out
            .write_all(&self.index)
            .and_then(|()| self.out.write_all(&footer));
        written.map_err(|error| self.store.failed(error))?;
        let file = self
            .out
            .into_inner()
            .map_err(|error| self.store.failed(error.into_error()))?;
        self.store.keep_pack(file, key)
    }
}
