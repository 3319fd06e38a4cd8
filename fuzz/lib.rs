//! Fuzz targets of Hullwright. See `targets.rs`; `run` builds and runs one.

pub mod seeds;
pub mod targets;

/// Runs the target `name` once.
pub fn run(name: &str, data: &[u8]) {
    match targets::TARGETS.iter().find(|(target, _)| *target == name) {
        Some((_, target)) => target(data),
        None => panic!("no target {name}"),
    }
}

/// A libFuzzer program for the target of that name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::run($name, data));
    };
}
