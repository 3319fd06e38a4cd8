//! The `summary` file, from which clients learn a repository's refs over HTTP.

use std::fs;
use std::io;
use std::path::Path;

use super::delta::{STATIC_DELTAS, dictionary, summary_entries};
use super::object::{Kind, object_name};
use super::{Error, Repo};
use crate::formats::gvariant::{self, Fixed, Text, Type, Value};
use crate::store::Digest;

/// A ref, as the summary shows it.
struct Line {
    name: String,
    commit: Digest,
    /// Bytes of the commit object.
    size: u64,
    version: Option<String>,
    timestamp: u64,
}

/// Writes `summary` for all refs of the repository, as `ostree summary --update` does; but the time
/// it gives is that of the newest commit, so that the same commits give the same bytes. A signature of
/// an earlier summary is taken away, as it no longer holds.
///
/// # Errors
/// Refs that lead to no readable commit, and whatever writing gives.
pub fn write_summary(repo_dir: &Path) -> Result<(), Error> {
    let repo = Repo::open(repo_dir)?;
    let lines = repo.refs()?.into_iter().map(|(name, commit)| {
        let bytes = repo.layout.read_metadata(&commit, Kind::Commit)?;
        let object = super::CommitObject::parse(&bytes, &object_name(&commit, Kind::Commit))?;
        let version = object.metadata.get("version").and_then(Value::as_str);
        Ok(Line {
            name,
            commit,
            size: bytes.len() as u64,
            version: version.map(str::to_owned),
            timestamp: object.timestamp,
        })
    });
    let lines: Vec<Line> = lines.collect::<Result<_, Error>>()?;
    let deltas = summary_entries(repo_dir)?;
    let bytes = serialise(&lines, &deltas, repo.layout.mode.name());
    let signature = repo_dir.join("summary.sig");
    match fs::remove_file(&signature) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &signature)(error));
        }
        _ => {}
    }
    repo.layout.write_file(Path::new("summary"), &bytes)
}

/// `(a(s(taya{sv}))a{sv})`, the entries in libostree's order.
fn serialise(lines: &[Line], deltas: &[(String, Digest)], mode: &str) -> Vec<u8> {
    let newest = lines.iter().map(|line| line.timestamp).max().unwrap_or(0);
    let refs = lines.iter().map(|line| {
        let version = line.version.as_deref();
        let version = version.map(|text| ("ostree.commit.version", Value::str(text)));
        let time = ("ostree.commit.timestamp", Value::u64(line.timestamp.swap_bytes()));
        Value::Tuple(vec![
            Value::str(&line.name),
            Value::Tuple(vec![
                // The one number that libostree does not swap.
                Value::u64(line.size),
                Value::bytes(&line.commit.0),
                Value::vardict(version.into_iter().chain([time])),
            ]),
        ])
    });
    let entry = Type::DictEntry(Box::new((Type::Text(Text::String), Type::Variant)));
    let bytes = Type::Array(Box::new(Type::Fixed(Fixed::Byte)));
    let object = Type::Tuple(vec![Type::Fixed(Fixed::U64), bytes, Type::Array(Box::new(entry))]);
    let line = Type::Tuple(vec![Type::Text(Text::String), object]);
    let mut metadata = vec![
        ("ostree.summary.mode", Value::str(mode)),
        ("ostree.summary.last-modified", Value::u64(newest.swap_bytes())),
        ("ostree.summary.tombstone-commits", Value::bool(false)),
    ];
    if !deltas.is_empty() {
        metadata.push((STATIC_DELTAS, dictionary(deltas)));
    }
    metadata.push(("ostree.summary.indexed-deltas", Value::bool(true)));
    gvariant::serialise(&Value::Tuple(vec![
        Value::Array(line, refs.collect()),
        Value::vardict(metadata),
    ]))
}
