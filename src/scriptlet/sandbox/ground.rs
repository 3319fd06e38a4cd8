//! The directory of the host that holds the scriptlets' tree, and safe ways to its files.
//!
//! A scriptlet may have put a symbolic link anywhere, so no path is followed through one. It may also have taken the
//! owner's own rights away (`chmod 0 file`), which root inside does not need but an ordinary user does: they are given
//! for a moment.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chmod, openat, openat2, statat};
use rustix::io::Errno;

use crate::path::TreePath;

/// The root directory of a tree on the host.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    root: OwnedFd,
}

/// To look at, not through a link.
pub(super) const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

/// A directory, to be listed.
pub(super) const LIST: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW);

/// A file's content; without waiting for the other end of what turns out to be a FIFO.
pub(super) const READ: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

impl Ground {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = openat(CWD, path, LIST | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            path: path.to_owned(),
            root,
        })
    }

    /// The one whose open directory `root` is, to be looked into; of its place nothing is known.
    pub(super) fn opened(root: OwnedFd) -> Self {
        Self {
            path: PathBuf::new(),
            root,
        }
    }

    /// Its place on the host, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what lies at `path`.
    pub(super) fn at(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.allowed(path, || self.straight(path, flags))
    }

    /// As [`Ground::at`]; `None` where nothing lies there, or only through a symbolic link.
    pub(super) fn find(&self, path: &TreePath) -> rustix::io::Result<Option<OwnedFd>> {
        match self.at(path, LOOK) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            found => found.map(Some),
        }
    }

    /// As [`Ground::at`], with the rights that there are.
    pub(super) fn straight(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let below = match path.as_bytes() {
            b"/" => b".",
            absolute => &absolute[1..],
        };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, below, flags | OFlags::CLOEXEC, Mode::empty(), how)
    }

    /// Does `work`, which needs what lies at `path` and above it; with the owner's rights given where they are lacking.
    pub(super) fn allowed<T>(
        &self,
        path: &TreePath,
        mut work: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match work() {
            Err(Errno::ACCESS) => {}
            done => return done,
        }
        let mut changed = Vec::new();
        let mut at = self.root.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        let opened = (|| {
            give(&at, &mut changed)?;
            for name in path.components() {
                match openat(&at, name, LOOK | OFlags::CLOEXEC, Mode::empty()) {
                    Err(Errno::NOENT) => break,
                    next => at = next?,
                }
                give(&at, &mut changed)?;
            }
            Ok(())
        })();
        let done = opened.and_then(|()| work());
        for (fd, mode) in changed.into_iter().rev() {
            chmod(itself(&fd), mode)?;
        }
        done
    }
}

/// A file whose owner has all rights over it while this lives.
#[derive(Debug)]
pub(super) struct Opened {
    pub fd: OwnedFd,
    /// The mode to go back to.
    before: Option<Mode>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.before {
            // Given by the same user a moment ago.
            let _ = chmod(itself(&self.fd), mode);
        }
    }
}

/// Opens the entry `name` of a directory, a directory or regular file, though its owner has no right to.
pub(super) fn entry(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<Opened> {
    if let Ok(fd) = openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty()) {
        let stat = statat(&fd, "", AtFlags::EMPTY_PATH)?;
        if stat.st_mode & 0o700 == 0o700 || !flags.contains(OFlags::DIRECTORY) {
            return Ok(Opened { fd, before: None });
        }
    }
    let found = openat(directory, name, LOOK | OFlags::CLOEXEC, Mode::empty())?;
    let mut changed = Vec::new();
    give(&found, &mut changed)?;
    let before = changed.pop().map(|(_, mode)| mode);
    // Takes the rights back where it cannot be opened.
    let mut opened = Opened { fd: found, before };
    opened.fd = openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(opened)
}

/// A path that leads to the very file of a descriptor.
pub(super) fn itself(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Gives the owner all rights over a directory or regular file; notes what they were.
fn give(fd: &OwnedFd, changed: &mut Vec<(OwnedFd, Mode)>) -> rustix::io::Result<()> {
    let stat = statat(fd, "", AtFlags::EMPTY_PATH)?;
    let needed = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Mode::RWXU,
        FileType::RegularFile => Mode::RUSR | Mode::WUSR,
        _ => return Ok(()),
    };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if !mode.contains(needed) {
        chmod(itself(fd), mode | needed)?;
        let kept = fd.try_clone().map_err(|_| Errno::MFILE)?;
        changed.push((kept, mode));
    }
    Ok(())
}
