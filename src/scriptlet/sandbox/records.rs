//! What files are said to be, beyond what an ordinary user can make them: owners, device numbers, extended attributes.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

use crate::sys::handle;
use crate::tree::Xattrs;

/// The device and number of an inode.
pub(super) type Inode = (u64, u64);

/// A character or block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub block: bool,
    pub major: u32,
    pub minor: u32,
}

/// What is said of one inode. Permission bits, times and contents are the real inode's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct Said {
    pub uid: u32,
    pub gid: u32,
    /// The real inode is an empty regular file then.
    pub device: Option<Device>,
    pub xattrs: Xattrs,
}

/// What tells an inode from a later one that got the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    Handle(Box<[u8]>),
    /// Where the file system has no handles: when it was made.
    Birth(i64, u32),
}

#[derive(Debug)]
struct Record {
    life: Life,
    said: Said,
}

/// All that is said, by inode: it goes with renames and hard links, and ends with the inode.
#[derive(Debug, Default)]
pub(super) struct Records {
    all: HashMap<Inode, Record>,
    /// Memory that the extended attributes take.
    held: usize,
}

/// What an attribute takes beside its name and value, roughly.
const ATTRIBUTE: usize = 128;

/// Memory that `xattrs` take.
fn weight(xattrs: &Xattrs) -> usize {
    let attributes = xattrs.iter();
    attributes
        .map(|(name, value)| ATTRIBUTE + name.len() + value.len())
        .sum()
}

/// The real inode behind a descriptor.
pub(super) fn real(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted)
}

/// Where `stat` is the inode's.
pub(super) fn inode(stat: &Statx) -> Inode {
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    (device, stat.stx_ino)
}

fn life(fd: BorrowedFd<'_>, stat: &Statx) -> Life {
    match handle::of(fd) {
        Some(handle) => Life::Handle(handle),
        None => Life::Birth(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
    }
}

impl Records {
    /// What is said of the inode behind `fd`, whose real state is `stat`.
    pub(super) fn get(&self, fd: BorrowedFd<'_>, stat: &Statx) -> Option<&Said> {
        let record = self.all.get(&inode(stat))?;
        (record.life == life(fd, stat)).then_some(&record.said)
    }

    /// As [`Records::get`] where the descriptor is costly: `open` gives it where anything is said of that number.
    pub(super) fn find<F: std::os::fd::AsFd>(
        &self,
        stat: &Statx,
        open: impl FnOnce() -> rustix::io::Result<F>,
    ) -> rustix::io::Result<Option<&Said>> {
        if !self.all.contains_key(&inode(stat)) {
            return Ok(None);
        }
        let fd = open()?;
        Ok(self.get(fd.as_fd(), stat))
    }

    /// Says something new.
    pub(super) fn change(&mut self, fd: BorrowedFd<'_>, stat: &Statx, change: impl FnOnce(&mut Said)) {
        let life = life(fd, stat);
        let key = inode(stat);
        let mut said = match self.all.remove(&key) {
            Some(record) => {
                self.held -= weight(&record.said.xattrs);
                match record.life == life {
                    true => record.said,
                    false => Said::default(),
                }
            }
            None => Said::default(),
        };
        change(&mut said);
        self.held += weight(&said.xattrs);
        if said != Said::default() {
            self.all.insert(key, Record { life, said });
        }
    }

    /// Forgets what is said of other file systems than `device`: they are gone.
    pub(super) fn keep_only(&mut self, device: u64) {
        self.all.retain(|(of, _), _| *of == device);
        self.held = self.all.values().map(|record| weight(&record.said.xattrs)).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Memory that all extended attributes take, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}
