//! All tests of this program again, as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::tool;

/// Set where the tests already run as somebody else.
const AGAIN: &str = "HULLWRIGHT_TEST_AS_USER";

#[test]
fn the_same_holds_for_an_ordinary_user() {
    if !nix::unistd::geteuid().is_root() || std::env::var_os(AGAIN).is_some() {
        return;
    }
    let Some(setpriv) = tool("setpriv") else { return };
    let place = tempfile::Builder::new()
        .prefix("sandbox-")
        .tempdir_in("/var/tmp")
        .unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    // Where the directory of the build is closed to others.
    let copy = |from: &std::path::Path, name: &str| {
        let to = place.path().join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let tests = copy(&std::env::current_exe().unwrap(), "tests");
    let program = copy(
        std::path::Path::new(env!("CARGO_BIN_EXE_hullwright")),
        "hullwright",
    );
    let ran = Command::new(setpriv)
        .args("--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all".split(' '))
        .arg(tests)
        .env(AGAIN, "1")
        .env("HULLWRIGHT_TEST_PROGRAM", program)
        .env("TMPDIR", place.path())
        .env("HOME", place.path())
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(text.contains("test result: ok"), "{text}");
}
