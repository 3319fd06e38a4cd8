//! dm-verity: the superblock and the hash tree of a read-only device.
//!
//! Specification: the kernel's `Documentation/admin-guide/device-mapper/verity.rst` and
//! cryptsetup's on-disk format: superblock version 1, hash type 1 (salt before data), 4096-byte
//! data and hash blocks. Integers of the superblock are little-endian. The hash device is the
//! superblock in a block of its own, then the levels of the tree from the root down; a digest
//! takes the next power of two of its length, the rest of a block is zero.

use std::io;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256, Sha512};
use uuid::Uuid;

use super::at::{ReadAt, WriteAt};

/// Bytes in a data block and in a hash block.
pub const BLOCK_SIZE: u64 = 4096;

const BLOCK: usize = 4096;
const MAGIC: &[u8; 8] = b"verity\0\0";
const MAX_SALT: usize = 256;
/// Bytes a task reads and hashes at once: large enough that starting it costs nothing, small
/// enough for a cache.
const TASK_BLOCKS: u64 = 256;

/// The hash function of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

/// What a tree is made with, beside the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    pub algorithm: Algorithm,
    /// Hashed before every block; at most 256 bytes.
    pub salt: Vec<u8>,
    /// Names the superblock; it is no part of the root hash.
    pub uuid: Uuid,
}

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    pub params: Params,
    /// Number of data blocks of [`BLOCK_SIZE`] bytes.
    pub data_blocks: u64,
}

/// A tree cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    #[error("the data of {0} bytes is not a whole, positive number of 4096-byte blocks")]
    DataSize(u64),
    #[error("the salt has {0} bytes; dm-verity takes at most 256")]
    Salt(usize),
    #[error("this is not a dm-verity superblock: {0}")]
    Superblock(&'static str),
    #[error("the hash block at byte {offset} of the hash device is not the hash of what lies below it")]
    Tree { offset: u64 },
    #[error("the root hash of the data is {found}, not {expected}")]
    RootHash { expected: String, found: String },
    #[error("reading or writing the data or its hash device")]
    Io(#[from] io::Error),
}

impl Algorithm {
    /// Its name, as in the superblock and on the kernel's command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest; both lengths are powers of two, so digests stand without padding.
    pub fn digest_size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn per_block(self) -> u64 {
        BLOCK_SIZE / self.digest_size() as u64
    }
}

/// Bytes of the hash device, superblock included, for `data_size` bytes of data.
pub fn hash_device_size(data_size: u64, algorithm: Algorithm) -> u64 {
    let blocks: u64 = levels(data_size.div_ceil(BLOCK_SIZE), algorithm).iter().sum();
    (blocks + 1) * BLOCK_SIZE
}

/// Number of hash blocks in each level, the lowest first; none for a single data block, whose
/// digest is the root hash itself.
pub(super) fn levels(data_blocks: u64, algorithm: Algorithm) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(algorithm.per_block());
        levels.push(blocks);
    }
    levels
}

/// Writes superblock and tree of the first `data_size` bytes of `data` to `hash`; gives the root
/// hash. The bytes are those of `veritysetup format`.
///
/// # Errors
/// A size that is no whole number of blocks, a salt that is too long, and I/O.
pub fn format<H: ReadAt + WriteAt>(
    data: &impl ReadAt,
    data_size: u64,
    hash: &H,
    params: &Params,
) -> Result<Vec<u8>, VerityError> {
    format_seen(data, data_size, hash, params, |_, _| {})
}

/// As [`format`], and shows the data to `see` as it is read: in pieces of 1 MiB, the last of which may be shorter, each with
/// its number from 0; by several threads, in no order.
///
/// # Errors
/// As [`format`].
pub fn format_seen<H: ReadAt + WriteAt>(
    data: &impl ReadAt,
    data_size: u64,
    hash: &H,
    params: &Params,
    see: impl Fn(u64, &[u8]) + Sync,
) -> Result<Vec<u8>, VerityError> {
    let data_blocks = whole_blocks(data_size)?;
    hash.write_all_at(&superblock(params, data_blocks)?, 0)?;
    let hasher = Hasher::new(params);
    let each = |digests: &[u8], at| Ok(hash.write_all_at(digests, at)?);
    walk(data, data_blocks, hash, &hasher, see, each)
}

/// Checks that `hash` is the hash device of `data` and that its root hash is `root_hash`.
///
/// # Errors
/// The first thing found wrong.
pub fn verify(data: &impl ReadAt, hash: &impl ReadAt, root_hash: &[u8]) -> Result<(), VerityError> {
    let mut bytes = [0; BLOCK];
    hash.read_exact_at(&mut bytes, 0)?;
    let superblock = Superblock::parse(&bytes)?;
    let hasher = Hasher::new(&superblock.params);
    let each = |digests: &[u8], at| {
        let mut written = vec![0; digests.len()];
        hash.read_exact_at(&mut written, at)?;
        let wrong = written
            .chunks(BLOCK)
            .zip(digests.chunks(BLOCK))
            .position(|(a, b)| a != b);
        wrong.map_or(Ok(()), |block| {
            Err(VerityError::Tree {
                offset: at + block as u64 * BLOCK_SIZE,
            })
        })
    };
    let found = walk(data, superblock.data_blocks, hash, &hasher, |_, _| {}, each)?;
    if found != root_hash {
        return Err(VerityError::RootHash {
            expected: hex(root_hash),
            found: hex(&found),
        });
    }
    Ok(())
}

/// Hashes level by level, from the data up; `each` takes the hash blocks of every task with their
/// position on the hash device. A level is read back from there, so that memory does not grow with the data.
fn walk(
    data: &impl ReadAt,
    data_blocks: u64,
    hash: &impl ReadAt,
    hasher: &Hasher,
    see: impl Fn(u64, &[u8]) + Sync,
    each: impl Fn(&[u8], u64) -> Result<(), VerityError> + Sync,
) -> Result<Vec<u8>, VerityError> {
    let levels = levels(data_blocks, hasher.algorithm());
    if levels.is_empty() {
        return root(data, 0, hasher, see);
    }
    // The top level stands first, right behind the superblock.
    let mut end = (levels.iter().sum::<u64>() + 1) * BLOCK_SIZE;
    let (mut below_blocks, mut below_start) = (data_blocks, 0);
    for (index, &blocks) in levels.iter().enumerate() {
        let start = end - blocks * BLOCK_SIZE;
        if index == 0 {
            hash_level(data, 0, below_blocks, start, hasher, &see, &each)?;
        } else {
            hash_level(hash, below_start, below_blocks, start, hasher, &|_, _| {}, &each)?;
        }
        (below_blocks, below_start, end) = (blocks, start, start);
    }
    root(hash, below_start, hasher, |_, _| {})
}

fn root(
    source: &impl ReadAt,
    at: u64,
    hasher: &Hasher,
    see: impl Fn(u64, &[u8]),
) -> Result<Vec<u8>, VerityError> {
    let mut block = [0; BLOCK];
    source.read_exact_at(&mut block, at)?;
    see(0, &block);
    let mut digest = vec![0; hasher.algorithm().digest_size()];
    hasher.hash(&block, &mut digest);
    Ok(digest)
}

fn hash_level(
    source: &impl ReadAt,
    source_start: u64,
    blocks: u64,
    target_start: u64,
    hasher: &Hasher,
    see: &(impl Fn(u64, &[u8]) + Sync),
    each: &(impl Fn(&[u8], u64) -> Result<(), VerityError> + Sync),
) -> Result<(), VerityError> {
    let digest_size = hasher.algorithm().digest_size();
    let per_block = hasher.algorithm().per_block();
    (0..blocks.div_ceil(TASK_BLOCKS))
        .into_par_iter()
        .try_for_each_init(
            || vec![0; BLOCK * TASK_BLOCKS as usize],
            |buffer, task| {
                let first = task * TASK_BLOCKS;
                let count = TASK_BLOCKS.min(blocks - first) as usize;
                let read = &mut buffer[..count * BLOCK];
                source.read_exact_at(read, source_start + first * BLOCK_SIZE)?;
                see(task, read);
                let mut digests = vec![0; (count * digest_size).next_multiple_of(BLOCK)];
                for (block, digest) in read
                    .chunks_exact(BLOCK)
                    .zip(digests.chunks_exact_mut(digest_size))
                {
                    hasher.hash(block, digest);
                }
                each(&digests, target_start + first / per_block * BLOCK_SIZE)
            },
        )
}

/// A hash that has already taken the salt in.
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn new(params: &Params) -> Self {
        match params.algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new_with_prefix(&params.salt)),
            Algorithm::Sha512 => Self::Sha512(Sha512::new_with_prefix(&params.salt)),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(super) fn hash(&self, block: &[u8], digest: &mut [u8]) {
        match self {
            Self::Sha256(salted) => digest.copy_from_slice(&salted.clone().chain_update(block).finalize()),
            Self::Sha512(salted) => digest.copy_from_slice(&salted.clone().chain_update(block).finalize()),
        }
    }
}

fn whole_blocks(data_size: u64) -> Result<u64, VerityError> {
    if data_size == 0 || !data_size.is_multiple_of(BLOCK_SIZE) {
        return Err(VerityError::DataSize(data_size));
    }
    Ok(data_size / BLOCK_SIZE)
}

fn superblock(params: &Params, data_blocks: u64) -> Result<[u8; BLOCK], VerityError> {
    let salt_size = u16::try_from(params.salt.len())
        .ok()
        .filter(|&size| usize::from(size) <= MAX_SALT)
        .ok_or(VerityError::Salt(params.salt.len()))?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    put(0, MAGIC);
    put(8, &1u32.to_le_bytes());
    put(12, &1u32.to_le_bytes());
    put(16, params.uuid.as_bytes());
    put(32, params.algorithm.name().as_bytes());
    put(64, &(BLOCK_SIZE as u32).to_le_bytes());
    put(68, &(BLOCK_SIZE as u32).to_le_bytes());
    put(72, &data_blocks.to_le_bytes());
    put(80, &salt_size.to_le_bytes());
    put(88, &params.salt);
    Ok(block)
}

impl Superblock {
    /// Reads a superblock from the first block of a hash device.
    ///
    /// # Errors
    /// Where it is none, or of a kind this module does not write (other block sizes, hash types
    /// or algorithms).
    pub fn parse(block: &[u8; 4096]) -> Result<Self, VerityError> {
        let little = |at: usize, count: usize| {
            block[at..at + count]
                .iter()
                .rev()
                .fold(0, |value, &b| value << 8 | u64::from(b))
        };
        let wrong = |what| Err(VerityError::Superblock(what));
        if block[..8] != *MAGIC {
            return wrong("it does not begin with `verity`");
        }
        if little(8, 4) != 1 || little(12, 4) != 1 {
            return wrong("its version or hash type is not 1");
        }
        if little(64, 4) != BLOCK_SIZE || little(68, 4) != BLOCK_SIZE {
            return wrong("its blocks are not of 4096 bytes");
        }
        let name = &block[32..64];
        let named = |algorithm: Algorithm| {
            let (head, tail) = name.split_at(algorithm.name().len());
            head == algorithm.name().as_bytes() && tail.iter().all(|&b| b == 0)
        };
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
        let Some(algorithm) = algorithms.into_iter().find(|&a| named(a)) else {
            return wrong("its hash algorithm is neither sha256 nor sha512");
        };
        let data_blocks = little(72, 8);
        if data_blocks == 0 || data_blocks > u64::MAX / BLOCK_SIZE / 2 {
            return wrong("its number of data blocks is impossible");
        }
        let salt = usize::try_from(little(80, 2)).unwrap_or(usize::MAX);
        if salt > MAX_SALT {
            return wrong("its salt is longer than 256 bytes");
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        Ok(Self {
            params: Params {
                algorithm,
                salt: block[88..88 + salt].to_vec(),
                uuid: Uuid::from_bytes(uuid),
            },
            data_blocks,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;
    use crate::formats::testing::{noise, output, run, tool};

    const UUID: Uuid = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);

    fn params(algorithm: Algorithm, salt: usize) -> Params {
        Params {
            algorithm,
            salt: noise(99, salt),
            uuid: UUID,
        }
    }

    fn seal(dir: &Path, bytes: &[u8], params: &Params) -> Vec<u8> {
        fs::write(dir.join("data"), bytes).unwrap();
        let data = File::open(dir.join("data")).unwrap();
        let hash = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join("hash"))
            .unwrap();
        let root = format(&data, bytes.len() as u64, &hash, params).unwrap();
        let size = hash_device_size(bytes.len() as u64, params.algorithm);
        assert_eq!(hash.metadata().unwrap().len(), size);
        verify(&data, &hash, &root).unwrap();
        root
    }

    #[test]
    fn trees_equal_those_of_veritysetup() {
        if !tool("veritysetup") {
            return;
        }
        // Around each edge: one block, one hash block, two levels, tasks that end in mid-block.
        let cases = [
            (1, Algorithm::Sha256, 32),
            (2, Algorithm::Sha256, 32),
            (128, Algorithm::Sha256, 32),
            (129, Algorithm::Sha256, 0),
            (257, Algorithm::Sha256, 256),
            (16_384, Algorithm::Sha256, 32),
            (16_385, Algorithm::Sha256, 8),
            (64, Algorithm::Sha512, 32),
            (4_097, Algorithm::Sha512, 64),
        ];
        for (blocks, algorithm, salt) in cases {
            let dir = tempfile::tempdir().unwrap();
            let params = params(algorithm, salt);
            let bytes = noise(blocks, usize::try_from(blocks * BLOCK_SIZE).unwrap());
            let root = hex(&seal(dir.path(), &bytes, &params));
            let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let salt = if salt == 0 {
                "-".to_owned()
            } else {
                hex(&params.salt)
            };
            let text = run(
                "veritysetup",
                [
                    "format",
                    &at("data"),
                    &at("theirs"),
                    &format!("--hash={}", algorithm.name()),
                    &format!("--salt={salt}"),
                    &format!("--uuid={UUID}"),
                ],
            );
            assert!(text.contains(&root), "{blocks} blocks: {text}");
            assert!(
                fs::read(at("hash")).unwrap() == fs::read(at("theirs")).unwrap(),
                "{blocks} blocks of {algorithm:?}: the hash devices differ"
            );
            run("veritysetup", ["verify", &at("data"), &at("hash"), &root]);
        }
    }

    #[test]
    fn a_flipped_byte_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = noise(5, 300 * BLOCK);
        let root = seal(dir.path(), &bytes, &params(Algorithm::Sha256, 32));
        let open = |name: &str| {
            let path = dir.path().join(name);
            File::options().read(true).write(true).open(path).unwrap()
        };
        let (data, hash) = (open("data"), open("hash"));
        // Data, the top hash block, a leaf.
        for (file, at) in [(&data, 299 * 4096), (&hash, 4096), (&hash, 3 * 4096 + 7)] {
            let mut byte = [0];
            FileExt::read_exact_at(file, &mut byte, at).unwrap();
            FileExt::write_all_at(file, &[byte[0] ^ 0x80], at).unwrap();
            let error = verify(&data, &hash, &root).unwrap_err();
            assert!(matches!(error, VerityError::Tree { .. }), "{error}");
            FileExt::write_all_at(file, &byte, at).unwrap();
        }
        verify(&data, &hash, &root).unwrap();
        let error = verify(&data, &hash, &[0; 32]).unwrap_err();
        assert!(matches!(error, VerityError::RootHash { .. }), "{error}");
        if tool("veritysetup") {
            FileExt::write_all_at(&data, &[bytes[0] ^ 1], 0).unwrap();
            let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let (success, _) = output(
                "veritysetup",
                ["verify", &path("data"), &path("hash"), &hex(&root)],
            );
            assert!(!success);
        }
    }

    #[test]
    fn sizes_and_salts_that_cannot_be_are_refused() {
        let refuse = |size: u64, salt| {
            let dir = tempfile::tempdir().unwrap();
            let hash = File::create(dir.path().join("hash")).unwrap();
            let data = vec![0; 8192];
            format(&data, size, &hash, &params(Algorithm::Sha256, salt)).unwrap_err()
        };
        assert!(matches!(refuse(0, 32), VerityError::DataSize(0)));
        assert!(matches!(refuse(4097, 32), VerityError::DataSize(4097)));
        assert!(matches!(refuse(4096, 257), VerityError::Salt(257)));
    }

    #[test]
    fn superblocks_of_other_kinds_are_refused() {
        let good = superblock(&params(Algorithm::Sha512, 40), 77).unwrap();
        let parsed = Superblock::parse(&good).unwrap();
        assert_eq!(parsed.params, params(Algorithm::Sha512, 40));
        assert_eq!(parsed.data_blocks, 77);
        for (at, value) in [
            (0, b'V'),
            (8, 2),
            (12, 0),
            (33, b'x'),
            (64, 1),
            (79, 0xff),
            (81, 2),
        ] {
            let mut bad = good;
            bad[at] = value;
            assert!(Superblock::parse(&bad).is_err(), "byte {at}");
        }
    }
}
