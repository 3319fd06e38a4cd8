//! One tree, two outputs: that the sealed `/usr` holds exactly the commit's `/usr`.
//!
//! Both are walked in the same order, a batch of paths at a time. A file of the volume is hashed as ostree would name
//! it; where that is the checksum in the commit, owner, mode, extended attributes and content are equal.

use std::cmp::Ordering;
use std::io::{self, Read, Write};

use rayon::prelude::*;

use super::walk::Walk;
use super::{Notes, Place, Subject, commit};
use crate::formats::erofs::{Content, Image, StoredInode};
use crate::formats::gvariant::Value;
use crate::ostree::{ContentChecksum, Entry, EntryKind, Repo};
use crate::store::{Digest, hex};
use crate::tree::Xattrs;
use crate::tree::path::TreePath;

const TYPE: u32 = 0o170_000;
const BATCH: usize = 2048;
/// A compressed file's index, two bytes for 4 KiB, is held in memory.
const MAX_FILE: u64 = 64 << 30;
/// Differences after which there is no use in going on.
const MOST: u64 = 1000;

/// Check `usr-is-commit`.
pub fn usr_is_commit(subject: &Subject, notes: &mut Notes) {
    let Some((repo, checksum)) = commit::find(subject, notes) else {
        return;
    };
    let Ok(object) = repo.commit(&checksum) else {
        return notes.not_checked("the commit cannot be read (see check `commit`)");
    };
    let named = object
        .metadata
        .get(commit::ROOT_HASH)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let hashes = subject.root_hashes();
    let this = hashes
        .iter()
        .find(|(_, hash)| hex(hash) == named)
        .or(hashes.first());
    let usr = this.and_then(|(_, hash)| subject.sealed(hash)[0]);
    let (Some(usr), Some(medium)) = (usr, subject.medium()) else {
        return notes.not_checked(
            "no kernel image names a /usr on the disk (see checks `uki` and `partition-uuids`)",
        );
    };
    let place = Place::file(&medium.name).partition(usr.number);
    let image = match Image::open(medium.partition(usr)) {
        Ok(image) => image,
        Err(error) => return notes.fail(place.at(usr.offset()), error.to_string()),
    };
    let compared = Comparison {
        repo,
        image: &image,
        place,
        notes,
        compared: 0,
    }
    .run(&checksum);
    if let Some(paths) = compared {
        notes.held(format!("{paths} paths are equal"));
    }
}

struct Comparison<'a, S> {
    repo: &'a Repo,
    image: &'a Image<S>,
    place: Place,
    notes: &'a mut Notes,
    compared: u64,
}

impl<S: Content> Comparison<'_, S> {
    /// The number of paths, where all of them are equal.
    fn run(mut self, commit: &Digest) -> Option<u64> {
        let root = TreePath::literal("/usr");
        let mut theirs = match self.repo.walk(commit) {
            Ok(walk) => walk
                .filter(|entry| entry.as_ref().map_or(true, |entry| entry.path.starts_with(&root)))
                .peekable(),
            Err(error) => return self.stop(Place::file("repo"), error.to_string()),
        };
        let mut ours = match Walk::new(self.image, root.clone()) {
            Ok(walk) => walk.peekable(),
            Err(error) => return self.stop(self.place.clone(), error.to_string()),
        };
        let mut batch = Vec::new();
        loop {
            let order = match (theirs.peek(), ours.peek()) {
                (None, None) => break,
                (Some(Err(_)), _) => {
                    let error = theirs.next()?.err()?;
                    return self.stop(Place::file("repo"), error.to_string());
                }
                (_, Some(Err(_))) => {
                    let error = ours.next()?.err()?;
                    return self.stop(self.place.clone(), error.to_string());
                }
                (Some(Ok(_)), None) => Ordering::Less,
                (None, Some(Ok(_))) => Ordering::Greater,
                (Some(Ok(entry)), Some(Ok((path, _)))) => entry.path.cmp(path),
            };
            match order {
                Ordering::Less => {
                    let path = theirs.next()?.ok()?.path;
                    self.fail(&path, "the commit has it, and the sealed /usr does not");
                }
                Ordering::Greater => {
                    let path = ours.next()?.ok()?.0;
                    self.fail(&path, "the sealed /usr has it, and the commit does not");
                }
                Ordering::Equal => batch.push((theirs.next()?.ok()?, ours.next()?.ok()?.1)),
            }
            if batch.len() == BATCH {
                self.compare(&batch);
                batch.clear();
            }
            if self.notes.count() > MOST {
                return self.stop(
                    self.place.clone(),
                    "so much differs that the comparison ended here",
                );
            }
        }
        self.compare(&batch);
        (self.notes.count() == 0).then_some(self.compared)
    }

    fn stop(&mut self, place: Place, what: impl Into<String>) -> Option<u64> {
        self.notes.fail(place, what);
        None
    }

    fn fail(&mut self, path: &TreePath, what: &str) {
        self.notes.fail(self.place.clone().path(path.to_string()), what);
    }

    fn compare(&mut self, batch: &[(Entry, StoredInode)]) {
        let differences: Vec<_> = batch
            .par_iter()
            .map(|(entry, inode)| differences(self.repo, self.image, entry, inode))
            .collect();
        for ((entry, _), differences) in batch.iter().zip(differences) {
            for what in differences {
                self.fail(&entry.path, &what);
            }
        }
        self.compared += batch.len() as u64;
    }
}

/// In which respects the volume's inode is not the commit's entry.
fn differences<S: Content>(repo: &Repo, image: &Image<S>, entry: &Entry, inode: &StoredInode) -> Vec<String> {
    let unreadable = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let xattrs = match image.xattrs(inode) {
        Ok(xattrs) => xattrs,
        Err(error) => return unreadable(&error),
    };
    let mode = u32::from(inode.st_mode());
    if mode & TYPE != entry.mode & TYPE {
        return vec![format!(
            "the sealed /usr has {}, and the commit {}",
            type_name(mode),
            type_name(entry.mode)
        )];
    }
    let fields = field_differences(entry, inode, &xattrs);
    match &entry.kind {
        EntryKind::Directory => fields,
        EntryKind::Symlink { target, .. } => match image.target(inode) {
            Err(error) => unreadable(&error),
            Ok(found) if found == *target => fields,
            Ok(found) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
                let target = format!(
                    "it points to `{}`, and in the commit to `{}`",
                    text(&found),
                    text(target)
                );
                [fields, vec![target]].concat()
            }
        },
        EntryKind::File { checksum, size } => {
            // Before anything is read: what a volume claims of a file's length is what reading it takes.
            if inode.size() != *size {
                let what = format!("it has {} bytes, and in the commit {size}", inode.size());
                return [fields, vec![what]].concat();
            }
            if *size > MAX_FILE {
                return vec![format!("it has {} GiB, more than is compared", size >> 30)];
            }
            let mut sum = ContentChecksum::new(inode.uid(), inode.gid(), mode, xattrs, "");
            if let Err(error) = image.read(inode, &mut sum) {
                return unreadable(&error);
            }
            match sum.finish() == *checksum {
                true => Vec::new(),
                false if fields.is_empty() => vec![content_difference(repo, image, inode, checksum)],
                false => fields,
            }
        }
    }
}

fn field_differences(entry: &Entry, inode: &StoredInode, xattrs: &Xattrs) -> Vec<String> {
    let mut found = Vec::new();
    let mode = u32::from(inode.st_mode());
    let numbers = [("uid", inode.uid(), entry.uid), ("gid", inode.gid(), entry.gid)];
    if mode != entry.mode {
        let bits = |mode: u32| format!("{:04o}", mode & !TYPE);
        found.push(format!(
            "its mode is {}, and in the commit {}",
            bits(mode),
            bits(entry.mode)
        ));
    }
    for (what, ours, theirs) in numbers {
        if ours != theirs {
            found.push(format!("its {what} is {ours}, and in the commit {theirs}"));
        }
    }
    let names = xattrs
        .keys()
        .chain(entry.xattrs.keys().filter(|name| !xattrs.contains_key(*name)));
    for name in names {
        let what = match (xattrs.get(name), entry.xattrs.get(name)) {
            (Some(ours), Some(theirs)) if ours == theirs => continue,
            (Some(_), Some(_)) => "has another value in the commit",
            (Some(_), None) => "is not in the commit",
            (None, _) => "is in the commit only",
        };
        let name = String::from_utf8_lossy(name);
        found.push(format!("its extended attribute `{}` {what}", name.escape_debug()));
    }
    found
}

fn content_difference<S: Content>(
    repo: &Repo,
    image: &Image<S>,
    inode: &StoredInode,
    checksum: &Digest,
) -> String {
    let object = match repo.open_file(checksum) {
        Ok(object) => object,
        Err(error) => return format!("its content differs; the commit's cannot be read: {error}"),
    };
    let mut compare = Compare {
        reader: object.reader,
        at: 0,
        differs: None,
    };
    let read = image.read(inode, &mut compare);
    match (compare.differs, read) {
        (Some(at), _) => format!("its content differs from the commit's from byte {at} on"),
        (None, Err(error)) => format!("its content cannot be compared with the commit's: {error}"),
        (None, Ok(())) => "the commit's object does not have its checksum (see check `commit`)".to_owned(),
    }
}

/// Holds what is written against what a reader gives.
struct Compare<R> {
    reader: R,
    at: u64,
    differs: Option<u64>,
}

impl<R: Read> Write for Compare<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut other = vec![0; bytes.len()];
        self.reader.read_exact(&mut other)?;
        if let Some(at) = other.iter().zip(bytes).position(|(a, b)| a != b) {
            self.differs = Some(self.at + at as u64);
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn type_name(mode: u32) -> &'static str {
    match mode & TYPE {
        0o040_000 => "a directory",
        0o100_000 => "a regular file",
        0o120_000 => "a symbolic link",
        0o020_000 => "a character device",
        0o060_000 => "a block device",
        0o010_000 => "a FIFO",
        0o140_000 => "a socket",
        _ => "something unknown",
    }
}
