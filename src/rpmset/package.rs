//! One package of the set.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::{Error, Problem};
use super::files::{self, FileEntry};
use super::{Nevra, digests};
use crate::formats::rpm::{Header, Preamble, read_preamble, tag};
use crate::store::Digest;

/// A package whose headers have been read and whose header digests hold.
#[derive(Debug, Clone)]
pub struct Package {
    /// The file it was read from.
    pub path: PathBuf,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Length of the file in bytes.
    pub size: u64,
    pub nevra: Nevra,
    /// Seconds since the epoch.
    pub build_time: u32,
    pub preamble: Preamble,
    pub files: Vec<FileEntry>,
}

impl Package {
    /// Reads the package at `path`: lead, headers, file list; and hashes the whole file.
    ///
    /// # Errors
    /// Where the file cannot be read, its headers are malformed, or a digest of the header does
    /// not hold.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(path, false).map_err(|problem| problem.at(path))
    }

    /// As [`Package::open`], but takes a source package too: of that the files are not listed.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn open_any(path: &Path) -> Result<Self, Error> {
        Self::read(path, true).map_err(|problem| problem.at(path))
    }

    fn read(path: &Path, sources: bool) -> Result<Self, Problem> {
        let mut file = Counted::new(File::open(path)?);
        let mut reader = BufReader::with_capacity(64 << 10, &mut file);
        let preamble = read_preamble(&mut reader)?;
        let is_source = preamble.is_source || preamble.header.has(tag::SOURCEPACKAGE);
        if is_source && !sources {
            return Err(Problem::Source);
        }
        digests::check_header(&preamble)?;
        let mut nevra = nevra(&preamble.header)?;
        let files = if is_source {
            // The header names the architecture that it was packed on.
            "src".clone_into(&mut nevra.arch);
            Vec::new()
        } else {
            files::read(&preamble)?
        };
        let build_time = preamble.header.u32(tag::BUILDTIME)?.unwrap_or(0);
        let mut buffer = vec![0; 128 << 10];
        while file.read(&mut buffer)? > 0 {}
        Ok(Self {
            path: path.to_owned(),
            sha256: Digest::finish(file.hasher),
            size: file.length,
            nevra,
            build_time,
            preamble,
            files,
        })
    }

    /// Holds the payload, as it stands in the file, against every digest that the package claims of it.
    ///
    /// # Errors
    /// Where the file cannot be read, or a digest does not hold.
    pub fn check_payload(&self) -> Result<(), Error> {
        let check = || -> Result<(), Problem> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.preamble.header_range.end))?;
            let mut check = digests::PayloadCheck::new(&self.preamble)?;
            let mut buffer = vec![0; 128 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => return check.finish(),
                    count => check.update(&buffer[..count]),
                }
            }
        };
        check().map_err(|problem| problem.at(&self.path))
    }

    /// The digest of the compressed payload that the header claims, in hexadecimal.
    pub fn claimed_payload_digest(&self) -> Option<String> {
        let digest = self.preamble.header.string(tag::PAYLOADDIGEST).ok()??;
        Some(digest.escape_ascii().to_string())
    }
}

/// Hashes and counts what is read.
struct Counted {
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Counted {
    fn new(file: File) -> Self {
        Self {
            file,
            hasher: Sha256::new(),
            length: 0,
        }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.length += count as u64;
        Ok(count)
    }
}

fn nevra(header: &Header) -> Result<Nevra, Problem> {
    let text = |tag, what: &'static str| -> Result<String, Problem> {
        let value = header.string(tag)?.ok_or(Problem::Lacks(what))?;
        let text = std::str::from_utf8(value).map_err(|_| Problem::NotText(what))?;
        if !Nevra::fits(text) {
            let text = text.escape_debug().to_string();
            return Err(Problem::Name { what, text });
        }
        Ok(text.to_owned())
    };
    let nevra = Nevra {
        name: text(tag::NAME, "name")?,
        epoch: header.u32(tag::EPOCH)?,
        version: text(tag::VERSION, "version")?,
        release: text(tag::RELEASE, "release")?,
        arch: text(tag::ARCH, "architecture")?,
    };
    nevra.check()?;
    Ok(nevra)
}
