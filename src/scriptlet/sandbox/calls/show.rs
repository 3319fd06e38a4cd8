//! `stat(2)` and its like. Only files of which something is said are answered here; the kernel tells of the others.

use std::os::fd::AsFd as _;

use nix::libc;
use rustix::fs::Statx;

use super::{Answer, Answering, Caller, Named};
use crate::scriptlet::sandbox::records::Said;

impl Answering<'_> {
    /// The real state with what is said laid over it; `None` where nothing is said, or where the kernel is the one to
    /// find out what is wrong with the call.
    fn shown(&self, caller: &Caller, file: Named) -> Option<Statx> {
        let target = self.target(caller, file).ok()?;
        match self.records.get(target.fd.as_fd(), &target.stat) {
            Some(said) => Some(overlaid(target.stat, said)),
            // Of what is borrowed from the host the owner is nobody inside, or root, as it comes.
            None if !self.is_own(&target.stat) => Some(overlaid(target.stat, &Said::default())),
            None => None,
        }
    }

    fn is_own(&self, stat: &Statx) -> bool {
        (stat.stx_uid, stat.stx_gid) == self.user
    }

    pub(super) fn stat(&self, caller: &Caller, file: Named, buffer: u64) -> Answer {
        let Some(stat) = self.shown(caller, file) else {
            return Ok(None);
        };
        write(caller, buffer, &stat_bytes(&stat))
    }

    pub(super) fn statx(&self, caller: &Caller, file: Named, buffer: u64) -> Answer {
        let Some(stat) = self.shown(caller, file) else {
            return Ok(None);
        };
        write(caller, buffer, &statx_bytes(&stat))
    }
}

fn write(caller: &Caller, buffer: u64, bytes: &[u8]) -> Answer {
    caller.write(buffer, bytes)?;
    Ok(Some(0))
}

fn overlaid(mut stat: Statx, said: &Said) -> Statx {
    stat.stx_uid = said.uid;
    stat.stx_gid = said.gid;
    if let Some(device) = said.device {
        let format = if device.block {
            libc::S_IFBLK
        } else {
            libc::S_IFCHR
        };
        stat.stx_mode = stat.stx_mode & 0o7777 | format as u16;
        stat.stx_rdev_major = device.major;
        stat.stx_rdev_minor = device.minor;
        stat.stx_size = 0;
        stat.stx_blocks = 0;
    }
    stat
}

/// A device number as the kernel writes it into `struct stat`.
fn device_number(major: u32, minor: u32) -> u64 {
    u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// `struct stat` of this architecture, as the kernel writes it.
fn stat_bytes(stat: &Statx) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u64(device_number(stat.stx_dev_major, stat.stx_dev_minor));
    out.u64(stat.stx_ino);
    let device = device_number(stat.stx_rdev_major, stat.stx_rdev_minor);
    if cfg!(target_arch = "x86_64") {
        out.u64(stat.stx_nlink.into());
        out.u32(stat.stx_mode.into());
        out.u32(stat.stx_uid);
        out.u32(stat.stx_gid);
        out.u32(0);
        out.u64(device);
        out.u64(stat.stx_size);
        out.u64(stat.stx_blksize.into());
    } else {
        out.u32(stat.stx_mode.into());
        out.u32(stat.stx_nlink);
        out.u32(stat.stx_uid);
        out.u32(stat.stx_gid);
        out.u64(device);
        out.u64(0);
        out.u64(stat.stx_size);
        out.u32(stat.stx_blksize);
        out.u32(0);
    }
    out.u64(stat.stx_blocks);
    for time in [&stat.stx_atime, &stat.stx_mtime, &stat.stx_ctime] {
        out.u64(time.tv_sec as u64);
        out.u64(time.tv_nsec.into());
    }
    let spare = if cfg!(target_arch = "x86_64") { 24 } else { 8 };
    out.0.resize(out.0.len() + spare, 0);
    out.0
}

/// `struct statx`, the same everywhere.
fn statx_bytes(stat: &Statx) -> Vec<u8> {
    let mut out = Bytes::default();
    out.u32(stat.stx_mask);
    out.u32(stat.stx_blksize);
    out.u64(stat.stx_attributes.bits());
    out.u32(stat.stx_nlink);
    out.u32(stat.stx_uid);
    out.u32(stat.stx_gid);
    out.u32(stat.stx_mode.into());
    out.u64(stat.stx_ino);
    out.u64(stat.stx_size);
    out.u64(stat.stx_blocks);
    out.u64(stat.stx_attributes_mask.bits());
    for time in [&stat.stx_atime, &stat.stx_btime, &stat.stx_ctime, &stat.stx_mtime] {
        out.u64(time.tv_sec as u64);
        out.u64(time.tv_nsec.into());
    }
    for number in [
        stat.stx_rdev_major,
        stat.stx_rdev_minor,
        stat.stx_dev_major,
        stat.stx_dev_minor,
    ] {
        out.u32(number);
    }
    out.u64(stat.stx_mnt_id);
    out.0.resize(256, 0);
    out.0
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::scriptlet::sandbox::records::{Device, real};

    #[test]
    fn the_structures_have_the_kernels_layout() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(12_345).unwrap();
        let stat = real(file.as_file().as_fd()).unwrap();
        let said = Said {
            uid: 998,
            gid: 4_000_000_000,
            device: Some(Device {
                block: true,
                major: 259,
                minor: 0x1_2345,
            }),
            ..Said::default()
        };
        let real = file.as_file().metadata().unwrap();
        let plain = stat_bytes(&stat);
        assert_eq!(plain.len(), size_of::<libc::stat>());
        let word = |bytes: &[u8], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(word(&plain, 0), real.dev());
        assert_eq!(word(&plain, std::mem::offset_of!(libc::stat, st_ino)), real.ino());
        assert_eq!(word(&plain, std::mem::offset_of!(libc::stat, st_size)), 12_345);
        let ctime = std::mem::offset_of!(libc::stat, st_ctime_nsec);
        assert_eq!(word(&plain, ctime), real.ctime_nsec() as u64);

        let shown = stat_bytes(&overlaid(stat, &said));
        let half = |at: usize| u32::from_ne_bytes(shown[at..at + 4].try_into().unwrap());
        assert_eq!(half(std::mem::offset_of!(libc::stat, st_uid)), 998);
        assert_eq!(half(std::mem::offset_of!(libc::stat, st_gid)), 4_000_000_000);
        assert_eq!(half(std::mem::offset_of!(libc::stat, st_mode)), 0o060_600);
        assert_eq!(word(&shown, std::mem::offset_of!(libc::stat, st_size)), 0);
        let device = word(&shown, std::mem::offset_of!(libc::stat, st_rdev));
        assert_eq!(
            (nix::sys::stat::major(device), nix::sys::stat::minor(device)),
            (259, 0x1_2345)
        );

        let long = statx_bytes(&stat);
        assert_eq!(long.len(), size_of::<libc::statx>());
        assert_eq!(word(&long, std::mem::offset_of!(libc::statx, stx_size)), 12_345);
        assert_eq!(
            word(&long, std::mem::offset_of!(libc::statx, stx_mtime)),
            real.mtime() as u64
        );
    }
}
