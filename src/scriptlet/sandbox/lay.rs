//! Laying nodes into the scriptlets' tree, and taking them out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, linkat, mkdirat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::Sandbox;
use super::error::SandboxError;
use super::ground::{LIST, LOOK, entry, itself};
use super::records::{Device, Said, inode, real};
use super::snapshot::State;
use crate::path::TreePath;
use crate::store::Digest;
use crate::tree::{Kind, Node, Xattrs};

impl Sandbox {
    pub(super) fn lay(&mut self, path: &TreePath, node: &Node) -> io::Result<()> {
        let Some(name) = path.name() else {
            return self.lay_root(node);
        };
        let above = path.parent().unwrap_or_else(TreePath::root);
        let parent = match self.ground.at(&above, LIST) {
            Err(Errno::NOENT) => {
                self.lay_parents(&above)?;
                self.ground.at(&above, LIST)?
            }
            opened => opened?,
        };
        let mode = Mode::from_raw_mode(u32::from(node.meta.mode & 0o7777));
        let found = self.ground.find(path)?;
        let is_directory = match &found {
            Some(found) => kind_of(found)? == FileType::Directory,
            None => false,
        };
        let keep = is_directory && matches!(node.kind, Kind::Dir(_));
        if found.is_some() && !keep {
            self.take_out(path)?;
        }
        let ground = &self.ground;
        let in_parent = |work: &dyn Fn() -> rustix::io::Result<()>| ground.allowed(&above, work);
        let mut device = None;
        let mut sha256 = None;
        let mut target = None;
        let create = |mode: Mode| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            ground.allowed(&above, || openat(&parent, name, flags, mode))
        };
        match &node.kind {
            Kind::Dir(_) => {
                if !keep {
                    in_parent(&|| mkdirat(&parent, name, Mode::RWXU))?;
                }
            }
            Kind::File(data) => {
                sha256 = Some(data.blob.sha256());
                let first = data.link.and_then(|link| self.links().path_of(link));
                let linked = match first {
                    Some(first) => self.link(&first, &above, &parent, name)?,
                    None => false,
                };
                if !linked {
                    let mut file = File::from(create(Mode::RUSR | Mode::WUSR)?);
                    data.blob.copy_to(&mut file)?;
                }
                if let Some(link) = data.link {
                    let fd = self.ground.at(path, LOOK)?;
                    self.links().note(link, path, inode(&real(fd.as_fd())?));
                }
            }
            Kind::Symlink(to) => {
                in_parent(&|| symlinkat(&**to, &parent, name))?;
                target = Some(&**to);
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                drop(create(Mode::RUSR | Mode::WUSR)?);
                sha256 = Some(Digest::of(b""));
                device = Some(Device {
                    block: matches!(node.kind, Kind::BlockDevice { .. }),
                    major: *major,
                    minor: *minor,
                });
            }
            Kind::Fifo => in_parent(&|| node_at(&parent, name, FileType::Fifo))?,
            Kind::Socket => in_parent(&|| node_at(&parent, name, FileType::Socket))?,
        }
        let fd = self.ground.at(path, LOOK)?;
        if !matches!(node.kind, Kind::Symlink(_)) {
            rustix::fs::chmod(itself(&fd), mode)?;
        }
        self.say(path, &fd, node, device, sha256, target)
    }

    fn lay_root(&mut self, node: &Node) -> io::Result<()> {
        let Kind::Dir(_) = node.kind else {
            return Err(Errno::NOTDIR.into());
        };
        let path = TreePath::root();
        let fd = self.ground.at(&path, LIST)?;
        fchmod(&fd, Mode::from_raw_mode(u32::from(node.meta.mode & 0o7777)))?;
        self.say(&path, &fd, node, None, None, None)
    }

    fn lay_parents(&mut self, above: &TreePath) -> io::Result<()> {
        use crate::tree::{Children, Meta, Origin};
        let mut at = TreePath::root();
        for name in above.components() {
            at = at.join_name(name);
            if self.ground.find(&at)?.is_none() {
                let origin = Origin::Composer("a directory above a file");
                let node = Node::new(Meta::root(0o755, 0), Kind::Dir(Children::new()), origin);
                self.lay(&at, &node)?;
            }
        }
        Ok(())
    }

    /// Records what the node is said to be and that it lies there.
    fn say(
        &mut self,
        path: &TreePath,
        fd: &OwnedFd,
        node: &Node,
        device: Option<Device>,
        sha256: Option<Digest>,
        target: Option<&[u8]>,
    ) -> io::Result<()> {
        let stat = real(fd.as_fd())?;
        let said = Said {
            uid: node.meta.uid,
            gid: node.meta.gid,
            device,
            xattrs: Xattrs::clone(&node.meta.xattrs),
        };
        self.records.change(fd.as_fd(), &stat, |before| *before = said);
        let said = self.records.get(fd.as_fd(), &stat);
        self.snapshot.note(path, State::laid(&stat, said, sha256, target));
        Ok(())
    }

    /// Links the earlier name `first`; `false` where it is gone or has become something else.
    fn link(
        &self,
        first: &(TreePath, super::records::Inode),
        above: &TreePath,
        parent: &OwnedFd,
        name: &[u8],
    ) -> io::Result<bool> {
        let Some(from) = self.ground.find(&first.0)? else {
            return Ok(false);
        };
        if inode(&real(from.as_fd())?) != first.1 {
            return Ok(false);
        }
        let flags = AtFlags::SYMLINK_FOLLOW;
        self.ground.allowed(above, || {
            linkat(rustix::fs::CWD, itself(&from), parent, name, flags)
        })?;
        Ok(true)
    }

    /// Removes what lies at `path` and all below it; nothing where nothing does.
    pub(super) fn take_out(&mut self, path: &TreePath) -> io::Result<()> {
        let (Some(name), Some(above)) = (path.name(), path.parent()) else {
            return Err(Errno::BUSY.into());
        };
        let parent = match self.ground.at(&above, LIST) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        self.ground.allowed(&above, || remove_all(&parent, name))?;
        self.snapshot.forget(path);
        Ok(())
    }
}

fn kind_of(fd: &OwnedFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(real(fd.as_fd())?.stx_mode.into()))
}

fn node_at(parent: &OwnedFd, name: &[u8], kind: FileType) -> rustix::io::Result<()> {
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, 0)
}

fn remove_all(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    let directory = entry(parent.as_fd(), name, LIST)?;
    // Once for all, as it is about to go.
    let directory = &directory.fd;
    fchmod(directory, Mode::RWXU)?;
    for found in rustix::fs::Dir::read_from(directory)? {
        let found = found?;
        let below = found.file_name().to_bytes();
        if below != b"." && below != b".." {
            remove_all(directory, below)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

impl Sandbox {
    /// [`Sandbox::lay`] with the path in the error.
    pub(super) fn lay_named(&mut self, path: &TreePath, node: &Node) -> Result<(), SandboxError> {
        self.lay(path, node).map_err(|source| SandboxError::Tree {
            path: path.clone(),
            what: "laid into",
            source,
        })
    }
}
