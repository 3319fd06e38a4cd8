//! Sets in which something is missing.

use std::fs;

use serde_json::Value;

use crate::rpms::{Bench, Entry::File, plain, says};
use crate::run::answer;
use crate::support::image::said;

/// A package that wants what is not there, and one that is excluded.
fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    bench.base();
    let wants = "Requires: base >= 2\nRequires(post): absent\n";
    bench.package_with("needy", wants, &[("/usr/bin/needy", File("x"))]);
    Some(bench)
}

#[test]
fn an_open_requirement_is_refused_before_anything_is_unpacked() {
    let Some(bench) = bench() else { return };
    let text = bench.refused(&["base", "needy"], "");
    let parts = [
        "the set is not closed: 2 requirements are open",
        "nothing provides `base >= 2`, which needy-1-1.noarch needs; base-1-1.noarch provides base = 1-1",
        "nothing provides `absent`, which needy-1-1.noarch (for post) needs",
        "a requirement that may stay open gets an entry `[[rpms.open]]`",
    ];
    says(&text, &parts);
    let packs = fs::read_dir(bench.path("store/packs")).unwrap().count();
    assert!(packs == 0 && !text.contains("unpack and verify"), "{text}");

    bench.package_with("rival", "Conflicts: base\n", &[]);
    bench.package_with("heir", "Obsoletes: needy\n", &[]);
    let text = bench.refused(&["base", "needy", "rival", "heir"], "");
    let parts = [
        "2 requirements are open, 1 conflict, 1 package is obsoleted by another",
        "rival-1-1.noarch conflicts with `base`, which base-1-1.noarch provides",
        "heir-1-1.noarch takes the place of needy-1-1.noarch: it obsoletes `needy`",
    ];
    says(&text, &parts);
}

#[test]
fn an_exception_lets_a_requirement_stay_open() {
    let Some(bench) = bench() else { return };
    let excepted = "[[rpms.open]]\nrequires = \"base >= 2\"\nreason = \"one is enough\"\n\
                    [[rpms.open]]\nrequires = \"absent\"\nreason = \"made at first boot\"\n";
    let unneeded = format!("{excepted}[[rpms.open]]\nrequires = \"base\"\nreason = \"no\"\n");
    let text = bench.refused(&["base", "needy"], &unneeded);
    says(
        &text,
        &["`base` is excepted under `[[rpms.open]]`, and is not open"],
    );

    let definition = bench.definition(&["base", "needy"], excepted);
    let output = bench.build(&definition, &bench.path("rpms")).output().unwrap();
    // These packages make no system, but the build goes on to where that shows.
    let text = plain(&said(&output));
    let parts = [
        "nothing provides `base >= 2`, which needy-1-1.noarch needs",
        ": one is enough",
        ": made at first boot",
    ];
    says(&text, &parts);
    assert!(!text.contains("not closed"), "{text}");
}

#[test]
fn a_package_may_be_required_in_a_version() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let text = bench.refused(&["base"], "[rpms]\nrequire = [\"base = 1\", \"base >= 2\"]\n");
    says(
        &text,
        &[
            "no package of the set provides `base >= 2`; base-1-1.noarch provides base = 1-1",
            "image.toml:3:",
        ],
    );
    let text = bench.refused(&["base"], "[rpms]\nrequire = [\"base => 1\"]\n");
    says(
        &text,
        &["`rpms.require[0]` is neither a name nor a name with a version"],
    );
}

#[test]
fn the_program_says_the_same_of_a_directory() {
    let Some(bench) = bench() else { return };
    let mut command = crate::support::image::hullwright();
    command.args(["rpm", "closure"]).arg(bench.path("rpms"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(
        &plain(&said(&output)),
        &["the set is not closed: 2 requirements are open"],
    );
    let json: Value = serde_json::from_slice(&command.arg("--json").output().unwrap().stdout).unwrap();
    assert_eq!(json["problems"][0]["requirement"], "absent");
    assert_eq!(json["problems"][0]["wanted_by"][0]["scriptlets"][0], "post");
    fs::remove_file(bench.path("rpms/needy.rpm")).unwrap();
    let mut command = crate::support::image::hullwright();
    let text = answer(command.args(["rpm", "closure"]).arg(bench.path("rpms")));
    assert_eq!(text, "1 package: nothing is open\n");
}
