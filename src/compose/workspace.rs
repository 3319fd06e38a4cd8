//! Where outputs are made before they get their names, all at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use rayon::prelude::*;
use tempfile::TempDir;

use super::ComposeError;

/// The lock that a running build holds in its workspace; it is no output.
const LOCK: &str = ".lock";

/// A place to note the directories of an unfinished build, so that whoever stops the program can
/// remove them: [`Unfinished::remove`].
#[derive(Debug, Clone, Default)]
pub struct Unfinished(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Unfinished {
    /// Removes what the build has made so far, for a program that ends at once.
    pub fn remove(&self) {
        let paths = std::mem::take(&mut *self.paths());
        for path in paths {
            // Threads that still write may bring new files while it goes.
            for _ in 0..10 {
                if fs::remove_dir_all(&path).is_ok() || !path.exists() {
                    break;
                }
            }
        }
    }

    fn paths(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory for what a build needs for a while; dropped, it is gone.
pub struct Scratch {
    directory: TempDir,
    _lock: Flock<File>,
    unfinished: Unfinished,
}

impl Scratch {
    /// A directory in `place` whose name begins with `prefix`. Those that killed builds left are removed.
    pub fn new(place: &Path, prefix: &str, unfinished: &Unfinished) -> io::Result<Self> {
        let (directory, lock) = hold(place, prefix, unfinished)?;
        Ok(Self {
            directory,
            _lock: lock,
            unfinished: unfinished.clone(),
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.unfinished.paths().remove(self.directory.path());
    }
}

/// A new directory with the lock that says that it is in use, noted as unfinished.
fn hold(place: &Path, prefix: &str, unfinished: &Unfinished) -> io::Result<(TempDir, Flock<File>)> {
    remove_abandoned(place, prefix)?;
    let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(place)?;
    unfinished.paths().insert(directory.path().to_owned());
    let file = create_new(&directory.path().join(LOCK))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    Ok((directory, lock))
}

/// The directory of a build that runs; dropped, it is gone.
pub struct Workspace {
    directory: TempDir,
    target: PathBuf,
    lock: Flock<File>,
    unfinished: Unfinished,
}

impl Workspace {
    /// A workspace in `out` for the output directory `name`. Those that killed builds left are removed.
    pub fn new(out: &Path, name: &str, unfinished: &Unfinished) -> Result<Self, ComposeError> {
        let failed = |source| output(out, source);
        fs::create_dir_all(out).map_err(failed)?;
        let target = out.join(name);
        let own = target.join("manifest.json").is_file() || super::detached::waits(&target);
        let foreign = fs::symlink_metadata(&target).is_ok() && !own;
        if foreign {
            return Err(ComposeError::Foreign { path: target });
        }
        let (directory, lock) = hold(out, &format!(".{name}."), unfinished).map_err(failed)?;
        Ok(Self {
            directory,
            target,
            lock,
            unfinished: unfinished.clone(),
        })
    }

    /// The directory that the output comes to lie in.
    pub fn out(&self) -> &Path {
        self.target.parent().unwrap_or(&self.target)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it becomes.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where `name` lies while the build runs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new file, open for reading and writing.
    pub fn create(&self, name: &str) -> Result<File, ComposeError> {
        let path = self.path(name);
        create_new(&path).map_err(|source| output(&path, source))
    }

    /// As [`Workspace::create`], readable by nobody but its owner.
    pub fn create_secret(&self, name: &str) -> Result<File, ComposeError> {
        let path = self.path(name);
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(|source| output(&path, source))
    }

    /// Removes everything but the files and directories `kept`.
    pub fn keep_only(&self, kept: &[String]) -> Result<(), ComposeError> {
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(self.directory())? {
                let entry = entry?;
                let name = entry.file_name();
                if name == LOCK || kept.iter().any(|kept| name == **kept) {
                    continue;
                }
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
            Ok(())
        };
        remove().map_err(|source| output(self.directory(), source))
    }

    /// Takes the file or directory `name` from another output: by hard links, so that both stay whole.
    pub fn link_from(&self, output_directory: &Path, name: &str) -> Result<(), ComposeError> {
        let (from, to) = (output_directory.join(name), self.path(name));
        link_or_copy(&from, &to).map_err(|source| output(&from, source))
    }

    pub fn size(&self, file: &File) -> Result<u64, ComposeError> {
        let metadata = file
            .metadata()
            .map_err(|source| output(self.directory(), source))?;
        Ok(metadata.len())
    }

    /// Names and sizes of its files, in order.
    pub fn list(&self) -> Result<Vec<(String, u64)>, ComposeError> {
        let read = || -> io::Result<_> {
            let mut files = Vec::new();
            for entry in fs::read_dir(self.directory())? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_file() && entry.file_name() != LOCK {
                    files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
                }
            }
            files.sort();
            Ok(files)
        };
        read().map_err(|source| output(self.directory(), source))
    }

    /// Gives the directory its name; what had it before is replaced at the same moment, where the
    /// file system can do that.
    pub fn publish(self) -> Result<PathBuf, ComposeError> {
        let Self {
            directory,
            target,
            lock,
            unfinished,
        } = self;
        let failed = |source| output(&target, source);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        fs::remove_file(directory.path().join(LOCK)).map_err(failed)?;
        unfinished.paths().remove(directory.path());
        let made = directory.keep();
        if fs::symlink_metadata(&target).is_err() {
            fs::rename(&made, &target).map_err(failed)?;
            drop(lock);
            return Ok(target);
        }
        let exchange = RenameFlags::RENAME_EXCHANGE;
        match renameat2(AT_FDCWD, &made, AT_FDCWD, &target, exchange) {
            Ok(()) => remove_all(&made).map_err(failed)?,
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                let old = made.with_extension("old");
                fs::rename(&target, &old).map_err(failed)?;
                fs::rename(&made, &target).map_err(failed)?;
                remove_all(&old).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        drop(lock);
        Ok(target)
    }
}

/// Links the file `from` as `to`, or all files below the directory `from`. Where links cannot be had a file is copied, but none
/// of a directory: copies lose the attributes that a repository's files have.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        return link_all(from, to);
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        return fs::hard_link(from, to);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        link_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Removes a directory and all in it, by as many threads as there are.
fn remove_all(directory: &Path) -> io::Result<()> {
    let entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    entries
        .par_iter()
        .try_for_each(|entry| match entry.file_type()?.is_dir() {
            true => remove_all(&entry.path()),
            false => fs::remove_file(entry.path()),
        })?;
    fs::remove_dir(directory)
}

/// Removes workspaces whose builds hold their lock no more.
fn remove_abandoned(out: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) || !entry.file_type()?.is_dir() {
            continue;
        }
        match File::open(entry.path().join(LOCK)) {
            // Killed between making the directory and its lock, or about to make it: left alone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(file) => {
                if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
    }
    Ok(())
}

pub fn output(path: &Path, source: io::Error) -> ComposeError {
    ComposeError::Output {
        path: path.to_owned(),
        source,
    }
}

/// Opens `path` for reading and writing, made anew.
fn create_new(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn outputs_appear_at_once_and_replace_older_ones() {
        let out = tempfile::tempdir().unwrap();
        for content in ["first", "second"] {
            let workspace = Workspace::new(out.path(), "image_1", &Unfinished::default()).unwrap();
            fs::write(workspace.path("manifest.json"), content).unwrap();
            assert_eq!(
                workspace.list().unwrap(),
                [("manifest.json".to_owned(), content.len() as u64)]
            );
            workspace.publish().unwrap();
            assert_eq!(names(out.path()), ["image_1"]);
            assert_eq!(
                fs::read_to_string(out.path().join("image_1/manifest.json")).unwrap(),
                content
            );
        }
    }

    #[test]
    fn what_is_unfinished_goes_and_what_is_foreign_stays() {
        let out = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::default();
        let running = Workspace::new(out.path(), "image_1", &unfinished).unwrap();
        let abandoned = out.path().join(".image_1.killed");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), "").unwrap();
        drop(Workspace::new(out.path(), "image_1", &Unfinished::default()).unwrap());
        assert!(
            running.directory().is_dir(),
            "a running build keeps its workspace"
        );
        assert!(!abandoned.exists());
        let scratch = Scratch::new(out.path(), "scriptlets-", &unfinished).unwrap();
        fs::write(scratch.path().join("file"), "").unwrap();
        assert_eq!(names(out.path()).len(), 2);
        unfinished.remove();
        assert_eq!(names(out.path()), Vec::<String>::new());

        let killed = out.path().join("scriptlets-killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        drop(Scratch::new(out.path(), "scriptlets-", &unfinished).unwrap());
        assert_eq!(names(out.path()), Vec::<String>::new());
        assert!(unfinished.paths().is_empty());

        fs::create_dir(out.path().join("image_1")).unwrap();
        let error = Workspace::new(out.path(), "image_1", &unfinished).err().unwrap();
        assert!(matches!(error, ComposeError::Foreign { .. }), "{error}");
    }
}
