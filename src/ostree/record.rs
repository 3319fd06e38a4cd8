//! What a tree's objects are made of, so that a repository with them can be made again from the store alone.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::Error;
use super::content::{Content, bare_mode};
use super::kept::Kept;
use super::layout::{Layout, RepoMode};
use super::object::Kind;
use crate::store::Store;

const MAGIC: &[u8; 8] = b"hwtree\0\x01";

/// The objects of a tree. Contents are in the store; directories are here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeRecord {
    /// Key in the store, mode of the object's file, index into `metas`.
    contents: Vec<([u8; 32], u32, u32)>,
    /// Owner, mode and attributes of contents, each once.
    metas: Vec<Vec<u8>>,
    /// Dirtrees and dirmetas.
    objects: Vec<(Kind, Vec<u8>)>,
}

impl TreeRecord {
    pub(super) fn add_contents(&mut self, kept: &Kept, contents: &[Content<'_>]) {
        let mut known = HashMap::new();
        for content in contents {
            let meta = content.owned.dirmeta();
            let next = self.metas.len() as u32;
            let index = *known.entry(meta.clone()).or_insert(next);
            if index == next {
                self.metas.push(meta);
            }
            self.contents.push((kept.key(content), bare_mode(content), index));
        }
    }

    pub(super) fn add_object(&mut self, kind: Kind, bytes: Vec<u8>) {
        self.objects.push((kind, bytes));
    }

    /// Key in the store, mode of the file, and owner, mode and attributes of each content.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&[u8; 32], u32, &[u8])> {
        let meta = |index: u32| self.metas.get(index as usize).map_or(&[][..], Vec::as_slice);
        self.contents
            .iter()
            .map(move |(key, mode, index)| (key, *mode, meta(*index)))
    }

    /// As bytes: the magic, three counts, contents, metas, objects; numbers are u32, little-endian, and bytes follow their
    /// length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let counts = [self.contents.len(), self.metas.len(), self.objects.len()];
        counts.iter().for_each(|count| put(&mut out, *count as u32));
        for (key, mode, meta) in &self.contents {
            out.extend(key);
            put(&mut out, *mode);
            put(&mut out, *meta);
        }
        let put_bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            put(out, bytes.len() as u32);
            out.extend(bytes);
        };
        self.metas.iter().for_each(|meta| put_bytes(&mut out, meta));
        for (kind, bytes) in &self.objects {
            out.push(u8::from(*kind == Kind::DirTree));
            put_bytes(&mut out, bytes);
        }
        out
    }

    /// Reads what [`TreeRecord::to_bytes`] wrote; `None` where it is no such thing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let rest = &mut rest;
        let counts = [take_number(rest)?, take_number(rest)?, take_number(rest)?];
        let mut record = Self::default();
        for _ in 0..counts[0] {
            let key = take(rest, 32)?.try_into().ok()?;
            let (mode, meta) = (take_number(rest)?, take_number(rest)?);
            record.contents.push((key, mode, meta));
        }
        for _ in 0..counts[1] {
            record.metas.push(take_bytes(rest)?);
        }
        for _ in 0..counts[2] {
            let kind = match take(rest, 1)? {
                [0] => Kind::DirMeta,
                [1] => Kind::DirTree,
                _ => return None,
            };
            record.objects.push((kind, take_bytes(rest)?));
        }
        let known = |(_, _, meta): &([u8; 32], u32, u32)| (*meta as usize) < record.metas.len();
        (rest.is_empty() && record.contents.iter().all(known)).then_some(record)
    }
}

fn put(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_le_bytes());
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let count = take_number(rest)? as usize;
    Some(take(rest, count)?.to_vec())
}

/// Makes a repository at `repo_dir`, where there is none yet, with the objects of `record`; `false` where the store lacks
/// one of them: then what has been made is of no use.
///
/// # Errors
/// Where the store cannot be read, or the repository not be written.
pub fn restore_tree(
    record: &TreeRecord,
    mode: RepoMode,
    repo_dir: &Path,
    store: &Store,
) -> Result<bool, Error> {
    let mut layout = Layout::create(repo_dir, mode)?;
    let kept = Kept::open(store, mode)?;
    let aside = layout.set_aside()?;
    let linked = record.contents.par_iter().all(|(key, mode, meta)| {
        let meta = record.metas.get(*meta as usize);
        meta.is_some_and(|meta| kept.link_as(key, *mode, meta, &layout).is_some())
    });
    if !linked {
        return Ok(false);
    }
    let objects = record.objects.par_iter();
    objects.try_for_each(|(kind, bytes)| kept.write_metadata(*kind, bytes, &layout).map(drop))?;
    kept.finish()?;
    if let Some(aside) = aside {
        layout.settle(aside)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let record = TreeRecord {
            contents: vec![([7; 32], 0o644, 0), ([8; 32], 0o755, 1)],
            metas: vec![b"one".to_vec(), Vec::new()],
            objects: vec![
                (Kind::DirTree, b"tree".to_vec()),
                (Kind::DirMeta, b"meta".to_vec()),
            ],
        };
        let bytes = record.to_bytes();
        assert_eq!(TreeRecord::from_bytes(&bytes), Some(record));
        for end in 0..bytes.len() {
            assert_eq!(TreeRecord::from_bytes(&bytes[..end]), None, "{end}");
        }
        assert_eq!(TreeRecord::from_bytes(&[&bytes[..], b"x"].concat()), None);
    }
}
