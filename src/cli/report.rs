//! How errors and warnings look.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use hullwright::definition::Problem;
use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, ReportHandler as _, Severity, SourceCode};

/// Prints `error` and what caused it on standard error.
pub fn error(error: &dyn Diagnostic) {
    // Where nobody folds lines, breaking them would break paths and what others search for.
    let options = MietteHandlerOpts::new().wrap_lines(io::stderr().is_terminal());
    let text = Text(Shown::new(error), options.build()).to_string();
    // Nobody is harmed where standard error is closed.
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}

/// Prints what a definition says that people should know, on one line, with its place.
pub fn warning(problem: &Problem) {
    let place = problem
        .place()
        .map_or_else(String::new, |place| format!("{place}: "));
    let help = problem.help_text().and_then(|help| help.lines().next());
    let help = help.map_or_else(String::new, |help| format!(": {help}"));
    let _ = writeln!(io::stderr(), "warning: {place}{}{help}", problem.message());
}

struct Text<'a>(Shown<'a>, miette::MietteHandler);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.debug(&self.0, f)
    }
}

/// A diagnostic without the causes that its message already tells.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a dyn Diagnostic,
    cause: Option<Box<Cause>>,
    related: Vec<Self>,
}

#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Self>>,
}

impl<'a> Shown<'a> {
    fn new(diagnostic: &'a dyn Diagnostic) -> Self {
        let mut told = diagnostic.to_string();
        let mut texts = Vec::new();
        let mut source = diagnostic.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !told.contains(text.trim()) {
                told.clone_from(&text);
                texts.push(text);
            }
            source = error.source();
        }
        let link = |next, text| Some(Box::new(Cause { text, next }));
        Self {
            diagnostic,
            cause: texts.into_iter().rev().fold(None, link),
            related: diagnostic
                .related()
                .into_iter()
                .flatten()
                .map(Self::new)
                .collect(),
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.diagnostic, f)
    }
}

impl Error for Shown<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.cause.as_ref()?)
    }
}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        self.diagnostic.severity()
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.diagnostic.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.diagnostic.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.diagnostic.labels()
    }

    fn related<'b>(&'b self) -> Option<Box<dyn Iterator<Item = &'b dyn Diagnostic> + 'b>> {
        let related = self.related.iter().map(|shown| shown as &dyn Diagnostic);
        (!self.related.is_empty()).then(|| Box::new(related) as _)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.next.as_ref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("file: {source}")]
    #[diagnostic(help("look"))]
    struct Outer {
        source: Inner,
        #[related]
        others: Vec<Other>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner(#[source] io::Error);

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("other: {0}")]
    struct Other(#[source] io::Error);

    #[test]
    fn nothing_is_said_twice() {
        let outer = Outer {
            source: Inner(io::Error::other("deep")),
            others: vec![Other(io::Error::other("beside"))],
        };
        let options = MietteHandlerOpts::new().unicode(false).color(false);
        let text = Text(Shown::new(&outer), options.build()).to_string();
        for part in ["file: inner", "deep", "other: beside", "help: look"] {
            assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
        }
        assert_eq!(text.matches("inner").count(), 1, "{text}");
        assert_eq!(text.matches("beside").count(), 1, "{text}");
    }
}
