//! How a delta is called, and where it lies.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet::Alphabet;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

use crate::store::Digest;

/// A delta's two commits. Shown as ostree lists it: `FROM-TO`, in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaName {
    /// What a client has; `None` for deltas from nothing.
    pub from: Option<Digest>,
    pub to: Digest,
}

impl DeltaName {
    /// Its directory in the repository.
    pub(super) fn directory(&self) -> PathBuf {
        let name = match &self.from {
            Some(from) => format!("{}-{}", short(from), short(&self.to)),
            None => short(&self.to),
        };
        fan_out("deltas", &name, "")
    }

    /// Of the directory `rest` in `deltas/<fan>`; `None` where that is no delta's.
    pub(super) fn from_path(fan: &str, rest: &str) -> Option<Self> {
        let name = format!("{fan}{rest}");
        if fan.len() != 2 {
            return None;
        }
        match name.split_once('-') {
            Some((from, to)) => Some(Self {
                from: Some(long(from)?),
                to: long(to)?,
            }),
            None => Some(Self {
                from: None,
                to: long(&name)?,
            }),
        }
    }

    /// Where the index of all deltas to the same commit lies.
    pub(super) fn index(to: &Digest) -> PathBuf {
        fan_out("delta-indexes", &short(to), ".index")
    }
}

impl fmt::Display for DeltaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{from}-{}", self.to),
            None => self.to.fmt(f),
        }
    }
}

fn fan_out(directory: &str, name: &str, suffix: &str) -> PathBuf {
    let (fan, rest) = name.split_at_checked(2).unwrap_or((name, ""));
    [directory, fan, &format!("{rest}{suffix}")].iter().collect()
}

/// Base64 as file names take it: `_` for the slash, and no padding.
fn engine() -> Option<GeneralPurpose> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_";
    let alphabet = Alphabet::new(letters).ok()?;
    Some(GeneralPurpose::new(&alphabet, NO_PAD))
}

fn short(digest: &Digest) -> String {
    engine().map(|engine| engine.encode(digest.0)).unwrap_or_default()
}

fn long(text: &str) -> Option<Digest> {
    let bytes = engine()?.decode(text).ok()?;
    bytes.try_into().ok().map(Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_lie_where_ostree_puts_them() {
        let from = "15fd78cf4e578fe8c234bdc1ccb7646de94b43f3683e0c2b92b3169848b5918d";
        let to = "b265e4adddd93af783630d439d290853b4f2ae47ee7bf83050e908be246349a1";
        let name = DeltaName {
            from: Some(from.parse().unwrap()),
            to: to.parse().unwrap(),
        };
        let rest = "14z05Xj+jCNL3BzLdkbelLQ_NoPgwrkrMWmEi1kY0-smXkrd3ZOveDYw1DnSkIU7Tyrkfue_gwUOkIviRjSaE";
        assert_eq!(name.directory(), PathBuf::from(format!("deltas/Ff/{rest}")));
        assert_eq!(DeltaName::from_path("Ff", rest), Some(name));
        let index = "delta-indexes/sm/Xkrd3ZOveDYw1DnSkIU7Tyrkfue_gwUOkIviRjSaE.index";
        assert_eq!(DeltaName::index(&name.to), PathBuf::from(index));
        assert_eq!(name.to_string(), format!("{from}-{to}"));
        let whole = DeltaName { from: None, ..name };
        assert_eq!(
            whole.directory(),
            PathBuf::from("deltas/sm/Xkrd3ZOveDYw1DnSkIU7Tyrkfue_gwUOkIviRjSaE")
        );
        for (fan, rest) in [
            ("sm", "x"),
            ("s", "mXkrd3ZOveDYw1DnSkIU7Tyrkfue_gwUOkIviRjSaE"),
            ("", ""),
        ] {
            assert_eq!(DeltaName::from_path(fan, rest), None, "{fan}/{rest}");
        }
    }
}
