//! Reading back what scriptlets left.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::{FileType, readlinkat};
use sha2::{Digest as _, Sha256};

use super::Sandbox;
use super::ground::READ;
use super::records::{inode, real};
use crate::path::TreePath;
use crate::store::{Blob, Digest};
use crate::tree::{Children, FileData, Kind, Meta, Node, Origin};

/// Contents up to this size are held in memory.
const SMALL: u64 = 256 << 10;

impl Sandbox {
    pub(super) fn node(&self, path: &TreePath, time: i64) -> io::Result<Option<Node>> {
        let Some(fd) = self.ground.find(path)? else {
            return Ok(None);
        };
        let stat = real(fd.as_fd())?;
        let said = self.records.get(fd.as_fd(), &stat).cloned().unwrap_or_default();
        let kind = match (said.device, FileType::from_raw_mode(stat.stx_mode.into())) {
            (Some(device), _) => {
                let (major, minor) = (device.major, device.minor);
                if device.block {
                    Kind::BlockDevice { major, minor }
                } else {
                    Kind::CharDevice { major, minor }
                }
            }
            (_, FileType::Directory) => Kind::Dir(Children::new()),
            (_, FileType::RegularFile) => {
                let several = stat.stx_nlink > 1;
                let changed = (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
                let known = self.links().content(inode(&stat), changed).filter(|_| several);
                let blob = match known {
                    Some(known) => known,
                    None => self.blob(path)?,
                };
                let link = several.then(|| {
                    let mut links = self.links();
                    links.note_content(inode(&stat), changed, blob.clone());
                    links.identity(inode(&stat))
                });
                Kind::File(FileData { blob, link })
            }
            (_, FileType::Symlink) => Kind::Symlink(readlinkat(&fd, "", Vec::new())?.to_bytes().into()),
            (_, FileType::Fifo) => Kind::Fifo,
            (_, FileType::Socket) => Kind::Socket,
            (_, other) => return Err(io::Error::other(format!("it is of the kind {other:?}"))),
        };
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            _ => stat.stx_mode & 0o7777,
        };
        let meta = Meta {
            mode,
            uid: said.uid,
            gid: said.gid,
            user: None,
            group: None,
            mtime: time,
            xattrs: said.xattrs,
        };
        let origin = Origin::Composer("left by a scriptlet");
        Ok(Some(Node::new(meta, kind, origin)))
    }

    /// The content as it is now: a later scriptlet may write to the file itself.
    fn blob(&self, path: &TreePath) -> io::Result<Blob> {
        let mut file = File::from(self.ground.at(path, READ)?);
        let mut bytes = Vec::new();
        (&file).take(SMALL + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= SMALL {
            return Ok(Blob::from_bytes(bytes));
        }
        file.rewind()?;
        let mut copy = tempfile::tempfile_in(&self.spare)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            copy.write_all(&buffer[..length])?;
            size += length as u64;
        }
        Ok(Blob::from_file(Arc::new(copy), size, Digest::finish(hasher)))
    }
}
