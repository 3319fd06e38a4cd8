//! The sample image, built once by the program under test and shared by all tests that look at it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use super::sample_rpms;

/// The program under test.
pub fn hullwright() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hullwright"))
}

/// The definition of the sample image.
pub fn sample_definition() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.toml")
}

/// Builds `definition` from the sample RPMs into `out`, with its own store in `store`.
pub fn build_command(definition: &Path, rpms: &Path, out: &Path, store: &Path) -> Command {
    let mut command = hullwright();
    command.arg("build").arg(definition).arg("--rpms").arg(rpms);
    command
        .arg("--key")
        .arg(rpms.join("RPM-GPG-KEY-hullwright-sample"));
    command.arg("--out").arg(out).arg("--store").arg(store);
    command
}

/// What a failed command said, for assertions.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// The store of the sample image's build, where its packages lie unpacked.
pub fn sample_store() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sample-image/store")
}

/// The output directory `<id>_<version>` of the sample image; `None` (said as a skip) without the
/// sample RPMs. Built by the first test that asks, after any change of the program, the
/// definitions or the set.
pub fn sample_image() -> Option<PathBuf> {
    built_image("sample-image", &sample_definition())
}

/// As [`sample_image`], of another definition, in the directory `name` of the tests.
pub fn built_image(name: &str, definition: &Path) -> Option<PathBuf> {
    let rpms = sample_rpms()?;
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&place).unwrap();
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = place.join("done");
    let changed = fs::metadata(definition).unwrap().modified().unwrap();
    let newest = newest_input(&rpms).max(changed);
    if fs::metadata(&done)
        .and_then(|done| done.modified())
        .is_ok_and(|built| built > newest)
    {
        return Some(output_directory(&place.join("out")));
    }
    let _ = fs::remove_file(&done);
    let _ = fs::remove_dir_all(place.join("out"));
    let started = File::create(place.join("started")).unwrap();
    let output = build_command(definition, &rpms, &place.join("out"), &sample_store())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "building {}: {}",
        definition.display(),
        said(&output)
    );
    let begun = started.metadata().unwrap().modified().unwrap();
    File::create(&done).unwrap().set_modified(begun).unwrap();
    Some(output_directory(&place.join("out")))
}

/// The one directory in `out`.
pub fn output_directory(out: &Path) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.into_iter().next().unwrap()
}

/// The only file in `directory` whose name ends with `suffix`.
pub fn output_file(directory: &Path, suffix: &str) -> PathBuf {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found: Vec<_> = entries
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    assert_eq!(found.len(), 1, "{suffix}: {found:?}");
    found.into_iter().next().unwrap()
}

fn newest_input(rpms: &Path) -> SystemTime {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut todo = vec![rpms.to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_hullwright"))];
    todo.extend(["image-defs", "kernel-configs", "systemd-units"].map(|name| project.join(name)));
    let mut newest = SystemTime::UNIX_EPOCH;
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        newest = newest.max(metadata.modified().unwrap());
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    newest
}
