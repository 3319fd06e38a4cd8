use std::fs;

use super::installation;
use crate::scriptlet::testing::{build, install, root_with_shell};

fn spec(packages: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, tags) in packages {
        text.push_str(&format!(
            "%package -n {name}\nSummary: s\n{tags}\n%description -n {name}\nd\n%post -n {name} -p <lua>\n\
             f = io.open('/log', 'a'); f:write('{name}\\n'); f:close()\n%files -n {name}\n"
        ));
    }
    text
}

/// Our order of `packages`, and that of rpm.
fn orders(packages: &[(&str, &str)]) -> Option<(Vec<String>, Vec<String>)> {
    let directory = tempfile::tempdir().unwrap();
    let set = build(directory.path(), &spec(packages))?;
    let root = root_with_shell(directory.path())?;
    install(&root, set.packages())?;
    let log = fs::read_to_string(root.join("log")).unwrap();
    let order = installation(set.packages()).unwrap();
    let name = |index: usize| set.packages()[index].nevra.name.clone();
    Some((
        order.into_iter().map(name).collect(),
        log.lines().map(str::to_owned).collect(),
    ))
}

#[test]
fn requirements_come_first_as_rpm_has_it() {
    let cases: [&[(&str, &str)]; 7] = [
        &[("a", "Requires: b"), ("b", "Requires: c"), ("c", "")],
        &[
            ("a", ""),
            ("b", ""),
            ("c", "Requires: a b"),
            ("d", "Requires: b"),
            ("e", "Requires: b"),
            ("f", "Requires: a"),
        ],
        // Loops, with and without a prerequisite in them.
        &[
            ("a", "Requires: b"),
            ("b", "Requires: c"),
            ("c", "Requires: a"),
            ("d", "Requires: b"),
            ("e", ""),
        ],
        &[
            ("a", "Requires: b"),
            ("b", "Requires(post): c"),
            ("c", "Requires: a"),
            ("d", "Requires(pre): a"),
            ("e", "Requires: d"),
        ],
        &[
            ("a", "Requires(pre): b"),
            ("b", "Requires: c f"),
            ("c", "Requires: a"),
            ("d", "Requires: e a"),
            ("e", "Requires: d"),
            ("f", "Requires: b g"),
            ("g", ""),
        ],
        &[
            ("a", "Recommends: b"),
            ("b", "Supplements: c"),
            ("c", "OrderWithRequires: d"),
            ("d", "Suggests: e"),
            ("e", ""),
        ],
        &[
            ("a", "Requires: (b or c)"),
            ("b", "Requires: (d if e)"),
            ("c", "Requires: virtual >= 2"),
            ("d", "Provides: virtual = 1"),
            ("e", "Provides: virtual = 2"),
            ("f", "Requires(posttrans): g"),
            ("g", "Requires(pretrans): f"),
        ],
    ];
    for case in cases {
        let Some((ours, rpm)) = orders(case) else {
            return;
        };
        assert_eq!(ours, rpm, "{case:?}");
    }
}

/// Many tangled packages, by a generator with a fixed start.
#[test]
fn tangled_sets_are_ordered_as_rpm_orders_them() {
    let mut state = 0x2545_f491_u64;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for size in [8, 25, 60] {
        let packages: Vec<_> = (0..size)
            .map(|number| {
                let mut tags = String::new();
                for _ in 0..next(4) {
                    let kind = [
                        "Requires",
                        "Requires(pre)",
                        "Requires(post)",
                        "Requires",
                        "Recommends",
                        "Supplements",
                        "OrderWithRequires",
                    ][next(7) as usize];
                    tags.push_str(&format!("{kind}: p{:02}\n", next(size)));
                }
                (format!("p{number:02}"), tags)
            })
            .collect();
        let packages: Vec<_> = packages
            .iter()
            .map(|(name, tags)| (name.as_str(), tags.as_str()))
            .collect();
        let Some((ours, rpm)) = orders(&packages) else {
            return;
        };
        assert_eq!(ours, rpm, "{size} packages");
    }
}
