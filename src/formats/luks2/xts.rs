//! AES in XTS mode (IEEE 1619), as dm-crypt's `aes-xts-plain64` uses it.
//!
//! The tweak of a sector is its number as a 128-bit little-endian integer. dm-crypt counts it in units of 512 bytes
//! whatever the sector size is, so with sectors of 4096 bytes successive tweaks are 8 apart.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
use aes::{Aes128, Aes256};

use super::error::Luks2Error;

/// Bytes that one step of the tweak counts.
pub const TWEAK_UNIT: u64 = 512;

const BLOCK: usize = 16;
/// Bytes that go through the cipher at once: the largest sector, or several smaller ones. More than what the widest
/// instructions take, and little enough that the first-level cache keeps data and masks.
const BATCH: usize = SectorSize::MAX_BYTES;
/// Most sectors in a batch.
const BATCH_SECTORS: usize = BATCH / 512;
/// x^128 = x^7 + x^2 + x + 1 in the field of tweaks.
const FEEDBACK: u128 = 0x87;

/// Bytes that are encrypted under one tweak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SectorSize(u32);

impl SectorSize {
    /// What every dm-crypt takes, and what keyslot areas use.
    pub const MIN: Self = Self(512);
    /// The largest that dm-crypt takes; a file system with blocks of as many bytes loses nothing by it.
    pub const MAX: Self = Self(4096);
    pub(super) const MAX_BYTES: usize = 4096;

    /// `bytes` as a sector size: 512, 1024, 2048 or 4096.
    pub fn new(bytes: u32) -> Option<Self> {
        matches!(bytes, 512 | 1024 | 2048 | 4096).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }
}

/// An expanded key; it is wiped from memory when dropped.
pub struct Xts(Keys);

enum Keys {
    Aes128(Box<Pair<Aes128>>),
    Aes256(Box<Pair<Aes256>>),
}

struct Pair<C> {
    data: C,
    tweak: C,
}

#[derive(Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
}

impl Xts {
    /// A key of 64 bytes (AES-256) or 32 bytes (AES-128): the half for data, then the half for tweaks.
    ///
    /// # Errors
    /// Any other length.
    pub fn new(key: &[u8]) -> Result<Self, Luks2Error> {
        let keys = match key.len() {
            32 => Keys::Aes128(Pair::new(key)?),
            64 => Keys::Aes256(Pair::new(key)?),
            other => return Err(Luks2Error::KeySize(other)),
        };
        Ok(Self(keys))
    }

    /// Encrypts whole sectors in place. `first` is the tweak of the first one, in units of [`TWEAK_UNIT`].
    ///
    /// Bytes after the last whole sector are left as they are.
    pub fn encrypt(&self, first: u64, sector: SectorSize, bytes: &mut [u8]) {
        self.sectors(first, sector, bytes, Direction::Encrypt);
    }

    /// The reverse of [`Xts::encrypt`].
    pub fn decrypt(&self, first: u64, sector: SectorSize, bytes: &mut [u8]) {
        self.sectors(first, sector, bytes, Direction::Decrypt);
    }

    fn sectors(&self, first: u64, sector: SectorSize, bytes: &mut [u8], direction: Direction) {
        let size = sector.0 as usize;
        let whole = bytes.len() / size * size;
        let mut masks = [0; BATCH];
        let mut number = first;
        for batch in bytes[..whole].chunks_mut(BATCH) {
            self.batch(number, size, batch, &mut masks, direction);
            // plain64 is a counter of 64 bits: the kernel's wraps as well.
            number = number.wrapping_add(batch.len() as u64 / TWEAK_UNIT);
        }
    }

    /// At most [`BATCH`] bytes in data units of `size` bytes, a multiple of [`BLOCK`].
    fn batch(
        &self,
        first: u64,
        size: usize,
        bytes: &mut [u8],
        masks: &mut [u8; BATCH],
        direction: Direction,
    ) {
        match &self.0 {
            Keys::Aes128(keys) => keys.batch(first, size, bytes, masks, direction),
            Keys::Aes256(keys) => keys.batch(first, size, bytes, masks, direction),
        }
    }
}

impl<C> Pair<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + KeyInit,
{
    fn new(key: &[u8]) -> Result<Box<Self>, Luks2Error> {
        let half = |half| C::new_from_slice(half).map_err(|_| Luks2Error::KeySize(key.len()));
        let (data, tweak) = key.split_at(key.len() / 2);
        Ok(Box::new(Self {
            data: half(data)?,
            tweak: half(tweak)?,
        }))
    }

    /// See [`Xts::batch`]. Each step goes over the whole batch by itself, so that the compiler can make vectors of it.
    fn batch(
        &self,
        first: u64,
        size: usize,
        bytes: &mut [u8],
        masks: &mut [u8; BATCH],
        direction: Direction,
    ) {
        let masks = &mut masks[..bytes.len()];
        let step = (size as u64 / TWEAK_UNIT).max(1);
        let mut starts = [Array([0; BLOCK]); BATCH_SECTORS];
        let starts = &mut starts[..bytes.len().div_ceil(size)];
        let mut number = first;
        for start in starts.iter_mut() {
            start[..8].copy_from_slice(&number.to_le_bytes());
            number = number.wrapping_add(step);
        }
        self.tweak.encrypt_blocks(starts);
        for (start, masks) in starts.iter().zip(masks.chunks_mut(size)) {
            let mut next = u128::from_le_bytes(start.0);
            for mask in masks.chunks_exact_mut(BLOCK) {
                mask.copy_from_slice(&next.to_le_bytes());
                next = (next << 1) ^ (FEEDBACK & (next >> 127).wrapping_neg());
            }
        }
        mix(bytes, masks);
        let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(bytes);
        match direction {
            Direction::Encrypt => self.data.encrypt_blocks(blocks),
            Direction::Decrypt => self.data.decrypt_blocks(blocks),
        }
        mix(bytes, masks);
    }
}

fn mix(bytes: &mut [u8], masks: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(masks) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::testing::noise;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// Vectors 1, 2, 3, 4 and 10 of IEEE 1619-2007, appendix B: keys, data unit number, first bytes of the
    /// ciphertext. The plaintext is a repeated byte, or counts up.
    #[test]
    fn vectors_of_the_standard() {
        let counting: Vec<u8> = (0..=255).cycle().take(512).collect();
        let zeros = "00".repeat(16);
        let e = "27182818284590452353602874713526";
        let pi = "31415926535897932384626433832795";
        let e256 = "2718281828459045235360287471352662497757247093699959574966967627";
        let pi256 = "3141592653589793238462643383279502884197169399375105820974944592";
        let cases: [(String, u64, Vec<u8>, &str); 5] = [
            (
                zeros.repeat(2),
                0,
                vec![0; 32],
                "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
            ),
            (
                "11".repeat(16) + &"22".repeat(16),
                0x33_3333_3333,
                vec![0x44; 32],
                "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
            ),
            (
                "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0".to_owned() + &"22".repeat(16),
                0x33_3333_3333,
                vec![0x44; 32],
                "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
            ),
            (
                e.to_owned() + pi,
                0,
                counting.clone(),
                "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
            ),
            (
                e256.to_owned() + pi256,
                0xff,
                counting,
                "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
            ),
        ];
        for (index, (key, number, plain, expected)) in cases.into_iter().enumerate() {
            let xts = Xts::new(&bytes(&key)).unwrap();
            let mut unit = plain.clone();
            let mut masks = [0; BATCH];
            let size = unit.len();
            xts.batch(number, size, &mut unit, &mut masks, Direction::Encrypt);
            assert_eq!(unit[..32], bytes(expected), "vector {index}");
            xts.batch(number, size, &mut unit, &mut masks, Direction::Decrypt);
            assert_eq!(unit, plain, "vector {index}");
        }
    }

    #[test]
    fn sectors_are_data_units_numbered_in_512_bytes() {
        let xts = Xts::new(&noise(3, 64)).unwrap();
        for size in [512u32, 1024, 2048, 4096] {
            let sector = SectorSize::new(size).unwrap();
            // Several batches, the last one not full, and bytes that are no sector.
            let plain = noise(4, 21 * size as usize + 100);
            let mut whole = plain.clone();
            xts.encrypt(u64::MAX - 5, sector, &mut whole);
            assert!(whole[21 * size as usize..] == plain[21 * size as usize..]);
            for (index, unit) in plain.chunks_exact(size as usize).enumerate() {
                let mut alone = unit.to_vec();
                let number = (u64::MAX - 5).wrapping_add(index as u64 * u64::from(size) / 512);
                xts.batch(
                    number,
                    size as usize,
                    &mut alone,
                    &mut [0; BATCH],
                    Direction::Encrypt,
                );
                assert!(
                    alone == whole[index * size as usize..][..size as usize],
                    "{size}: {index}"
                );
            }
            xts.decrypt(u64::MAX - 5, sector, &mut whole);
            assert!(whole == plain);
        }
        assert_eq!(SectorSize::new(0), None);
        assert_eq!(SectorSize::new(8192), None);
        assert!(matches!(Xts::new(&[0; 48]), Err(Luks2Error::KeySize(48))));
    }
}
