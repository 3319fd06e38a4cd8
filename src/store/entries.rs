//! All that lies in a store: how much of what, and when it was last used.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Shelf, Store, StoreError, linked, object, record, values};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A downloaded file, alone in its directory.
    Downloaded(Shelf),
    /// What has been downloaded of a file so far.
    Part,
    /// An unpacked package.
    Package,
    Record,
    Object,
    /// A pack of values of a kind, by its name.
    Values(String),
    /// A file that outputs share, by its kind.
    Linked(String),
}

impl Kind {
    /// As it is shown.
    pub fn name(&self) -> &str {
        match self {
            Self::Downloaded(shelf) => shelf.directory(),
            Self::Part => "parts",
            Self::Package => "packs",
            Self::Record => record::SHELF,
            Self::Object => object::SHELF,
            Self::Values(kind) | Self::Linked(kind) => kind,
        }
    }
}

/// What there is of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub kind: Kind,
    pub entries: u64,
    /// Bytes of files; those of a file that is of two kinds are the first one's.
    pub bytes: u64,
}

/// What can be removed by itself.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// A file; of what is downloaded its directory.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
    /// Device and number: an object can be a file that outputs share, too, whose bytes count once.
    pub(super) inode: (u64, u64),
}

impl Store {
    /// Where the store lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How much of what the store holds: kinds of which there is something, in a fixed order.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, StoreError> {
        let mut kinds: BTreeMap<Kind, (u64, u64)> = BTreeMap::new();
        let mut known = HashSet::new();
        for entry in self.entries()? {
            let (entries, bytes) = kinds.entry(entry.kind).or_default();
            *entries += 1;
            if known.insert(entry.inode) {
                *bytes += entry.bytes;
            }
        }
        let kinds = kinds.into_iter();
        let kinds = kinds.map(|(kind, (entries, bytes))| Usage { kind, entries, bytes });
        Ok(kinds.collect())
    }

    /// All entries, by kind and path.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.list().map_err(|error| self.failed(error))
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for shelf in Shelf::ALL {
            for (path, metadata) in children(&self.root.join(shelf.directory()))? {
                // The links of other digests follow their directories.
                if metadata.is_dir() {
                    let files = children(&path)?;
                    found.push(Entry {
                        kind: Kind::Downloaded(shelf),
                        bytes: files.iter().map(|(_, file)| file.len()).sum(),
                        used: metadata.modified()?,
                        inode: (metadata.dev(), metadata.ino()),
                        path,
                    });
                }
            }
        }
        let mut add = |kind: &Kind, directory: &Path| -> io::Result<()> {
            for (path, metadata) in children(directory)? {
                if metadata.is_file() {
                    found.push(Entry {
                        kind: kind.clone(),
                        path,
                        bytes: metadata.len(),
                        inode: (metadata.dev(), metadata.ino()),
                        used: match kind {
                            // Outputs share them, and go by the time of change.
                            Kind::Linked(_) | Kind::Object => metadata.accessed()?,
                            _ => metadata.modified()?,
                        },
                    });
                }
            }
            Ok(())
        };
        add(&Kind::Part, &self.root.join("parts"))?;
        add(&Kind::Package, &self.root.join("packs"))?;
        for (kind, shelf) in [(Kind::Record, record::SHELF), (Kind::Object, object::SHELF)] {
            for (fan, _) in children(&self.root.join(shelf))? {
                add(&kind, &fan)?;
            }
        }
        for (directory, _) in children(&self.root.join(values::SHELF))? {
            let name = directory.file_name().unwrap_or_default();
            add(&Kind::Values(name.to_string_lossy().into_owned()), &directory)?;
        }
        for (directory, _) in children(&self.root.join(linked::SHELF))? {
            let name = directory.file_name().unwrap_or_default();
            let kind = Kind::Linked(name.to_string_lossy().into_owned());
            for (fan, _) in children(&directory)? {
                add(&kind, &fan)?;
            }
        }
        Ok(found)
    }
}

/// What lies in `directory`, by name; nothing where that is absent or no directory.
fn children(directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) => found.push((path, metadata)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Whether another program has removed it meanwhile.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
