//! Every fuzz target for a moment, with stable tools: its seeds, and thousands of inputs made of them by a generator
//! that is the same in each run. `make fuzz TARGET=… SECONDS=…` searches in earnest.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../fuzz/seeds.rs"]
mod seeds;
mod support;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::real_rpms;
use targets::TARGETS;

/// Inputs for each target.
const RUNS: usize = 2000;
/// What one input may take on a loaded machine, in a build without optimisation.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers at which parsers go wrong.
const EDGES: [u32; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x0fff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_fffe,
    0xffff_ffff,
];

/// `input` with a few changes, part of it perhaps from `other`.
fn mutate(random: &mut StdRng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.gen_range(1..5) {
        let at = random.gen_range(0..=bytes.len());
        let length = random.gen_range(0..=16.min(bytes.len() - at));
        match random.gen_range(0..8) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.gen_range(0..8),
            2 if at < bytes.len() => bytes[at] = random.r#gen(),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let edge = EDGES[random.gen_range(0..EDGES.len())];
                let word = if random.r#gen() {
                    edge.to_be_bytes()
                } else {
                    edge.to_le_bytes()
                };
                let at = at.min(bytes.len().saturating_sub(4)) & !3;
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
            6 => {
                let from = random.gen_range(0..=other.len());
                let to = random.gen_range(from..=other.len().min(from + 64));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let from = random.gen_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes.truncate(1 << 16);
    bytes
}

/// The inputs that real packages give `target`.
fn real(target: &str) -> Vec<Vec<u8>> {
    let Some(place) = real_rpms() else {
        return Vec::new();
    };
    let mut paths: Vec<_> = ["distro", "features"]
        .iter()
        .flat_map(|name| fs::read_dir(place.join(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::metadata(path).unwrap().len() < 100_000)
        .collect();
    paths.sort();
    let all = paths
        .iter()
        .flat_map(|path| seeds::of_package(&fs::read(path).unwrap()));
    all.filter(|(name, _)| *name == target)
        .map(|(_, bytes)| bytes)
        .collect()
}

fn search(name: &str) {
    let target = TARGETS.iter().find(|(other, _)| *other == name).unwrap().1;
    let mut corpus = seeds::of(name);
    if name.starts_with("rpm_") {
        corpus.extend(real(name));
    }
    if let Some(place) = std::env::var_os("HULLWRIGHT_FUZZ_CORPUS") {
        let place = std::path::PathBuf::from(place).join(name);
        fs::create_dir_all(&place).unwrap();
        for (number, bytes) in corpus.iter().enumerate() {
            fs::write(place.join(format!("seed-{number:04}")), bytes).unwrap();
        }
    }
    let mut random = StdRng::seed_from_u64(20_261_121);
    for run in 0..RUNS + corpus.len() {
        let bytes = match corpus.get(run) {
            Some(seed) => seed.clone(),
            None => {
                let of = |random: &mut StdRng| random.gen_range(0..corpus.len());
                let (input, other) = (of(&mut random), of(&mut random));
                mutate(&mut random, &corpus[input], &corpus[other])
            }
        };
        let start = Instant::now();
        let ended = catch_unwind(|| target(&bytes));
        let fits = start.elapsed() < PATIENCE;
        if ended.is_err() || !fits {
            let place = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.input"));
            fs::write(&place, &bytes).unwrap();
            let what = if fits { "panics" } else { "takes too long" };
            panic!("{name} {what} at input {run}, kept as {}", place.display());
        }
    }
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];
        $(#[test] fn $name() { search(stringify!($name)); })+
    };
}
targets!(
    rpm_header,
    rpm_payload,
    rpm_signature,
    openpgp_keys,
    pe_image,
    signed_messages,
    erofs_volume,
    vhd_footer,
    event_log,
    gpt_table,
    fat_volume,
    qcow2_image,
    efi_signatures,
    efi_variables,
    recovery_record,
    remote_entry,
    gvariant_value,
    elf_file,
    kernel_module,
    kernel_config,
    module_index,
    linker_cache,
    selinux_contexts,
    image_definition,
    lock_files,
    repository,
    package_lists,
    account_files,
    mime_types,
    value_pack,
    static_delta,
);

#[test]
fn every_target_is_tested_and_has_its_program() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(place.join("Cargo.toml")).unwrap();
    for name in names {
        let program = fs::read_to_string(place.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("target!(\"{name}\")")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
    }
}
