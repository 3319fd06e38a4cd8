//! The checksum of a content object, of its parts: what an ostree commit would name a file that lies elsewhere.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::object::Ownership;
use crate::store::Digest;
use crate::tree::Xattrs;

/// A checksum that is being computed: write the content, then [`ContentChecksum::finish`].
#[derive(Debug, Clone)]
pub struct ContentChecksum(Sha256);

impl ContentChecksum {
    /// Of a regular file, or of a symbolic link to `target`. `mode` is `st_mode`: type and permission bits.
    pub fn new(uid: u32, gid: u32, mode: u32, xattrs: Xattrs, target: &str) -> Self {
        let owned = Ownership {
            uid,
            gid,
            mode,
            xattrs,
        };
        Self(Sha256::new_with_prefix(owned.content_header(target)))
    }

    /// The name of the object.
    pub fn finish(self) -> Digest {
        Digest::finish(self.0)
    }
}

impl Write for ContentChecksum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
