//! Takes typed values out of a merged definition, gathering what is wrong on the way.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::error::Problem;
use super::raw::{Entry, Kind, List, Table, Value};
use super::source::{Loader, Sources, Span};
use super::typed::{FromValue, wrong_type};
use super::unbuilt;

/// What reading shares: the files, what was found wrong, where each key stands.
pub(super) struct Context<'a> {
    pub sources: &'a Sources,
    pub loader: &'a dyn Loader,
    pub problems: RefCell<Vec<Problem>>,
    pub warnings: RefCell<Vec<Problem>>,
    pub places: RefCell<BTreeMap<String, Span>>,
    /// Every key that was asked for, with its table.
    known: RefCell<Vec<(String, &'static str)>>,
    unknown: RefCell<Vec<Unknown>>,
}

struct Unknown {
    table: String,
    key: String,
    span: Span,
    siblings: Vec<&'static str>,
}

impl<'a> Context<'a> {
    pub fn new(sources: &'a Sources, loader: &'a dyn Loader) -> Self {
        Self {
            sources,
            loader,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            places: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::new(self.sources, Some(span), message)
    }

    /// As [`Context::problem`], at the place of a key; without place where the key is not written.
    pub fn problem_at(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.sources, self.places.borrow().get(key).copied(), message)
    }

    /// `file:line:column` of a key.
    pub fn place_of(&self, key: &str) -> Option<String> {
        let span = self.places.borrow().get(key).copied()?;
        Some(self.sources.place(span))
    }

    /// Reports the unknown keys, now that all known ones have been asked for.
    pub fn report_unknown(&self) {
        for Unknown {
            table,
            key,
            span,
            siblings,
        } in self.unknown.take()
        {
            let shown = if table.is_empty() {
                "at the top".into()
            } else {
                format!("in `[{table}]`")
            };
            let problem = self
                .problem(span, format!("unknown key `{key}` {shown}"))
                .label("not a key");
            let elsewhere = self
                .known
                .borrow()
                .iter()
                .find(|(_, known)| *known == key)
                .map(|(at, _)| at.clone());
            let help = match (nearest(&key, siblings.iter().copied()), elsewhere) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(other)) if other.is_empty() => {
                    format!("`{key}` is a key of the top, before any table")
                }
                (None, Some(other)) => format!("`{key}` is a key of `[{other}]`"),
                (None, None) => format!("the keys here are {}", listed(siblings.iter().copied())),
            };
            self.report(problem.help(help));
        }
    }
}

/// The candidate that differs least from `text`, where it differs little; else one that begins as
/// `text` does.
pub(super) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let text = text.to_lowercase().replace('_', "-");
    // More edits than a third of the letters make another word.
    let most = (text.chars().count() / 3).clamp(1, 4);
    let distance = |name: &str| strsim::damerau_levenshtein(&text, &name.replace('_', "-"));
    let near = candidates.clone().map(|name| (distance(name), name));
    let near = near.filter(|(distance, _)| *distance <= most).min();
    let longer = |name: &&str| text.len() >= 3 && (name.starts_with(&text) || text.starts_with(name));
    near.map(|(_, name)| name)
        .or_else(|| candidates.clone().find(longer))
}

/// `a`, `b` and `c`, in backticks.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A table of the definition. Keys that nobody asked for are reported when it goes.
pub(super) struct Section<'a> {
    pub context: &'a Context<'a>,
    /// Dotted path of the table, with `[n]` for those of a list.
    pub at: String,
    /// Where its header stands; the start of the definition where it is not written.
    pub span: Span,
    /// `None` where it is not written.
    table: Option<&'a Table>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn top(context: &'a Context<'a>, table: &'a Table) -> Self {
        Self::new(context, String::new(), Span::new(0, 0..0), Some(table))
    }

    fn new(context: &'a Context<'a>, at: String, span: Span, table: Option<&'a Table>) -> Self {
        Self {
            context,
            at,
            span,
            table,
            asked: RefCell::default(),
        }
    }

    /// The dotted path of `key` in it.
    pub fn path(&self, key: &str) -> String {
        if self.at.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.at)
        }
    }

    /// Whether the table itself stands in the definition.
    pub fn is_written(&self) -> bool {
        self.table.is_some()
    }

    pub fn entry(&self, key: &'static str) -> Option<&'a Entry> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        drop(asked);
        let entry = self.table?.0.get(key)?;
        self.context
            .places
            .borrow_mut()
            .insert(self.path(key), entry.value.span);
        Some(entry)
    }

    /// The sub-table `key`, empty where it is not written.
    pub fn section(&self, key: &'static str) -> Self {
        let path = self.path(key);
        match self.entry(key) {
            Some(Entry {
                key,
                value:
                    Value {
                        kind: Kind::Table(table),
                        ..
                    },
            }) => {
                self.context.places.borrow_mut().insert(path.clone(), *key);
                Self::new(self.context, path, *key, Some(table))
            }
            Some(entry) => {
                self.wrong_type(&path, &entry.value, "a table");
                Self::new(self.context, path, entry.key, None)
            }
            None => Self::new(self.context, path, self.span, None),
        }
    }

    /// The tables of list `key`.
    pub fn entries(&self, key: &'static str) -> Vec<Self> {
        let path = self.path(key);
        let items = match self.entry(key).map(|entry| &entry.value) {
            Some(Value {
                kind: Kind::List(list),
                ..
            }) => list.items.as_slice(),
            Some(value) => {
                self.wrong_type(&path, value, &format!("a list of tables (`[[{path}]]`)"));
                &[]
            }
            None => &[],
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.context.places.borrow_mut().insert(path.clone(), item.span);
            match &item.kind {
                Kind::Table(table) => sections.push(Self::new(self.context, path, item.span, Some(table))),
                _ => self.wrong_type(&path, item, "a table"),
            }
        }
        sections
    }

    /// The value of `key`, where it is written and right.
    pub fn get<T: FromValue>(&self, key: &'static str) -> Option<T> {
        let value = &self.entry(key)?.value;
        let path = self.path(key);
        unbuilt::check(self.context, &path, value).then(|| T::from_value(self.context, &path, value))?
    }

    /// As [`Section::get`], for a key without which there is no plan.
    pub fn require<T: FromValue>(&self, key: &'static str, example: &str) -> Option<T> {
        if self.table.is_none_or(|table| !table.0.contains_key(key)) {
            self.missing(key, example);
        }
        self.get(key)
    }

    /// As [`Section::get`], `default` where it is not written.
    pub fn or<T: FromValue>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// The items of list `key`, those that are right.
    pub fn list<T: FromValue>(&self, key: &'static str) -> Vec<T> {
        let path = self.path(key);
        match self.entry(key).map(|entry| &entry.value) {
            Some(Value {
                kind: Kind::List(List { items, .. }),
                ..
            }) => {
                let item = |(index, value)| {
                    let path = format!("{path}[{index}]");
                    self.context
                        .places
                        .borrow_mut()
                        .insert(path.clone(), Value::span(value));
                    T::from_value(self.context, &path, value)
                };
                items.iter().enumerate().filter_map(item).collect()
            }
            Some(value) => {
                self.wrong_type(&path, value, "a list");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// As [`Section::list`], each item once, in the order of first mention.
    pub fn set<T: FromValue + PartialEq>(&self, key: &'static str) -> Vec<T> {
        let mut out = Vec::new();
        for item in self.list(key) {
            if !out.contains(&item) {
                out.push(item);
            }
        }
        out
    }

    pub fn missing(&self, key: &str, example: &str) {
        let context = self.context;
        let table = if self.at.is_empty() {
            "the top".into()
        } else {
            format!("`[{}]`", self.at)
        };
        let problem = context.problem(self.span, format!("`{}` is missing", self.path(key)));
        let first = context
            .sources
            .0
            .first()
            .map(|source| source.path.display().to_string())
            .unwrap_or_default();
        context.report(if self.is_written() {
            problem
                .label(format!("no `{key}` in this table"))
                .help(format!("add `{key} = {example}`"))
        } else {
            problem
                .label("this definition")
                .help(format!("add {table} with `{key} = {example}` to `{first}`"))
        });
    }

    fn wrong_type(&self, path: &str, value: &Value, wanted: &str) {
        wrong_type(self.context, path, value, wanted);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.take();
        // Tables of a list are one table to the reader of a message.
        let table: String = self.at.split(['[', ']']).step_by(2).collect();
        for (key, entry) in self.table.into_iter().flat_map(|table| &table.0) {
            if !asked.contains(&key.as_str()) {
                self.context.unknown.borrow_mut().push(Unknown {
                    table: table.clone(),
                    key: key.clone(),
                    span: entry.key,
                    siblings: asked.clone(),
                });
            }
        }
        let known = asked.into_iter().map(|key| (table.clone(), key));
        self.context.known.borrow_mut().extend(known);
    }
}

impl Value {
    fn span(&self) -> Span {
        self.span
    }
}
