//! A dependency of a package: a name and a range of versions.

use std::cmp::Ordering;
use std::fmt;

use crate::formats::rpm::tag::{self, sense};
use crate::formats::rpm::{Header, HeaderError};
use crate::rpmset::compare_versions;

/// A capability that is provided, required, conflicted with or obsoleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dependency<'a> {
    /// Starts with `/` for a file, with `(` for a rich dependency.
    pub name: &'a [u8],
    /// `[epoch:]version[-release]`; empty where no version is named.
    pub evr: &'a [u8],
    /// Bits of [`sense`].
    pub flags: u32,
}

/// The four lists of a header that decide what can be installed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Provides,
    Requires,
    Conflicts,
    Obsoletes,
}

impl List {
    /// Tags of names, versions and flags.
    pub(super) fn tags(self) -> [u32; 3] {
        match self {
            Self::Provides => [tag::PROVIDENAME, tag::PROVIDEVERSION, tag::PROVIDEFLAGS],
            Self::Requires => [tag::REQUIRENAME, tag::REQUIREVERSION, tag::REQUIREFLAGS],
            Self::Conflicts => [tag::CONFLICTNAME, tag::CONFLICTVERSION, tag::CONFLICTFLAGS],
            Self::Obsoletes => [tag::OBSOLETENAME, tag::OBSOLETEVERSION, tag::OBSOLETEFLAGS],
        }
    }
}

/// A list of dependencies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("its header is broken: {0}")]
    Header(#[from] HeaderError),
    #[error(
        "its header has {names} names of dependencies in {list}, but {versions} versions and {flags} flags"
    )]
    Lengths {
        list: &'static str,
        names: usize,
        versions: usize,
        flags: usize,
    },
}

impl<'a> Dependency<'a> {
    /// The dependencies of one kind that `header` lists, in its order.
    ///
    /// # Errors
    /// Where their parts are of different number (RPM takes such a list for an empty one) or of the wrong type.
    pub fn list(header: &'a Header, list: List) -> Result<Vec<Self>, ListError> {
        let [names, versions, flags] = list.tags();
        let (name_tag, names) = (names, header.strings(names)?);
        let (versions, flags) = (header.strings(versions)?, header.u32s(flags)?);
        if versions.len() != names.len() || flags.len() != names.len() {
            return Err(ListError::Lengths {
                list: tag::name(name_tag).unwrap_or("?"),
                names: names.len(),
                versions: versions.len(),
                flags: flags.len(),
            });
        }
        let parts = names.into_iter().zip(versions).zip(flags);
        Ok(parts
            .map(|((name, evr), mut flags)| {
                // As RPM does: the name alone decides.
                if list == List::Requires && name.starts_with(b"rpmlib(") {
                    flags |= sense::RPMLIB;
                }
                Self { name, evr, flags }
            })
            .collect())
    }

    /// `name`, or `name OP [epoch:]version[-release]` with the operators `<`, `<=`, `=`, `>=`, `>`; `None` where `text`
    /// has another form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let (name, evr, flags) = match words[..] {
            [name] => (name, "", 0),
            [name, operator, evr] => (name, evr, comparison(operator.as_bytes())?),
            _ => return None,
        };
        Some(Self {
            name: name.as_bytes(),
            evr: evr.as_bytes(),
            flags,
        })
    }

    pub fn is_rich(&self) -> bool {
        self.name.starts_with(b"(")
    }

    pub fn is_file(&self) -> bool {
        self.name.starts_with(b"/")
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether some version is in both ranges. The names must be equal.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.flags & sense::COMPARISON, other.flags & sense::COMPARISON);
        if self.name != other.name {
            return false;
        }
        if a == 0 || b == 0 || self.evr.is_empty() || other.evr.is_empty() {
            return true;
        }
        let (x, y) = (Evr::parse(self.evr), Evr::parse(other.evr));
        let mut order = x
            .epoch_order(&y)
            .then_with(|| compare_versions(x.version, y.version));
        if order == Ordering::Equal {
            match (x.release.is_empty(), y.release.is_empty()) {
                (false, false) => order = compare_versions(x.release, y.release),
                // A version without a release means every release of it, where it is itself in the range.
                (false, true) if b & sense::EQUAL != 0 => return true,
                (true, false) if a & sense::EQUAL != 0 => return true,
                _ => {}
            }
        }
        match order {
            Ordering::Less => a & sense::GREATER != 0 || b & sense::LESS != 0,
            Ordering::Greater => a & sense::LESS != 0 || b & sense::GREATER != 0,
            Ordering::Equal => a & b != 0,
        }
    }

    /// When scriptlets need it: `pre`, `postun` …; empty for what is needed to run the program.
    pub fn moments(&self) -> Vec<&'static str> {
        const MOMENTS: [(u32, &str); 10] = [
            (sense::PRETRANS, "pretrans"),
            (sense::SCRIPT_PRE, "pre"),
            (sense::SCRIPT_POST, "post"),
            (sense::POSTTRANS, "posttrans"),
            (sense::PREUNTRANS, "preuntrans"),
            (sense::SCRIPT_PREUN, "preun"),
            (sense::SCRIPT_POSTUN, "postun"),
            (sense::POSTUNTRANS, "postuntrans"),
            (sense::SCRIPT_VERIFY, "verify"),
            (sense::INTERP, "interp"),
        ];
        let named = MOMENTS.iter().filter(|(flag, _)| self.has(*flag));
        named.map(|(_, name)| *name).collect()
    }

    /// Whether only the installation of its package needs it, so that nothing is amiss where it has gone since.
    pub fn is_transient(&self) -> bool {
        const INSTALL: u32 = sense::SCRIPT_PRE
            | sense::SCRIPT_POST
            | sense::PRETRANS
            | sense::POSTTRANS
            | sense::RPMLIB
            | sense::KEYRING;
        const ERASE: u32 =
            sense::SCRIPT_PREUN | sense::SCRIPT_POSTUN | sense::PREUNTRANS | sense::POSTUNTRANS;
        self.has(INSTALL) && !self.has(ERASE)
    }
}

/// As RPM prints it: `name >= 1:2.0-3`.
impl fmt::Display for Dependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.escape_ascii())?;
        if self.has(sense::COMPARISON) {
            f.write_str(" ")?;
            let signs = [(sense::LESS, "<"), (sense::GREATER, ">"), (sense::EQUAL, "=")];
            for (_, sign) in signs.iter().filter(|(flag, _)| self.has(*flag)) {
                f.write_str(sign)?;
            }
        }
        if !self.evr.is_empty() {
            write!(f, " {}", self.evr.escape_ascii())?;
        }
        Ok(())
    }
}

/// The flags of an operator; `None` where it is none.
pub(super) fn comparison(operator: &[u8]) -> Option<u32> {
    Some(match operator {
        b"<=" | b"=<" => sense::LESS | sense::EQUAL,
        b"<" => sense::LESS,
        b"=" | b"==" => sense::EQUAL,
        b">=" | b"=>" => sense::GREATER | sense::EQUAL,
        b">" => sense::GREATER,
        _ => return None,
    })
}

/// `[epoch:]version[-release]` in its parts.
struct Evr<'a> {
    /// Empty where not written.
    epoch: &'a [u8],
    version: &'a [u8],
    release: &'a [u8],
}

impl<'a> Evr<'a> {
    fn parse(text: &'a [u8]) -> Self {
        let digits = text.iter().position(|byte| !byte.is_ascii_digit());
        let (epoch, rest) = match digits {
            Some(0) if text[0] == b':' => (&b"0"[..], &text[1..]),
            Some(end) if text[end] == b':' => (&text[..end], &text[end + 1..]),
            _ => (&b""[..], text),
        };
        let (version, release) = match rest.iter().rposition(|&byte| byte == b'-') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        Self {
            epoch,
            version,
            release,
        }
    }

    /// An epoch that is not written is 0.
    fn epoch_order(&self, other: &Self) -> Ordering {
        let written = |epoch: &'a [u8]| if epoch.is_empty() { b"0" } else { epoch };
        compare_versions(written(self.epoch), written(other.epoch))
    }
}
