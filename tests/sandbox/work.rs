//! What an ordinary scriptlet does and finds.

use hullwright::scriptlet::sandbox::{ChangeKind, End, Interpreter, Limits};

use crate::tree::{lab, script};

#[test]
fn a_scriptlet_finds_a_fixed_world() {
    let mut lab = lab(Limits::default());
    let mut one = script(
        "cat; echo \"$0 $@\"; pwd; umask; id -u; env; ls -1 / /dev /run /proc/self/fd; uname -n; exit 3",
    );
    one.stdin = b"given\n".to_vec();
    one.env = vec![(b"RPM_INSTALL_PREFIX".to_vec(), b"/opt".to_vec())];
    one.args = vec![b"2".to_vec(), b"two words".to_vec()];
    let outcome = lab.sandbox.run(&one).unwrap();
    let text = String::from_utf8(outcome.output).unwrap();
    assert_eq!(outcome.end, End::Exit(3), "{text}");
    let expected = "given\n/tmp/rpm-tmp.scriptlet 2 two words\n/\n0022\n0\n";
    assert!(text.starts_with(expected), "{text}");
    for line in [
        "HOME=/root",
        "LANG=C.UTF-8",
        "TZ=UTC",
        "RPM_INSTALL_PREFIX=/opt",
        "localhost",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert_eq!(outcome.changes, [], "nothing is left behind");
    assert!(text.contains("fd:\n0\n1\n2\n3\n\n"), "{text}");
}

#[test]
fn programs_run_without_a_body_and_absent_ones_say_so() {
    let mut lab = lab(Limits::default());
    let mut one = script("");
    one.interpreter = Interpreter::Program(vec![b"/bin/echo".to_vec(), b"-n".to_vec(), b"x".to_vec()]);
    let outcome = lab.sandbox.run(&one).unwrap();
    assert_eq!(
        (outcome.end, outcome.output.as_slice()),
        (End::Exit(0), &b"x 1"[..])
    );
    one.interpreter = Interpreter::Program(vec![b"/bin/absent".to_vec()]);
    let outcome = lab.sandbox.run(&one).unwrap();
    assert_eq!(outcome.end, End::Exit(127));
    let text = String::from_utf8(outcome.output).unwrap();
    assert!(
        text.contains(
            "probe-1-1.x86_64 %post: its interpreter `/bin/absent` cannot be started: No such file"
        ),
        "{text}"
    );
}

#[test]
fn changes_are_told_by_path_and_kind() {
    use ChangeKind::{Content, Created, Metadata, Removed};
    let mut lab = lab(Limits::default());
    let made = lab.changes("mkdir /data/d; echo one >/data/d/f; ln -s f /data/d/l; echo x >/data/gone; mkfifo /data/p; mkdir /tmp/x /run/y");
    let told = |list: &[(&str, ChangeKind)]| -> Vec<(String, ChangeKind)> {
        list.iter().map(|(path, kind)| ((*path).into(), *kind)).collect()
    };
    let all = [
        ("/data/d", Created),
        ("/data/d/f", Created),
        ("/data/d/l", Created),
        ("/data/gone", Created),
        ("/data/p", Created),
    ];
    assert_eq!(made, told(&all));
    let changed = lab.changes(
        "echo two >/data/d/f; ln -sfn g /data/d/l; rm /data/gone; chmod 600 /data/p; chown 5 /usr; echo root >/dev/null",
    );
    let all = [
        ("/data/d/f", Content),
        ("/data/d/l", Content),
        ("/data/gone", Removed),
        ("/data/p", Metadata),
        ("/usr", Metadata),
    ];
    assert_eq!(changed, told(&all));
    // The same bytes again, another time.
    assert_eq!(lab.changes("echo two >/data/d/f; touch /data/d /data/p"), []);
    assert_eq!(lab.changes("cp /data/d/f /data/n; mv /data/n /data/d/f"), []);
    let all = [
        ("/data/d", Created),
        ("/data/d/f", Removed),
        ("/data/d/l", Removed),
    ];
    assert_eq!(lab.changes("rm -r /data/d; echo file >/data/d"), told(&all));
    let all = [("/data/d", Removed), ("/data/p", Removed)];
    assert_eq!(lab.changes("rm /data/*"), told(&all));
}
