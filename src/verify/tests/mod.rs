//! Every kind of damage, planted in a small image, is found by the check that is there for it.

mod damage;
mod fixture;
mod planted;
mod sealed;
mod signed;

use super::{Options, Outcome, Report, Subject, verify};

/// Names of the checks that fail.
fn failing(report: &Report) -> Vec<&'static str> {
    let checked = report.checked.iter();
    let failing = checked.filter(|checked| checked.outcome() == Outcome::Fails);
    failing.map(|checked| checked.check.name).collect()
}

/// What a check found, a finding a line: the sentence, then the place in brackets.
fn findings(report: &Report, name: &str) -> String {
    let checked = report
        .checked
        .iter()
        .find(|checked| checked.check.name == name)
        .unwrap();
    let lines = checked.findings.iter();
    lines
        .map(|finding| format!("{} [{}]\n", finding.what, finding.place))
        .collect()
}

fn report(path: &std::path::Path) -> Report {
    verify(&Subject::open(path, &Options::default()).unwrap())
}

#[test]
fn a_whole_image_holds_and_every_check_has_looked() {
    let image = fixture::build(|_| {});
    let report = report(&image.directory());
    for checked in &report.checked {
        // It is not signed; tests below sign.
        let expected = match checked.check.name {
            "signatures" => Outcome::NotChecked,
            _ => Outcome::Holds,
        };
        assert_eq!(checked.outcome(), expected, "{report}");
        assert!(!checked.held.is_empty() || expected != Outcome::Holds, "{report}");
    }
    assert!(report.holds());
    let text = report.to_string();
    let end = format!(
        "what was checked holds; 1 of {} checks are open\n",
        report.checked.len()
    );
    assert!(text.ends_with(&end), "{text}");
    let json = report.to_json();
    assert_eq!(json["holds"], true);
    assert_eq!(json["checks"][12]["check"], "root-hash");
    assert_eq!(json["checks"][12]["outcome"], "holds");
}

#[test]
fn a_lone_disk_is_checked_as_far_as_it_goes_in_each_format() {
    let image = fixture::build(|_| {});
    let alone = tempfile::tempdir().unwrap();
    for ending in ["raw", "vhd", "qcow2"] {
        let path = alone.path().join(format!("image.{ending}"));
        std::fs::copy(image.file(ending), &path).unwrap();
        let report = report(&path);
        assert!(report.holds(), "{ending}: {report}");
        let open: Vec<_> = report
            .checked
            .iter()
            .filter(|checked| checked.outcome() == Outcome::NotChecked)
            .map(|checked| checked.check.name)
            .collect();
        assert_eq!(
            open,
            [
                "sums",
                "manifest",
                "signatures",
                "commit",
                "deltas",
                "commit-signature",
                "usr-is-commit",
                "manifest-facts",
                "pcrs"
            ],
            "{report}"
        );
        assert!(
            report.to_string().contains("name the output directory"),
            "{report}"
        );
    }
}

#[test]
fn what_is_no_image_is_refused_in_plain_words() {
    let empty = tempfile::tempdir().unwrap();
    let error = Subject::open(empty.path(), &Options::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("holds neither manifest.json nor a disk image"),
        "{error}"
    );
    let error = Subject::open(&empty.path().join("absent"), &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot be read"), "{error}");
    for (name, bytes) in [
        ("a.raw", vec![]),
        ("b.vhd", vec![1; 100]),
        ("c.qcow2", vec![2; 1000]),
        ("d", vec![3; 9999]),
    ] {
        let path = empty.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let report = report(&path);
        assert!(!report.holds(), "{name}: {report}");
    }
}
