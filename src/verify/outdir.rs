//! The files of an output directory: `SHA256SUMS`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rayon::prelude::*;

use super::{Notes, Place, Subject};
use crate::firmware::SECURE_BOOT_DIRECTORY;
use crate::report::file_digest;
use crate::store::Digest;

const NAME: &str = "SHA256SUMS";
const MAX_SIZE: u64 = 1 << 20;

/// Check `sums`.
pub fn sums(subject: &Subject, notes: &mut Notes) {
    let Some(directory) = &subject.directory else {
        return notes.not_checked("a disk image by itself has no SHA256SUMS: name the output directory");
    };
    let lines = match read(directory) {
        Ok(lines) => lines,
        Err(problem) => return notes.fail(Place::file(NAME), problem),
    };
    let found: Vec<_> = lines
        .par_iter()
        .with_max_len(1)
        .map(|(_, name)| match directory.join(name).symlink_metadata() {
            Ok(metadata) if metadata.is_file() => file_digest(&directory.join(name)),
            Ok(_) => Err(std::io::Error::other("it is not a regular file")),
            Err(error) => Err(error),
        })
        .collect();
    for ((expected, name), found) in lines.iter().zip(found) {
        match found {
            Ok(found) if found == *expected => {}
            Ok(found) => notes.fail(
                Place::file(name),
                format!("its SHA-256 is {found}; SHA256SUMS says {expected}"),
            ),
            Err(error) => notes.fail(
                Place::file(name),
                format!("SHA256SUMS lists it, and it cannot be read: {error}"),
            ),
        }
    }
    if let Some(Ok(manifest)) = &subject.manifest {
        let flat = manifest.outputs.iter().filter(|output| output.sha256.is_some());
        let names = flat
            .map(|output| output.file.as_str())
            .chain([super::manifest::NAME]);
        for name in names {
            if lines.iter().all(|(_, listed)| listed != name) {
                notes.fail(Place::file(NAME), format!("it does not list `{name}`"));
            }
        }
    }
    notes.held(format!("{} files have their digests", lines.len()));
}

/// Whether an output may be called so: a file in the directory itself, or among the keys for firmware.
pub(super) fn is_name(name: &str) -> bool {
    let own = name
        .strip_prefix(SECURE_BOOT_DIRECTORY)
        .and_then(|name| name.strip_prefix('/'))
        .unwrap_or(name);
    !own.is_empty() && !own.contains('/') && !own.starts_with('.')
}

/// Digests and names; a sentence where the file is not as `sha256sum` writes it.
fn read(directory: &Path) -> Result<Vec<(Digest, String)>, String> {
    let mut text = String::new();
    File::open(directory.join(NAME))
        .and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text))
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let mut lines: Vec<(Digest, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let parsed = line
            .split_once("  ")
            .and_then(|(digest, name)| Some((digest.parse().ok()?, is_name(name).then(|| name.to_owned())?)));
        match parsed {
            Some((digest, name)) if lines.iter().all(|(_, listed)| *listed != name) => {
                lines.push((digest, name))
            }
            Some((_, name)) => return Err(format!("line {}: `{name}` is listed twice", index + 1)),
            None => {
                return Err(format!(
                    "line {}: it is not a digest, two blanks and the name of a file",
                    index + 1
                ));
            }
        }
    }
    match lines.is_empty() {
        true => Err("it lists nothing".to_owned()),
        false => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_directory() {
        for name in ["a.raw", "secure-boot/db.esl", "secure-boot"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".a",
            "a/b",
            "/a",
            "secure-boot/",
            "secure-boot/.a",
            "secure-boot/../a",
            "secure-boot/a/b",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
