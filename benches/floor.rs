//! The least that a build can take: every payload of the sample set decompressed, hashed and compressed again by plain
//! libraries on all cores, one call of the compressor an output cluster, nothing written.
//!
//!     cargo bench --bench floor [-- --once ALGORITHM DIRECTORY]

// As in `hullwright::sys`: no safe library has the function.
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

// Links the library; it declares only a part of the functions.
use lz4_sys as _;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

const CLUSTER: usize = 64 << 10;
/// What one task compresses.
const SEGMENT: usize = 4 << 20;
/// The longest input of a call, as in the volumes that are compared.
const EXTENT: usize = 1 << 20;

unsafe extern "C" {
    fn LZ4_sizeofStateHC() -> c_int;
    fn LZ4_compress_HC_destSize(
        state: *mut c_void,
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        capacity: c_int,
        level: c_int,
    ) -> c_int;
    fn LZ4_compress_destSize(
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        capacity: c_int,
    ) -> c_int;
}

#[derive(Clone, Copy)]
enum Algorithm {
    Lz4,
    Lz4hc,
    Zstd,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if let [once, algorithm, directory] = &arguments[..]
        && once == "--once"
    {
        let algorithm = match algorithm.as_str() {
            "lz4" => Algorithm::Lz4,
            "zstd" => Algorithm::Zstd,
            _ => Algorithm::Lz4hc,
        };
        return report(algorithm, Path::new(directory));
    }
    let sample = std::env::var_os("HULLWRIGHT_SAMPLE_RPMS").map(PathBuf::from);
    let Some(sample) = sample.filter(|path| path.is_dir()) else {
        println!("floor: the sample RPM set is missing: run make bench");
        return Ok(());
    };
    for algorithm in [Algorithm::Lz4, Algorithm::Lz4hc, Algorithm::Zstd] {
        report(algorithm, &sample)?;
    }
    Ok(())
}

fn report(algorithm: Algorithm, directory: &Path) -> Result<(), Box<dyn Error>> {
    let name = match algorithm {
        Algorithm::Lz4 => "lz4",
        Algorithm::Lz4hc => "lz4hc level 9",
        Algorithm::Zstd => "zstd level 3",
    };
    let started = Instant::now();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            files.push((fs::metadata(&path)?.len(), path));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    let sizes = files
        .par_iter()
        .with_max_len(1)
        .map(|(_, path)| one(path, algorithm).map_err(|error| format!("{}: {error}", path.display())))
        .collect::<Result<Vec<_>, _>>()?;
    let (plain, packed) = sizes
        .iter()
        .fold((0, 0), |(plain, packed), size| (plain + size.0, packed + size.1));
    println!(
        "floor {name}: {:.2} s for {} packages, {} MB to {} MB",
        started.elapsed().as_secs_f64(),
        files.len(),
        plain / 1_000_000,
        packed / 1_000_000
    );
    Ok(())
}

/// Bytes of a package's payload, and what they are compressed to.
fn one(path: &Path, algorithm: Algorithm) -> Result<(usize, usize), String> {
    let file = fs::read(path).map_err(|error| error.to_string())?;
    let start = payload(&file).ok_or("it is no RPM package")?;
    let plain = zstd::stream::decode_all(&file[start..]).map_err(|error| error.to_string())?;
    let compress = || {
        plain
            .par_chunks(SEGMENT)
            .map(|segment| packed(segment, algorithm))
            .sum::<usize>()
    };
    let (digest, packed) = rayon::join(|| Sha256::digest(&plain), compress);
    std::hint::black_box(digest);
    Ok((plain.len(), packed))
}

/// Where the payload of an RPM package starts.
fn payload(file: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    let length = |at: usize| Some(16 + 16 * number(at + 8)? + number(at + 12)?);
    let header = 96 + length(96)?.next_multiple_of(8);
    Some(header + length(header)?).filter(|start| *start <= file.len())
}

/// Compresses `input` to clusters and returns their number of bytes, in whole blocks.
fn packed(input: &[u8], algorithm: Algorithm) -> usize {
    // SAFETY: the function takes nothing and reads a constant.
    let mut state = vec![0u64; unsafe { LZ4_sizeofStateHC() } as usize / 8 + 1];
    let mut output = vec![0u8; zstd::zstd_safe::compress_bound(EXTENT)];
    let mut zstd = zstd::bulk::Compressor::new(3).ok();
    let (mut rest, mut total, mut ratio) = (input, 0, 3 * 1024);
    while !rest.is_empty() {
        let mut taken = rest.len().min(EXTENT) as c_int;
        let (source, destination) = (rest.as_ptr().cast(), output.as_mut_ptr().cast());
        let room = CLUSTER as c_int;
        // SAFETY: `source` is readable for `taken` bytes and `destination`, which is longer, writable for `room`; `state`
        // has the size that the library asks for, aligned to eight.
        let written = match algorithm {
            Algorithm::Lz4 => unsafe { LZ4_compress_destSize(source, destination, &raw mut taken, room) },
            Algorithm::Lz4hc => unsafe {
                let state = state.as_mut_ptr().cast();
                LZ4_compress_HC_destSize(state, source, destination, &raw mut taken, room, 9)
            },
            // The library takes no bound of the output: a call gets as much as the last one's ratio promises.
            Algorithm::Zstd => {
                taken = taken.min((CLUSTER * ratio / 1024) as c_int);
                let compressor = zstd.as_mut();
                let written = compressor.and_then(|zstd| {
                    zstd.compress_to_buffer(&rest[..taken as usize], &mut output[..])
                        .ok()
                });
                let written = written.unwrap_or(CLUSTER);
                ratio = (taken as usize * 1024 / written.max(1)).max(1024);
                written as c_int
            }
        };
        total += (written.max(1) as usize).next_multiple_of(4096);
        rest = &rest[(taken.max(1) as usize).min(rest.len())..];
    }
    total
}
