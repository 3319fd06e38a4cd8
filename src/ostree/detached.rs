//! Detached metadata of a commit: what is said of it and not part of its checksum, such as signatures.
//!
//! Specification: libostree's `ostree-sign.h`: key `ostree.sign.ed25519`, an array of signatures
//! over the commit object's bytes.

use std::path::{Path, PathBuf};

use super::Error;
use super::layout::Layout;
use super::object::Kind;
use crate::formats::gvariant::{Fixed, Type, Value, parse, serialise};
use crate::store::Digest;

const ED25519: &str = "ostree.sign.ed25519";
/// Signatures that are read at most, in bytes.
const LARGEST: u64 = 1 << 20;

/// The bytes of a commit object: what is signed.
///
/// # Errors
/// Where the repository does not hold it undamaged.
pub fn commit_bytes(repo: &Path, commit: &Digest) -> Result<Vec<u8>, Error> {
    Layout::open(repo)?.read_metadata(commit, Kind::Commit)
}

/// Puts Ed25519 signatures (64 bytes each) beside `commit`, in place of others.
///
/// # Errors
/// I/O.
pub fn write_signatures(repo: &Path, commit: &Digest, signatures: &[Vec<u8>]) -> Result<(), Error> {
    let layout = Layout::open(repo)?;
    let bytes = Type::Array(Box::new(Type::Fixed(Fixed::Byte)));
    let signatures = signatures
        .iter()
        .map(|signature| Value::bytes(signature))
        .collect();
    let metadata = Value::vardict([(ED25519, Value::Array(bytes, signatures))]);
    layout.write_file(&relative(commit), &serialise(&metadata))
}

/// The Ed25519 signatures beside `commit`; none where there is no detached metadata.
///
/// # Errors
/// Where it cannot be read, or is malformed.
pub fn read_signatures(repo: &Path, commit: &Digest) -> Result<Vec<Vec<u8>>, Error> {
    let path = repo.join(relative(commit));
    let Some(bytes) = read_raw(repo, commit)? else {
        return Ok(Vec::new());
    };
    let damaged = || Error::io("read", &path)(std::io::Error::other("its metadata is malformed"));
    let entry = Type::DictEntry(Box::new((
        Type::Text(crate::formats::gvariant::Text::String),
        Type::Variant,
    )));
    let metadata = parse(&Type::Array(Box::new(entry)), &bytes).map_err(|_| damaged())?;
    let Value::Array(_, entries) = &metadata else {
        return Err(damaged());
    };
    for entry in entries {
        let Value::DictEntry(pair) = entry else { continue };
        if let [Value::Text(_, key), Value::Variant(value)] = &**pair
            && key == ED25519
        {
            let Value::Array(_, signatures) = &**value else {
                return Err(damaged());
            };
            let bytes = signatures.iter().map(|signature| match signature {
                Value::Bytes(bytes) => Ok(bytes.to_vec()),
                _ => Err(damaged()),
            });
            return bytes.collect();
        }
    }
    Ok(Vec::new())
}

/// The detached metadata of `commit` as they are; `None` where there are none.
pub(super) fn read_raw(repo: &Path, commit: &Digest) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read as _;
    let path = repo.join(relative(commit));
    let file = match super::layout::open_regular(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("open", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", &path))?;
    Ok(Some(bytes))
}

fn relative(commit: &Digest) -> PathBuf {
    let name = commit.to_string();
    let (fan, rest) = name.split_at(2);
    ["objects", fan, &format!("{rest}.commitmeta")].iter().collect()
}
