//! Versions, files, features, conflicts, obsoletes, multilib: what the sample set does not have.

use std::path::PathBuf;

use super::fixture::{self, Recipe};
use super::oracle::{self, Verdict};
use super::support::tool;

/// Both verdicts over `recipes`, which must be equal.
fn verdict(targets: &[(&str, &[Recipe<'_>])]) -> Option<Verdict> {
    let (Some(rpm), Some(rpmbuild)) = (tool("rpm"), tool("rpmbuild")) else {
        return None;
    };
    let built = fixture::empty();
    for (target, recipes) in targets {
        fixture::build(&rpmbuild, &built, target, recipes);
    }
    let packages: Vec<PathBuf> = built.packages();
    assert_eq!(
        packages.len(),
        targets.iter().map(|(_, recipes)| recipes.len()).sum::<usize>()
    );
    let ours = oracle::hullwright(oracle::directory(&packages).path());
    assert_eq!(ours, oracle::rpm(&rpm, &packages));
    Some(ours)
}

#[test]
fn ranges_of_versions_overlap_as_rpm_compares_them() {
    let provided = [
        "1", "1-1", "1-2", "0:1-1", "1:1", "1:1-1", "2~rc1-1", "2^git1-1", "2", "2-1", "1.5-",
    ];
    let wanted = [
        "1", "1-1", "1-1.5", "0:1", "1:1-1", "2~", "2~rc1", "2", "2^git1-1", "2-0", "10",
    ];
    let mut recipes: Vec<(String, Vec<String>)> = Vec::new();
    let mut wants: Vec<String> = Vec::new();
    for (number, evr) in provided.iter().enumerate() {
        let mut lines = vec![format!("Provides: bare{number}")];
        for (sign, operator) in [("lt", "<"), ("le", "<="), ("eq", "="), ("ge", ">="), ("gt", ">")] {
            lines.push(format!("Provides: cap{number}{sign} {operator} {evr}"));
            for evr in wanted {
                for operator in ["<", "<=", "=", ">=", ">"] {
                    wants.push(format!("Requires: cap{number}{sign} {operator} {evr}"));
                }
            }
        }
        wants.push(format!("Requires: bare{number} > 3"));
        recipes.push((format!("provider{number}"), lines));
    }
    for (number, lines) in wants.chunks(100).enumerate() {
        recipes.push((format!("wanter{number}"), lines.to_vec()));
    }
    let lines: Vec<Vec<&str>> = recipes
        .iter()
        .map(|(_, lines)| lines.iter().map(String::as_str).collect())
        .collect();
    let recipes: Vec<Recipe<'_>> = recipes
        .iter()
        .zip(&lines)
        .map(|((name, _), lines)| (name.as_str(), &lines[..]))
        .collect();
    if let Some(open) = verdict(&[("noarch", &recipes)]) {
        assert!(
            open.len() > 500 && open.len() + 500 < wants.len(),
            "{}",
            open.len()
        );
    }
}

#[test]
fn files_features_and_weak_requirements_are_found_as_rpm_finds_them() {
    let open = verdict(&[(
        "noarch",
        &[
            (
                "holder",
                &[
                    "File: /opt/real/tool",
                    "Ghost: /opt/real/ghost",
                    "Dir: /opt/real/directory",
                    "Link: /opt/link real",
                    "Link: /opt/real/dangling nowhere",
                    "Provides: /opt/provided",
                ],
            ),
            (
                "wanter",
                &[
                    "Requires: /opt/real/tool",
                    "Requires: /opt/real/ghost",
                    "Requires: /opt/real/directory",
                    "Requires: /opt/link",
                    "Requires: /opt/real/dangling",
                    "Requires: /opt/provided",
                    "Requires: /opt/provided2",
                    "Requires: /opt/real/absent",
                    "Requires: rpmlib(FileDigests) <= 4.6.0-1",
                    "Requires: rpmlib(FileDigests) > 4.6.0-1",
                    "Requires: rpmlib(Unheard) <= 9.9-1",
                    "Requires(pre): absent-for-pre",
                    "Requires(pretrans): holder",
                    "Requires(post): holder = 1-1",
                    "Requires(meta): holder > 1-1",
                    "Recommends: absent-recommended",
                    "Suggests: absent-suggested",
                    "Supplements: absent-supplemented",
                    "Requires: wanter",
                    "Requires: config(holder)",
                ],
            ),
        ],
    )]);
    let Some(open) = open else { return };
    for requirement in [
        "/opt/provided2",
        "/opt/real/absent",
        "rpmlib(FileDigests) > 4.6.0-1",
        "rpmlib(Unheard) <= 9.9-1",
        "absent-for-pre",
        "holder > 1-1",
        "config(holder)",
    ] {
        assert!(
            open.contains(&format!("{requirement} is needed by wanter-1-1.noarch")),
            "{requirement}: {open:#?}"
        );
    }
}

#[test]
fn conflicts_and_obsoletes_are_those_of_rpm() {
    let found = verdict(&[(
        "noarch",
        &[
            ("old", &["Version: 1", "Provides: oldest = 9", "Conflicts: old"]),
            (
                "new",
                &["Obsoletes: old < 2", "Obsoletes: new < 2", "Obsoletes: oldest"],
            ),
            ("newest", &["Obsoletes: new < 1-1"]),
            ("a", &["Conflicts: b", "File: /opt/a"]),
            ("b", &["Provides: thing = 3", "Provides: virtual"]),
            ("c", &["Conflicts: thing < 3", "Conflicts: thing > 3"]),
            ("d", &["Conflicts: thing = 3", "Conflicts: virtual"]),
            ("e", &["Conflicts: /opt/a", "Conflicts: /opt/e", "File: /opt/e"]),
            ("f", &["Provides: virtual", "Conflicts: virtual"]),
            ("g", &["Conflicts: (g and b)", "Conflicts: (g and absent)"]),
        ],
    )]);
    let Some(found) = found else { return };
    let expected = [
        "old-1-1.noarch left out for new-1-1.noarch",
        "b conflicts with a-1-1.noarch",
        "thing = 3 conflicts with d-1-1.noarch",
        "virtual conflicts with d-1-1.noarch",
        "/opt/a conflicts with e-1-1.noarch",
        "virtual conflicts with f-1-1.noarch",
        "(g and b) conflicts with g-1-1.noarch",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn two_architectures_of_one_machine_stand_beside_each_other() {
    let recipes: &[Recipe<'_>] = &[
        (
            "lib",
            &["Provides: lib.so.1", "Obsoletes: lib < 1", "Conflicts: lib < 1"],
        ),
        ("tool", &["Requires: lib%{?_isa} = 1-1", "Requires: lib = 1-1"]),
    ];
    let found = verdict(&[("x86_64", recipes), ("i686", recipes)]);
    assert!(found.is_none_or(|found| found.is_empty()));
    let only: &[Recipe<'_>] = &[("tool", &["Requires: lib(x86-64)", "Requires: lib(x86-32)"])];
    let found = verdict(&[("x86_64", only), ("i686", &recipes[..1])]);
    let open = "lib(x86-64) is needed by tool-1-1.x86_64".to_owned();
    assert!(found.is_none_or(|found| found == [open].into()));
}

/// RPM asks the file system for links, of the machine that it runs on: here it must have those of the package `fs`.
#[test]
fn a_directory_that_is_a_link_is_where_it_leads() {
    let links = [
        ("/bin", "usr/bin"),
        ("/sbin", "usr/sbin"),
        ("/lib64", "usr/lib64"),
    ];
    for (link, target) in links {
        if std::fs::read_link(link).ok().as_deref() != Some(std::path::Path::new(target)) {
            super::support::skip(&format!("{link} is no link to {target} on this machine"));
            return;
        }
    }
    let open = verdict(&[(
        "noarch",
        &[
            (
                "fs",
                &[
                    "Link: /bin usr/bin",
                    "Link: /sbin usr/sbin",
                    "Link: /lib64 usr/lib64",
                ],
            ),
            (
                "tool",
                &[
                    "File: /usr/bin/tool",
                    "Ghost: /usr/lib64/ld-tool.so.2",
                    "File: /usr/sbin/toolconfig",
                ],
            ),
            (
                "wanter",
                &[
                    "Requires: /bin/tool",
                    "Requires: /usr/bin/tool",
                    "Requires: /lib64/ld-tool.so.2",
                    "Requires: /sbin/toolconfig",
                    "Requires: /sbin/tool",
                    "Requires: /lib/ld-tool.so.2",
                    "Requires: (/bin/tool and /bin/toolconfig)",
                ],
            ),
        ],
    )]);
    let expected = [
        "(/bin/tool and /bin/toolconfig)",
        "/lib/ld-tool.so.2",
        "/sbin/tool",
    ];
    let expected = expected.map(|path| format!("{path} is needed by wanter-1-1.noarch"));
    assert!(open.is_none_or(|open| open == expected.into()));
}
