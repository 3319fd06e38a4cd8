//! The kinds of single value that a definition holds, each with its own syntax.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use toml::value::{Datetime, Offset};

use crate::tree::path::TreePath;

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

macro_rules! text_value {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_value! {
    /// An image id: lower-case letters, digits, `-` and `.`, beginning with a letter or digit.
    /// `_` parts id from version in file names.
    Identifier
}
text_value! {
    /// An image version, fit for UAPI.10 comparison and for file names on the ESP, where `+`
    /// begins a boot counter.
    ImageVersion
}
text_value! {
    /// A kernel argument that the composer does not write itself.
    KernelArgument
}
text_value! {
    /// A branch of an ostree repository: `a/b/c`, each part of letters, digits, `-`, `.` and `_`.
    OstreeRef
}
text_value! {
    /// The name of a unit with its suffix: `sshd.service`, `getty@ttyS0.service`.
    UnitName
}
text_value! {
    /// The name of a user or group, by systemd's strict rules.
    Account
}
text_value! {
    /// Why an exception is made: a sentence for the next reader, printed at each build.
    Reason
}

/// The first character of `text` that `fits` refuses.
fn misfit(text: &str, fits: impl Fn(char) -> bool) -> Option<char> {
    text.chars().find(|&c| !fits(c))
}

impl FromText for Identifier {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let rule = "an id has lower-case letters, digits, `-` and `.`, and begins with a letter or digit; \
                    it becomes part of file names, labels and os-release";
        if let Some(c) = misfit(text, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)
        }) {
            return Err(Fault::new(format!("cannot hold {c:?}")).help(rule));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Fault::new("does not begin with a letter or digit").help(rule));
        }
        Ok(Self(text.into()))
    }
}

impl FromText for ImageVersion {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let rule = "a version has letters, digits, `.`, `-`, `~` and `^`, and begins with a letter or digit; \
                    it becomes part of file names and of boot entries";
        match misfit(text, |c| c.is_ascii_alphanumeric() || ".-~^".contains(c)) {
            Some('+') => {
                return Err(
                    Fault::new("cannot hold `+`: systemd-boot reads it as a boot counter").help(rule),
                );
            }
            Some('_') => {
                return Err(Fault::new("cannot hold `_`: it parts id from version in file names").help(rule));
            }
            Some(c) => return Err(Fault::new(format!("cannot hold {c:?}")).help(rule)),
            None => {}
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Fault::new("does not begin with a letter or digit").help(rule));
        }
        Ok(Self(text.into()))
    }
}

/// Arguments that seal the image or belong to a layout, with who writes them.
const RESERVED_ARGUMENTS: &[(&str, &str)] = &[
    (
        "usrhash",
        "the composer writes the root hash of `/usr` that it has computed",
    ),
    ("roothash", "the layout verity-usr has no sealed root"),
    ("usrflags", "the composer writes it with the layout"),
    (
        "root",
        "the composer writes it with the layout and the encryption",
    ),
    ("rootfstype", "the composer writes it with `[disk.root] format`"),
    ("rootflags", "the composer writes it with the layout"),
    (
        "ro",
        "the root partition holds the machine's state and is mounted `rw`",
    ),
    ("rw", "the composer writes it with the layout"),
    ("init", "the image's init is systemd"),
    ("rdinit", "the initrd's init is systemd"),
    ("systemd.verity", "the composer decides on verity with the layout"),
    (
        "systemd.verity_usr_data",
        "the composer writes it with the layout",
    ),
    (
        "systemd.verity_usr_hash",
        "the composer writes it with the layout",
    ),
    (
        "systemd.verity_usr_options",
        "the composer writes it with the layout",
    ),
    ("systemd.firstboot", "the composer writes it"),
    ("ostree", "it belongs to the layout `ostree`"),
];

impl FromText for KernelArgument {
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::new("is empty"));
        }
        if let Some(c) = misfit(text, |c| c.is_ascii_graphic() || c == ' ') {
            return Err(Fault::new(format!(
                "holds {c:?}: a kernel command line is printable ASCII"
            )));
        }
        if text.matches('"').count() % 2 == 1 {
            return Err(Fault::new("has an unclosed `\"`"));
        }
        let quoted = text.split('"').step_by(2).any(|outside| outside.contains(' '));
        if quoted {
            return Err(Fault::new("is more than one argument").help(
                "write each argument as an item of its own; a value with spaces is quoted: 'dyndbg=\"file x +p\"'",
            ));
        }
        let name = text.split('=').next().unwrap_or(text).replace('-', "_");
        match RESERVED_ARGUMENTS.iter().find(|(reserved, _)| *reserved == name) {
            Some((reserved, why)) => {
                Err(Fault::new(format!("cannot set `{reserved}`: {why}")).help("leave the argument out"))
            }
            None => Ok(Self(text.into())),
        }
    }
}

impl FromText for OstreeRef {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let example = "for example `azure-linux/4.0/x86_64/container-host`";
        for part in text.split('/') {
            if part.is_empty() {
                return Err(Fault::new("has an empty part between slashes").help(example));
            }
            if let Some(c) = misfit(part, |c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
                return Err(Fault::new(format!("cannot hold {c:?}"))
                    .help(format!("parts have letters, digits, `-`, `.` and `_`; {example}")));
            }
            if !part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                return Err(Fault::new("has a part that begins with `.`").help(example));
            }
        }
        Ok(Self(text.into()))
    }
}

/// Unit types of systemd.unit(5).
const UNIT_SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

impl FromText for UnitName {
    fn from_text(text: &str) -> Result<Self, Fault> {
        if let Some(c) = misfit(text, |c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c)) {
            return Err(Fault::new(format!("cannot hold {c:?}: it is not a unit's name")));
        }
        let suffix = text.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
        match suffix {
            Some((_, suffix)) if UNIT_SUFFIXES.contains(&suffix) => Ok(Self(text.into())),
            _ if text.len() > 255 => Err(Fault::new("is longer than the 255 characters of a unit's name")),
            _ => Err(Fault::new("does not end in a unit type").help(format!(
                "did you mean `{text}.service`? unit types are {}",
                UNIT_SUFFIXES.join(", ")
            ))),
        }
    }
}

impl FromText for Account {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let rule = "a name has letters, digits, `_` and `-`, begins with a letter or `_`, and has at most 31 \
                    characters (systemd's strict rules)";
        if text.is_empty() || text.len() > 31 {
            return Err(Fault::new(format!("has {} characters", text.len())).help(rule));
        }
        if let Some(c) = misfit(text, |c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
            return Err(Fault::new(format!("cannot hold {c:?}")).help(rule));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(Fault::new("does not begin with a letter or `_`").help(rule));
        }
        Ok(Self(text.into()))
    }
}

impl FromText for Reason {
    fn from_text(text: &str) -> Result<Self, Fault> {
        match text.trim() {
            "" => Err(Fault::new("is empty").help("say in a sentence why the exception is right")),
            trimmed => Ok(Self(trimmed.into())),
        }
    }
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
