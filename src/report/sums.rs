//! `SHA256SUMS`, as `sha256sum -c` reads it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::store::Digest;

/// Writes `SHA256SUMS` in `directory` for files there with these names and digests, in the order of their names.
///
/// # Errors
/// Where the sums cannot be written.
pub fn write_sums(directory: &Path, files: &[(String, Digest)]) -> io::Result<()> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    let lines = files.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    let text: String = lines.collect();
    fs::write(directory.join("SHA256SUMS"), text)
}

/// The SHA-256 of a whole file.
///
/// # Errors
/// Where it cannot be read.
pub fn file_digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::finish(hasher)),
            count => hasher.update(&buffer[..count]),
        }
    }
}
