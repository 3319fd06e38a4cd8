//! From the path of a definition to its plan: include, merge, read, check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::check;
use super::error::{DefinitionError, Problem};
use super::plan::Plan;
use super::raw::{Kind, Table, Value};
use super::reader::Context;
use super::schema;
use super::source::{Disk, Loader, Source, Sources, Span, beside, normalised};

/// How deep definitions may include each other.
const MAX_DEPTH: usize = 16;
/// How many files one definition may consist of.
const MAX_FILES: usize = 64;

/// A definition that was found right.
#[derive(Debug)]
pub struct Definition {
    pub plan: Plan,
    /// What can be built and should be said.
    pub warnings: Vec<Problem>,
    places: BTreeMap<String, String>,
}

impl Definition {
    /// `file:line:column` of a key by its dotted path, items of lists by number (`disk.size`,
    /// `rpms.require[3]`); `None` where the key is not written. An item of a list without a place
    /// of its own has its list's.
    pub fn place(&self, key: &str) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }
}

/// Reads the definition at `path` and those that it extends.
///
/// # Errors
/// Everything that is wrong, as far as it can be found at once.
pub fn load(path: &Path) -> Result<Definition, DefinitionError> {
    load_with(&Disk, path)
}

/// As [`load`], from wherever `loader` finds files.
///
/// # Errors
/// As [`load`].
pub fn load_with(loader: &dyn Loader, path: &Path) -> Result<Definition, DefinitionError> {
    let shown = path.display().to_string();
    let mut reading = Reading {
        loader,
        sources: Sources::default(),
        problems: Vec::new(),
        open: Vec::new(),
    };
    let mut files = Vec::new();
    reading.file(normalised(path), None, &mut files);
    let Reading {
        sources, problems, ..
    } = reading;
    if !problems.is_empty() {
        return Err(DefinitionError::new(shown, problems));
    }
    let mut merged = Table::default();
    let mut stale = Vec::new();
    for table in files {
        merged.merge(table, "", &mut stale);
    }
    let context = Context::new(&sources, loader);
    for removed in stale {
        let item = match &removed.kind {
            Kind::String(text) => format!("`{text}`"),
            kind => kind.noun().into(),
        };
        let problem = context.problem(
            removed.span,
            format!("{item} is to be removed, but no included list has it"),
        );
        context.report(problem.help("leave it out of `remove`"));
    }
    let plan = schema::read(&context, &merged);
    context.report_unknown();
    if let Some(plan) = &plan {
        check::check(&context, plan);
    }
    let problems = context.problems.take();
    match plan {
        Some(plan) if problems.is_empty() => {
            let places = context.places.take();
            let places = places
                .into_iter()
                .map(|(key, span)| (key, sources.place(span)))
                .collect();
            Ok(Definition {
                plan,
                warnings: context.warnings.take(),
                places,
            })
        }
        _ => Err(DefinitionError::new(shown, problems)),
    }
}

struct Reading<'a> {
    loader: &'a dyn Loader,
    sources: Sources,
    problems: Vec<Problem>,
    /// Files whose includes are being read, outermost first.
    open: Vec<PathBuf>,
}

impl Reading<'_> {
    /// Reads the file at `path`: what it extends goes to `out` before itself, each file once.
    fn file(&mut self, path: PathBuf, included_at: Option<Span>, out: &mut Vec<Table>) {
        if let Some(first) = self.open.iter().position(|open| *open == path) {
            let chain = self.open.iter().skip(first).chain([&path]);
            let chain: Vec<String> = chain.map(|path| format!("`{}`", path.display())).collect();
            let message = format!("`{}` extends itself", path.display());
            return self.report(
                included_at,
                message,
                &format!("the circle is {}", chain.join(" → ")),
            );
        }
        if self.sources.0.iter().any(|source| source.path == path) {
            return;
        }
        if self.open.len() >= MAX_DEPTH || self.sources.0.len() >= MAX_FILES {
            let message =
                format!("definitions extend each other more than {MAX_DEPTH} deep or {MAX_FILES} in number");
            return self.report(included_at, message, "put some of them together");
        }
        let text: Arc<str> = match self.loader.read(&path) {
            Ok(text) => text.into(),
            Err(error) => {
                let message = format!("cannot read the definition `{}`: {error}", path.display());
                return self.report(
                    included_at,
                    message,
                    match included_at {
                        Some(_) => "paths are taken from the directory of the file that names them",
                        None => "name the file of an image definition, such as those in image-defs/",
                    },
                );
            }
        };
        let index = self.sources.0.len();
        self.sources.0.push(Source {
            path: path.clone(),
            text: Arc::clone(&text),
            included_at,
        });
        let (parsed, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let span = Span::new(index, error.span().unwrap_or(0..0));
            let message = format!("not TOML: {}", error.message().trim());
            self.problems
                .push(Problem::new(&self.sources, Some(span), message));
        }
        if !errors.is_empty() {
            return;
        }
        let mut table = Table::from_toml(parsed.get_ref(), index);
        self.open.push(path.clone());
        for (text, span) in self.extends(&mut table) {
            self.file(beside(&path, &text), Some(span), out);
        }
        self.open.pop();
        out.push(table);
    }

    /// Takes the list `extends` out of `table`.
    fn extends(&mut self, table: &mut Table) -> Vec<(String, Span)> {
        let Some(entry) = table.0.remove("extends") else {
            return Vec::new();
        };
        let way_out = "write extends = [\"common/base.toml\"]";
        let Value {
            kind: Kind::List(list),
            span,
        } = entry.value
        else {
            self.report(
                Some(entry.value.span),
                "`extends` is not a list of paths".into(),
                way_out,
            );
            return Vec::new();
        };
        if list.replaces || !list.removes.is_empty() {
            self.report(
                Some(span),
                "`extends` has nothing to replace or remove".into(),
                way_out,
            );
        }
        let mut out = Vec::new();
        for item in list.items {
            match item.kind {
                Kind::String(text) => out.push((text, item.span)),
                kind => {
                    let message = format!("`extends` holds {}, not a path", kind.noun());
                    self.report(Some(item.span), message, way_out);
                }
            }
        }
        out
    }

    fn report(&mut self, span: Option<Span>, message: String, help: &str) {
        self.problems
            .push(Problem::new(&self.sources, span, message).help(help));
    }
}
