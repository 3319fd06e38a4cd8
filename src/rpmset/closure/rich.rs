//! Rich dependencies: `(a and b)`, `(a if b else c)`, `(a with b)` …, read as RPM reads them.

use super::dependency::{Dependency, comparison};
use crate::formats::rpm::tag::sense;

/// RPM nests by recursion without bound; nobody writes more than a handful.
pub const MAX_DEPTH: usize = 64;

/// Operators of a rich dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    And,
    Or,
    If,
    Unless,
    Else,
    With,
    Without,
}

impl Operator {
    fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"and" => Self::And,
            b"or" => Self::Or,
            b"if" => Self::If,
            b"unless" => Self::Unless,
            b"else" => Self::Else,
            b"with" => Self::With,
            b"without" => Self::Without,
            _ => return None,
        })
    }
}

/// What a rich dependency says.
#[derive(Debug, PartialEq, Eq)]
pub enum Expression<'a> {
    Single(Dependency<'a>),
    /// Operands in their order; more than two of `and`, `or` and `with` only.
    Chain(Operator, Vec<Expression<'a>>),
    /// `a if b` and `a unless b`, with what follows `else`.
    Conditional {
        operator: Operator,
        then: Box<Expression<'a>>,
        condition: Box<Expression<'a>>,
        otherwise: Option<Box<Expression<'a>>>,
    },
}

/// Why a rich dependency cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it does not start with `(`")]
    Start,
    #[error("a `)` is missing")]
    Unterminated,
    #[error("something follows its last `)`")]
    Junk,
    #[error("an operand is missing")]
    Operand,
    #[error("a version is missing")]
    Version,
    #[error("it has an operator that RPM does not know")]
    Operator,
    #[error("it mixes operators, or repeats one, without parentheses")]
    Mixed,
    #[error("only `with`, `without` and `or` may stand inside `with` and `without`")]
    Set,
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    Depth,
}

impl<'a> Expression<'a> {
    /// Reads the name of `dependency`, which starts with `(`. Its parts have its flags.
    ///
    /// # Errors
    /// Where RPM does not take it either, or it is nested too deep.
    pub fn parse(dependency: &Dependency<'a>) -> Result<Self, Malformed> {
        let mut parser = Parser {
            rest: dependency.name,
            flags: dependency.flags & !(sense::COMPARISON | sense::MISSINGOK),
        };
        let (expression, _) = parser.group(0)?;
        match parser.rest {
            [] => Ok(expression),
            _ => Err(Malformed::Junk),
        }
    }

    /// Calls `visit` with every single dependency of it.
    pub fn each(&self, visit: &mut dyn FnMut(&Dependency<'a>)) {
        match self {
            Self::Single(dependency) => visit(dependency),
            Self::Chain(_, operands) => operands.iter().for_each(|operand| operand.each(visit)),
            Self::Conditional {
                then,
                condition,
                otherwise,
                ..
            } => {
                then.each(visit);
                condition.each(visit);
                if let Some(otherwise) = otherwise {
                    otherwise.each(visit);
                }
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    flags: u32,
}

impl<'a> Parser<'a> {
    /// `(` operand { operator operand } `)`, and whether it selects among packages, as operands of `with` must.
    fn group(&mut self, depth: usize) -> Result<(Expression<'a>, bool), Malformed> {
        self.rest = self.rest.strip_prefix(b"(").ok_or(Malformed::Start)?;
        if depth == MAX_DEPTH {
            return Err(Malformed::Depth);
        }
        let mut operands = Vec::new();
        let mut operators: Vec<Operator> = Vec::new();
        let mut selects = true;
        loop {
            self.space();
            match self.rest.first() {
                Some(b'(') => {
                    let (operand, operand_selects) = self.group(depth + 1)?;
                    selects &= operand_selects;
                    operands.push(operand);
                }
                Some(b')') => return Err(Malformed::Operand),
                Some(_) => operands.push(Expression::Single(self.simple()?)),
                None => return Err(Malformed::Unterminated),
            }
            self.space();
            match self.rest.first() {
                None => return Err(Malformed::Unterminated),
                Some(b')') => break,
                Some(_) => {}
            }
            let word = self.word(|byte| byte == b')' || is_space(byte));
            let operator = Operator::from_word(word).ok_or(Malformed::Operator)?;
            let chains = match operators[..] {
                [] => true,
                [Operator::If | Operator::Unless] => operator == Operator::Else,
                [.., last] => {
                    last == operator && matches!(last, Operator::And | Operator::Or | Operator::With)
                }
            };
            if !chains {
                return Err(Malformed::Mixed);
            }
            operators.push(operator);
        }
        self.rest = &self.rest[1..];
        if matches!(operators.first(), Some(Operator::With | Operator::Without)) && !selects {
            return Err(Malformed::Set);
        }
        selects &= matches!(
            operators.last(),
            None | Some(Operator::With | Operator::Without | Operator::Or)
        );
        Ok((combine(operands, &operators)?, selects))
    }

    /// A name, and a comparison where there is one.
    fn simple(&mut self) -> Result<Dependency<'a>, Malformed> {
        let name = self.balanced();
        if name.is_empty() {
            return Err(Malformed::Operand);
        }
        let mut dependency = Dependency {
            name,
            evr: b"",
            flags: self.flags,
        };
        if name.starts_with(b"rpmlib(") {
            dependency.flags |= sense::RPMLIB;
        }
        self.space();
        let before = self.rest;
        match comparison(self.balanced()) {
            None => self.rest = before,
            Some(flags) => {
                self.space();
                dependency.evr = self.balanced();
                dependency.flags |= flags;
                if dependency.evr.is_empty() {
                    return Err(Malformed::Version);
                }
            }
        }
        Ok(dependency)
    }

    /// Up to white space, a comma, or a `)` that was not opened.
    fn balanced(&mut self) -> &'a [u8] {
        let mut open = 0usize;
        self.word(|byte| match byte {
            b'(' => {
                open += 1;
                false
            }
            b')' if open == 0 => true,
            b')' => {
                open -= 1;
                false
            }
            _ => byte == b',' || is_space(byte),
        })
    }

    fn word(&mut self, mut is_end: impl FnMut(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| is_end(byte));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn space(&mut self) {
        self.word(|byte| byte != b',' && !is_space(byte));
    }
}

/// `isspace` of the C locale.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn combine<'a>(operands: Vec<Expression<'a>>, operators: &[Operator]) -> Result<Expression<'a>, Malformed> {
    let mut operands = operands.into_iter();
    let mut next = || operands.next().ok_or(Malformed::Operand);
    Ok(match *operators {
        [] => next()?,
        [operator @ (Operator::If | Operator::Unless), ..] => {
            let (then, condition) = (Box::new(next()?), Box::new(next()?));
            match *condition {
                // RPM reads `(a if (b else c))` as `(a if b else c)`.
                Expression::Chain(Operator::Else, mut pair) if operators.len() == 1 && pair.len() == 2 => {
                    let otherwise = pair.pop().map(Box::new);
                    Expression::Conditional {
                        operator,
                        then,
                        condition: Box::new(pair.pop().ok_or(Malformed::Operand)?),
                        otherwise,
                    }
                }
                condition => Expression::Conditional {
                    operator,
                    then,
                    condition: Box::new(condition),
                    otherwise: operands.next().map(Box::new),
                },
            }
        }
        [operator, ..] => Expression::Chain(operator, operands.collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<String, Malformed> {
        let dependency = Dependency {
            name: name.as_bytes(),
            evr: b"",
            flags: 0,
        };
        Expression::parse(&dependency).map(|expression| show(&expression))
    }

    fn show(expression: &Expression<'_>) -> String {
        match expression {
            Expression::Single(dependency) => dependency.to_string(),
            Expression::Chain(operator, operands) => {
                let operands: Vec<_> = operands.iter().map(show).collect();
                format!("{operator:?}[{}]", operands.join(", "))
            }
            Expression::Conditional {
                operator,
                then,
                condition,
                otherwise,
            } => {
                let otherwise = otherwise
                    .as_ref()
                    .map_or(String::new(), |otherwise| format!(", {}", show(otherwise)));
                format!("{operator:?}[{}, {}{otherwise}]", show(then), show(condition))
            }
        }
    }

    #[test]
    fn expressions_are_read() {
        let cases = [
            ("(a)", "a"),
            ("(a >= 1.0 and b)", "And[a >= 1.0, b]"),
            ("(a and b and c)", "And[a, b, c]"),
            (
                "(perl(:MODULE_COMPAT_5) or x(y)(64bit) = 1)",
                "Or[perl(:MODULE_COMPAT_5), x(y)(64bit) = 1]",
            ),
            ("(a if b)", "If[a, b]"),
            ("(a if b else c)", "If[a, b, c]"),
            ("(a if (b else c))", "If[a, b, c]"),
            ("(a unless (b or c) else d)", "Unless[a, Or[b, c], d]"),
            ("( a,with (b or c) with d )", "With[a, Or[b, c], d]"),
            ("((a with b) without (c))", "Without[With[a, b], c]"),
            ("(a else b)", "Else[a, b]"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_rpm_refuses_is_refused() {
        let cases = [
            ("()", Malformed::Operand),
            ("(a and )", Malformed::Operand),
            ("(a and b", Malformed::Unterminated),
            ("(a and", Malformed::Unterminated),
            ("(a) b", Malformed::Junk),
            ("(a >=)", Malformed::Version),
            ("(a b)", Malformed::Operator),
            ("(a and b or c)", Malformed::Mixed),
            ("(a if b if c)", Malformed::Mixed),
            ("(a without b without c)", Malformed::Mixed),
            ("(a if b else c else d)", Malformed::Mixed),
            ("(a else b if c)", Malformed::Mixed),
            ("(a with (b and c))", Malformed::Set),
            ("(a without ((b if c) or d))", Malformed::Set),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        assert_eq!(parse(&"(".repeat(1 << 20)), Err(Malformed::Depth));
        let deepest = format!("{}a{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert_eq!(parse(&deepest).as_deref(), Ok("a"));
    }
}
