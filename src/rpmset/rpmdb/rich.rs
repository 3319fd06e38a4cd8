//! Names in rich dependencies, as the rpmdb's indexes have them.
//!
//! RPM looks up what an installed package's dependency could be touched by. A name whose *presence* may break the
//! dependency (a condition) is filed under `!name`, others under `name`.

use std::collections::BTreeSet;

use crate::rpmset::closure::Dependency;
use crate::rpmset::closure::rich::Expression;

/// The keys that `dependency`, which starts with `(`, is filed under besides itself. Sorted, each once; none where it is
/// malformed.
pub(super) fn keys(dependency: &[u8]) -> Vec<Vec<u8>> {
    let whole = Dependency {
        name: dependency,
        evr: b"",
        flags: 0,
    };
    let mut names = BTreeSet::new();
    if let Ok(expression) = Expression::parse(&whole) {
        collect(&expression, false, &mut names);
    }
    let key = |(negative, name): (bool, &[u8])| match negative {
        true => [b"!", name].concat(),
        false => name.to_vec(),
    };
    names.into_iter().map(key).collect()
}

fn collect<'a>(expression: &Expression<'a>, negative: bool, names: &mut BTreeSet<(bool, &'a [u8])>) {
    match expression {
        Expression::Single(single) if single.name.starts_with(b"rpmlib(") => {}
        Expression::Single(single) => {
            names.insert((negative, single.name));
        }
        Expression::Chain(_, operands) => {
            for operand in operands {
                collect(operand, negative, names);
            }
        }
        Expression::Conditional {
            then,
            condition,
            otherwise,
            ..
        } => {
            collect(then, negative, names);
            collect(condition, !negative, names);
            // With `else`, absence of the condition matters as its presence does.
            if let Some(otherwise) = otherwise {
                collect(condition, negative, names);
                collect(otherwise, negative, names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_filed_under_their_absence() {
        let cases: [(&str, &[&str]); 10] = [
            ("(a >= 1.0 and b)", &["a", "b"]),
            ("(a or (b with b(x) < 2) or a)", &["a", "b", "b(x)"]),
            ("(a if b)", &["a", "!b"]),
            ("(a if b else c)", &["a", "b", "c", "!b"]),
            ("(a unless (b if c))", &["a", "c", "!b"]),
            ("((a if b) and c)", &["a", "c", "!b"]),
            ("(rpmlib(X) and a)", &["a"]),
            ("(a and b or c)", &[]),
            ("(a and b", &[]),
            ("(a) b", &[]),
        ];
        for (dependency, expected) in cases {
            let found = keys(dependency.as_bytes());
            let found: Vec<_> = found.iter().map(|key| String::from_utf8_lossy(key)).collect();
            assert_eq!(found, expected, "{dependency}");
        }
        assert!(keys("(".repeat(1 << 20).as_bytes()).is_empty());
    }
}
