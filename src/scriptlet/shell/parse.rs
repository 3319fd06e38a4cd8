//! Commands from tokens.

use super::lex::{Token, tokens};
use super::{Chain, Command, List, Operator, Part, Redirection, RedirectionKind, Unclear, Word};

/// Nobody nests deeper; hostile text shall not end the program's stack.
const MAX_DEPTH: usize = 40;

pub(super) fn parse(text: &str) -> Result<List, Unclear> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    let list = parser.list(&[])?;
    match parser.tokens.get(parser.at) {
        None => Ok(list),
        Some(token) => Err(shown(token)),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

fn shown(token: &Token) -> Unclear {
    Unclear(match token {
        Token::Word(word) => word.plain().unwrap_or_else(|| "$".to_owned()),
        Token::Operator(operator) => (*operator).to_owned(),
        Token::Descriptor(number) => number.to_string(),
        Token::Here(_) => "<<".to_owned(),
    })
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn operator(&self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Operator(operator)) => Some(operator),
            _ => None,
        }
    }

    fn reserved(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => word.bare(),
            _ => None,
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.reserved() == Some(word) || self.operator() == Some(static_operator(word));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, word: &'static str) -> Result<(), Unclear> {
        match self.take(word) {
            true => Ok(()),
            false => Err(self
                .peek()
                .map_or_else(|| Unclear(format!("`{word}` is missing")), shown)),
        }
    }

    fn new_lines(&mut self) {
        while matches!(self.operator(), Some("\n" | ";")) {
            self.at += 1;
        }
    }

    /// Up to one of the reserved words `ends`, which stays.
    fn list(&mut self, ends: &[&str]) -> Result<List, Unclear> {
        let mut list = List::new();
        loop {
            self.new_lines();
            let ended = match self.peek() {
                None => true,
                Some(Token::Operator(operator)) => ends.contains(operator),
                Some(Token::Word(word)) => word.bare().is_some_and(|word| ends.contains(&word)),
                _ => false,
            };
            if ended {
                break;
            }
            list.push(self.chain()?);
            match self.operator() {
                None | Some("\n" | ";") => {}
                Some(operator) if ends.contains(&operator) => {}
                // Jobs in the background and pipes.
                Some(operator) => return Err(Unclear(operator.to_owned())),
            }
        }
        Ok(list)
    }

    fn chain(&mut self) -> Result<Chain, Unclear> {
        let first = self.command()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.operator() {
                Some("&&") => Operator::And,
                Some("||") => Operator::Or,
                _ => return Ok(Chain { first, rest }),
            };
            self.at += 1;
            while self.operator() == Some("\n") {
                self.at += 1;
            }
            rest.push((operator, self.command()?));
        }
    }

    fn command(&mut self) -> Result<Command, Unclear> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unclear("deep nesting".to_owned()));
        }
        let command = self.command_below();
        self.depth -= 1;
        command
    }

    fn command_below(&mut self) -> Result<Command, Unclear> {
        let command = match self.reserved() {
            Some("if") => self.conditional()?,
            Some("for") => self.for_loop()?,
            Some("{") => {
                self.at += 1;
                let list = self.list(&["}"])?;
                self.expect("}")?;
                Command::Group(list)
            }
            Some("!") => {
                self.at += 1;
                Command::Not(Box::new(self.command()?))
            }
            Some(word @ ("while" | "until" | "case" | "select" | "function")) => {
                return Err(Unclear(word.to_owned()));
            }
            _ if self.operator() == Some("(") => {
                self.at += 1;
                let list = self.list(&[")"])?;
                self.expect(")")?;
                Command::Group(list)
            }
            _ => return self.simple(),
        };
        // What follows a compound command are redirections of all of it.
        match self.peek() {
            Some(Token::Descriptor(_) | Token::Here(_) | Token::Operator("<" | ">" | ">>" | "&>")) => {
                let redirections = self.redirections()?;
                let harmless = redirections.iter().all(Redirection::is_harmless);
                match harmless {
                    true => Ok(command),
                    false => Err(Unclear("a redirection of several commands".to_owned())),
                }
            }
            _ => Ok(command),
        }
    }

    fn redirections(&mut self) -> Result<Vec<Redirection>, Unclear> {
        let mut found = Vec::new();
        while let Some(redirection) = self.redirection()? {
            found.push(redirection);
        }
        Ok(found)
    }

    fn conditional(&mut self) -> Result<Command, Unclear> {
        self.expect("if")?;
        let mut branches = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            branches.push((condition, self.list(&["elif", "else", "fi"])?));
            if self.take("elif") {
                continue;
            }
            if self.take("else") {
                otherwise = Some(self.list(&["fi"])?);
            }
            self.expect("fi")?;
            return Ok(Command::If { branches, otherwise });
        }
    }

    fn for_loop(&mut self) -> Result<Command, Unclear> {
        self.expect("for")?;
        let name = self.reserved().map(str::to_owned);
        let name = name.ok_or_else(|| Unclear("for".to_owned()))?;
        self.at += 1;
        self.expect("in")?;
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.peek() {
            words.push(word.clone());
            self.at += 1;
        }
        self.new_lines();
        self.expect("do")?;
        let body = self.list(&["done"])?;
        self.expect("done")?;
        Ok(Command::For { name, words, body })
    }

    fn redirection(&mut self) -> Result<Option<Redirection>, Unclear> {
        let descriptor = match self.peek() {
            Some(&Token::Descriptor(number)) => {
                self.at += 1;
                Some(number)
            }
            _ => None,
        };
        let kind = match self.peek() {
            Some(Token::Here(text)) => {
                let kind = RedirectionKind::Here(text.clone());
                self.at += 1;
                kind
            }
            Some(&Token::Operator(operator @ ("<" | ">" | ">>" | "&>" | "&>>" | ">|" | ">&" | "<&"))) => {
                self.at += 1;
                let Some(Token::Word(word)) = self.peek() else {
                    return Err(Unclear(operator.to_owned()));
                };
                let word = word.clone();
                self.at += 1;
                match operator {
                    ">&" | "<&" => RedirectionKind::Duplicate(word),
                    _ => RedirectionKind::File(word),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Redirection { descriptor, kind }))
    }

    fn simple(&mut self) -> Result<Command, Unclear> {
        let (mut assignments, mut words) = (Vec::new(), Vec::new());
        let mut redirections = Vec::new();
        loop {
            if let Some(redirection) = self.redirection()? {
                redirections.push(redirection);
                continue;
            }
            let Some(Token::Word(word)) = self.peek() else {
                break;
            };
            let word = word.clone();
            self.at += 1;
            match parse_assignment(&word) {
                Some(assignment) if words.is_empty() => assignments.push(assignment),
                _ => words.push(word),
            }
        }
        if assignments.is_empty() && words.is_empty() && redirections.is_empty() {
            return Err(self.peek().map_or_else(|| Unclear("the end".to_owned()), shown));
        }
        // A function's definition.
        if self.operator() == Some("(") {
            return Err(Unclear("(".to_owned()));
        }
        Ok(Command::Simple {
            assignments,
            words,
            redirections,
        })
    }
}

fn static_operator(word: &str) -> &'static str {
    match word {
        ")" => ")",
        _ => "",
    }
}

pub(super) fn parse_assignment(word: &Word) -> Option<(String, Word)> {
    let Some(Part::Text(first, false)) = word.parts.first() else {
        return None;
    };
    let (name, rest) = first.split_once('=')?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !is_name {
        return None;
    }
    let mut parts = word.parts.clone();
    parts[0] = Part::Text(rest.to_owned(), false);
    Some((name.to_owned(), Word { parts }))
}

impl Redirection {
    /// Whether it reaches no file but `/dev/null`.
    pub(super) fn is_harmless(&self) -> bool {
        match &self.kind {
            RedirectionKind::File(word) => word.plain().as_deref() == Some("/dev/null"),
            RedirectionKind::Duplicate(word) => {
                matches!(word.plain().as_deref(), Some("0" | "1" | "2" | "-" | "/dev/null"))
            }
            RedirectionKind::Here(_) => true,
        }
    }
}
