//! File handles: what tells an inode from a later one with the same number.

use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// `MAX_HANDLE_SZ` of the kernel.
const MAX: usize = 128;

/// `struct file_handle` with room for the largest handle.
#[repr(C, align(8))]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; MAX],
}

/// The handle of the file behind `fd` (`O_PATH` is enough): opaque bytes that hold the inode's generation, so that they
/// differ once the inode is freed and its number used again. `None` where the file system has none.
pub fn of(fd: BorrowedFd<'_>) -> Option<Box<[u8]>> {
    // AT_HANDLE_FID (Linux 6.5) asks for a handle that serves to compare only, which more file systems have.
    const AT_HANDLE_FID: libc::c_int = 0x200;
    [AT_HANDLE_FID, 0]
        .into_iter()
        .find_map(|flag| read(fd, flag | libc::AT_EMPTY_PATH))
}

fn read(fd: BorrowedFd<'_>, flags: libc::c_int) -> Option<Box<[u8]>> {
    let mut handle = Handle {
        bytes: MAX as u32,
        kind: 0,
        data: [0; MAX],
    };
    let mut mount: libc::c_int = 0;
    debug_assert_eq!(offset_of!(Handle, data), 8);
    // SAFETY: the path is a NUL-terminated literal; `handle` has the kernel's layout (two 32-bit fields, then bytes) and
    // says in `bytes` how many follow, which the kernel keeps to; both outlive the call, which keeps no pointer.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            flags,
        )
    };
    let used = usize::try_from(handle.bytes).ok()?;
    (done == 0).then_some(())?;
    handle.data.get(..used).map(Box::from)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_used_again_inode_number_has_another_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..50 {
            let file = File::create(&path).unwrap();
            let number = file.metadata().unwrap().ino();
            let Some(handle) = of(file.as_fd()) else { return };
            assert_eq!(of(File::open(&path).unwrap().as_fd()).unwrap(), handle);
            let earlier = seen.insert(number, handle.clone());
            assert_ne!(earlier, Some(handle));
            drop(file);
            fs::remove_file(&path).unwrap();
        }
    }
}
