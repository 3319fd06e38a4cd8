//! `chown(2)` and its like.

use std::os::fd::{AsFd as _, AsRawFd as _};

use rustix::fs::{FileType, Mode, chmod};

use super::{Answer, Answering, Caller, Named};

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;

impl Answering<'_> {
    /// Records the owner; -1 leaves it as it is.
    pub(super) fn chown(&mut self, caller: &Caller, file: Named, uid: u64, gid: u64) -> Answer {
        let target = self.target(caller, file)?;
        let (uid, gid) = (uid as u32, gid as u32);
        let mode = target.stat.stx_mode;
        let regular = FileType::from_raw_mode(mode.into()) == FileType::RegularFile;
        let changes = uid != u32::MAX || gid != u32::MAX;
        if regular && changes {
            // As the kernel does for everybody: a program does not carry its rights to a new owner.
            let mut kept = mode & !SET_UID;
            if mode & GROUP_EXECUTE != 0 {
                kept &= !SET_GID;
            }
            if kept != mode {
                let path = format!("/proc/self/fd/{}", target.fd.as_raw_fd());
                chmod(path, Mode::from_raw_mode(u32::from(kept & 0o7777)))?;
            }
        }
        let fd = target.fd.as_fd();
        self.records.change(fd, &target.stat, |said| {
            if uid != u32::MAX {
                said.uid = uid;
            }
            if gid != u32::MAX {
                said.gid = gid;
            }
            if regular && changes {
                said.xattrs.remove(&b"security.capability"[..]);
            }
        });
        Ok(Some(0))
    }
}
