//! The lock of user and group numbers, by the built program over the sample set.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use support::image::{build_command, hullwright, said, sample_definition, sample_store};
use support::sample_rpms;

/// A definition of its own directory that says what the sample's does, and `more`.
fn definition(place: &Path, more: &str) -> PathBuf {
    let path = place.join("host.toml");
    let text = format!("extends = [{:?}]\n{more}", sample_definition());
    fs::write(&path, text).unwrap();
    path
}

fn lock_ids(definition: &Path, rpms: &Path) -> Output {
    let mut command = hullwright();
    command.arg("lock").arg("--ids").arg(definition);
    command.arg("--rpms").arg(rpms).arg("--store").arg(sample_store());
    command
        .arg("--key")
        .arg(rpms.join("RPM-GPG-KEY-hullwright-sample"));
    command.output().unwrap()
}

fn build(definition: &Path, rpms: &Path, place: &Path) -> Output {
    let mut command = build_command(definition, rpms, &place.join("out"), &sample_store());
    command.output().unwrap()
}

/// One line, as messages are broken at a terminal's width nowhere but there.
fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_samples_lock_has_every_account_of_the_set() {
    let Some(rpms) = sample_rpms() else { return };
    let place = tempfile::tempdir().unwrap();
    let lock = place.path().join("host.ids.lock");
    fs::copy(sample_definition().with_extension("ids.lock"), &lock).unwrap();
    let text = fs::read_to_string(&lock).unwrap();
    let output = lock_ids(&definition(place.path(), ""), &rpms);
    assert!(output.status.success(), "{}", said(&output));
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.ends_with(", 0 of them new\n"), "{answer}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);
}

#[test]
fn a_new_account_needs_a_line_and_gets_a_number_of_its_own() {
    let Some(rpms) = sample_rpms() else { return };
    let place = tempfile::tempdir().unwrap();
    let lock = place.path().join("host.ids.lock");
    let sample = fs::read_to_string(sample_definition().with_extension("ids.lock")).unwrap();
    let line = sample.lines().find(|line| line.starts_with("sshd = ")).unwrap();
    // As if another account had been given sshd's number in the meantime.
    let text = sample.replacen(line, &line.replace("sshd", "gone"), 1);
    fs::write(&lock, &text).unwrap();
    let definition = definition(place.path(), "");

    let output = build(&definition, &rpms, place.path());
    let message = errors(&output);
    assert!(!output.status.success());
    let expected = format!("`{}` fixes no number for user `sshd`\n", lock.display());
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains("hullwright lock --ids DEF"), "{message}");
    assert!(!message.contains("drawn anew"), "{message}");
    assert_eq!(fs::read_dir(place.path().join("out")).unwrap().count(), 0);

    let output = lock_ids(&definition, &rpms);
    assert!(output.status.success(), "{}", said(&output));
    let written = fs::read_to_string(&lock).unwrap();
    let of = |name: &str, text: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.unwrap().parse::<u32>().unwrap()
    };
    assert_ne!(of("sshd", &written), of("gone", &written));
    let added: Vec<_> = written
        .lines()
        .filter(|line| !text.lines().any(|old| old == *line))
        .collect();
    assert_eq!(added, [format!("sshd = {}", of("sshd", &written))]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("new user sshd: "));
}

#[test]
fn a_number_that_changes_hands_stops_build_and_lock() {
    let Some(rpms) = sample_rpms() else { return };
    let place = tempfile::tempdir().unwrap();
    let lock = place.path().join("host.ids.lock");
    fs::copy(sample_definition().with_extension("ids.lock"), &lock).unwrap();
    let text = fs::read_to_string(&lock).unwrap();
    let definition = definition(
        place.path(),
        "[[os.users]]\nname = \"messagebus\"\nid = 480\nhome = \"/nonexistent\"\nshell = \"/usr/sbin/nologin\"\n",
    );
    let locked = text
        .lines()
        .find_map(|line| line.strip_prefix("messagebus = "))
        .unwrap();
    let expected = format!(
        "`/usr/lib/sysusers.d/00-definition.conf` gives user `messagebus` number 480, but `{}` fixes {locked}: \
         what it owns on machines already made would change hands",
        lock.display()
    );
    for output in [
        build(&definition, &rpms, place.path()),
        lock_ids(&definition, &rpms),
    ] {
        assert!(!output.status.success());
        assert!(errors(&output).contains(&expected), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);
}

#[test]
fn a_lock_is_held_to_the_dependencies_that_a_build_is_held_to() {
    let Some(rpms) = sample_rpms() else { return };
    let place = tempfile::tempdir().unwrap();
    let definition = definition(
        place.path(),
        "[[rpms.open]]\nrequires = \"no-such-thing\"\nreason = \"a test\"\n",
    );
    let output = lock_ids(&definition, &rpms);
    assert!(!output.status.success());
    assert!(errors(&output).contains("no-such-thing"), "{}", said(&output));
    assert!(!place.path().join("host.ids.lock").exists());
}

#[test]
fn a_build_without_a_lock_says_so() {
    let place = tempfile::tempdir().unwrap();
    let output = build(
        &definition(place.path(), ""),
        &place.path().join("absent"),
        place.path(),
    );
    let message = errors(&output);
    assert!(
        message.contains("numbers are drawn anew in each build"),
        "{message}"
    );

    let named = definition(place.path(), "[os]\nids = \"other.lock\"\n");
    let output = build(&named, &place.path().join("absent"), place.path());
    let message = errors(&output);
    assert!(message.contains("other.lock` cannot be read"), "{message}");
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
}
