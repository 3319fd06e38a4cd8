//! Running an outside tool for its answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::image::said;
use crate::support::tool;

/// `name` with `arguments`; `None` (said as a skip) where it is missing.
pub fn program<const N: usize>(name: &str, arguments: [&str; N]) -> Option<Command> {
    let mut command = Command::new(tool(name)?);
    // Their words are compared, in the language that everyone has; names of files are UTF-8.
    command.args(arguments).env("LC_ALL", "C.UTF-8");
    Some(command)
}

/// What `command` writes to stdout; it must succeed.
pub fn answer(command: &mut Command) -> String {
    String::from_utf8(bytes(command)).unwrap()
}

/// As [`answer`], whatever the bytes mean.
pub fn bytes(command: &mut Command) -> Vec<u8> {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output.stdout
}

/// How `command` ended and what it said.
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What `command` answers in JSON.
pub fn json(command: &mut Command) -> serde_json::Value {
    serde_json::from_slice(&bytes(command)).unwrap()
}

/// Where a test may put what is too large for the memory that `/tmp` may be.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A file of this test's own directory.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/outputs")
        .join(name)
}
