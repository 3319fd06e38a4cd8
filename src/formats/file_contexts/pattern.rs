//! Regular expressions of PCRE2, as libselinux compiles them, in the syntax of the crate `regex`.
//!
//! libselinux matches `^PATTERN$`, bytes, with `PCRE2_DOTALL`. The crate finds in linear time what PCRE2 backtracks
//! for; what needs backtracking is refused. Only whether there is a match counts, so that lazy quantifiers are as good
//! as greedy ones. Where the two read the same text differently, it is rewritten or refused.

use std::fmt::Write;

/// Groups in groups, as deep as PCRE2 takes them.
const MAX_DEPTH: usize = 250;
/// The end of the path, or before a newline that ends it.
const END: &str = "(?:\\n?\\z)";

/// Why a pattern cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at its byte {offset}")]
pub struct PatternError {
    /// From 0.
    pub offset: usize,
    pub what: &'static str,
}

/// `pattern`, anchored as libselinux does it: `^` binds to the first and `$` to the last of alternatives.
///
/// # Errors
/// What PCRE2 refuses; what the crate cannot do: look-around, back references, possessive quantifiers, atomic groups,
/// verbs, options, callouts, Unicode properties; and what versions of PCRE2 read differently.
pub(super) fn translate(pattern: &str) -> Result<String, PatternError> {
    let mut translation = Translation {
        bytes: pattern.as_bytes(),
        at: 0,
        out: String::from("(?s-u)^"),
        depth: 0,
        last: Last::Nothing,
    };
    translation.run()?;
    translation.out.push_str(END);
    Ok(translation.out)
}

/// What a quantifier would stand behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    Quantifier,
}

struct Translation<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
    depth: usize,
    last: Last,
}

impl Translation<'_> {
    fn error<T>(&self, offset: usize, what: &'static str) -> Result<T, PatternError> {
        Err(PatternError { offset, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn literal(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() || b"/_-".contains(&byte) {
            self.out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(self.out, "\\x{byte:02X}");
        }
        self.last = Last::Atom;
    }

    fn run(&mut self) -> Result<(), PatternError> {
        while let Some(byte) = self.peek() {
            let start = self.at;
            self.at += 1;
            match byte {
                b'\\' => self.escape(start)?,
                b'[' => self.class(start)?,
                b'(' => self.open(start)?,
                b')' => {
                    if self.depth == 0 {
                        return self.error(start, "has a `)` without its `(`");
                    }
                    self.depth -= 1;
                    self.out.push(')');
                    self.last = Last::Atom;
                }
                b'|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                b'.' => {
                    self.out.push('.');
                    self.last = Last::Atom;
                }
                b'^' => {
                    self.out.push('^');
                    self.last = Last::Nothing;
                }
                b'$' => {
                    self.out.push_str(END);
                    self.last = Last::Nothing;
                }
                b'*' | b'+' | b'?' => {
                    self.quantifier(start, &[byte])?;
                }
                b'{' => self.brace(start)?,
                _ => self.literal(byte),
            }
        }
        if self.depth > 0 {
            return self.error(self.bytes.len(), "has a `(` without its `)`");
        }
        Ok(())
    }

    fn quantifier(&mut self, start: usize, text: &[u8]) -> Result<(), PatternError> {
        match self.last {
            Last::Atom => {}
            Last::Nothing => {
                return self.error(start, "has a quantifier behind nothing that it could repeat");
            }
            Last::Quantifier => return self.error(start, "has a quantifier behind a quantifier"),
        }
        self.out.extend(text.iter().copied().map(char::from));
        self.last = Last::Quantifier;
        match self.peek() {
            Some(b'+') => self.error(
                self.at,
                "has a possessive quantifier, which this program cannot match",
            ),
            Some(b'?') => {
                self.at += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `{`: a quantifier, or just a brace.
    fn brace(&mut self, start: usize) -> Result<(), PatternError> {
        let length = self.rest().iter().position(|&byte| byte == b'}');
        let inside = length.map(|length| &self.bytes[self.at..self.at + length]);
        let counts = inside.filter(|inside| inside.iter().all(|byte| b"0123456789, \t".contains(byte)));
        let Some(counts) = counts.filter(|counts| counts.iter().any(u8::is_ascii_digit)) else {
            self.literal(b'{');
            return Ok(());
        };
        let mut parts = counts.split(|&byte| byte == b',');
        let least = parts.next().unwrap_or_default();
        let most = parts.next();
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        if least.is_empty() || !digits(least) || !most.is_none_or(digits) || parts.next().is_some() {
            return self.error(start, "has braces that versions of PCRE2 read differently");
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u16>().ok();
        let least = number(least);
        let most = most.filter(|text| !text.is_empty()).map(number);
        if least.is_none() || most.is_some_and(|most| most < least) {
            return self.error(
                start,
                "repeats more than 65535 times, or at most less than at least",
            );
        }
        let end = self.at + counts.len() + 1;
        let text = &self.bytes[start..end];
        self.at = end;
        self.quantifier(start, text)
    }

    fn open(&mut self, start: usize) -> Result<(), PatternError> {
        let rest = self.rest();
        let what = match rest {
            [b'*', ..] => Some("has a verb `(*…)`"),
            [b'?', b':', ..] => None,
            [b'?', b'=' | b'!', ..] => Some("looks ahead"),
            [b'?', b'<', b'=' | b'!', ..] => Some("looks behind"),
            [b'?', b'>', ..] => Some("has an atomic group"),
            [b'?', ..] => Some("has a group with options, a name or a condition"),
            _ => None,
        };
        if let Some(what) = what {
            return self.error(start, what);
        }
        if rest.starts_with(b"?:") {
            self.at += 2;
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(start, "has groups in groups, deeper than 250");
        }
        self.out.push_str("(?:");
        self.last = Last::Nothing;
        Ok(())
    }

    fn escape(&mut self, start: usize) -> Result<(), PatternError> {
        let Some(byte) = self.peek() else {
            return self.error(start, "ends in a backslash");
        };
        match byte {
            b'd' | b'D' | b's' | b'S' | b'w' | b'W' => {
                self.at += 1;
                self.out.extend(['\\', char::from(byte)]);
                self.last = Last::Atom;
            }
            b'b' | b'B' | b'A' | b'z' => {
                self.at += 1;
                self.out.extend(['\\', char::from(byte)]);
                self.last = Last::Nothing;
            }
            b'Z' => {
                self.at += 1;
                self.out.push_str(END);
                self.last = Last::Nothing;
            }
            _ => {
                let byte = self.escaped_byte(start)?;
                self.literal(byte);
            }
        }
        Ok(())
    }

    /// The byte that an escape means, inside and outside of classes.
    fn escaped_byte(&mut self, start: usize) -> Result<u8, PatternError> {
        let Some(byte) = self.peek() else {
            return self.error(start, "ends in a backslash");
        };
        self.at += 1;
        Ok(match byte {
            b'a' => 7,
            b'e' => 0x1B,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digit = |index| char::from(*self.bytes.get(index)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(self.at), digit(self.at + 1)) else {
                    return self.error(start, "has a `\\x` without two hexadecimal digits");
                };
                self.at += 2;
                (high << 4 | low) as u8
            }
            b'0'..=b'9' => return self.error(start, "has a back reference or an octal number"),
            byte if byte.is_ascii_alphabetic() => {
                return self.error(start, "has an escape that this program does not know");
            }
            byte => byte,
        })
    }

    fn class(&mut self, start: usize) -> Result<(), PatternError> {
        self.out.push('[');
        if self.peek() == Some(b'^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let at = self.at;
            match self.peek() {
                None => return self.error(start, "has a `[` without its `]`"),
                Some(b']') if !first => {
                    self.at += 1;
                    self.out.push(']');
                    self.last = Last::Atom;
                    return Ok(());
                }
                Some(_) => {}
            }
            first = false;
            let Some(low) = self.class_item()? else {
                continue;
            };
            let ranged = matches!(self.rest(), [b'-', next, ..] if *next != b']');
            if !ranged {
                let _ = write!(self.out, "\\x{low:02X}");
                continue;
            }
            self.at += 1;
            // A set of characters ends no range: `-` stands for itself before it.
            let mark = self.out.len();
            match self.class_item()? {
                None => {
                    let set = self.out.split_off(mark);
                    let _ = write!(self.out, "\\x{low:02X}\\x2D{set}");
                }
                Some(high) if high < low => return self.error(at, "has a range that ends before it begins"),
                Some(high) => {
                    let _ = write!(self.out, "\\x{low:02X}-\\x{high:02X}");
                }
            }
        }
    }

    /// The next byte of a class; `None` where it was a set of characters, which has been written.
    fn class_item(&mut self) -> Result<Option<u8>, PatternError> {
        let start = self.at;
        let Some(byte) = self.peek() else {
            return self.error(start, "has a `[` without its `]`");
        };
        self.at += 1;
        match byte {
            b'[' => {
                if let Some(&mark) = self.rest().first().filter(|byte| b":.=".contains(byte)) {
                    return self.named_set(start, mark);
                }
                Ok(Some(byte))
            }
            b'\\' => match self.peek() {
                Some(set @ (b'd' | b'D' | b's' | b'S' | b'w' | b'W')) => {
                    self.at += 1;
                    self.out.extend(['\\', char::from(set)]);
                    Ok(None)
                }
                Some(b'b') => {
                    self.at += 1;
                    Ok(Some(8))
                }
                _ => self.escaped_byte(start).map(Some),
            },
            _ => Ok(Some(byte)),
        }
    }

    /// `[:name:]`; a bracket that begins none stands for itself.
    fn named_set(&mut self, start: usize, mark: u8) -> Result<Option<u8>, PatternError> {
        let rest = self.rest().get(1..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| !byte.is_ascii_alphabetic() && *byte != b'^');
        let Some(length) = length.filter(|&length| rest[length..].starts_with(&[mark, b']'])) else {
            return Ok(Some(b'['));
        };
        let name = &rest[..length];
        let known: [&[u8]; 14] = [
            b"alnum", b"alpha", b"ascii", b"blank", b"cntrl", b"digit", b"graph", b"lower", b"print",
            b"punct", b"space", b"upper", b"word", b"xdigit",
        ];
        if mark != b':' || !known.contains(&name.strip_prefix(b"^").unwrap_or(name)) {
            return self.error(start, "names a set of characters that PCRE2 does not know");
        }
        let text: String = name.iter().copied().map(char::from).collect();
        let _ = write!(self.out, "[:{text}:]");
        self.at += length + 3;
        Ok(None)
    }
}
