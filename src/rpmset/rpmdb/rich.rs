//! Names in rich dependencies, as the rpmdb's indexes have them.
//!
//! RPM looks up what an installed package's dependency could be touched by. A name whose *presence* may break the
//! dependency (a condition) is filed under `!name`, others under `name`.

/// RPM nests by recursion without bound; nobody writes more than a handful.
const MAX_DEPTH: usize = 64;

/// The keys that `dependency`, which starts with `(`, is filed under besides itself. Sorted, each once; none where it is
/// malformed.
pub(super) fn keys(dependency: &[u8]) -> Vec<Vec<u8>> {
    let mut parser = Parser {
        rest: dependency,
        names: Vec::new(),
        negative: false,
    };
    if parser.group(0).is_none() || !parser.rest.is_empty() {
        return Vec::new();
    }
    let mut names = parser.names;
    names.sort();
    names.dedup();
    let key = |(negative, name): (bool, Vec<u8>)| {
        if negative {
            [b"!".as_slice(), &name].concat()
        } else {
            name
        }
    };
    names.into_iter().map(key).collect()
}

struct Parser<'a> {
    rest: &'a [u8],
    names: Vec<(bool, Vec<u8>)>,
    negative: bool,
}

const OPERATORS: [&[u8]; 7] = [b"and", b"or", b"if", b"unless", b"else", b"with", b"without"];

impl<'a> Parser<'a> {
    /// `(` operand { operator operand } `)`.
    fn group(&mut self, depth: usize) -> Option<()> {
        self.rest = self.rest.strip_prefix(b"(")?;
        if depth == MAX_DEPTH {
            return None;
        }
        let mut condition = self.names.len();
        let mut last: &[u8] = b"";
        let mut chain: &[u8] = b"";
        loop {
            self.space();
            if self.rest.first()? == &b'(' {
                self.group(depth + 1)?;
            } else {
                self.simple()?;
            }
            self.space();
            if let Some(rest) = self.rest.strip_prefix(b")") {
                self.rest = rest;
                break;
            }
            let word = self.word(|byte| byte.is_ascii_whitespace());
            let operator = OPERATORS.iter().find(|name| **name == word)?;
            let conditional = |name: &[u8]| name == b"if" || name == b"unless";
            if *operator == b"else" && conditional(chain) {
                chain = b"";
            }
            // Different operators need parentheses, and only these go on as a chain.
            if !chain.is_empty() && (chain != *operator || !matches!(chain, b"and" | b"or" | b"with")) {
                return None;
            }
            (last, chain) = (operator, operator);
            if conditional(operator) {
                condition = self.names.len();
                self.negative = !self.negative;
            } else if *operator == b"else" {
                let inverted: Vec<_> = self.names[condition..]
                    .iter()
                    .map(|(negative, name)| (!negative, name.clone()))
                    .collect();
                self.names.extend(inverted);
                self.negative = !self.negative;
            }
        }
        if last == b"if" || last == b"unless" {
            self.negative = !self.negative;
        }
        Some(())
    }

    /// A name, and a comparison where there is one.
    fn simple(&mut self) -> Option<()> {
        let mut open = 0;
        let name = self.word(|byte| {
            match byte {
                b'(' => open += 1,
                b')' if open == 0 => return true,
                b')' => open -= 1,
                _ => {}
            }
            byte == b',' || byte.is_ascii_whitespace()
        });
        if name.is_empty() {
            return None;
        }
        if !name.starts_with(b"rpmlib(") {
            self.names.push((self.negative, name.to_vec()));
        }
        self.space();
        if matches!(self.rest.first()?, b'<' | b'=' | b'>') {
            self.word(|byte| !matches!(byte, b'<' | b'=' | b'>'));
            self.space();
            let version = self.word(|byte| matches!(byte, b',' | b')') || byte.is_ascii_whitespace());
            if version.is_empty() {
                return None;
            }
        }
        Some(())
    }

    fn word(&mut self, mut is_end: impl FnMut(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| is_end(byte));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
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
