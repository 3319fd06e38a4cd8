//! Files of the tree as contents of a disk.

use std::io;

use crate::formats::at::ReadAt;
use crate::store::Blob;

impl ReadAt for Blob {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Self::read_exact_at(self, buffer, offset)
    }
}
