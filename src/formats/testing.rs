//! Helpers of tests that hold our bytes against independent tools.

use std::ffi::OsStr;
use std::process::Command;

use crate::testing;

/// Whether the program `name` can be run; where it cannot, the test counts as skipped.
pub fn tool(name: &str) -> bool {
    testing::tool(name).is_some()
}

/// What `program` prints on both streams, and whether it succeeded.
pub fn output<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> (bool, String) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(testing::find(program).unwrap_or_else(|| program.into()))
        .args(args)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// As [`output`], of a program that must succeed.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> String {
    let (success, text) = output(program, args);
    assert!(success, "{program} failed:\n{text}");
    text
}

/// `count` bytes that do not repeat, the same for the same `seed`.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(count).collect()
}
