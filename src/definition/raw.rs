//! TOML as a tree of values that know their place, and the merge of one such tree into another.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    String(String),
    Integer(i64),
    /// Nothing in a definition is a float, or an integer past 64 bits.
    OtherNumber,
    Boolean(bool),
    Datetime(Datetime),
    List(List),
    Table(Table),
}

/// A list, or a change to the included one.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    pub items: Vec<Value>,
    /// `{ replace = […] }`: forgets what was included.
    pub replaces: bool,
    /// `{ remove = […] }`: what is taken out of the included one.
    pub removes: Vec<Value>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub BTreeMap<String, Entry>);

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where the key stands.
    pub key: Span,
    pub value: Value,
}

impl Kind {
    /// With its article, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::OtherNumber => "a float or a very large integer",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Tables of a list that have a name: the nearer one with the same name takes the other's place.
const NAMED: &[(&str, &str)] = &[
    ("paths", "path"),
    ("directories", "path"),
    ("files", "path"),
    ("symlinks", "path"),
    ("disk.partitions", "label"),
    ("os.users", "name"),
    ("os.groups", "name"),
    ("rpms.unsigned", "package"),
    ("rpms.open", "requires"),
    ("rpms.scriptlets", "scriptlet"),
    ("uki.profiles", "id"),
    ("uki.addons", "name"),
];

impl Table {
    /// Takes what the parser gave for file `source`.
    pub fn from_toml(table: &DeTable<'_>, source: usize) -> Self {
        let entries = table.iter().map(|(key, value)| {
            let entry = Entry {
                key: Span::new(source, key.span()),
                value: Value {
                    span: Span::new(source, value.span()),
                    kind: Kind::from_toml(value.get_ref(), source),
                },
            };
            (key.get_ref().to_string(), entry)
        });
        Self(entries.collect())
    }

    /// Lays `nearer` over what is here. Items to be removed that are absent go to `stale`.
    pub fn merge(&mut self, nearer: Self, at: &str, stale: &mut Vec<Value>) {
        for (key, entry) in nearer.0 {
            let path = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            let Some(here) = self.0.get_mut(&key) else {
                self.0.insert(key, entry.first(&path, stale));
                continue;
            };
            here.key = entry.key;
            match (&mut here.value.kind, entry.value.kind) {
                (Kind::Table(ours), Kind::Table(theirs)) => ours.merge(theirs, &path, stale),
                (Kind::List(ours), Kind::List(theirs)) if !theirs.replaces => {
                    ours.append(theirs, &path, stale)
                }
                (_, kind) => here.value.kind = kind,
            }
            here.value.span = entry.value.span;
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match &self.0.get(key)?.value.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Entry {
    /// As the first to be merged: there is nothing yet that it could remove.
    fn first(mut self, at: &str, stale: &mut Vec<Value>) -> Self {
        match &mut self.value.kind {
            Kind::List(list) => stale.append(&mut list.removes),
            Kind::Table(table) => {
                let mut merged = Table::default();
                merged.merge(std::mem::take(table), at, stale);
                *table = merged;
            }
            _ => {}
        }
        self
    }
}

impl List {
    fn append(&mut self, nearer: Self, at: &str, stale: &mut Vec<Value>) {
        for removed in nearer.removes {
            let before = self.items.len();
            if let Kind::String(gone) = &removed.kind {
                self.items
                    .retain(|item| !matches!(&item.kind, Kind::String(text) if text == gone));
            }
            if self.items.len() == before {
                stale.push(removed);
            }
        }
        if let Some((_, key)) = NAMED.iter().find(|(list, _)| *list == at) {
            let name = |item: &Value| match &item.kind {
                Kind::Table(table) => table.text(key).map(String::from),
                _ => None,
            };
            let names: Vec<String> = nearer.items.iter().filter_map(name).collect();
            self.items
                .retain(|item| name(item).is_none_or(|name| !names.contains(&name)));
        }
        self.items.extend(nearer.items);
    }
}

impl Kind {
    fn from_toml(value: &DeValue<'_>, source: usize) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).map_or(Self::OtherNumber, Self::Integer)
            }
            DeValue::Float(_) => Self::OtherNumber,
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Datetime(value) => Self::Datetime(*value),
            DeValue::Array(items) => Self::List(List {
                items: items
                    .iter()
                    .map(|item| Value {
                        span: Span::new(source, item.span()),
                        kind: Self::from_toml(item.get_ref(), source),
                    })
                    .collect(),
                ..List::default()
            }),
            DeValue::Table(table) => Self::edit(Table::from_toml(table, source)),
        }
    }

    /// A table of nothing but `replace`, or of `add` and `remove`, that hold lists, is a change
    /// to a list.
    fn edit(mut table: Table) -> Self {
        let lists = |table: &Table, keys: &[&str]| {
            !table.0.is_empty()
                && table.0.iter().all(|(key, entry)| {
                    keys.contains(&key.as_str()) && matches!(entry.value.kind, Kind::List(_))
                })
        };
        let replaces = lists(&table, &["replace"]);
        if !replaces && !lists(&table, &["add", "remove"]) {
            return Self::Table(table);
        }
        let mut take = |key: &str| match table.0.remove(key).map(|entry| entry.value.kind) {
            Some(Kind::List(list)) => list.items,
            _ => Vec::new(),
        };
        Self::List(List {
            items: take(if replaces { "replace" } else { "add" }),
            replaces,
            removes: take("remove"),
        })
    }
}
