//! The process that makes a call: its memory, and what its paths lead to.
//!
//! Paths are resolved by the kernel under `RESOLVE_IN_ROOT` or `RESOLVE_BENEATH` from descriptors of the sandbox's own
//! root: whatever the scriptlet renames or links meanwhile, a path that is resolved here ends inside its tree. The file
//! is then held by its descriptor, and never looked up again.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

pub(super) struct Caller {
    thread: u32,
    memory: File,
}

/// The kernel gives up where a rename races; so do we, after this many times.
const TRIES: usize = 16;

impl Caller {
    /// The thread's memory as it is now: a later `execve` makes another, which this does not reach.
    pub(super) fn open(thread: u32) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let memory =
            openat(CWD, format!("/proc/{thread}/mem"), flags, Mode::empty()).map_err(|_| Errno::SRCH)?;
        Ok(Self {
            thread,
            memory: memory.into(),
        })
    }

    /// `length` bytes at `address`.
    pub(super) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        self.memory
            .read_exact_at(&mut bytes, address)
            .map_err(|_| Errno::FAULT)?;
        Ok(bytes)
    }

    /// Writes `bytes` to `address`. Read-only private pages are no obstacle, which harms nobody but the caller.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.memory.write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    /// The string at `address`, without its NUL; at most `longest` bytes with it.
    pub(super) fn string(&self, address: u64, longest: usize) -> Result<Vec<u8>, Errno> {
        let mut text = vec![0; longest];
        let mut filled = 0;
        while filled < longest {
            // Page by page, as the next may not be there.
            let at = address.checked_add(filled as u64).ok_or(Errno::FAULT)?;
            let page = 4096 - (at % 4096) as usize;
            let end = longest.min(filled + page);
            let got = self
                .memory
                .read_at(&mut text[filled..end], at)
                .map_err(|_| Errno::FAULT)?;
            if let Some(nul) = text[filled..filled + got].iter().position(|&b| b == 0) {
                text.truncate(filled + nul);
                return Ok(text);
            }
            if got == 0 {
                return Err(Errno::FAULT);
            }
            filled += got;
        }
        Err(Errno::NAMETOOLONG)
    }

    /// A field of the thread's `/proc` status, in octal.
    pub(super) fn umask(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(line.trim(), 8).ok()
    }

    fn own(&self, what: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat(CWD, format!("/proc/{}/{what}", self.thread), flags, Mode::empty())
    }

    /// The file behind descriptor `number`.
    pub(super) fn descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        self.own(&format!("fd/{number}")).map_err(|_| Errno::BADF)
    }

    fn directory(&self, number: i32) -> Result<OwnedFd, Errno> {
        if number == libc::AT_FDCWD {
            return self.own("cwd");
        }
        self.descriptor(number)
    }

    /// What `path` leads to, as the caller would find it.
    pub(super) fn resolve(
        &self,
        root: BorrowedFd<'_>,
        directory: i32,
        path: &[u8],
        follow: bool,
        may_be_empty: bool,
    ) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return if may_be_empty {
                self.directory(directory)
            } else {
                Err(Errno::NOENT)
            };
        }
        // Links of /proc that no path resolution from outside may follow.
        if follow && let Some(number) = descriptor_path(path) {
            return self.descriptor(number);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        if path.starts_with(b"/") {
            return open_in(root, path, flags, ResolveFlags::IN_ROOT);
        }
        let start = self.directory(directory)?;
        match open_in(start.as_fd(), path, flags, ResolveFlags::BENEATH) {
            // It goes through an absolute link or above the directory.
            Err(Errno::XDEV) => {}
            done => return done,
        }
        // As the directory's mount namespace names it, whose root is the sandbox's.
        use std::os::fd::AsRawFd as _;
        let link = format!("/proc/self/fd/{}", start.as_raw_fd());
        let above = rustix::fs::readlink(link, Vec::new())?;
        let whole = [above.to_bytes(), b"/", path].concat();
        open_in(root, &whole, flags, ResolveFlags::IN_ROOT)
    }

    /// The directory in which a new file `path` would stand, and its name.
    pub(super) fn resolve_parent<'p>(
        &self,
        root: BorrowedFd<'_>,
        directory: i32,
        path: &'p [u8],
    ) -> Result<(OwnedFd, &'p [u8]), Errno> {
        let (above, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        match name {
            b"" if path.is_empty() => return Err(Errno::NOENT),
            b"" | b"." | b".." => return Err(Errno::EXIST),
            _ => {}
        }
        let parent = self.resolve(root, directory, above, true, false)?;
        Ok((parent, name))
    }
}

fn open_in(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..TRIES {
        let how = how | ResolveFlags::NO_MAGICLINKS;
        match openat2(directory, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// The number in `/proc/self/fd/N`, `/proc/thread-self/fd/N` or `/dev/fd/N`, or of `/dev/stdin` and its like.
fn descriptor_path(path: &[u8]) -> Option<i32> {
    let number: &[u8] = match path {
        b"/dev/stdin" => b"0",
        b"/dev/stdout" => b"1",
        b"/dev/stderr" => b"2",
        _ => [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/", b"/dev/fd/"]
            .iter()
            .find_map(|prefix| path.strip_prefix(*prefix))?,
    };
    let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(number).ok()?.parse().ok())
        .flatten()
}
