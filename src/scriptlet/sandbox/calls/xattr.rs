//! Extended attributes: all are recorded and none is set, so that the host's own (SELinux labels) do not show.

use std::os::fd::AsFd as _;

use nix::libc;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Answer, Answering, Caller, Named, Target};
use crate::tree::Xattrs;

/// `XATTR_NAME_MAX`, `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const LONGEST_NAME: usize = 255;
const LARGEST_VALUE: u64 = 65536;
const LONGEST_LIST: usize = 65536;

/// All values of one file together; file systems have less.
const LARGEST_SUM: usize = 1 << 20;

/// All of all files, in memory: a tree with IMA signatures on each of its files needs a quarter.
const MOST_HELD: usize = 64 << 20;

impl Answering<'_> {
    pub(super) fn set_xattr(
        &mut self,
        caller: &Caller,
        file: Named,
        [name, value, size, flags]: [u64; 4],
    ) -> Answer {
        let flags = flags as i32;
        if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) != 0 {
            return Err(Errno::INVAL);
        }
        let name = name_of(caller, name)?;
        if size > LARGEST_VALUE {
            return Err(Errno::TOOBIG);
        }
        let value = caller.read(value, size as usize)?;
        let target = self.target(caller, file)?;
        allowed(&name, &target)?;
        // The two forms that hold capabilities, with and without the user namespace's root.
        if *name == *b"security.capability" && !matches!(value.len(), 20 | 24) {
            return Err(Errno::INVAL);
        }
        let present = self.xattrs(&target);
        let exists = present.is_some_and(|all| all.contains_key(&name));
        if exists && flags & libc::XATTR_CREATE != 0 {
            return Err(Errno::EXIST);
        }
        if !exists && flags & libc::XATTR_REPLACE != 0 {
            return Err(Errno::NODATA);
        }
        let sum: usize = present.map_or(0, |all| {
            all.iter().map(|(name, value)| name.len() + value.len()).sum()
        });
        if sum + name.len() + value.len() > LARGEST_SUM || self.records.held() + value.len() > MOST_HELD {
            return Err(Errno::NOSPC);
        }
        self.records.change(target.fd.as_fd(), &target.stat, |said| {
            said.xattrs.insert(name, value.into());
        });
        Ok(Some(0))
    }

    pub(super) fn get_xattr(&self, caller: &Caller, file: Named, [name, buffer, size]: [u64; 3]) -> Answer {
        let name = name_of(caller, name)?;
        let target = self.target(caller, file)?;
        allowed(&name, &target)?;
        let value = self
            .xattrs(&target)
            .and_then(|all| all.get(&name))
            .ok_or(Errno::NODATA)?;
        give(caller, value, buffer, size)
    }

    pub(super) fn list_xattrs(&self, caller: &Caller, file: Named, [buffer, size]: [u64; 2]) -> Answer {
        let target = self.target(caller, file)?;
        let mut list = Vec::new();
        for name in self.xattrs(&target).into_iter().flat_map(Xattrs::keys) {
            list.extend_from_slice(name);
            list.push(0);
        }
        if list.len() > LONGEST_LIST {
            return Err(Errno::TOOBIG);
        }
        give(caller, &list, buffer, size)
    }

    pub(super) fn remove_xattr(&mut self, caller: &Caller, file: Named, name: u64) -> Answer {
        let name = name_of(caller, name)?;
        let target = self.target(caller, file)?;
        allowed(&name, &target)?;
        if !self.xattrs(&target).is_some_and(|all| all.contains_key(&name)) {
            return Err(Errno::NODATA);
        }
        self.records.change(target.fd.as_fd(), &target.stat, |said| {
            said.xattrs.remove(&name);
        });
        Ok(Some(0))
    }

    fn xattrs(&self, target: &Target) -> Option<&Xattrs> {
        let said = self.records.get(target.fd.as_fd(), &target.stat)?;
        Some(&said.xattrs)
    }
}

fn name_of(caller: &Caller, address: u64) -> Result<Box<[u8]>, Errno> {
    match caller.string(address, LONGEST_NAME + 1) {
        Ok(name) if name.is_empty() => Err(Errno::RANGE),
        Err(Errno::NAMETOOLONG) => Err(Errno::RANGE),
        name => name.map(Vec::into_boxed_slice),
    }
}

/// Whether the file can have an attribute of that name, by the kernel's rules. POSIX ACLs (`system.`) it cannot: the
/// system would have to act on them.
fn allowed(name: &[u8], target: &Target) -> Result<(), Errno> {
    let known = [&b"security."[..], b"trusted.", b"user."]
        .iter()
        .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    if !known {
        return Err(Errno::OPNOTSUPP);
    }
    let kind = FileType::from_raw_mode(target.stat.stx_mode.into());
    if name.starts_with(b"user.") && !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Err(Errno::PERM);
    }
    Ok(())
}

/// Writes `value` to the caller's buffer; with a size of 0, only says how long it is.
fn give(caller: &Caller, value: &[u8], buffer: u64, size: u64) -> Answer {
    if size > 0 {
        if (size as usize) < value.len() {
            return Err(Errno::RANGE);
        }
        caller.write(buffer, value)?;
    }
    Ok(Some(value.len() as i64))
}
