//! CRC-32C as ext4 uses it: not inverted at either end, and begun with a seed that says whose block it is.

/// `seed` carried on over `bytes`.
pub(super) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// What all checksums of a file system but the superblock's begin with.
pub(super) fn of_file_system(uuid: &[u8; 16]) -> u32 {
    crc(!0, uuid)
}

/// What checksums of an inode and of its blocks begin with; generations are 0.
pub(super) fn of_inode(file_system: u32, number: u32) -> u32 {
    crc(crc(file_system, &number.to_le_bytes()), &[0; 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crc32c_without_the_inversions() {
        assert_eq!(crc(!0, b"123456789"), !0xe306_9283);
        assert_eq!(crc(crc(!0, b"1234"), b"56789"), crc(!0, b"123456789"));
    }
}
