//! Writing cpio archives in the "newc" format (SVR4 without checksum), which Linux unpacks as an
//! initramfs: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.
//!
//! A header is `070701` and thirteen numbers of eight hexadecimal digits; the name ends with NUL;
//! header with name, and data, are padded with NUL to four bytes.

use std::io::{self, Read, Write};

/// Ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// The longest name that the kernel unpacks, with its NUL.
const PATH_MAX: usize = 4096;

/// What an entry's header says beside its name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Of a device node; zero for everything else.
    pub rdev_major: u32,
    pub rdev_minor: u32,
}

/// An archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("writing the archive: {0}")]
    Io(#[from] io::Error),
    #[error("reading the content of `{name}`: {error}")]
    Content { name: String, error: io::Error },
    #[error("`{name}` has {size} bytes: a cpio archive holds files under 4 GiB")]
    TooLarge { name: String, size: u64 },
    #[error("`{0}` is no name for an entry: it is empty, has a NUL, is too long or ends the archive")]
    Name(String),
    #[error("`{name}` was to give {expected} bytes and gave {got}")]
    Short { name: String, expected: u64, got: u64 },
}

/// Writes entries in the order given. Inode numbers count from 1, so that equal calls give equal
/// bytes.
pub struct Writer<W> {
    out: W,
    at: u64,
    next_inode: u32,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            at: 0,
            next_inode: 1,
        }
    }

    /// An entry without data: a directory, device node, FIFO or socket.
    ///
    /// # Errors
    /// A name that cannot be stored; whatever writing gives.
    pub fn node(&mut self, name: &[u8], inode: &Inode) -> Result<(), WriteError> {
        self.file(&[name], inode, 0, io::empty())
    }

    /// A symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Writer::file`].
    pub fn symlink(&mut self, name: &[u8], inode: &Inode, target: &[u8]) -> Result<(), WriteError> {
        self.file(&[name], inode, target.len() as u64, target)
    }

    /// A file of `size` bytes, read from `data`, under each of `names`: more than one are hard
    /// links of one inode, and the last of them carries the data, as other writers have it.
    ///
    /// # Errors
    /// A name that cannot be stored, a size over 4 GiB, `data` that ends early; whatever reading
    /// and writing give.
    pub fn file(
        &mut self,
        names: &[&[u8]],
        inode: &Inode,
        size: u64,
        data: impl Read,
    ) -> Result<(), WriteError> {
        let Some((last, before)) = names.split_last() else {
            return Ok(());
        };
        let stored = u32::try_from(size).map_err(|_| WriteError::TooLarge {
            name: shown(last),
            size,
        })?;
        let number = self.next_inode;
        self.next_inode += 1;
        let links = u32::try_from(names.len()).map_err(io::Error::other)?;
        for name in before {
            self.header(name, inode, number, links, 0)?;
        }
        self.header(last, inode, number, links, stored)?;
        let got = io::copy(&mut data.take(size), &mut self.out).map_err(|error| WriteError::Content {
            name: shown(last),
            error,
        })?;
        if got != size {
            return Err(WriteError::Short {
                name: shown(last),
                expected: size,
                got,
            });
        }
        self.at += size;
        self.pad()
    }

    /// Writes the trailer and gives the inner writer back.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let inode = Inode {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            rdev_major: 0,
            rdev_minor: 0,
        };
        self.raw_header(TRAILER, &inode, 0, 1, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(
        &mut self,
        name: &[u8],
        inode: &Inode,
        number: u32,
        links: u32,
        size: u32,
    ) -> Result<(), WriteError> {
        if name.is_empty() || name.contains(&0) || name.len() >= PATH_MAX || name == TRAILER {
            return Err(WriteError::Name(shown(name)));
        }
        self.raw_header(name, inode, number, links, size)
    }

    fn raw_header(
        &mut self,
        name: &[u8],
        inode: &Inode,
        number: u32,
        links: u32,
        size: u32,
    ) -> Result<(), WriteError> {
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [
            number,
            inode.mode,
            inode.uid,
            inode.gid,
            links,
            inode.mtime,
            size,
            0, // the device that held the file
            0,
            inode.rdev_major,
            inode.rdev_minor,
            name_size,
            0, // the checksum, unused in this variant
        ];
        let mut bytes = b"070701".to_vec();
        for field in fields {
            bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        bytes.extend_from_slice(name);
        bytes.push(0);
        self.out.write_all(&bytes)?;
        self.at += bytes.len() as u64;
        self.pad()
    }

    fn pad(&mut self) -> Result<(), WriteError> {
        let rest = usize::try_from(self.at.next_multiple_of(4) - self.at).map_err(io::Error::other)?;
        self.out.write_all(&[0; 3][..rest])?;
        self.at += rest as u64;
        Ok(())
    }
}

fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const FILE: Inode = Inode {
        mode: 0o100_644,
        uid: 1,
        gid: 2,
        mtime: 0x1234_5678,
        rdev_major: 0,
        rdev_minor: 0,
    };

    fn sample() -> Vec<u8> {
        let dir = Inode {
            mode: 0o040_755,
            ..FILE
        };
        let device = Inode {
            mode: 0o020_600,
            rdev_major: 5,
            rdev_minor: 1,
            ..FILE
        };
        let link = Inode {
            mode: 0o120_777,
            ..FILE
        };
        let mut writer = Writer::new(Vec::new());
        writer.node(b"d", &dir).unwrap();
        writer.node(b"d/console", &device).unwrap();
        writer.file(&[b"a", b"d/b"], &FILE, 5, &b"hello"[..]).unwrap();
        writer.symlink(b"l", &link, b"d/b").unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn headers_are_as_the_format_says() {
        let bytes = sample();
        // ino, mode, uid, gid, nlink, mtime, size, device, rdev, name with NUL, checksum.
        let first = concat!(
            "070701", "00000001", "000041ED", "00000001", "00000002", "00000001", "12345678", "00000000",
            "00000000", "00000000", "00000000", "00000000", "00000002", "00000000", "d\0"
        );
        assert_eq!(&bytes[..112], first.as_bytes());
        // The second header starts after it without padding: 112 is a multiple of four.
        assert_eq!(&bytes[112..126], b"07070100000002");
        // Links share their inode number; the last one has the data.
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("07070100000003000081A4").count(), 2);
        assert!(text.ends_with("TRAILER!!!\0\0\0\0") && bytes.len().is_multiple_of(4));
    }

    #[test]
    fn cpio_reads_the_same() {
        let Ok(mut child) = Command::new("cpio")
            .args(["-itv", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            crate::testing::skip("cpio is missing");
            return;
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        let listing = String::from_utf8(out.stdout).unwrap();
        let lines: Vec<Vec<&str>> = listing.lines().map(|l| l.split_whitespace().collect()).collect();
        let brief: Vec<String> = lines
            .iter()
            .map(|w| format!("{} {} {}", w[0], w[1], w[w.len() - 1]))
            .collect();
        assert_eq!(
            brief,
            [
                "drwxr-xr-x 1 d",
                "crw------- 1 d/console",
                "-rw-r--r-- 2 a",
                "-rw-r--r-- 2 d/b",
                "lrwxrwxrwx 1 d/b",
            ]
        );
        assert!(listing.contains("5,   1"), "{listing}");
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let mut writer = Writer::new(io::sink());
        for name in [&b""[..], b"a\0b", &[b'x'; PATH_MAX], TRAILER] {
            let error = writer.file(&[name], &FILE, 0, io::empty()).unwrap_err();
            assert!(matches!(error, WriteError::Name(_)), "{error}");
        }
        let error = writer.file(&[b"big"], &FILE, 1 << 32, io::empty()).unwrap_err();
        assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
        let error = writer.file(&[b"short"], &FILE, 3, &b"ab"[..]).unwrap_err();
        assert!(matches!(error, WriteError::Short { got: 2, .. }), "{error}");
    }
}
