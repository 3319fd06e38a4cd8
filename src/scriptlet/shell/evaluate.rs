//! Which programs a text would start, followed through conditions where those are known.

use std::collections::BTreeMap;

use super::parse::parse;
use super::{Chain, Command, Operator, Part, Redirection, RedirectionKind, Unclear, Word};

/// A program that would be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Program and arguments. What is not known beforehand is `None`.
    pub words: Vec<Option<String>>,
    /// The text of its here-document.
    pub input: Option<String>,
}

/// Every program that `text` could start with `arguments` (`$1` …), in its order. Built-in commands that change nothing are
/// left out.
///
/// # Errors
/// What in it is not understood.
pub fn evaluate(text: &str, arguments: &[u32]) -> Result<Vec<Call>, Unclear> {
    let list = parse(text)?;
    let mut variables = BTreeMap::new();
    for (number, argument) in (1..).zip(arguments) {
        variables.insert(number.to_string(), Some(argument.to_string()));
    }
    let mut evaluator = Evaluator {
        variables,
        calls: Vec::new(),
        certain: true,
        ended: false,
    };
    evaluator.list(&list)?;
    Ok(evaluator.calls)
}

struct Evaluator {
    /// `None`: set, but to what is not known.
    variables: BTreeMap<String, Option<String>>,
    calls: Vec<Call>,
    /// Whether the present command is reached for certain.
    certain: bool,
    ended: bool,
}

/// Whether a command succeeds; `None` where that is not known.
type Status = Option<bool>;

impl Evaluator {
    fn list(&mut self, list: &[Chain]) -> Result<Status, Unclear> {
        let mut status = Some(true);
        for chain in list {
            if self.ended {
                break;
            }
            status = self.chain(chain)?;
        }
        Ok(status)
    }

    fn chain(&mut self, chain: &Chain) -> Result<Status, Unclear> {
        let mut status = self.command(&chain.first)?;
        for (operator, command) in &chain.rest {
            let goes_on = *operator == Operator::And;
            match status {
                _ if self.ended => break,
                Some(known) if known != goes_on => {}
                Some(_) => status = self.command(command)?,
                None => {
                    let after = self.perhaps(|this| this.command(command))?;
                    status = match (operator, after) {
                        // `x || :` succeeds in either case, `x && false` in none.
                        (Operator::Or, Some(true)) => Some(true),
                        (Operator::And, Some(false)) => Some(false),
                        _ => None,
                    };
                }
            }
        }
        Ok(status)
    }

    /// Follows what may happen or not: variables that it sets are not known afterwards.
    fn perhaps(
        &mut self,
        follow: impl FnOnce(&mut Self) -> Result<Status, Unclear>,
    ) -> Result<Status, Unclear> {
        let (before, certain) = (self.variables.clone(), self.certain);
        self.certain = false;
        let status = follow(self)?;
        self.certain = certain;
        self.ended = false;
        for (name, value) in &mut self.variables {
            if before.get(name) != Some(value) {
                *value = None;
            }
        }
        Ok(status)
    }

    fn command(&mut self, command: &Command) -> Result<Status, Unclear> {
        match command {
            Command::Simple {
                assignments,
                words,
                redirections,
            } => self.simple(assignments, words, redirections),
            Command::Not(command) => Ok(self.command(command)?.map(|status| !status)),
            Command::Group(list) => self.list(list),
            Command::For { name, words, body } => {
                for word in words {
                    let value = self.expand(word);
                    // An unquoted parameter or pattern stands for any number of words.
                    let several = word.parts.iter().any(|part| match part {
                        Part::Parameter(_, quoted) => !quoted,
                        Part::Text(text, quoted) => !quoted && text.contains(['*', '?', '[']),
                    });
                    let value = if several { None } else { value };
                    self.variables.insert(name.clone(), value);
                    self.list(body)?;
                }
                Ok(None)
            }
            Command::If { branches, otherwise } => self.conditional(branches, otherwise.as_deref()),
        }
    }

    fn conditional(
        &mut self,
        branches: &[(Vec<Chain>, Vec<Chain>)],
        otherwise: Option<&[Chain]>,
    ) -> Result<Status, Unclear> {
        let Some(((condition, body), rest)) = branches.split_first() else {
            return otherwise.map_or(Ok(Some(true)), |list| self.list(list));
        };
        match self.list(condition)? {
            _ if self.ended => Ok(None),
            Some(true) => self.list(body),
            Some(false) => self.conditional(rest, otherwise),
            None => {
                self.perhaps(|this| this.list(body))?;
                self.perhaps(|this| this.conditional(rest, otherwise))?;
                Ok(None)
            }
        }
    }

    fn expand(&self, word: &Word) -> Option<String> {
        let mut text = String::new();
        for part in &word.parts {
            match part {
                Part::Text(part, _) => text.push_str(part),
                Part::Parameter(name, _) => text.push_str(self.variables.get(name)?.as_deref()?),
            }
        }
        Some(text)
    }

    fn simple(
        &mut self,
        assignments: &[(String, Word)],
        words: &[Word],
        redirections: &[Redirection],
    ) -> Result<Status, Unclear> {
        if let Some(redirection) = redirections.iter().find(|redirection| !redirection.is_harmless()) {
            let RedirectionKind::File(word) = &redirection.kind else {
                return Err(Unclear("a redirection".to_owned()));
            };
            let file = self.expand(word).unwrap_or_else(|| "$…".to_owned());
            return Err(Unclear(format!("a redirection to or from `{file}`")));
        }
        let Some(first) = words.first() else {
            for (name, word) in assignments {
                let value = self.expand(word);
                self.variables.insert(name.clone(), value);
            }
            return Ok(Some(true));
        };
        let expanded: Vec<_> = words.iter().map(|word| self.expand(word)).collect();
        let Some(program) = &expanded[0] else {
            return Err(Unclear(format!(
                "`{}`, a program that a variable names",
                source(first)
            )));
        };
        // Where programs are found is not to be changed behind our back.
        if assignments
            .iter()
            .any(|(name, _)| name == "PATH" || name.starts_with("LD_"))
        {
            return Err(Unclear(format!("{program} with another environment")));
        }
        if let Some(status) = self.built_in(program, &expanded[1..], words)? {
            return Ok(status);
        }
        let input = redirections
            .iter()
            .find_map(|redirection| match &redirection.kind {
                RedirectionKind::Here(text) => Some(text.clone()),
                _ => None,
            });
        self.calls.push(Call {
            words: expanded,
            input,
        });
        Ok(None)
    }

    /// The outer option: whether it is a built-in command.
    fn built_in(
        &mut self,
        program: &str,
        arguments: &[Option<String>],
        words: &[Word],
    ) -> Result<Option<Status>, Unclear> {
        let status = match program {
            ":" | "true" | "/bin/true" | "/usr/bin/true" => Some(true),
            "false" | "/bin/false" | "/usr/bin/false" => Some(false),
            // Their output goes nowhere.
            "echo" | "printf" => Some(true),
            "set" | "umask" | "unset" | "cd" if arguments.iter().all(Option::is_some) => match program {
                "set"
                    if arguments
                        .iter()
                        .flatten()
                        .all(|flag| matches!(flag.as_str(), "+e" | "+x" | "-x" | "-u")) =>
                {
                    Some(true)
                }
                "umask" => Some(true),
                _ => return Err(Unclear(program.to_owned())),
            },
            "export" => {
                for word in &words[1..] {
                    if let Some((name, value)) = super::parse::parse_assignment(word) {
                        if name == "PATH" || name.starts_with("LD_") {
                            return Err(Unclear(format!("export {name}")));
                        }
                        let value = self.expand(&value);
                        self.variables.insert(name, value);
                    }
                }
                Some(true)
            }
            "test" => test(arguments),
            "[" | "[[" => match arguments.split_last() {
                Some((Some(end), arguments)) if end == "]" || end == "]]" => test(arguments),
                _ => return Err(Unclear("[".to_owned())),
            },
            "exit" | "return" => {
                let success = match arguments {
                    [] => true,
                    [Some(code)] => code == "0",
                    _ => false,
                };
                if !success {
                    return Err(Unclear(format!("{program} with a failure")));
                }
                self.ended = true;
                Some(true)
            }
            _ => return Ok(None),
        };
        Ok(Some(status))
    }
}

/// A word as it stands in the text, for messages.
fn source(word: &Word) -> String {
    let parts = word.parts.iter().map(|part| match part {
        Part::Text(text, _) => text.clone(),
        Part::Parameter(name, _) => format!("${name}"),
    });
    parts.collect()
}

/// What test(1) says of words: comparisons of known values. What asks for files is not known.
fn test(words: &[Option<String>]) -> Status {
    // Joined conditions: known where one side decides.
    for (joint, decisive) in [("-o", true), ("||", true), ("-a", false), ("&&", false)] {
        if let Some(at) = words.iter().position(|word| word.as_deref() == Some(joint)) {
            let (left, right) = (test(&words[..at]), test(&words[at + 1..]));
            return match (left, right) {
                (Some(left), _) if left == decisive => Some(decisive),
                (_, Some(right)) if right == decisive => Some(decisive),
                (Some(_), Some(_)) => Some(!decisive),
                _ => None,
            };
        }
    }
    match words {
        [] => Some(false),
        [Some(not), rest @ ..] if not == "!" && !rest.is_empty() => test(rest).map(|status| !status),
        [Some(word)] => Some(!word.is_empty()),
        [Some(operator), Some(word)] => match operator.as_str() {
            "-n" => Some(!word.is_empty()),
            "-z" => Some(word.is_empty()),
            _ => None,
        },
        [Some(left), Some(operator), Some(right)] => {
            let numbers = || {
                Some((
                    left.trim().parse::<i64>().ok()?,
                    right.trim().parse::<i64>().ok()?,
                ))
            };
            match operator.as_str() {
                "=" | "==" => Some(left == right),
                "!=" => Some(left != right),
                "-eq" => numbers().map(|(a, b)| a == b),
                "-ne" => numbers().map(|(a, b)| a != b),
                "-gt" => numbers().map(|(a, b)| a > b),
                "-ge" => numbers().map(|(a, b)| a >= b),
                "-lt" => numbers().map(|(a, b)| a < b),
                "-le" => numbers().map(|(a, b)| a <= b),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
