//! dm-verity from the root hash down, as the kernel reads it: which blocks are not what they were.
//!
//! Specification: see [`super::verity`].

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::at::ReadAt;
use super::verity::{BLOCK_SIZE, Hasher, Superblock, VerityError, levels};

/// Blocks that a task reads and hashes at once; a whole number of hash blocks of parents for every algorithm.
const TASK_BLOCKS: u64 = 256;
/// Broken blocks that are told of one by one.
const MOST: usize = 1000;

/// A block whose hash is not the one that is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// Of the hash tree; bytes from the start of the hash device.
    Hash { offset: u64 },
    /// Of the data; bytes from its start.
    Data { offset: u64 },
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub superblock: Superblock,
    /// Bytes of data that the tree covers.
    pub data_size: u64,
    /// In order; the first thousand. All of one level: below a broken hash block nothing can be told.
    pub broken: Vec<Broken>,
}

/// Hashes tree and data on all threads, from the block that `root_hash` is of down to the data.
///
/// # Errors
/// Where there is no superblock that is understood, the root hash has another length than its algorithm gives, data or
/// tree end early, and I/O.
pub fn check(data: &impl ReadAt, hash: &impl ReadAt, root_hash: &[u8]) -> Result<Checked, VerityError> {
    let mut block = [0; BLOCK_SIZE as usize];
    hash.read_exact_at(&mut block, 0)?;
    let superblock = Superblock::parse(&block)?;
    let hasher = Hasher::new(&superblock.params);
    let algorithm = superblock.params.algorithm;
    if root_hash.len() != algorithm.digest_size() {
        return Err(VerityError::Superblock(
            "its algorithm gives hashes of another length",
        ));
    }
    let found = Mutex::new(Vec::new());
    let mut parents = Parents::Root(root_hash);
    let mut start = BLOCK_SIZE;
    for &blocks in levels(superblock.data_blocks, algorithm).iter().rev() {
        let level = Level { start, blocks };
        level.check(hash, hash, &parents, &hasher, |offset| {
            tell(&found, Broken::Hash { offset })
        })?;
        if !found.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            break;
        }
        parents = Parents::At(start);
        start += blocks * BLOCK_SIZE;
    }
    if found.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        let blocks = superblock.data_blocks;
        let level = Level { start: 0, blocks };
        level.check(data, hash, &parents, &hasher, |offset| {
            tell(&found, Broken::Data { offset })
        })?;
    }
    let mut broken = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort_unstable();
    Ok(Checked {
        data_size: superblock.data_blocks * BLOCK_SIZE,
        superblock,
        broken,
    })
}

fn tell(found: &Mutex<Vec<Broken>>, broken: Broken) {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    if found.len() < MOST {
        found.push(broken);
    }
}

/// Where the hashes of a level's blocks are kept.
enum Parents<'a> {
    /// The level has one block.
    Root(&'a [u8]),
    /// In the level that begins at this byte of the hash device.
    At(u64),
}

struct Level {
    start: u64,
    blocks: u64,
}

impl Level {
    fn check(
        &self,
        source: &impl ReadAt,
        hash: &impl ReadAt,
        parents: &Parents<'_>,
        hasher: &Hasher,
        broken: impl Fn(u64) + Sync,
    ) -> Result<(), VerityError> {
        let block = BLOCK_SIZE as usize;
        let digest_size = hasher.algorithm().digest_size();
        (0..self.blocks.div_ceil(TASK_BLOCKS))
            .into_par_iter()
            .try_for_each_init(
                || {
                    (
                        vec![0; block * TASK_BLOCKS as usize],
                        vec![0; digest_size * TASK_BLOCKS as usize],
                    )
                },
                |(bytes, digests), task| {
                    let first = task * TASK_BLOCKS;
                    let count = TASK_BLOCKS.min(self.blocks - first) as usize;
                    let (bytes, digests) = (&mut bytes[..count * block], &mut digests[..count * digest_size]);
                    let at = self.start + first * BLOCK_SIZE;
                    source.read_exact_at(bytes, at)?;
                    match parents {
                        Parents::Root(root) => digests.copy_from_slice(&root[..digest_size]),
                        Parents::At(parent) => {
                            hash.read_exact_at(digests, parent + first * digest_size as u64)?;
                        }
                    }
                    let mut digest = [0; 64];
                    let pairs = bytes.chunks_exact(block).zip(digests.chunks_exact(digest_size));
                    for (index, (bytes, expected)) in pairs.enumerate() {
                        let digest = &mut digest[..digest_size];
                        hasher.hash(bytes, digest);
                        if digest != expected {
                            broken(at + index as u64 * BLOCK_SIZE);
                        }
                    }
                    Ok(())
                },
            )
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::formats::testing::noise;
    use crate::formats::verity::{self, Algorithm, Params, hash_device_size};

    fn sealed(blocks: u64, algorithm: Algorithm) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let data = noise(5, (blocks * BLOCK_SIZE) as usize);
        let hash = tempfile::NamedTempFile::new().unwrap();
        let params = Params {
            algorithm,
            salt: vec![7; 32],
            uuid: Uuid::from_u128(1),
        };
        let root = verity::format(&data, data.len() as u64, hash.as_file(), &params).unwrap();
        let hash = std::fs::read(hash.path()).unwrap();
        assert_eq!(hash.len() as u64, hash_device_size(data.len() as u64, algorithm));
        (data, hash, root)
    }

    #[test]
    fn every_broken_block_is_named_where_it_lies() {
        // One block, one level, two levels, tasks that end in mid-level, three levels.
        let cases = [
            (1, Algorithm::Sha256),
            (128, Algorithm::Sha256),
            (700, Algorithm::Sha256),
            (16_500, Algorithm::Sha256),
            (4_200, Algorithm::Sha512),
        ];
        for (blocks, algorithm) in cases {
            let (mut data, mut hash, root) = sealed(blocks, algorithm);
            let broken = |data: &Vec<u8>, hash: &Vec<u8>| check(data, hash, &root).unwrap().broken;
            assert_eq!(broken(&data, &hash), []);
            let places = [0, data.len() / 2, data.len() - 1];
            for at in places {
                data[at] ^= 1;
                let offset = at as u64 / BLOCK_SIZE * BLOCK_SIZE;
                assert_eq!(broken(&data, &hash), [Broken::Data { offset }], "{blocks} blocks");
                data[at] ^= 1;
            }
            for at in (4096..hash.len()).step_by(4096 * 37 + 5) {
                hash[at] ^= 0x80;
                let offset = at as u64 / BLOCK_SIZE * BLOCK_SIZE;
                assert_eq!(broken(&data, &hash), [Broken::Hash { offset }], "{blocks} blocks");
                hash[at] ^= 0x80;
            }
            // Another salt: nothing fits, from the top on.
            hash[88] ^= 1;
            assert_eq!(broken(&data, &hash).len(), 1);
            hash[88] ^= 1;
            assert!(check(&data, &hash, &root[1..]).is_err());
            data.pop();
            assert!(check(&data, &hash, &root).is_err());
        }
    }

    #[test]
    fn much_that_is_broken_is_told_in_part() {
        let (data, hash, root) = sealed(2000, Algorithm::Sha256);
        let other = noise(6, data.len());
        assert_eq!(check(&other, &hash, &root).unwrap().broken.len(), MOST);
    }

    #[test]
    fn a_superblock_that_promises_too_much_is_an_error() {
        let (data, mut hash, root) = sealed(300, Algorithm::Sha256);
        for count in [301, 1 << 40, (1 << 50) - 1, u64::MAX] {
            hash[72..80].copy_from_slice(&u64::to_le_bytes(count));
            match check(&data, &hash, &root) {
                Ok(checked) => assert!(!checked.broken.is_empty(), "{count}"),
                Err(error) => assert!(
                    matches!(error, VerityError::Superblock(_) | VerityError::Io(_)),
                    "{error}"
                ),
            }
        }
    }
}
