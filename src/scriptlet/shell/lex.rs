//! Words and operators.

use super::{Part, Unclear, Word};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `;` `;;` `&` `&&` `|` `||` `(` `)` `<` `>` `>>` `>&` `<&` `&>`, and `\n` for a new line.
    Operator(&'static str),
    /// Digits that stand before `<` or `>`.
    Descriptor(u32),
    /// The text that `<<` names.
    Here(String),
}

/// Longest first.
const OPERATORS: [&str; 15] = [
    "&>>", "&&", "&>", "||", ">>", ">&", "<&", ";;", ">|", "<>", "&", "|", ";", "(", ")",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Unclear> {
    let mut lexer = Lexer {
        rest: text,
        tokens: Vec::new(),
        waiting: Vec::new(),
    };
    while !lexer.rest.is_empty() {
        lexer.step()?;
    }
    match lexer.waiting.first() {
        Some((_, delimiter, _)) => Err(Unclear(format!("<<{delimiter}"))),
        None => Ok(lexer.tokens),
    }
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
    /// Here-documents whose text starts on the next line: token, delimiter, whether leading tabs go.
    waiting: Vec<(usize, String, bool)>,
}

impl Lexer<'_> {
    fn step(&mut self) -> Result<(), Unclear> {
        if let Some(rest) = self.rest.strip_prefix("\\\n") {
            self.rest = rest;
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix('\n') {
            self.rest = rest;
            self.tokens.push(Token::Operator("\n"));
            return self.here_documents();
        }
        if self.rest.starts_with([' ', '\t', '\r']) {
            self.rest = &self.rest[1..];
            return Ok(());
        }
        if self.rest.starts_with('#') {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix("<<") {
            let (rest, tabs) = match rest.strip_prefix('-') {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            if rest.starts_with('<') {
                return Err(Unclear("<<<".to_owned()));
            }
            self.rest = rest.trim_start_matches([' ', '\t']);
            let (word, _) = self.word()?;
            let delimiter = word.plain().ok_or_else(|| Unclear("<<".to_owned()))?;
            self.waiting.push((self.tokens.len(), delimiter, tabs));
            self.tokens.push(Token::Here(String::new()));
            return Ok(());
        }
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 && self.rest[digits..].starts_with(['<', '>']) {
            let number = self.rest[..digits].parse();
            self.tokens.push(Token::Descriptor(
                number.map_err(|_| Unclear(self.rest[..digits].to_owned()))?,
            ));
            self.rest = &self.rest[digits..];
            return Ok(());
        }
        let operators = OPERATORS.iter().chain(&["<", ">"]);
        if let Some(operator) = operators
            .copied()
            .find(|operator| self.rest.starts_with(operator))
        {
            self.rest = &self.rest[operator.len()..];
            self.tokens.push(Token::Operator(operator));
            return Ok(());
        }
        let (word, _) = self.word()?;
        self.tokens.push(Token::Word(word));
        Ok(())
    }

    /// Reads the texts of the here-documents that the line just ended has named.
    fn here_documents(&mut self) -> Result<(), Unclear> {
        for (token, delimiter, tabs) in std::mem::take(&mut self.waiting) {
            let mut text = String::new();
            loop {
                if self.rest.is_empty() {
                    return Err(Unclear(format!("<<{delimiter}")));
                }
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let line = &self.rest[..end];
                self.rest = self.rest.get(end + 1..).unwrap_or("");
                let line = if tabs { line.trim_start_matches('\t') } else { line };
                if line == delimiter {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            // Expansion would change the text.
            if text.contains(['$', '`']) {
                return Err(Unclear(format!("<<{delimiter} with `$`")));
            }
            self.tokens[token] = Token::Here(text);
        }
        Ok(())
    }

    /// A word, and whether any of it was quoted.
    fn word(&mut self) -> Result<(Word, bool), Unclear> {
        let mut parts = Vec::new();
        let (mut text, mut any_quotes) = (String::new(), false);
        let flush = |text: &mut String, parts: &mut Vec<Part>, quoted| {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(text), quoted));
            }
        };
        while let Some(c) = self.rest.chars().next() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => {
                    any_quotes = true;
                    flush(&mut text, &mut parts, false);
                    let end = self.rest[1..].find('\'').ok_or_else(|| Unclear("'".to_owned()))?;
                    parts.push(Part::Text(self.rest[1..=end].to_owned(), true));
                    self.rest = &self.rest[end + 2..];
                }
                '"' => {
                    any_quotes = true;
                    flush(&mut text, &mut parts, false);
                    self.rest = &self.rest[1..];
                    self.double_quoted(&mut parts)?;
                }
                '\\' => {
                    let next = self.rest[1..].chars().next();
                    let next = next.ok_or_else(|| Unclear("\\".to_owned()))?;
                    flush(&mut text, &mut parts, false);
                    if next != '\n' {
                        parts.push(Part::Text(next.to_string(), true));
                    }
                    self.rest = &self.rest[1 + next.len_utf8()..];
                }
                '$' => {
                    flush(&mut text, &mut parts, false);
                    parts.push(self.parameter(false)?);
                }
                '`' => return Err(Unclear("`…`".to_owned())),
                c => {
                    text.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
        flush(&mut text, &mut parts, false);
        if any_quotes && parts.is_empty() {
            parts.push(Part::Text(String::new(), true));
        }
        Ok((Word { parts }, any_quotes))
    }

    fn double_quoted(&mut self, parts: &mut Vec<Part>) -> Result<(), Unclear> {
        let mut text = String::new();
        loop {
            let c = self.rest.chars().next().ok_or_else(|| Unclear("\"".to_owned()))?;
            match c {
                '"' => {
                    self.rest = &self.rest[1..];
                    parts.push(Part::Text(text, true));
                    return Ok(());
                }
                '$' => {
                    parts.push(Part::Text(std::mem::take(&mut text), true));
                    parts.push(self.parameter(true)?);
                }
                '`' => return Err(Unclear("`…`".to_owned())),
                '\\' => {
                    let next = self.rest[1..].chars().next();
                    match next {
                        Some('\n') => {}
                        Some(next @ ('"' | '\\' | '$' | '`')) => text.push(next),
                        Some(next) => text.extend(['\\', next]),
                        None => return Err(Unclear("\"".to_owned())),
                    }
                    self.rest = &self.rest[1 + next.map_or(0, char::len_utf8)..];
                }
                c => {
                    text.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
    }

    /// `$1`, `$?`, `$name`, `${name}`; nothing that expands further.
    fn parameter(&mut self, quoted: bool) -> Result<Part, Unclear> {
        let after = &self.rest[1..];
        let (name, length) = if let Some(braced) = after.strip_prefix('{') {
            let end = braced.find('}').ok_or_else(|| Unclear("${".to_owned()))?;
            (&braced[..end], end + 3)
        } else {
            let end = match after.chars().next() {
                Some(c) if c.is_ascii_digit() || matches!(c, '?' | '#' | '*' | '@' | '$' | '!') => 1,
                _ => after
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(after.len()),
            };
            (&after[..end], end + 1)
        };
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            let shown = after.chars().take(20).take_while(|c| !c.is_whitespace());
            return Err(Unclear(format!("${}", shown.collect::<String>())));
        }
        let part = Part::Parameter(name.to_owned(), quoted);
        self.rest = &self.rest[length..];
        Ok(part)
    }
}

impl Word {
    /// The text, where nothing in it is expanded.
    pub(super) fn plain(&self) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part, _) => text.push_str(part),
                Part::Parameter(..) => return None,
            }
        }
        Some(text)
    }

    /// The text, where it is one unquoted piece: reserved words are such.
    pub(super) fn bare(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text, false)] => Some(text),
            _ => None,
        }
    }
}
