//! What is wrong with a definition, and where.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};

use super::source::{Sources, Span};

/// One thing that is wrong, with its place.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    label: String,
    help: Option<String>,
    severity: Severity,
    place: Option<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    source: Arc<NamedSource<Arc<str>>>,
    start: usize,
    length: usize,
    /// `file:line:column`.
    shown: String,
}

impl Problem {
    pub(super) fn new(sources: &Sources, span: Option<Span>, message: impl Into<String>) -> Self {
        let mut problem = Self {
            message: message.into(),
            label: "here".into(),
            help: None,
            severity: Severity::Error,
            place: None,
        };
        let Some((span, source)) = span.and_then(|span| Some((span, sources.0.get(span.source)?))) else {
            return problem;
        };
        let name = source.path.display().to_string();
        problem.place = Some(Place {
            source: Arc::new(NamedSource::new(name, Arc::clone(&source.text))),
            start: span.start,
            length: span.end.saturating_sub(span.start),
            shown: sources.place(span),
        });
        let mut included = source.included_at;
        let mut chain = Vec::new();
        while let Some(at) = included {
            chain.push(format!("included at {}", sources.place(at)));
            included = sources.0.get(at.source).and_then(|source| source.included_at);
        }
        if !chain.is_empty() {
            problem.help = Some(format!("({})", chain.join(", ")));
        }
        problem
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Puts the way out before what the help says already.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        self.help = Some(match self.help.take() {
            Some(chain) => format!("{help}\n{chain}"),
            None => help,
        });
        self
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `file:line:column`, lines and columns from 1.
    pub fn place(&self) -> Option<&str> {
        self.place.as_ref().map(|place| &*place.shown)
    }

    /// The way out.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// By file and place in it.
    pub(super) fn order(&self) -> (Option<&str>, usize) {
        let place = self.place.as_ref();
        (
            place.map(|place| place.source.name()),
            place.map_or(0, |place| place.start),
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_deref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.place.as_ref()?.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let label = LabeledSpan::new(Some(self.label.clone()), place.start, place.length);
        Some(Box::new(std::iter::once(label)))
    }
}

/// A definition that cannot be used, with everything that was found wrong.
#[derive(Debug, Clone)]
pub struct DefinitionError {
    definition: String,
    problems: Vec<Problem>,
}

impl DefinitionError {
    pub(super) fn new(definition: String, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.order().cmp(&b.order()));
        Self { definition, problems }
    }

    /// By file, from top to bottom.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let errors = if count == 1 { "error" } else { "errors" };
        write!(
            f,
            "the image definition `{}` cannot be used: {count} {errors}",
            self.definition
        )
    }
}

impl std::error::Error for DefinitionError {}

impl Diagnostic for DefinitionError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems.iter().map(|problem| problem as &dyn Diagnostic),
        ))
    }
}
