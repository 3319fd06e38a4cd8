//! AES-256-XTS in sectors of 4096 bytes on one core, beside OpenSSL (`openssl speed`) and the kernel's own
//! (`cryptsetup benchmark`) in the same run; and an encrypted volume of 24 GiB with nothing in it but a file system.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Instant;

use hullwright::formats::ext4::{self, Inode, Kind};
use hullwright::formats::luks2::{self, Derived, Kdf, Limits, SectorSize, VolumeKey, Xts};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use uuid::Uuid;

const ROUNDS: usize = 7;
const BUFFER: usize = 64 << 20;
/// Bytes that are encrypted at once: as many as a first-level cache holds, as the other two do it.
const PIECE: usize = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let ours = in_cache()?;
    println!("ours, in cache       {ours:6.2} GB/s of processor time");
    println!(
        "ours, from memory    {:6.2} GB/s of processor time",
        from_memory()?
    );
    match openssl() {
        Some(theirs) => println!(
            "openssl speed        {theirs:6.2} GB/s, ratio {:.2}",
            ours / theirs
        ),
        None => println!("openssl speed        cannot be run"),
    }
    match kernel() {
        Some(theirs) => println!(
            "cryptsetup benchmark {theirs:6.2} GB/s, ratio {:.2}",
            ours / theirs
        ),
        None => println!("cryptsetup benchmark cannot be run: the kernel offers no ciphers to programs"),
    }
    empty_volume()
}

fn key() -> Result<VolumeKey, Box<dyn Error>> {
    let bytes: Vec<u8> = (0..64)
        .map(|index: u8| index.wrapping_mul(73).wrapping_add(5))
        .collect();
    Ok(VolumeKey::new(bytes.into())?)
}

/// Seconds of processor time of this thread: others on the machine do not count.
fn processor() -> Result<f64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

/// The best of several rounds of `work`, which handles `bytes` bytes, in GB/s.
fn best(bytes: usize, mut work: impl FnMut()) -> Result<f64, Box<dyn Error>> {
    let mut best: f64 = 0.0;
    for _ in 0..ROUNDS {
        let before = processor()?;
        work();
        best = best.max(bytes as f64 / 1e9 / (processor()? - before));
    }
    Ok(best)
}

fn in_cache() -> Result<f64, Box<dyn Error>> {
    let cipher = Xts::new(key()?.as_bytes())?;
    let mut piece = vec![0x5a; PIECE];
    let times = 16 * BUFFER / PIECE;
    best(times * PIECE, || {
        for number in 0..times {
            cipher.encrypt(number as u64 * 8, SectorSize::MAX, &mut piece);
        }
    })
}

fn from_memory() -> Result<f64, Box<dyn Error>> {
    let cipher = Xts::new(key()?.as_bytes())?;
    let mut buffer = vec![0x5a; BUFFER];
    best(BUFFER, || cipher.encrypt(0, SectorSize::MAX, &mut buffer))
}

/// The last number of the last line: kilobytes in a second of processor time.
fn openssl() -> Option<f64> {
    let arguments = ["speed", "-seconds", "2", "-bytes", "4096", "-evp", "aes-256-xts"];
    let output = Command::new("openssl").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let figure = text
        .lines()
        .last()?
        .split_whitespace()
        .last()?
        .strip_suffix('k')?;
    Some(figure.parse::<f64>().ok()? / 1e6)
}

/// The first of the two figures, encryption, in MiB/s.
fn kernel() -> Option<f64> {
    let arguments = ["benchmark", "--cipher", "aes-xts-plain64", "--key-size", "512"];
    let output = Command::new("cryptsetup").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.contains("aes-xts"))?;
    let figure = line
        .split_whitespace()
        .find_map(|word| word.parse::<f64>().ok())?;
    Some(figure * 1024.0 * 1024.0 / 1e9)
}

fn empty_volume() -> Result<(), Box<dyn Error>> {
    const SIZE: u64 = 24 << 30;
    let out = tempfile::tempfile()?;
    out.set_len(SIZE)?;
    let started = Instant::now();
    let key = key()?;
    let volume = luks2::Params::new(Uuid::from_bytes([1; 16]), &[7; 32], Kdf::RANDOM_KEY);
    let header = luks2::format(&out, SIZE, &key, &volume, &mut Derived::new(&key, b"bench"))?;
    let volume = header.open::<&File>(&out, &key, &Limits::default())?;
    let params = ext4::Params {
        size: volume.size(),
        uuid: Uuid::from_bytes([2; 16]),
        hash_seed: [3; 16],
        label: "root",
        time: 0,
    };
    ext4::write(
        &volume,
        &params,
        &Inode::root(0o755, 0, Kind::Directory(Default::default())),
    )?;
    let (seconds, blocks) = (started.elapsed().as_secs_f64(), out.metadata()?.blocks());
    println!(
        "LUKS2 with an ext4 of 24 GiB, empty: {seconds:.2} s, {} KiB on disk",
        blocks / 2
    );
    Ok(())
}
