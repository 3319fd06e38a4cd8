//! A repository's directory: made as `ostree init` makes it, opened, and written to by renaming.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempDir};

use super::Error;
use super::object::{Kind, MAX_METADATA, object_name};
use crate::store::Digest;

/// How a repository keeps contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoMode {
    /// Compressed, with owner and mode inside the file: what web servers serve. `level` is
    /// deflate's, 0 to 9; readers do not need to know it.
    Archive { level: u32 },
    /// As plain files, owner and mode in an extended attribute: quick to write, to check out and to
    /// pull from locally, for an ordinary user too.
    BareUser,
}

impl RepoMode {
    /// Deflate level for [`RepoMode::Archive`] where nobody chose one. On 585 MB of programs and
    /// libraries, level 1 leaves 276 MB and level 3 leaves 220 MB.
    pub const DEFAULT_LEVEL: u32 = 3;

    /// What `core.mode` in the configuration says. `archive-z2` is what every version of ostree reads.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Archive { .. } => "archive-z2",
            Self::BareUser => "bare-user",
        }
    }

    pub(super) fn content_kind(self) -> Kind {
        match self {
            Self::Archive { .. } => Kind::FileZ,
            Self::BareUser => Kind::File,
        }
    }
}

/// The directories of an empty repository.
const DIRECTORIES: [&str; 9] = [
    "extensions",
    "objects",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "state",
    "tmp",
    "tmp/cache",
];

/// The longest configuration that is read; real ones have a few lines a remote.
const MAX_CONFIG: u64 = 1 << 20;

/// An open repository directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub path: PathBuf,
    /// Where objects lie.
    pub objects: PathBuf,
    pub mode: RepoMode,
}

/// An object file that has no content yet.
pub(super) enum Pending {
    /// Under its final name, in a directory that has not got its own.
    Named(File),
    Temporary(NamedTempFile),
}

impl Pending {
    pub(super) fn file(&mut self) -> &mut File {
        match self {
            Self::Named(file) => file,
            Self::Temporary(file) => file.as_file_mut(),
        }
    }
}

impl Layout {
    /// Makes a repository at `path`, or opens the one that is there.
    pub(super) fn create(path: &Path, mode: RepoMode) -> Result<Self, Error> {
        if path.join("config").exists() {
            let found = Self::open(path)?.mode;
            if found.name() != mode.name() {
                return Err(Error::ModeDiffers {
                    path: path.to_owned(),
                    found: found.name(),
                    wanted: mode.name(),
                });
            }
        } else {
            make_dir(path)?;
            let mut entries = fs::read_dir(path).map_err(Error::io("list", path))?;
            if entries.next().is_some() {
                return Err(Error::NotARepository {
                    path: path.to_owned(),
                });
            }
        }
        let layout = Self {
            path: path.to_owned(),
            objects: path.join("objects"),
            mode,
        };
        for directory in DIRECTORIES {
            make_dir(&path.join(directory))?;
        }
        if !path.join("config").exists() {
            let config = format!(
                "[core]\nrepo_version=1\nmode={}\nindexed-deltas=true\n",
                mode.name()
            );
            layout.write_file(Path::new("config"), config.as_bytes())?;
        }
        Ok(layout)
    }

    /// Opens the repository at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = path.join("config");
        let mut text = String::new();
        open_regular(&file)
            .and_then(|config| config.take(MAX_CONFIG).read_to_string(&mut text))
            .map_err(Error::io("read", &file))?;
        let wrong = |what: String| Error::Config {
            path: path.to_owned(),
            what,
        };
        let mut core = false;
        let (mut version, mut mode) = (None, None);
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[') {
                core = section == "core]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| core) {
                match key.trim() {
                    "repo_version" => version = Some(value.trim()),
                    "mode" => mode = Some(value.trim()),
                    _ => {}
                }
            }
        }
        if version != Some("1") {
            return Err(wrong("does not say `repo_version=1`".to_owned()));
        }
        let mode = match mode {
            Some("archive" | "archive-z2") => RepoMode::Archive {
                level: RepoMode::DEFAULT_LEVEL,
            },
            Some("bare-user") => RepoMode::BareUser,
            other => {
                let other = other.unwrap_or("bare").escape_debug();
                return Err(wrong(format!(
                    "says mode `{other}`; archive and bare-user are supported"
                )));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            objects: path.join("objects"),
            mode,
        })
    }

    /// Where object `checksum` lies, or would lie.
    pub(super) fn object_path(&self, checksum: &Digest, kind: Kind) -> PathBuf {
        let name = object_name(checksum, kind);
        let (fan, rest) = name.split_at(2);
        self.objects.join(fan).join(rest)
    }

    /// Where the repository has no objects yet, lets them be written into a directory aside, so that
    /// each can be written under its final name at once: see [`Layout::settle`]. Dropped before, the
    /// directory is gone.
    pub(super) fn set_aside(&mut self) -> Result<Option<TempDir>, Error> {
        let failed = Error::io("list", &self.objects);
        let mut entries = fs::read_dir(&self.objects).map_err(failed)?;
        if entries.next().is_some() {
            return Ok(None);
        }
        let place = self.path.join("tmp");
        let aside = tempfile::Builder::new().prefix("objects-").tempdir_in(&place);
        let aside = aside.map_err(Error::io("make a directory in", &place))?;
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(aside.path(), mode).map_err(Error::io("set the mode of", aside.path()))?;
        self.objects = aside.path().to_owned();
        Ok(Some(aside))
    }

    /// Gives objects that were written aside their place.
    pub(super) fn settle(&mut self, aside: TempDir) -> Result<(), Error> {
        let objects = self.path.join("objects");
        self.objects.clone_from(&objects);
        if fs::rename(aside.path(), &objects).is_ok() {
            // It has no directory to remove any more.
            let _ = aside.keep();
            return Ok(());
        }
        // Somebody else has written to the repository meanwhile.
        let list = |directory: &Path| -> Result<Vec<PathBuf>, Error> {
            fs::read_dir(directory)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .map_err(Error::io("list", directory))
        };
        for fan in list(aside.path())? {
            let to = objects.join(fan.file_name().unwrap_or_default());
            make_dir(&to)?;
            for object in list(&fan)? {
                let to = to.join(object.file_name().unwrap_or_default());
                fs::rename(&object, &to).map_err(Error::io("write", &to))?;
            }
        }
        Ok(())
    }

    /// Whether objects are written aside, so that none of them is there already.
    fn is_aside(&self) -> bool {
        self.objects.parent() != Some(&self.path)
    }

    /// Whether there is an object at `path`.
    pub(super) fn has_object(&self, path: &Path) -> bool {
        !self.is_aside() && path.symlink_metadata().is_ok()
    }

    /// Begins the object file that will lie at `path`.
    pub(super) fn begin(&self, path: &Path) -> Result<Pending, Error> {
        if !self.is_aside() {
            return self.temporary().map(Pending::Temporary);
        }
        let open = || OpenOptions::new().write(true).create_new(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    make_dir(parent)?;
                }
                open()
            }
            outcome => outcome,
        };
        file.map(Pending::Named).map_err(Error::io("write", path))
    }

    /// Gives an object file its mode and its name.
    pub(super) fn complete(&self, pending: Pending, mode: u32, path: &Path) -> Result<(), Error> {
        match pending {
            Pending::Named(file) => file
                .set_permissions(Permissions::from_mode(mode))
                .map_err(Error::io("set the mode of", path)),
            Pending::Temporary(file) => self.publish(file, mode, path),
        }
    }

    /// Gives `file` the name `path` too; `false` where that cannot be.
    pub(super) fn link(&self, file: &File, path: &Path) -> bool {
        let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = || rustix::fs::linkat(CWD, &by_number, CWD, path, AtFlags::SYMLINK_FOLLOW);
        match link() {
            Err(Errno::NOENT) => path
                .parent()
                .is_some_and(|parent| make_dir(parent).is_ok() && link().is_ok()),
            outcome => outcome.is_ok(),
        }
    }

    /// A file to be written and then given to [`Layout::publish`].
    pub(super) fn temporary(&self) -> Result<NamedTempFile, Error> {
        let directory = self.path.join("tmp");
        NamedTempFile::new_in(&directory).map_err(Error::io("make a file in", &directory))
    }

    /// Gives `file` its final name: whoever sees the name sees all of the bytes.
    pub(super) fn publish(&self, file: NamedTempFile, mode: u32, path: &Path) -> Result<(), Error> {
        let permissions = Permissions::from_mode(mode);
        file.as_file()
            .set_permissions(permissions)
            .map_err(Error::io("set the mode of", path))?;
        let outcome = match file.persist(path) {
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    make_dir(parent)?;
                }
                failed.file.persist(path)
            }
            outcome => outcome,
        };
        outcome
            .map(|_| ())
            .map_err(|failed| Error::io("write", path)(failed.error))
    }

    /// Makes the directory `relative` with all above it in the repository.
    pub(super) fn make_dirs(&self, relative: &Path) -> Result<(), Error> {
        let mut directory = self.path.clone();
        for component in relative {
            directory.push(component);
            make_dir(&directory)?;
        }
        Ok(())
    }

    /// Writes the file `relative`, in place of one that is there.
    pub(super) fn write_file(&self, relative: &Path, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(relative);
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(Error::io("write", &path))?;
        self.publish(file, 0o644, &path)
    }

    /// Writes a metadata object, where it is not there yet; its checksum, and whether it is new.
    pub(super) fn write_metadata(&self, kind: Kind, bytes: &[u8]) -> Result<(Digest, bool), Error> {
        let checksum = Digest::of(bytes);
        if bytes.len() > MAX_METADATA {
            return Err(Error::MetadataTooLarge {
                name: object_name(&checksum, kind),
                size: bytes.len(),
                limit: MAX_METADATA,
            });
        }
        let path = self.object_path(&checksum, kind);
        if path.exists() {
            return Ok((checksum, false));
        }
        let mut pending = self.begin(&path)?;
        pending
            .file()
            .write_all(bytes)
            .map_err(Error::io("write", &path))?;
        // So that the store knows it again: see `store::Linked`.
        pending
            .file()
            .set_modified(SystemTime::UNIX_EPOCH)
            .map_err(Error::io("set the time of", &path))?;
        self.complete(pending, 0o644, &path)?;
        Ok((checksum, true))
    }

    /// Reads a metadata object and checks its checksum.
    pub(super) fn read_metadata(&self, checksum: &Digest, kind: Kind) -> Result<Vec<u8>, Error> {
        let name = || object_name(checksum, kind);
        let path = self.object_path(checksum, kind);
        let file = self.open_object(&path, &name())?;
        let mut bytes = Vec::new();
        file.take(MAX_METADATA as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        if bytes.len() > MAX_METADATA {
            return Err(Error::MetadataTooLarge {
                name: name(),
                size: bytes.len(),
                limit: MAX_METADATA,
            });
        }
        let found = Digest::of(&bytes);
        if found != *checksum {
            return Err(Error::Checksum { name: name(), found });
        }
        Ok(bytes)
    }

    pub(super) fn open_object(&self, path: &Path, name: &str) -> Result<File, Error> {
        open_regular(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoSuchObject {
                path: self.path.clone(),
                name: name.to_owned(),
            },
            _ => Error::io("open", path)(source),
        })
    }

    /// Waits until all that was written to the file system is on the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let directory = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        rustix::fs::syncfs(directory).map_err(|errno| Error::io("flush", &self.path)(errno.into()))
    }

    /// Sets a ref of this repository. The objects that it leads to must be there already.
    pub(super) fn write_ref(&self, name: &str, commit: &Digest) -> Result<(), Error> {
        let mut directory = self.path.join("refs/heads");
        let mut components = name.split('/').peekable();
        while let Some(component) = components.next() {
            directory.push(component);
            if components.peek().is_some() {
                make_dir(&directory)?;
            }
        }
        self.write_file(
            &Path::new("refs/heads").join(name),
            format!("{commit}\n").as_bytes(),
        )
    }
}

/// Opens a regular file, and nothing else: a FIFO or device in a hostile repository could block the
/// reader, a symbolic link lead it elsewhere.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

/// Whether ostree takes `name` for a ref.
pub(super) fn is_ref_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= 1024
        && name.split('/').all(|component| {
            component.len() <= 255
                && component.starts_with(word)
                && component.chars().all(|c| word(c) || c == '-' || c == '.')
        })
}

/// Makes a directory with mode 0755 whatever the umask; one that is there is left as it is.
fn make_dir(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755))
            .map_err(Error::io("set the mode of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(Error::io("make directory", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ref_names_are_those_that_ostree_takes() {
        for good in [
            "a",
            "azure-linux/4.0/x86_64/container-host",
            "_x",
            "0/1",
            "a.b-c_d",
        ] {
            assert!(is_ref_name(good), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "-a", ".a", "a/../b", "a b", "ä", "a\n", "a:b",
        ] {
            assert!(!is_ref_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_understood_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            (
                "[core]\nrepo_version=2\nmode=archive\n",
                "does not say `repo_version=1`",
            ),
            (
                "[x]\nrepo_version=1\nmode=archive\n",
                "does not say `repo_version=1`",
            ),
            ("[core]\nrepo_version=1\n", "mode `bare`; archive and bare-user"),
            (
                "[core]\nrepo_version=1\nmode=z3\n",
                "mode `z3`; archive and bare-user",
            ),
        ];
        for (text, expected) in cases {
            fs::write(directory.path().join("config"), text).unwrap();
            let error = Layout::open(directory.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        fs::write(
            directory.path().join("config"),
            "[core]\nmode = archive\n\nrepo_version = 1\n",
        )
        .unwrap();
        assert_eq!(Layout::open(directory.path()).unwrap().mode.name(), "archive-z2");
    }
}
