//! A small part of the shell language, read conservatively: what a scriptlet's text would do is told only where every bit of
//! it is understood.

mod evaluate;
mod lex;
mod parse;

pub use evaluate::{Call, evaluate};

/// A text, or something in it, that is not understood: which, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear(pub String);

/// A word before expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Text, and whether it was quoted.
    Text(String, bool),
    /// `$name` or `${name}`, and whether it was quoted.
    Parameter(String, bool),
}

/// `<`, `>`, `>>` or `<<`, with the file descriptor before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Redirection {
    descriptor: Option<u32>,
    kind: RedirectionKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RedirectionKind {
    /// `<` or `>` or `>>` or `&>`: from or to a file.
    File(Word),
    /// `>&` and `<&`.
    Duplicate(Word),
    /// `<<`: the text.
    Here(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
        redirections: Vec<Redirection>,
    },
    If {
        branches: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: List,
    },
    /// `{ … }` and `( … )`.
    Group(List),
    Not(Box<Command>),
}

/// Commands one after the other; each is a chain of `&&` and `||`.
type List = Vec<Chain>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    first: Command,
    rest: Vec<(Operator, Command)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
}
