//! The anti-forensic splitter: a key as thousands of stripes, of which losing any one loses the key.
//!
//! Specification: *LUKS On-Disk Format* 1.2, section 2.4 (`AFsplit`, `AFmerge`), which LUKS2 calls `luks1`.

use zeroize::Zeroizing;

use super::hash::Hash;

/// Number of stripes: the only one that cryptsetup takes.
pub const STRIPES: usize = 4000;

/// Splits `key`. `stripes` holds [`STRIPES`] times its length; all but the last stripe are the caller's random bytes,
/// and the last one is filled in.
pub(super) fn split(hash: Hash, key: &[u8], stripes: &mut [u8]) {
    let random = stripes.len() - key.len();
    let (random, last) = stripes.split_at_mut(random);
    let mixed = mixed(hash, random, key.len());
    for ((byte, mixed), key) in last.iter_mut().zip(mixed.iter()).zip(key) {
        *byte = mixed ^ key;
    }
}

/// The key of `size` bytes that was split into `stripes`.
pub(super) fn merge(hash: Hash, stripes: &[u8], size: usize) -> Zeroizing<Vec<u8>> {
    let (random, last) = stripes.split_at(stripes.len() - size);
    let mut key = mixed(hash, random, size);
    for (byte, last) in key.iter_mut().zip(last) {
        *byte ^= last;
    }
    key
}

/// All stripes but the last, mixed into one.
fn mixed(hash: Hash, stripes: &[u8], size: usize) -> Zeroizing<Vec<u8>> {
    let mut state = Zeroizing::new(vec![0; size]);
    for stripe in stripes.chunks_exact(size) {
        for (byte, stripe) in state.iter_mut().zip(stripe) {
            *byte ^= stripe;
        }
        diffuse(hash, &mut state);
    }
    state
}

/// Replaces each piece of a digest's length by its digest, the piece's number before it, big-endian.
fn diffuse(hash: Hash, state: &mut [u8]) {
    for (number, piece) in (0u32..).zip(state.chunks_mut(hash.size())) {
        let digest = Zeroizing::new(hash.digest(&[&number.to_be_bytes(), piece]));
        piece.copy_from_slice(&digest[..piece.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::testing::noise;

    #[test]
    fn a_key_comes_back_from_all_its_stripes_only() {
        // 32 bytes are less than a digest of SHA-512, 64 are no whole number of those of SHA-1.
        for (hash, size) in [
            (Hash::Sha1, 64),
            (Hash::Sha256, 64),
            (Hash::Sha512, 32),
            (Hash::Sha384, 64),
        ] {
            let key = noise(1, size);
            let mut stripes = noise(2, size * STRIPES);
            split(hash, &key, &mut stripes);
            assert_eq!(*merge(hash, &stripes, size), key);
            for damaged in [0, size * 1234 + 5, stripes.len() - 1] {
                stripes[damaged] ^= 1;
                assert_ne!(*merge(hash, &stripes, size), key, "byte {damaged}");
                stripes[damaged] ^= 1;
            }
        }
    }
}
