//! Content objects of a tree in bundles, for builders elsewhere.
//!
//! A bundle is a zstd stream. In it, after the magic, one content after the other: key in the store (32 bytes), checksum
//! (32 bytes), size (u64, little-endian), the bytes of the object's file. Where bundles end depends on the keys alone, so
//! trees that are nearly the same have most of them in common.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use super::kept::Kept;
use super::layout::RepoMode;
use super::record::TreeRecord;
use crate::store::{Digest, Store, StoreError};

const MAGIC: &[u8; 8] = b"hwtent\0\x01";
/// A bundle ends with a key whose first byte is this: one of 256.
const LAST: u8 = 0;
/// No bundle has more contents.
const MOST: usize = 2048;
const LEVEL: i32 = 3;

/// The contents of a tree in a store, and those that are to come.
pub struct Shared<'a> {
    kept: Kept,
    /// In the order of the tree, each once.
    keys: Vec<&'a [u8; 32]>,
    /// Mode of the file, and owner, mode and attributes.
    metas: HashMap<&'a [u8; 32], (u32, &'a [u8])>,
}

impl<'a> Shared<'a> {
    /// Those of `record`, in repositories of `mode`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn open(record: &'a TreeRecord, mode: RepoMode, store: &Store) -> Result<Self, StoreError> {
        let mut keys = Vec::new();
        let mut metas = HashMap::new();
        for (key, mode, meta) in record.contents() {
            if metas.insert(key, (mode, meta)).is_none() {
                keys.push(key);
            }
        }
        Ok(Self {
            kept: Kept::open(store, mode)?,
            keys,
            metas,
        })
    }

    /// Whether the store has every one of them.
    pub fn is_whole(&self) -> bool {
        self.keys.iter().all(|key| self.kept.find(key).is_some())
    }

    /// The keys, as bundles take them.
    pub fn bundles(&self) -> Vec<&[&'a [u8; 32]]> {
        let ends = self.keys.split_inclusive(|key| key[0] == LAST);
        ends.flat_map(|bundle| bundle.chunks(MOST)).collect()
    }

    /// Writes the bundle of `keys`.
    ///
    /// # Errors
    /// Where the store lacks one of them, or `out` takes no more.
    pub fn write(&self, keys: &[&[u8; 32]], out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(256 << 10, zstd::Encoder::new(out, LEVEL)?);
        out.write_all(MAGIC)?;
        for key in keys {
            let (checksum, path) = self.kept.find(key).ok_or(io::ErrorKind::NotFound)?;
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            out.write_all(*key)?;
            out.write_all(&checksum.0)?;
            out.write_all(&size.to_le_bytes())?;
            if io::copy(&mut Read::by_ref(&mut file).take(size), &mut out)? != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let encoder = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        encoder.finish().map(drop)
    }

    /// Puts what is in the bundle `from` into the store, as far as the tree has it. Shared by threads.
    ///
    /// # Errors
    /// Where it is no bundle, or the store cannot be written.
    pub fn read(&self, from: impl Read) -> io::Result<()> {
        let mut from = BufReader::with_capacity(256 << 10, zstd::Decoder::new(from)?);
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            let mut head = [0; 32 + 32 + 8];
            match from.read(&mut head[..1])? {
                0 => return Ok(()),
                _ => from.read_exact(&mut head[1..])?,
            }
            let (mut key, mut checksum, mut size) = ([0; 32], [0; 32], [0; 8]);
            key.copy_from_slice(&head[..32]);
            checksum.copy_from_slice(&head[32..64]);
            size.copy_from_slice(&head[64..]);
            let mut content = Read::by_ref(&mut from).take(u64::from_le_bytes(size));
            if let Some((mode, meta)) = self.metas.get(&key)
                && self.kept.find(&key).is_none()
            {
                let added = self.kept.add(&key, &Digest(checksum), *mode, meta, &mut content);
                added.map_err(io::Error::other)?;
            }
            io::copy(&mut content, &mut io::sink())?;
            if content.limit() > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Keeps what was read.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn finish(self) -> Result<(), StoreError> {
        self.kept.finish()
    }
}
