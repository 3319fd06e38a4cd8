//! Rich dependencies: `(a and (b >= 1 or c))`.

use super::Dependency;
use crate::formats::rpm::tag::sense;

/// Deeper nesting is refused.
const DEPTH: usize = 64;

/// A parsed rich dependency.
#[derive(Debug, PartialEq, Eq)]
pub enum Rich<'a> {
    Plain(Dependency<'a>),
    And(Vec<Rich<'a>>),
    Or(Vec<Rich<'a>>),
    /// One package satisfies all.
    With(Vec<Rich<'a>>),
    /// A package satisfies the first and not the second.
    Without(Box<[Rich<'a>; 2]>),
    /// What, condition, else.
    If(Box<[Rich<'a>; 2]>, Option<Box<Rich<'a>>>),
    /// What, condition, else.
    Unless(Box<[Rich<'a>; 2]>, Option<Box<Rich<'a>>>),
}

/// Parses `text`, which starts with `(`. `None` where it is malformed or nested too deeply.
pub fn parse(text: &[u8]) -> Option<Rich<'_>> {
    let mut parser = Parser { rest: text };
    let rich = parser.group(0)?;
    parser.space();
    parser.rest.is_empty().then_some(rich)
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn close(&mut self) -> bool {
        self.space();
        let Some(rest) = self.rest.strip_prefix(b")") else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// Up to white space or a closing parenthesis that the word itself did not open.
    fn word(&mut self) -> &'a [u8] {
        self.space();
        let (mut open, mut end) = (0usize, self.rest.len());
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                b'(' => open += 1,
                b')' if open > 0 => open -= 1,
                b')' => {
                    end = at;
                    break;
                }
                b' ' | b'\t' | b'\n' | b'\r' | b',' if open == 0 => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn operand(&mut self, depth: usize) -> Option<Rich<'a>> {
        self.space();
        if self.rest.first() == Some(&b'(') {
            return self.group(depth + 1);
        }
        let name = self.word();
        if name.is_empty() {
            return None;
        }
        self.space();
        let signs = self.rest.iter().take_while(|b| b"<>=".contains(b)).count();
        let (relation, rest) = self.rest.split_at(signs);
        let flags = match relation {
            b"" => {
                return Some(Rich::Plain(Dependency {
                    name,
                    flags: 0,
                    evr: b"",
                }));
            }
            b"<" => sense::LESS,
            b">" => sense::GREATER,
            b"=" | b"==" => sense::EQUAL,
            b"<=" | b"=<" => sense::LESS | sense::EQUAL,
            b">=" | b"=>" => sense::GREATER | sense::EQUAL,
            _ => return None,
        };
        self.rest = rest;
        let evr = self.word();
        (!evr.is_empty()).then_some(Rich::Plain(Dependency { name, flags, evr }))
    }

    fn group(&mut self, depth: usize) -> Option<Rich<'a>> {
        if depth > DEPTH {
            return None;
        }
        self.rest = self.rest.trim_ascii_start().strip_prefix(b"(")?;
        let first = self.operand(depth)?;
        if self.close() {
            return Some(first);
        }
        let operator = self.word();
        let second = self.operand(depth)?;
        match operator {
            b"if" | b"unless" => {
                let pair = Box::new([first, second]);
                let mut other = None;
                if !self.close() {
                    if self.word() != b"else" {
                        return None;
                    }
                    other = Some(Box::new(self.operand(depth)?));
                    if !self.close() {
                        return None;
                    }
                }
                Some(if operator == b"if" {
                    Rich::If(pair, other)
                } else {
                    Rich::Unless(pair, other)
                })
            }
            b"without" => self.close().then(|| Rich::Without(Box::new([first, second]))),
            b"and" | b"or" | b"with" => {
                let mut all = vec![first, second];
                while !self.close() {
                    if self.word() != operator {
                        return None;
                    }
                    all.push(self.operand(depth)?);
                }
                Some(match operator {
                    b"and" => Rich::And(all),
                    b"or" => Rich::Or(all),
                    _ => Rich::With(all),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_texts_parse_and_bad_ones_do_not() {
        for good in [
            "(a)",
            "(a if b else c)",
            "(a(x86-64) >= 1:2-3 and (b or c) and d)",
            "(a without b)",
        ] {
            assert!(parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "(",
            "()",
            "(a",
            "(a and)",
            "(a and b or c)",
            "(a else b)",
            "(a) b",
            "(a <> 1)",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse("(".repeat(100_000).as_bytes()).is_none());
    }
}
