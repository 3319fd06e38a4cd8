//! `mknod(2)` of devices: an empty file stands for the node.

use std::os::fd::AsFd as _;

use nix::libc;
use rustix::fs::{Mode, OFlags, fchmod, openat};

use super::{Answer, Answering, Caller};
use crate::scriptlet::sandbox::records::{Device, real};

impl Answering<'_> {
    pub(super) fn mknod(
        &mut self,
        caller: &Caller,
        directory: i32,
        path: u64,
        mode: u64,
        device: u64,
    ) -> Answer {
        let path = caller.string(path, libc::PATH_MAX as usize)?;
        let (parent, name) = caller.resolve_parent(self.root, directory, &path)?;
        let umask = caller.umask().unwrap_or(0o022);
        let mode = mode as u32;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        let file = openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        fchmod(&file, Mode::from_raw_mode(mode & !umask & 0o7777))?;
        let stat = real(file.as_fd())?;
        // The kernel takes 32 bits, of which 12 are the major number.
        let device = device as u32;
        let device = Device {
            block: mode & libc::S_IFMT == libc::S_IFBLK,
            major: (device & 0xf_ff00) >> 8,
            minor: device & 0xff | (device >> 12) & 0xf_ff00,
        };
        self.records
            .change(file.as_fd(), &stat, |said| said.device = Some(device));
        Ok(Some(0))
    }
}
