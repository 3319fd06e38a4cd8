//! Unpacking a package's payload into the store, held against its header all the way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::digests::{FileCheck, PayloadCheck};
use super::error::{Error, Problem};
use super::{FileEntry, Package};
use crate::formats::rpm::payload::{Archive, Compression, Entry, EntryName};
use crate::formats::rpm::tag;
use crate::store::{Blob, Pack, Store};

/// The contents of `package`'s regular files, from the store or unpacked into it: one for each file
/// of its list, `None` for what is no regular file or not in the payload (ghosts).
///
/// # Errors
/// Where the payload is malformed, disagrees with the header, or a digest does not hold. Then
/// nothing of it is kept.
pub fn contents(package: &Package, store: &Store) -> Result<Vec<Option<Blob>>, Error> {
    let read = || -> Result<_, Problem> {
        let pack = match store.pack(package.sha256)? {
            Some(pack) => {
                remake_where_damaged(&pack, package, store);
                pack
            }
            None => unpack(package, store)?,
        };
        assign(package, &pack)
    };
    read().map_err(|problem| problem.at(&package.path))
}

/// A pack that proves to be damaged is unpacked anew from the package's file, which must still be the
/// same then.
fn remake_where_damaged(pack: &Pack, package: &Package, store: &Store) {
    let (path, sha256, store) = (package.path.clone(), package.sha256, store.clone());
    pack.remade_by(move || {
        let package = Package::open(&path).map_err(io::Error::other)?;
        if package.sha256 != sha256 {
            let text = format!("{}: it has been changed during the build", path.display());
            return Err(io::Error::other(text));
        }
        unpack(&package, &store).map_err(|problem| io::Error::other(problem.at(&path)))
    });
}

fn assign(package: &Package, pack: &Pack) -> Result<Vec<Option<Blob>>, Problem> {
    let mut blobs: Vec<Option<Blob>> = vec![None; package.files.len()];
    let mut linked = HashMap::new();
    for (number, blob) in pack.entries() {
        let number = *number as usize;
        let file = package
            .files
            .get(number)
            .ok_or_else(|| Problem::Stray(format!("file {number}")))?;
        if let Some(link) = file.link {
            linked.insert(link, (&file.digest, blob.clone()));
        }
        blobs[number] = Some(blob.clone());
    }
    // Only one file of a hard-link set carries the content.
    for (blob, file) in blobs.iter_mut().zip(&package.files) {
        if blob.is_none() && file.is_regular() && !file.is_ghost() {
            let shared = file.link.and_then(|link| linked.get(&link));
            let (digest, shared) = shared.ok_or_else(|| Problem::Missing(file.path.to_string()))?;
            if **digest != file.digest {
                return Err(refuse(
                    file,
                    "another digest than the file that it is a hard link of",
                ));
            }
            *blob = Some(shared.clone());
        }
    }
    Ok(blobs)
}

/// Passes a payload on, hashing it for the digests that the package claims.
struct Checked<R> {
    inner: R,
    check: PayloadCheck,
}

impl<R: BufRead> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.check.update(&buffer[..count]);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Checked<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Ok(buffer) = self.inner.fill_buf() {
            self.check.update(&buffer[..count]);
        }
        self.inner.consume(count);
    }
}

fn unpack(package: &Package, store: &Store) -> Result<Pack, Problem> {
    let header = &package.preamble.header;
    let mut file = File::open(&package.path)?;
    file.seek(SeekFrom::Start(package.preamble.header_range.end))?;
    let mut reader = BufReader::with_capacity(128 << 10, file);
    if let Some(format) = header.string(tag::PAYLOADFORMAT)?
        && format != b"cpio"
    {
        return Err(Problem::Format(format.escape_ascii().to_string()));
    }
    let name = header.string(tag::PAYLOADCOMPRESSOR)?;
    let compression = Compression::from_tag(name, reader.fill_buf()?).ok_or_else(|| {
        let name = name.unwrap_or_default();
        Problem::Compressor(name.escape_ascii().to_string())
    })?;
    let wanted: u64 = package
        .files
        .iter()
        .filter(|file| file.is_regular())
        .map(|file| file.size)
        // False sizes can come to more than 64 bits hold.
        .fold(0, u64::saturating_add);
    let room = store.room()?;
    if wanted > room {
        return Err(Problem::NoRoom { size: wanted, room });
    }

    let mut checked = Checked {
        inner: reader,
        check: PayloadCheck::new(&package.preamble)?,
    };
    let mut pack = store.new_pack()?;
    let unpacked = unpack_archive(package, compression.decoder(&mut checked)?, &mut pack);
    // A wrong digest explains whatever the archive's reader stumbled over.
    let mut rest = vec![0; 64 << 10];
    while checked.read(&mut rest)? > 0 {}
    checked.check.finish()?;
    unpacked?;
    Ok(pack.finish(package.sha256)?)
}

fn unpack_archive(
    package: &Package,
    reader: impl Read,
    pack: &mut crate::store::PackWriter<'_>,
) -> Result<(), Problem> {
    let by_path: HashMap<_, _> = package
        .files
        .iter()
        .enumerate()
        .map(|(n, file)| (&file.path, n))
        .collect();
    let mut seen = vec![false; package.files.len()];
    let mut archive = Archive::new(reader);
    while let Some(entry) = archive.next_entry()? {
        let shown = || match &entry.name {
            EntryName::Path(path) => path.escape_ascii().to_string(),
            EntryName::Index(index) => format!("file number {index}"),
        };
        let number = match &entry.name {
            EntryName::Path(path) => by_path.get(&crate::path::TreePath::new(path)?).copied(),
            EntryName::Index(index) => usize::try_from(*index).ok().filter(|n| *n < seen.len()),
        };
        let number = number.ok_or_else(|| Problem::Stray(shown()))?;
        let file = &package.files[number];
        if std::mem::replace(&mut seen[number], true) {
            return Err(refuse(file, "two entries in the payload"));
        }
        let size = content_size(package, number, &entry)?;
        if file.is_regular() {
            if size == 0 && file.size != 0 {
                continue;
            }
            let mut check = FileCheck::new(file.digest.as_ref());
            pack.begin_file(size)?;
            archive.content::<Problem>(size, |piece| {
                check.update(piece);
                Ok(pack.write(piece)?)
            })?;
            let number = u32::try_from(number).map_err(std::io::Error::other)?;
            pack.end_file(number, check.finish(&file.path)?)?;
        } else {
            let mut target = Vec::new();
            archive.content::<Problem>(size, |piece| {
                target.extend_from_slice(piece);
                Ok(())
            })?;
            if file.is_symlink() && target != file.target {
                return Err(refuse(
                    file,
                    "another link target in the payload than in the header",
                ));
            }
        }
    }
    let absent = package
        .files
        .iter()
        .zip(seen)
        .find(|(file, seen)| !seen && !file.is_ghost());
    match absent {
        Some((file, _)) => Err(Problem::Missing(file.path.to_string())),
        None => Ok(()),
    }
}

/// Bytes of content that follow `entry`, which the header must agree with.
fn content_size(package: &Package, number: usize, entry: &Entry) -> Result<u64, Problem> {
    let file = &package.files[number];
    let carries = !file.link.is_some_and(|link| {
        let later = &package.files[number + 1..];
        later.iter().any(|other| other.link == Some(link))
    });
    let expected = match file.format() {
        0o100_000 | 0o120_000 => file.size,
        _ => 0,
    };
    let Some(newc) = entry.newc else {
        return Ok(if carries { expected } else { 0 });
    };
    if newc.mode & 0o170_000 != u32::from(file.format()) {
        let found = format!(
            "type {:o} in the payload, {:o} in the header",
            newc.mode >> 12,
            file.mode >> 12
        );
        return Err(refuse(file, &found));
    }
    let found = u64::from(newc.size);
    if found == expected || (found == 0 && file.link.is_some()) {
        return Ok(found);
    }
    Err(refuse(
        file,
        &format!("{found} bytes in the payload, {expected} in the header"),
    ))
}

fn refuse(file: &FileEntry, what: &str) -> Problem {
    Problem::File {
        path: file.path.to_string(),
        what: what.to_owned(),
    }
}
