//! The kinds of single value that a definition holds, each with its own syntax.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use toml::value::{Datetime, Offset};

use crate::path::TreePath;

/// Why a value is not of its kind, and what would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Goes on after the key: "is not …".
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value that is written as a TOML string.
pub trait FromText: Sized {
    /// # Errors
    /// Where `text` is not of this kind.
    fn from_text(text: &str) -> Result<Self, Fault>;
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(text.into())
    }
}

impl FromText for TreePath {
    fn from_text(text: &str) -> Result<Self, Fault> {
        if !text.starts_with('/') {
            return Err(Fault::new("is not absolute")
                .help(format!("paths in the image begin at its root: `/{text}`")));
        }
        let path = Self::new(text).map_err(|error| Fault::new(format!("is no path of an image: {error}")))?;
        if path.is_root() {
            return Err(Fault::new("is the image's root itself"));
        }
        Ok(path)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// IEC units, largest first.
const UNITS: &[(&str, u32)] = &[("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl ByteSize {
    pub const MIB: u64 = 1 << 20;

    pub const fn mib(count: u64) -> Self {
        Self(count * Self::MIB)
    }

    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

impl FromText for ByteSize {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let example = "sizes are a whole number and a unit: KiB, MiB, GiB or TiB, for example \"30GiB\"";
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(Fault::new("is not a size").help(example));
        }
        let unit = unit.trim_start();
        let Some((_, shift)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let near = UNITS.iter().find(|(name, _)| {
                !unit.is_empty() && name.chars().next() == unit.chars().next().map(|c| c.to_ascii_uppercase())
            });
            return Err(match near {
                Some((name, _)) => Fault::new(format!("has the unit `{unit}`, which is read in two ways"))
                    .help(format!("write `{number}{name}` (powers of 1024); {example}")),
                None if unit.is_empty() => Fault::new("has no unit").help(example),
                None => Fault::new(format!("has the unknown unit `{unit}`")).help(example),
            });
        };
        let number: Option<u64> = number.parse().ok();
        match number.and_then(|number| number.checked_mul(1 << shift)) {
            Some(0) => Err(Fault::new("is zero")),
            Some(bytes) if bytes <= 1 << 50 => Ok(Self(bytes)),
            _ => Err(Fault::new("is larger than 1024TiB")),
        }
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shift) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= *shift {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Permission bits with set-uid, set-gid and sticky (07777), written as an octal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u16);

impl FromText for FileMode {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let octal = (3..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u16::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o7777 => Ok(Self(mode)),
            _ => {
                Err(Fault::new("is not a mode").help("modes are octal strings: \"0644\", \"0755\", \"4755\""))
            }
        }
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

/// When the image was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    written: Datetime,
    epoch: i64,
}

impl Released {
    /// Takes a date (midnight UTC) or a date and time with its offset.
    ///
    /// # Errors
    /// A time without date or offset; a year before 1980, which FAT cannot hold, or after 2107.
    pub fn new(written: Datetime) -> Result<Self, Fault> {
        let example = "write a date, `2026-11-21`, or a moment, `2026-11-21T08:30:00Z`";
        let Some(date) = written.date else {
            return Err(Fault::new("is a time without a date").help(example));
        };
        if !(1980..=2107).contains(&date.year) {
            return Err(Fault::new(format!("is in the year {}", date.year))
                .help("the file system of the ESP holds the years 1980 to 2107"));
        }
        let seconds = match (written.time, written.offset) {
            (None, _) => 0,
            (Some(_), None) => {
                return Err(
                    Fault::new("is a local time, which is another moment in each zone").help(example),
                );
            }
            (Some(time), Some(offset)) => {
                let minutes = match offset {
                    Offset::Z => 0,
                    Offset::Custom { minutes } => i64::from(minutes),
                };
                i64::from(time.hour) * 3600
                    + i64::from(time.minute) * 60
                    + i64::from(time.second.unwrap_or(0))
                    - minutes * 60
            }
        };
        let epoch =
            days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day)) * 86_400;
        Ok(Self {
            written,
            epoch: epoch + seconds,
        })
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn epoch(self) -> i64 {
        self.epoch
    }

    /// The date as `YYYYMMDD`.
    pub(super) fn compact_date(self) -> Option<String> {
        let date = self.written.date?;
        Some(format!("{:04}{:02}{:02}", date.year, date.month, date.day))
    }
}

impl fmt::Display for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Serialize for Released {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, years from March so that
/// the leap day is a year's last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// A file or directory beside the definition.
///
/// Serialises as written relative to the first definition, so that an expanded form is the same
/// wherever the project lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePath {
    absolute: PathBuf,
    shown: String,
}

impl SourcePath {
    pub(super) fn new(absolute: PathBuf, shown: String) -> Self {
        Self { absolute, shown }
    }

    /// As a name beside a definition that is written into its own directory.
    pub fn renamed(name: String) -> Self {
        Self {
            absolute: PathBuf::from(&name),
            shown: name,
        }
    }

    /// Where it lies. Relative only where the definition itself was named by a relative path.
    pub fn as_path(&self) -> &Path {
        &self.absolute
    }
}

impl AsRef<Path> for SourcePath {
    fn as_ref(&self) -> &Path {
        &self.absolute
    }
}

impl fmt::Display for SourcePath {
    /// Relative to the directory of the definition that was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Serialize for SourcePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}
