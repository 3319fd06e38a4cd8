//! Packages that no image is built from, and what is said of each.

use std::fs;

use crate::rpms::{Bench, Entry::File, Entry::Link, forge, says};
use crate::run::program;
use crate::support::image::hullwright;

#[test]
fn a_truncated_package() {
    let Some(bench) = Bench::new() else { return };
    let whole = fs::read(bench.package("tool", &[("/usr/bin/tool", File("content"))])).unwrap();
    bench.base();
    let file = bench.path("rpms/tool.rpm");
    let reasons = [
        // In the lead, in the headers, in the payload.
        (50, "it ends within the first 96 bytes"),
        (600, "header"),
        (whole.len() - 20, "payload"),
    ];
    for (length, reason) in reasons {
        fs::write(&file, &whole[..length]).unwrap();
        let said = bench.refused(&["base", "tool"], "");
        says(&said, &["rpms/tool.rpm", reason, "fetch it again"]);
    }
}

#[test]
fn a_changed_payload() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let file = bench.package("tool", &[("/usr/bin/tool", File("content"))]);
    let mut content = fs::read(&file).unwrap();
    let at = content.len() - 4;
    content[at] ^= 1;
    fs::write(&file, content).unwrap();
    let said = bench.refused(&["base", "tool"], "");
    says(&said, &["rpms/tool.rpm", "payload", "fetch it again"]);
}

#[test]
fn a_path_with_dots_leaves_the_root() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let file = bench.package("tool", &[("/usr/abcdef/tool", File("content"))]);
    forge(&file, "/usr/abcdef/", "/../../../x/");
    if let Some(mut rpm) = program("rpm", ["-qlp", "--nosignature"]) {
        let list = crate::run::answer(rpm.arg(&file));
        assert_eq!(list, "/../../../x/tool\n", "the forgery is a package to rpm");
    }
    let said = bench.refused(&["base", "tool"], "");
    says(
        &said,
        &[
            "rpms/tool.rpm",
            "`/../../../x/tool` has a `..` component",
            "it could leave the image's root",
            "have it rebuilt by its maker",
        ],
    );
}

#[test]
fn a_link_that_leads_out_is_not_written_through() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    bench.package("evil", &[("/usr/lib/evil", Link("../../../../../../../../../x"))]);
    bench.package("tool", &[("/usr/lib/evil/tool", File("planted"))]);
    let said = bench.refused(&["base", "evil", "tool"], "");
    says(
        &said,
        &[
            "tool-1-1.noarch",
            "`/usr/lib/evil/tool` lies behind `/usr/lib/evil`",
            "a symbolic link that leads out of the image's root",
            "take another version",
        ],
    );
}

#[test]
fn an_absolute_link_stays_inside_the_image() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let target = "/outside-of-hullwright/of-the-host";
    bench.package("evil", &[("/usr/lib/evil", Link(target))]);
    bench.package("tool", &[("/usr/lib/evil/tool", File("planted"))]);
    let said = bench.refused(&["base", "evil", "tool"], "");
    // The image has such a directory now, which no layout has a place for.
    says(
        &said,
        &[
            "`/outside-of-hullwright`",
            "the layout has no place for it",
            "[[paths]]",
        ],
    );
    assert!(
        !std::path::Path::new("/outside-of-hullwright").exists(),
        "nothing is written outside"
    );
}

#[test]
fn links_in_a_circle() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    bench.package("evil", &[("/usr/lib/evil", Link("alive"))]);
    bench.package("alive", &[("/usr/lib/alive", Link("evil"))]);
    bench.package("tool", &[("/usr/lib/evil/tool", File("planted"))]);
    let said = bench.refused(&["base", "evil", "alive", "tool"], "");
    says(&said, &["tool-1-1.noarch", "one of a loop of symbolic links"]);
}

#[test]
fn two_packages_with_different_contents_for_one_path() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    bench.package(
        "one",
        &[("/usr/share/same", File("a")), ("/usr/share/shared", File("x"))],
    );
    bench.package(
        "two",
        &[("/usr/share/same", File("bb")), ("/usr/share/shared", File("x"))],
    );
    let said = bench.refused(&["base", "one", "two"], "");
    says(
        &said,
        &[
            "one-1-1.noarch and two-1-1.noarch conflict in 1 path",
            "`/usr/share/same`: a file of 1 bytes (SHA-256 ca978112ca1b…)",
            "against a file of 2 bytes (SHA-256 3b64db95cb55…)",
            "leave one of two packages that conflict out",
        ],
    );
}

#[test]
fn the_same_package_twice() {
    let Some(bench) = Bench::new() else { return };
    let file = bench.base();
    fs::copy(&file, bench.path("rpms/again.rpm")).unwrap();
    let said = bench.refused(&["base"], "");
    says(
        &said,
        &[
            "holds `base` twice",
            "rpms/again.rpm",
            "rpms/base.rpm",
            "remove one",
        ],
    );
}

#[test]
fn a_lock_that_does_not_hold() {
    let Some(bench) = Bench::new() else { return };
    bench.base();
    let tool = bench.package("tool", &[("/usr/bin/tool", File("content"))]);
    let definition = bench.definition(&["base", "tool"], "");
    let file = bench.path("rpms/set.lock.toml");
    let mut lock = hullwright();
    lock.arg("lock")
        .arg(bench.path("rpms"))
        .arg("--output")
        .arg(&file);
    crate::run::bytes(&mut lock);
    let refused = || bench.check_refused(&bench.build(&definition, &file).output().unwrap());

    let text = fs::read_to_string(&file).unwrap();
    let sum = |line: &&str| line.starts_with("sha256 = ");
    let line = text.lines().filter(sum).nth(1).unwrap();
    let wrong = format!("sha256 = \"{}\"", "0".repeat(64));
    fs::write(&file, text.replace(line, &wrong)).unwrap();
    says(
        &refused(),
        &[
            "rpms/tool.rpm` is not the package that the lock file names",
            &format!("its SHA-256 is {}", &line["sha256 = \"".len()..line.len() - 1]),
            &format!("locked is {}", "0".repeat(64)),
            "fetch the locked file again",
        ],
    );

    fs::write(&file, &text).unwrap();
    fs::remove_file(tool).unwrap();
    says(
        &refused(),
        &[
            "rpms/tool.rpm",
            "No such file or directory",
            "check that the file is there",
        ],
    );

    fs::write(&file, text.replace("version = 2\n", "version = 7\n")).unwrap();
    says(&refused(), &["set.lock.toml` has version 7", "hullwright lock"]);
}
