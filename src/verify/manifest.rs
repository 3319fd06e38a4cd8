//! `manifest.json`: read as a stranger's, and held against disk and files.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::medium::Format;
use super::{Notes, Place, Subject, outdir};
use crate::formats::at::ReadAt as _;
use crate::formats::verity::Superblock;
use crate::report::{ManifestPcrs, file_digest};
use crate::store::{Digest, hex};

pub const NAME: &str = "manifest.json";
/// Real ones have a handful.
const MAX_OUTPUTS: usize = 100;
/// Real ones have some hundred KiB.
const MAX_SIZE: u64 = 64 << 20;

/// What is looked at of it.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub image: String,
    pub version: String,
    pub kernel: Kernel,
    pub commit: Commit,
    pub usr_root_hash: String,
    pub usr_salt: String,
    /// Absent in manifests of older builds.
    pub pcrs: Option<ManifestPcrs>,
    pub partitions: Vec<Partition>,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
pub struct Kernel {
    pub release: String,
    pub command_line: String,
}

#[derive(Debug, Deserialize)]
pub struct Commit {
    #[serde(rename = "ref")]
    pub reference: String,
    pub checksum: Digest,
}

#[derive(Debug, Deserialize)]
pub struct Partition {
    pub number: u32,
    pub label: String,
    pub type_uuid: String,
    pub uuid: String,
    pub offset: u64,
    pub size: u64,
    pub tree_digest: Digest,
    luks_uuid: Option<String>,
    cipher: Option<String>,
    sector_size: Option<u32>,
    kdf: Option<String>,
}

/// What a manifest says of an encrypted volume.
pub struct Volume {
    pub luks_uuid: String,
    pub cipher: String,
    pub sector_size: u32,
    pub kdf: String,
}

impl Partition {
    /// The volume that it is made with.
    pub fn volume(&self) -> Option<Volume> {
        Some(Volume {
            luks_uuid: self.luks_uuid.clone()?,
            cipher: self.cipher.clone()?,
            sector_size: self.sector_size?,
            kdf: self.kdf.clone()?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Output {
    pub file: String,
    pub size: u64,
    pub sha256: Option<Digest>,
    pub tree_digest: Option<Digest>,
}

impl Manifest {
    /// Reads that of `directory`; a sentence where it cannot be.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let mut text = String::new();
        File::open(directory.join(NAME))
            .and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text))
            .map_err(|error| format!("it cannot be read: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("it is not the JSON of a manifest: {error}"))
    }

    /// The name that partitions and files of this version have.
    pub fn stem(&self) -> String {
        format!("{}_{}", self.image, self.version)
    }
}

/// The manifest, or the reason that there is none to look at.
pub fn get<'a>(subject: &'a Subject, notes: &mut Notes) -> Option<&'a Manifest> {
    match &subject.manifest {
        Some(Ok(manifest)) => Some(manifest),
        Some(Err(_)) => {
            notes.not_checked("manifest.json cannot be read (see check `manifest`)");
            None
        }
        None => {
            notes.not_checked("a disk image by itself has no manifest: name the output directory");
            None
        }
    }
}

/// Check `manifest`.
pub fn outputs(subject: &Subject, notes: &mut Notes) {
    if let Some(Err(problem)) = &subject.manifest {
        return notes.fail(Place::file(NAME), problem.clone());
    }
    let (Some(manifest), Some(directory)) = (get(subject, notes), &subject.directory) else {
        return;
    };
    if manifest.outputs.len() > MAX_OUTPUTS {
        return notes.fail(
            Place::file(NAME),
            format!("it lists {} outputs", manifest.outputs.len()),
        );
    }
    for output in &manifest.outputs {
        let place = Place::file(&output.file);
        if !outdir::is_name(&output.file) {
            notes.fail(
                Place::file(NAME),
                format!("`{}` is no name of an output", output.file.escape_debug()),
            );
            continue;
        }
        let path = directory.join(&output.file);
        let size = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => {
                notes.fail(place, "it is not a regular file");
                continue;
            }
            Err(error) => {
                notes.fail(
                    place,
                    format!("the manifest lists it, and it cannot be read: {error}"),
                );
                continue;
            }
        };
        if size != output.size {
            notes.fail(
                place,
                format!("it has {size} bytes; the manifest says {}", output.size),
            );
            continue;
        }
        if let Some(expected) = output.sha256 {
            let found = file_digest(&path).map_err(|error| error.to_string());
            compare(notes, place.clone(), "SHA-256", expected, found);
        }
        if let Some(expected) = output.tree_digest {
            let medium = subject
                .images
                .iter()
                .flatten()
                .find(|medium| medium.name == output.file);
            let found = medium.map(|medium| {
                let tree = medium.digests()?;
                Ok(match medium.format {
                    Format::Vhd => {
                        let footer = medium.footer().map_err(|error| error.to_string())?;
                        tree.clone().with_tail(&footer).root()
                    }
                    _ => tree.root(),
                })
            });
            match found {
                Some(found) => compare(notes, place, "tree digest", expected, found),
                None => notes.fail(
                    place,
                    "it is no disk image that can be read, and the manifest gives its tree digest",
                ),
            }
        }
    }
    notes.held(format!("{} outputs have their digests", manifest.outputs.len()));
}

fn compare(notes: &mut Notes, place: Place, what: &str, expected: Digest, found: Result<Digest, String>) {
    match found {
        Ok(found) if found == expected => {}
        Ok(found) => notes.fail(
            place,
            format!("its {what} is {found}; the manifest says {expected}"),
        ),
        Err(error) => notes.fail(place, format!("it cannot be read: {error}")),
    }
}

/// Check `manifest-facts`.
pub fn facts(subject: &Subject, notes: &mut Notes) {
    let Some(manifest) = get(subject, notes) else {
        return;
    };
    let Some((medium, entries)) = subject.partitions() else {
        return notes.not_checked("there is no disk image with a partition table to compare with");
    };
    let disk = || Place::file(&medium.name);
    let mut kernels = 0;
    for kernel in &subject.kernels {
        let Ok(facts) = &kernel.facts else { continue };
        let Some(root_hash) = &facts.root_hash else {
            continue;
        };
        // Another version's image may stand beside.
        if hex(root_hash) != manifest.usr_root_hash && subject.kernels.len() > 1 {
            continue;
        }
        kernels += 1;
        let place = || disk().path(kernel.path.clone());
        let pairs = [
            ("root hash", hex(root_hash), manifest.usr_root_hash.clone()),
            (
                "command line",
                facts.cmdline.clone(),
                manifest.kernel.command_line.clone(),
            ),
            (
                "kernel release",
                facts.release.clone(),
                manifest.kernel.release.clone(),
            ),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                notes.fail(
                    place(),
                    format!("the {what} is `{found}`; the manifest says `{expected}`"),
                );
            }
        }
        if let [_, Some(entry)] = subject.sealed(root_hash) {
            let mut block = [0; 4096];
            let salt = medium
                .partition(entry)
                .read_exact_at(&mut block, 0)
                .ok()
                .and_then(|()| Superblock::parse(&block).ok())
                .map(|superblock| hex(&superblock.params.salt));
            if salt.as_ref() != Some(&manifest.usr_salt) {
                let salt = salt.unwrap_or_default();
                let what = format!(
                    "the salt of the hash tree is `{salt}`; the manifest says `{}`",
                    manifest.usr_salt
                );
                notes.fail(disk().partition(entry.number).at(entry.offset()), what);
            }
        }
    }
    if kernels == 0 {
        notes.fail(
            disk(),
            format!(
                "no kernel image seals the manifest's root hash {}",
                manifest.usr_root_hash
            ),
        );
    }
    let digests = medium.digests();
    for listed in &manifest.partitions {
        let place = disk().partition(listed.number).at(listed.offset);
        let Some(entry) = entries.iter().find(|entry| entry.number == listed.number) else {
            notes.fail(
                place,
                format!(
                    "the manifest lists partition {} (`{}`), and the disk has none",
                    listed.number, listed.label
                ),
            );
            continue;
        };
        let pairs = [
            ("label", entry.label.clone(), listed.label.clone()),
            ("type", entry.type_uuid.to_string(), listed.type_uuid.clone()),
            ("UUID", entry.uuid.to_string(), listed.uuid.clone()),
            ("offset", entry.offset().to_string(), listed.offset.to_string()),
            ("size", entry.size().to_string(), listed.size.to_string()),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                notes.fail(
                    place.clone(),
                    format!("its {what} is {found}; the manifest says {expected}"),
                );
            }
        }
        match digests
            .as_ref()
            .map(|tree| tree.range(entry.offset(), entry.size()))
        {
            Ok(Some(found)) if found == listed.tree_digest => {}
            Ok(Some(found)) => notes.fail(
                place,
                format!(
                    "its tree digest is {found}; the manifest says {}",
                    listed.tree_digest
                ),
            ),
            Ok(None) => notes.fail(
                place,
                "it does not begin and end on a 1 MiB boundary inside the disk",
            ),
            Err(error) => notes.fail(place, format!("it cannot be read: {error}")),
        }
    }
    for entry in entries {
        if manifest
            .partitions
            .iter()
            .all(|listed| listed.number != entry.number)
        {
            let place = disk().partition(entry.number).at(entry.offset());
            notes.fail(
                place,
                format!(
                    "the manifest does not list partition {} (`{}`)",
                    entry.number, entry.label
                ),
            );
        }
    }
    notes.held(format!(
        "{} partitions and {kernels} kernel image as listed",
        manifest.partitions.len()
    ));
}
