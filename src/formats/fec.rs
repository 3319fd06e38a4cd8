//! dm-verity's forward error correction: Reed-Solomon parity over data and hash tree, by which the kernel mends blocks
//! that storage has damaged.
//!
//! As cryptsetup's `veritysetup format --fec-device` writes it and the kernel's dm-verity-fec reads it: a code word is
//! 255 bytes, of which the last `roots` are parity, over GF(2⁸) with the polynomial 0x11d and the generator
//! (x − 1)(x − α)…(x − α^(roots−1)). What is protected, data and behind it the hash tree without its superblock, is
//! read as 255 − `roots` columns of equal length, zeroes behind its end, so that neighbouring bytes lie in different
//! code words; a code word has a byte of each column. The parity bytes of code word after code word make the area.

use std::io;

use rayon::prelude::*;

use super::at::{ReadAt, WriteAt};
use super::verity::BLOCK_SIZE;

/// Bytes of parity for each code word, as everyone uses.
pub const DEFAULT_ROOTS: u8 = 2;
/// Fewest and most of them that the kernel takes.
pub const ROOTS: std::ops::RangeInclusive<u8> = 2..=24;

const CODE_WORD: u64 = 255;
const BLOCK: usize = BLOCK_SIZE as usize;
/// Blocks of each column that a task reads at once.
const TASK_BLOCKS: u64 = 32;
/// Code words that are worked on side by side: all of their state fits into a core's nearest cache.
const LANE: usize = 512;

/// What is protected, and how.
pub struct Protected<'a, D, H> {
    pub data: &'a D,
    /// Bytes; whole blocks.
    pub data_size: u64,
    /// The hash device, whose first block is the superblock.
    pub hash: &'a H,
    /// Bytes of the hash device, the superblock included; whole blocks.
    pub hash_size: u64,
    pub roots: u8,
}

/// An area of parity cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum FecError {
    #[error("{0} bytes of parity for each code word; from 2 to 24 are possible")]
    Roots(u8),
    #[error("what is to be protected is no whole number of 4096-byte blocks")]
    Blocks,
    #[error("the parity at byte {at} of its area is not that of what it protects")]
    Wrong { at: u64 },
    #[error("reading what is protected, or its parity")]
    Io(#[from] io::Error),
}

/// Bytes of the area for `data_size` bytes of data and a hash device of `hash_size` bytes.
pub fn area_size(data_size: u64, hash_size: u64, roots: u8) -> u64 {
    let blocks = data_size.div_ceil(BLOCK_SIZE) + (hash_size / BLOCK_SIZE).saturating_sub(1);
    blocks
        .div_ceil(CODE_WORD - u64::from(roots))
        .saturating_mul(BLOCK_SIZE * u64::from(roots))
}

impl<D: ReadAt, H: ReadAt> Protected<'_, D, H> {
    /// Writes the area to `out`, from byte `at` on.
    ///
    /// # Errors
    /// Sizes and numbers that cannot be, and I/O.
    pub fn write(&self, out: &impl WriteAt, at: u64) -> Result<(), FecError> {
        self.each(|parity, start| Ok(out.write_all_at(parity, at + start)?))
    }

    /// Whether the area at byte `at` of `area` is that of what is here.
    ///
    /// # Errors
    /// [`FecError::Wrong`] where it is not, and I/O.
    pub fn check(&self, area: &impl ReadAt, at: u64) -> Result<(), FecError> {
        self.each(|parity, start| {
            let mut found = vec![0; parity.len()];
            area.read_exact_at(&mut found, at + start)?;
            let wrong = found.iter().zip(parity).position(|(a, b)| a != b);
            match wrong {
                Some(byte) => Err(FecError::Wrong {
                    at: start + byte as u64,
                }),
                None => Ok(()),
            }
        })
    }

    /// Gives `each` the parity, piece by piece with its place in the area; several at once.
    fn each(&self, each: impl Fn(&[u8], u64) -> Result<(), FecError> + Sync) -> Result<(), FecError> {
        if !ROOTS.contains(&self.roots) {
            return Err(FecError::Roots(self.roots));
        }
        let whole = |size: u64| size != 0 && size.is_multiple_of(BLOCK_SIZE);
        if !whole(self.data_size) || !whole(self.hash_size) {
            return Err(FecError::Blocks);
        }
        let roots = usize::from(self.roots);
        let generator = generator(roots);
        let columns = CODE_WORD - u64::from(self.roots);
        let bytes = self.data_size.checked_add(self.hash_size);
        // Else places in the last column would not be numbers.
        let bytes = bytes
            .filter(|bytes| *bytes <= u64::MAX / 2)
            .ok_or(FecError::Blocks)?;
        let blocks = bytes / BLOCK_SIZE - 1;
        let rounds = blocks.div_ceil(columns);
        (0..rounds.div_ceil(TASK_BLOCKS))
            .into_par_iter()
            .try_for_each(|task| {
                let first = task * TASK_BLOCKS;
                let count = TASK_BLOCKS.min(rounds - first);
                let bytes = count as usize * BLOCK;
                let mut column = vec![0; bytes];
                let mut coders: Vec<_> = (0..bytes / LANE).map(|_| Coder::new(roots)).collect();
                for index in 0..columns {
                    self.read(&mut column, (index * rounds + first) * BLOCK_SIZE)?;
                    for (coder, bytes) in coders.iter_mut().zip(column.chunks_exact(LANE)) {
                        coder.take(bytes, &generator);
                    }
                }
                let mut parity = vec![0; bytes * roots];
                for (coder, out) in coders.iter().zip(parity.chunks_exact_mut(LANE * roots)) {
                    coder.finish(out);
                }
                each(&parity, first * BLOCK_SIZE * roots as u64)
            })
    }

    /// Fills `buffer` with what is protected from `at` on: data, then tree, then zeroes.
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), FecError> {
        let tree = self.hash_size - BLOCK_SIZE;
        let mut rest = buffer;
        for (start, size, is_data) in [(0, self.data_size, true), (self.data_size, tree, false)] {
            let at = at.max(start);
            let count = (start + size).saturating_sub(at).min(rest.len() as u64) as usize;
            if count == 0 {
                continue;
            }
            let (here, behind) = rest.split_at_mut(count);
            if is_data {
                self.data.read_exact_at(here, at)?;
            } else {
                self.hash.read_exact_at(here, at - start + BLOCK_SIZE)?;
            }
            rest = behind;
        }
        rest.fill(0);
        Ok(())
    }
}

/// Times α, byte by byte.
fn double(byte: u8) -> u8 {
    byte << 1 ^ if byte & 0x80 == 0 { 0 } else { 0x1d }
}

fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut power) = (0, a);
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            product ^= power;
        }
        power = double(power);
    }
    product
}

/// The generator's coefficients but for the leading one, from the highest power down.
fn generator(roots: usize) -> Vec<u8> {
    let mut polynomial = vec![1];
    let mut root = 1;
    for _ in 0..roots {
        // Times (x + root).
        let mut next = polynomial.clone();
        next.push(0);
        for (at, coefficient) in polynomial.iter().enumerate() {
            next[at + 1] ^= multiply(*coefficient, root);
        }
        polynomial = next;
        root = double(root);
    }
    polynomial.split_off(1)
}

/// The division of [`LANE`] code words by the generator: what remains is their parity.
struct Coder {
    /// A lane a coefficient, in a ring that begins at `first`.
    remainder: Vec<[u8; LANE]>,
    first: usize,
}

impl Coder {
    fn new(roots: usize) -> Self {
        Self {
            remainder: vec![[0; LANE]; roots],
            first: 0,
        }
    }

    /// Takes the next byte of each code word.
    fn take(&mut self, bytes: &[u8], generator: &[u8]) {
        let roots = generator.len();
        let mut powers = [[0; LANE]; 8];
        let lead = &mut self.remainder[self.first];
        for ((power, lead), byte) in powers[0].iter_mut().zip(lead.iter_mut()).zip(bytes) {
            *power = *lead ^ byte;
            *lead = 0;
        }
        for bit in 1..8 {
            let (below, above) = powers.split_at_mut(bit);
            for (power, half) in above[0].iter_mut().zip(&below[bit - 1]) {
                *power = double(*half);
            }
        }
        // The emptied lane has become the last.
        self.first = (self.first + 1) % roots;
        for (at, coefficient) in generator.iter().enumerate() {
            let lane = &mut self.remainder[(self.first + at) % roots];
            for (bit, power) in powers.iter().enumerate() {
                if coefficient >> bit & 1 == 1 {
                    for (byte, power) in lane.iter_mut().zip(power) {
                        *byte ^= power;
                    }
                }
            }
        }
    }

    /// Writes the parity of code word after code word.
    fn finish(&self, out: &mut [u8]) {
        let roots = self.remainder.len();
        for (at, word) in out.chunks_exact_mut(roots).enumerate() {
            for (index, byte) in word.iter_mut().enumerate() {
                *byte = self.remainder[(self.first + index) % roots][at];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::formats::testing::{noise, output, run, tool};
    use crate::formats::verity::{Algorithm, hash_device_size};

    /// An encoder as textbooks have it: a byte at a time, and multiplication by logarithms.
    fn by_the_book(message: &[u8], roots: usize) -> Vec<u8> {
        let (mut power, mut log, mut value) = (vec![0_u8; 510], [0; 256], 1_u16);
        for exponent in 0..255 {
            power[exponent] = value as u8;
            power[exponent + 255] = value as u8;
            log[usize::from(value)] = exponent;
            value = value << 1 ^ if value & 0x80 == 0 { 0 } else { 0x11d };
        }
        let times = |a: u8, b: u8| match (a, b) {
            (0, _) | (_, 0) => 0,
            (a, b) => power[log[usize::from(a)] + log[usize::from(b)]],
        };
        let mut generator = vec![1];
        for root in power.iter().take(roots) {
            generator.push(0);
            for at in (1..generator.len()).rev() {
                generator[at] ^= times(generator[at - 1], *root);
            }
        }
        let mut rest = [message, &vec![0; roots]].concat();
        for at in 0..message.len() {
            let lead = rest[at];
            for (index, coefficient) in generator.iter().enumerate() {
                rest[at + index] ^= times(*coefficient, lead);
            }
        }
        rest.split_off(message.len())
    }

    #[test]
    fn parity_is_that_of_the_textbook() {
        for roots in [2, 3, 11, 24] {
            let coefficients = generator(roots);
            let mut coder = Coder::new(roots);
            let columns = 255 - roots;
            let bytes = noise(roots as u64, columns * LANE);
            for column in bytes.chunks_exact(LANE) {
                coder.take(column, &coefficients);
            }
            let mut parity = vec![0; LANE * roots];
            coder.finish(&mut parity);
            for word in [0, 1, LANE - 1] {
                let message: Vec<u8> = bytes.chunks_exact(LANE).map(|column| column[word]).collect();
                let expected = by_the_book(&message, roots);
                assert_eq!(parity[word * roots..(word + 1) * roots], expected, "{roots}");
            }
        }
    }

    #[test]
    fn the_area_is_veritysetups_and_mends_what_is_damaged() {
        if !tool("veritysetup") {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let text = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let open = |name: &str| File::options().read(true).write(true).open(text(name)).unwrap();
        for (blocks, roots) in [(1_u64, 2_u8), (700, 2), (1100, 3), (253, 24)] {
            let data_size = blocks * BLOCK_SIZE;
            fs::write(text("data"), noise(blocks, data_size as usize)).unwrap();
            let hash_size = hash_device_size(data_size, Algorithm::Sha256);
            let _ = fs::remove_file(text("hash"));
            // Anew, with an area of its own behind the tree, as on our disks.
            fs::write(text("hash"), b"").unwrap();
            let fec = [
                format!("--fec-device={}", text("hash")),
                format!("--fec-offset={hash_size}"),
                format!("--fec-roots={roots}"),
            ];
            let mut arguments = vec![
                "format".to_owned(),
                text("data"),
                text("hash"),
                "--salt=ab".to_owned(),
            ];
            arguments.extend(fec.clone());
            let said = run("veritysetup", &arguments);
            let root_hash = said
                .lines()
                .find_map(|line| line.strip_prefix("Root hash:"))
                .unwrap();
            let (data, hash) = (open("data"), open("hash"));
            let size = area_size(data_size, hash_size, roots);
            assert_eq!(hash.metadata().unwrap().len(), hash_size + size);
            let theirs = fs::read(text("hash")).unwrap();

            let protected = Protected {
                data: &data,
                data_size,
                hash: &hash,
                hash_size,
                roots,
            };
            protected.check(&hash, hash_size).unwrap();
            hash.set_len(hash_size).unwrap();
            protected.write(&hash, hash_size).unwrap();
            assert!(fs::read(text("hash")).unwrap() == theirs, "{blocks} {roots}");

            // A run of blocks, as bad storage leaves them.
            let bad = (blocks / 255).max(1) * u64::from(roots / 2);
            data.write_all_at(&vec![0; (bad * BLOCK_SIZE) as usize], 0)
                .unwrap();
            let verify = [
                "verify".to_owned(),
                text("data"),
                text("hash"),
                root_hash.trim().to_owned(),
            ];
            assert!(!output("veritysetup", &verify).0);
            let (mended, said) = output("veritysetup", verify.iter().chain(&fec));
            // Of a single block, the digest is the root hash: veritysetup says the same, and fails.
            assert_eq!(mended, blocks > 1, "{said}");
            assert!(said.contains("repairable errors with FEC"), "{said}");
            let Err(FecError::Wrong { .. }) = protected.check(&hash, hash_size) else {
                panic!("damage was not seen");
            };
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let (data, hash) = (vec![0; BLOCK], vec![0; BLOCK]);
        let protected = |roots, data_size, hash_size| Protected {
            data: &data,
            data_size,
            hash: &hash,
            hash_size,
            roots,
        };
        let area = vec![0; BLOCK * 2];
        for roots in [0, 1, 25, 255] {
            let found = protected(roots, BLOCK_SIZE, BLOCK_SIZE).check(&area, 0);
            assert!(matches!(found, Err(FecError::Roots(_))), "{roots}");
        }
        let most = u64::MAX - 4095;
        for (data_size, hash_size) in [
            (0, BLOCK_SIZE),
            (BLOCK_SIZE, 0),
            (5000, BLOCK_SIZE),
            (most, BLOCK_SIZE),
            (BLOCK_SIZE, most),
        ] {
            let found = protected(2, data_size, hash_size).check(&area, 0);
            assert!(matches!(found, Err(FecError::Blocks)));
        }
        // Zeroes have zeroes for parity.
        protected(2, BLOCK_SIZE, BLOCK_SIZE).check(&area, 0).unwrap();
    }
}
