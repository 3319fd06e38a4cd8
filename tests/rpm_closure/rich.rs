//! The truth of rich dependencies.

use super::fixture::{self, Recipe};
use super::oracle;
use super::support::tool;

/// Operands: two that hold in different packages, one of a version that is not there, one that is not there at all.
const OPERANDS: [&str; 4] = ["alpha", "beta >= 1:2", "beta < 1:2", "nothing"];

#[test]
fn every_operator_is_as_true_as_rpm_has_it() {
    let (Some(rpm), Some(rpmbuild)) = (tool("rpm"), tool("rpmbuild")) else {
        return;
    };
    // What each of these packages has in its preamble.
    let mut lines: Vec<String> = Vec::new();
    // rpmbuild takes `unless` in requirements only within `or`, and `if` in conflicts only within `and`.
    let mut put = |operator: &str, expression: String| {
        let (required, excluded) = match operator {
            "unless" => (format!("({expression} or none)"), expression),
            "if" => (expression.clone(), format!("({expression} and alpha)")),
            _ => (expression.clone(), expression),
        };
        lines.push(format!("Requires: {required}"));
        lines.push(format!("Conflicts: {excluded}"));
    };
    for operator in ["and", "or", "if", "unless", "with", "without"] {
        for left in OPERANDS {
            for right in OPERANDS {
                put(operator, format!("({left} {operator} {right})"));
            }
        }
    }
    for operator in ["if", "unless"] {
        for condition in ["alpha", "nothing"] {
            for (then, otherwise) in [("alpha", "nothing"), ("nothing", "alpha"), ("beta < 1:2", "beta")] {
                put(
                    operator,
                    format!("({then} {operator} {condition} else {otherwise})"),
                );
            }
        }
    }
    let nested = [
        "(alpha and beta and nothing)",
        "(nothing or none or alpha)",
        "(feature with feature(x) with both)",
        "(feature with (feature(x) or nothing) with both)",
        "(feature = 1 with feature(x) = 2)",
        "(feature = 2 with feature(x) = 2)",
        "(feature without feature(x))",
        "(feature(x) without both)",
        "((feature with both) without feature(x))",
        "((alpha if nothing) and (nothing if alpha))",
        "((alpha if nothing) and (beta if alpha))",
        "(alpha if (beta if nothing))",
        "(nothing if (alpha and none))",
        "((nothing unless (alpha or none) else beta) or none)",
        "(((alpha or nothing) unless (beta and nothing)) or none)",
        "(/usr/share/alpha/file and /usr/share/alpha)",
        "(/usr/share/alpha/none or nothing)",
        "(rpmlib(RichDependencies) <= 4.12.0-1 and alpha)",
        "(rpmlib(Unheard) <= 4.12.0-1 and alpha)",
        "((((alpha))))",
        "((nothing if (alpha if beta)) and (alpha or none))",
        "(config(alpha) = 1-1 and alpha(x86-64))",
    ];
    lines.extend(nested.map(|expression| format!("Requires: {expression}")));
    assert!(lines.len() > 230);

    let built = fixture::empty();
    let lines: Vec<[&str; 1]> = lines.iter().map(|line| [line.as_str()]).collect();
    let names: Vec<String> = (0..lines.len()).map(|number| format!("case-{number}")).collect();
    let mut recipes: Vec<Recipe<'_>> = vec![
        (
            "alpha",
            &[
                "File: /usr/share/alpha/file",
                "Dir: /usr/share/alpha",
                "Provides: config(alpha) = 1-1",
            ],
        ),
        ("beta", &["Epoch: 1", "Version: 2.5"]),
        (
            "gamma",
            &[
                "Provides: feature = 1",
                "Provides: feature(x) = 2",
                "Provides: both",
            ],
        ),
        ("delta", &["Provides: feature = 2"]),
    ];
    recipes.extend(
        names
            .iter()
            .zip(&lines)
            .map(|(name, line)| (name.as_str(), &line[..])),
    );
    fixture::build(&rpmbuild, &built, "noarch", &recipes);
    let packages = built.packages();
    assert_eq!(packages.len(), recipes.len());
    let ours = oracle::hullwright(oracle::directory(&packages).path());
    let theirs = oracle::rpm(&rpm, &packages);
    assert_eq!(ours, theirs);
    let true_ones = lines.len() - theirs.len();
    assert!(
        theirs.len() > 80 && true_ones > 80,
        "{} {true_ones}",
        theirs.len()
    );
}
