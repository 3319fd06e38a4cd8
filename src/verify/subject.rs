//! What is verified: an output directory or a disk image, opened, with what several checks look at.

use std::fs;
use std::path::{Path, PathBuf};

use super::VerifyError;
use super::kernel::KernelImage;
use super::manifest::Manifest;
use super::medium::{self, Medium, Part};
use crate::disk::{Arch, Role};
use crate::formats::at::ReadAt as _;
use crate::formats::efi::SignatureDatabase;
use crate::formats::fat_reader::{self, FatReadError, Volume};
use crate::formats::gpt::{self, Copy, Entry, GptError, Table};
use crate::formats::luks2;
use crate::formats::x509::{Certificate, PublicKey};
use crate::ostree::Repo;

/// What a verification is told beside its subject.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Those of db: what they signed is believed.
    pub certificates: Vec<Certificate>,
    /// dbx: what it lists, or relies on what it lists, is not.
    pub forbidden: SignatureDatabase,
    /// Those that root hashes are signed for; where there are none, `certificates`.
    pub verity_certificates: Vec<Certificate>,
    /// What commits are signed for.
    pub commit_key: Option<PublicKey>,
}

/// What is verified.
#[derive(Debug)]
pub struct Subject {
    pub path: PathBuf,
    /// Where it is an output directory.
    pub directory: Option<PathBuf>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) forbidden: SignatureDatabase,
    pub(super) verity_certificates: Vec<Certificate>,
    pub(super) commit_key: Option<PublicKey>,
    /// The images, or why one cannot be read. The first that can be is the one whose content is looked at.
    pub(super) images: Vec<Result<Medium, (String, std::io::Error)>>,
    /// `None` without a directory.
    pub(super) manifest: Option<Result<Manifest, String>>,
    /// `None` without a directory.
    pub(super) repo: Option<Result<Repo, crate::ostree::Error>>,
    /// The table of the first image: the primary one, else the backup.
    pub(super) table: Option<Table>,
    /// The architecture that the partition types are of.
    pub(super) arch: Option<Arch>,
    /// The volume on the first ESP, with that partition.
    pub(super) esp: Option<(Entry, Result<Volume, FatReadError>)>,
    /// The kernel images on it.
    pub(super) kernels: Vec<KernelImage>,
}

impl Subject {
    /// Opens the output directory or the disk image at `path`.
    ///
    /// # Errors
    /// Where there is nothing that could be verified. What is there and damaged is no error: checks tell of it.
    pub fn open(path: &Path, options: &Options) -> Result<Self, VerifyError> {
        let metadata = fs::metadata(path).map_err(VerifyError::io(path))?;
        let (directory, paths) = if metadata.is_dir() {
            let paths = medium::find(path).map_err(VerifyError::io(path))?;
            if paths.is_empty() && !path.join("manifest.json").exists() {
                return Err(VerifyError::Nothing {
                    path: path.to_owned(),
                });
            }
            (Some(path.to_owned()), paths)
        } else if metadata.is_file() {
            (None, vec![path.to_owned()])
        } else {
            return Err(VerifyError::Kind {
                path: path.to_owned(),
            });
        };
        let open = |path: &PathBuf| {
            let mut medium = Medium::open(path).map_err(|error| (medium::name(path), error))?;
            if directory.is_some() {
                medium.digest();
            }
            Ok(medium)
        };
        let mut subject = Self {
            path: path.to_owned(),
            certificates: options.certificates.clone(),
            forbidden: options.forbidden.clone(),
            verity_certificates: options.verity_certificates.clone(),
            commit_key: options.commit_key.clone(),
            images: paths.iter().map(open).collect(),
            manifest: directory.as_deref().map(Manifest::read),
            repo: directory
                .as_ref()
                .map(|directory| Repo::open(&directory.join("repo"))),
            directory,
            table: None,
            arch: None,
            esp: None,
            kernels: Vec::new(),
        };
        subject.look();
        Ok(subject)
    }

    /// Reads what lies on the first image.
    fn look(&mut self) {
        let Some(medium) = self.images.iter().find_map(|image| image.as_ref().ok()) else {
            return;
        };
        let read = |copy| gpt::read(medium, medium.size, copy);
        let table: Result<Table, GptError> = read(Copy::Primary).or_else(|_| read(Copy::Backup));
        let Ok(table) = table else { return };
        let roles = [Role::Usr, Role::UsrVerity, Role::Root];
        let of = |arch: Arch| {
            let types = roles.map(|role| role.type_uuid(arch));
            table.entries.iter().any(|entry| types.contains(&entry.type_uuid))
        };
        self.arch = [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| of(*arch));
        let type_uuid = Role::Esp.type_uuid(Arch::X86_64);
        if let Some(entry) = table.entries.iter().find(|entry| entry.type_uuid == type_uuid) {
            let part = medium.partition(entry);
            let volume = fat_reader::read(&part, part.size);
            if let Ok(volume) = &volume {
                self.kernels = KernelImage::find(volume, part);
            }
            self.esp = Some((entry.clone(), volume));
        }
        self.table = Some(table);
    }

    /// The files in `directory` of the EFI system partition, of at most `largest` bytes, with their paths; a sentence
    /// where there is nothing to be read.
    pub fn esp_files(&self, directory: &str, largest: u64) -> Result<Vec<(String, Vec<u8>)>, String> {
        let medium = self.medium().ok_or("it is no disk image that can be read")?;
        let (entry, volume) = self.esp.as_ref().ok_or("it has no EFI system partition")?;
        let volume = volume
            .as_ref()
            .map_err(|error| format!("its EFI system partition cannot be read: {error}"))?;
        let part = medium.partition(entry);
        let mut found = Vec::new();
        for file in &volume.files {
            let name = file.path.strip_prefix(directory);
            let name = name.and_then(|name| name.strip_prefix('/'));
            if name.is_none_or(|name| name.contains('/')) || file.size > largest {
                continue;
            }
            let mut bytes = vec![0; file.size as usize];
            file.content(part)
                .read_exact_at(&mut bytes, 0)
                .map_err(|error| format!("`{}` cannot be read: {error}", file.path))?;
            found.push((file.path.clone(), bytes));
        }
        Ok(found)
    }

    /// UUIDs of the encrypted volumes on the disk.
    pub fn luks_uuids(&self) -> Vec<String> {
        let Some((medium, entries)) = self.partitions() else {
            return Vec::new();
        };
        let uuid = |entry: &Entry| {
            let part = medium.partition(entry);
            let header = luks2::Header::read(&part, part.size).ok()?;
            Some(header.uuid.to_string())
        };
        entries.iter().filter_map(uuid).collect()
    }

    /// The image whose content is looked at.
    pub(super) fn medium(&self) -> Option<&Medium> {
        self.images.iter().find_map(|image| image.as_ref().ok())
    }

    /// The partitions of the image, and the image.
    pub(super) fn partitions(&self) -> Option<(&Medium, &[Entry])> {
        Some((self.medium()?, &self.table.as_ref()?.entries))
    }

    /// What a partition is for, by its type. Of another type are those that a definition declares, which nobody is to
    /// use by himself.
    pub(super) fn role(&self, entry: &Entry) -> Option<Role> {
        let roles = [
            Role::Esp,
            Role::Usr,
            Role::UsrVerity,
            Role::UsrVeritySig,
            Role::Root,
        ];
        let arch = self.arch.unwrap_or(Arch::X86_64);
        roles
            .into_iter()
            .find(|role| role.type_uuid(arch) == entry.type_uuid)
            .or_else(|| (entry.attributes == super::table::NO_AUTO).then_some(Role::Other))
    }

    /// The partitions that `root_hash` names by their UUIDs: of `/usr` and of its hash tree.
    pub(super) fn sealed(&self, root_hash: &[u8]) -> [Option<&Entry>; 2] {
        let Some((_, entries)) = self.partitions() else {
            return [None, None];
        };
        let halves = [root_hash.first_chunk::<16>(), root_hash.last_chunk::<16>()];
        let roles = [Role::Usr, Role::UsrVerity];
        [0, 1].map(|index| {
            entries.iter().find(|entry| {
                halves[index].is_some_and(|half| half == entry.uuid.as_bytes())
                    && self.role(entry) == Some(roles[index])
            })
        })
    }

    /// The bytes of a partition of the image.
    pub(super) fn part(&self, entry: &Entry) -> Option<Part<'_>> {
        Some(self.medium()?.partition(entry))
    }

    /// The kernel images that seal a `/usr`, with its root hash.
    pub(super) fn root_hashes(&self) -> Vec<(&KernelImage, &[u8])> {
        let kernels = self.kernels.iter();
        kernels
            .filter_map(|kernel| Some((kernel, kernel.facts.as_ref().ok()?.root_hash.as_deref()?)))
            .collect()
    }
}
