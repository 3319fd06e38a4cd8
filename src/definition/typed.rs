//! How each kind of value is taken from TOML.

use std::path::Path;

use super::plan::{
    AddonKind, AddonPlace, Arch, DiskFormat, EncryptionMode, ErofsCodec, EtcMode, ImaSignatures, InitrdCodec,
    KeyDerivation, Layout, PathAction, PcrBank, Rekey, RepoMode, RootFormat, RpmDatabase, ScriptletAction,
    VerityAlgorithm, VerityCorruption, VeritySignature,
};
use super::raw::{Kind, Value};
use super::reader::{Context, listed, nearest};
use super::source::{Found, beside, relative};
use super::values::{Fault, FromText, Released, SourcePath};

/// Reports that `value` is of another type than `wanted`.
pub(super) fn wrong_type(context: &Context<'_>, path: &str, value: &Value, wanted: &str) {
    let problem = context.problem(
        value.span,
        format!("`{path}` is {}, not {wanted}", value.kind.noun()),
    );
    let help = match (&value.kind, wanted) {
        (Kind::String(text), "a list") => Some(format!("write [\"{text}\"]")),
        (Kind::Integer(number), "a string") => Some(format!("write \"{number}\"")),
        _ => None,
    };
    let problem = problem.label(format!("should be {wanted}"));
    context.report(match help {
        Some(help) => problem.help(help),
        None => problem,
    });
}

/// A value that definitions can hold.
pub(super) trait FromValue: Sized {
    /// `None` where it is not right, which has been reported then.
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self>;
}

impl<T: FromText> FromValue for T {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        let Kind::String(text) = &value.kind else {
            wrong_type(context, path, value, "a string");
            return None;
        };
        T::from_text(text)
            .map_err(|fault| fault_at(context, path, value, &format!("\"{text}\""), fault))
            .ok()
    }
}

fn fault_at(context: &Context<'_>, path: &str, value: &Value, shown: &str, fault: Fault) {
    let problem = context.problem(value.span, format!("`{path}`: {shown} {}", fault.message));
    context.report(match fault.help {
        Some(help) => problem.help(help),
        None => problem,
    });
}

impl FromValue for bool {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        match value.kind {
            Kind::Boolean(value) => Some(value),
            _ => {
                wrong_type(context, path, value, "a boolean");
                None
            }
        }
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
                let Kind::Integer(number) = value.kind else {
                    wrong_type(context, path, value, "an integer");
                    return None;
                };
                let fits = Self::try_from(number).ok();
                if fits.is_none() {
                    let message = format!("`{path}` is {number}, outside 0 to {}", Self::MAX);
                    context.report(context.problem(value.span, message));
                }
                fits
            }
        }
    )+};
}
integers!(u8, u32);

impl FromValue for Released {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        let Kind::Datetime(written) = value.kind else {
            wrong_type(context, path, value, "a date (2026-11-21, without quotes)");
            return None;
        };
        Self::new(written)
            .map_err(|fault| fault_at(context, path, value, &written.to_string(), fault))
            .ok()
    }
}

macro_rules! chosen {
    ($($type:ty),+ $(,)?) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, Fault> {
                if let Some((_, choice)) = Self::CHOICES.iter().find(|(name, _)| *name == text) {
                    return Ok(*choice);
                }
                let names = || Self::CHOICES.iter().map(|(name, _)| *name);
                let list = listed(names());
                Err(Fault::new("is not one of its values").help(match nearest(text, names()) {
                    Some(near) => format!("did you mean `{near}`? The values are {list}"),
                    None => format!("the values are {list}"),
                }))
            }
        }
    )+};
}
chosen!(
    AddonKind,
    AddonPlace,
    Arch,
    DiskFormat,
    EncryptionMode,
    KeyDerivation,
    Rekey,
    ErofsCodec,
    EtcMode,
    ImaSignatures,
    InitrdCodec,
    Layout,
    PathAction,
    PcrBank,
    RepoMode,
    RootFormat,
    RpmDatabase,
    ScriptletAction,
    VerityAlgorithm,
    VerityCorruption,
    VeritySignature,
);

impl FromValue for SourcePath {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        let Kind::String(text) = &value.kind else {
            wrong_type(context, path, value, "a string (a path)");
            return None;
        };
        if text.is_empty() || text.contains('\0') {
            context.report(context.problem(value.span, format!("`{path}` is no path")));
            return None;
        }
        let from = |source: usize| {
            context
                .sources
                .0
                .get(source)
                .map_or(Path::new(""), |source| &*source.path)
        };
        let found = beside(from(value.span.source), text);
        let top = from(0).parent().unwrap_or(Path::new(""));
        let shown = if Path::new(text).is_absolute() {
            found.clone()
        } else {
            relative(&found, top)
        };
        let Some(shown) = shown.to_str().map(String::from) else {
            context.report(context.problem(
                value.span,
                format!("`{path}` leads through a path that is not UTF-8"),
            ));
            return None;
        };
        Some(Self::new(found, shown))
    }
}

/// A source that must be there already when the definition is read.
pub(super) struct Present(pub SourcePath);

impl FromValue for Present {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        let source = SourcePath::from_value(context, path, value)?;
        present(context, path, value, source, Found::File).map(Self)
    }
}

/// A directory that must be there already when the definition is read.
#[derive(PartialEq)]
pub(super) struct PresentDirectory(pub SourcePath);

impl FromValue for PresentDirectory {
    fn from_value(context: &Context<'_>, path: &str, value: &Value) -> Option<Self> {
        let source = SourcePath::from_value(context, path, value)?;
        present(context, path, value, source, Found::Directory).map(Self)
    }
}

fn present(
    context: &Context<'_>,
    path: &str,
    value: &Value,
    source: SourcePath,
    wanted: Found,
) -> Option<SourcePath> {
    if !context.loader.demands_presence() {
        return Some(source);
    }
    let (want, other) = match wanted {
        Found::File => ("file", "directory"),
        Found::Directory => ("directory", "file"),
    };
    let message = match context.loader.found(source.as_path()) {
        Some(found) if found == wanted => return Some(source),
        Some(_) => format!(
            "`{path}`: `{}` is a {other}, not a {want}",
            source.as_path().display()
        ),
        None => format!("`{path}`: there is no {want} `{}`", source.as_path().display()),
    };
    let help = "paths are taken from the directory of the file that names them";
    context.report(context.problem(value.span, message).help(help));
    None
}
