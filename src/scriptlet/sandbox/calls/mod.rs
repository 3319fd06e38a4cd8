//! The system calls that the supervisor answers in the kernel's place.

mod caller;
mod node;
mod owner;
mod show;
mod xattr;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::libc::{self, c_long};
use rustix::fs::{AtFlags, Statx};
use rustix::io::Errno;

use self::caller::Caller;
use super::records::{Records, real};
use crate::sys::seccomp::{self, Call, Verdict};

/// What answering needs.
pub(super) struct Answering<'a> {
    pub listener: BorrowedFd<'a>,
    /// `/` of the sandbox.
    pub root: BorrowedFd<'a>,
    pub records: &'a mut Records,
    /// The user and group outside that are root inside.
    pub user: (u32, u32),
}

/// A call's answer: a value, or an `errno`; `None` leaves it to the kernel.
type Answer = Result<Option<i64>, Errno>;

/// How a call names its file.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// By a descriptor.
    Descriptor(i32),
    /// By a path in the caller's memory.
    Path {
        directory: i32,
        path: u64,
        follow: bool,
        /// An empty path means the directory's descriptor.
        may_be_empty: bool,
    },
}

impl Named {
    fn path(path: u64, follow: bool) -> Self {
        Self::Path {
            directory: libc::AT_FDCWD,
            path,
            follow,
            may_be_empty: false,
        }
    }

    fn at(directory: u64, path: u64, flags: u64) -> Self {
        let flags = AtFlags::from_bits_retain(flags as u32);
        Self::Path {
            directory: directory as i32,
            path,
            follow: !flags.contains(AtFlags::SYMLINK_NOFOLLOW),
            may_be_empty: flags.contains(AtFlags::EMPTY_PATH),
        }
    }
}

/// A file that a call means.
struct Target {
    fd: OwnedFd,
    stat: Statx,
}

impl Answering<'_> {
    /// Answers a call that is not about processes.
    pub(super) fn verdict(&mut self, call: &Call) -> Verdict {
        match self.answer(call) {
            Ok(None) => Verdict::Continue,
            Ok(Some(value)) => Verdict::Return(value),
            Err(errno) => Verdict::Fail(errno.raw_os_error()),
        }
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let caller = Caller::open(call.thread)?;
        // From here on the caller's memory, directory and descriptors are held, so that they stay its own even where
        // its number is given to another process.
        if !seccomp::waits(self.listener, call.id) {
            return Err(Errno::SRCH);
        }
        let [a, b, c, d, e, _] = call.arguments;
        let number = call.number as c_long;
        #[cfg(target_arch = "x86_64")]
        match number {
            libc::SYS_chown => return self.chown(&caller, Named::path(a, true), b, c),
            libc::SYS_lchown => return self.chown(&caller, Named::path(a, false), b, c),
            libc::SYS_stat => return self.stat(&caller, Named::path(a, true), b),
            libc::SYS_lstat => return self.stat(&caller, Named::path(a, false), b),
            libc::SYS_mknod => return self.mknod(&caller, libc::AT_FDCWD, a, b, c),
            _ => {}
        }
        match number {
            libc::SYS_fchown => self.chown(&caller, Named::Descriptor(a as i32), b, c),
            libc::SYS_fchownat => self.chown(&caller, Named::at(a, b, e), c, d),
            libc::SYS_mknodat => self.mknod(&caller, a as i32, b, c, d),
            libc::SYS_fstat => self.stat(&caller, Named::Descriptor(a as i32), b),
            libc::SYS_newfstatat => self.stat(&caller, Named::at(a, b, d), c),
            libc::SYS_statx => self.statx(&caller, Named::at(a, b, c), e),
            libc::SYS_setxattr => self.set_xattr(&caller, Named::path(a, true), [b, c, d, e]),
            libc::SYS_lsetxattr => self.set_xattr(&caller, Named::path(a, false), [b, c, d, e]),
            libc::SYS_fsetxattr => self.set_xattr(&caller, Named::Descriptor(a as i32), [b, c, d, e]),
            libc::SYS_getxattr => self.get_xattr(&caller, Named::path(a, true), [b, c, d]),
            libc::SYS_lgetxattr => self.get_xattr(&caller, Named::path(a, false), [b, c, d]),
            libc::SYS_fgetxattr => self.get_xattr(&caller, Named::Descriptor(a as i32), [b, c, d]),
            libc::SYS_listxattr => self.list_xattrs(&caller, Named::path(a, true), [b, c]),
            libc::SYS_llistxattr => self.list_xattrs(&caller, Named::path(a, false), [b, c]),
            libc::SYS_flistxattr => self.list_xattrs(&caller, Named::Descriptor(a as i32), [b, c]),
            libc::SYS_removexattr => self.remove_xattr(&caller, Named::path(a, true), b),
            libc::SYS_lremovexattr => self.remove_xattr(&caller, Named::path(a, false), b),
            libc::SYS_fremovexattr => self.remove_xattr(&caller, Named::Descriptor(a as i32), b),
            _ => Err(Errno::NOSYS),
        }
    }

    fn target(&self, caller: &Caller, named: Named) -> Result<Target, Errno> {
        let fd = match named {
            Named::Descriptor(number) => caller.descriptor(number)?,
            Named::Path {
                directory,
                path,
                follow,
                may_be_empty,
            } => {
                let path = caller.string(path, libc::PATH_MAX as usize)?;
                caller.resolve(self.root, directory, &path, follow, may_be_empty)?
            }
        };
        let stat = real(fd.as_fd())?;
        Ok(Target { fd, stat })
    }
}
