//! `SHA256SUMS`, as `sha256sum -c` reads it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::store::Digest;

/// Writes `SHA256SUMS` in `directory` for the files `names` there, in the order of their names.
///
/// # Errors
/// Where a file cannot be read, or the sums cannot be written.
pub fn write_sums(directory: &Path, names: &[String]) -> io::Result<()> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        text.push_str(&format!("{}  {name}\n", file_digest(&directory.join(name))?));
    }
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
