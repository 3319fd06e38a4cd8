//! Names and other short texts with a syntax of their own.

use std::fmt;

use serde::Serialize;

use super::values::{Fault, FromText};

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
    /// The name of an SELinux policy, a directory below `/etc/selinux`; `none` for no labels.
    PolicyName
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
    (
        "systemd.image_policy",
        "the composer writes it with the encryption",
    ),
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

impl FromText for PolicyName {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let example = "for example `targeted`, or `none`";
        if let Some(c) = misfit(text, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(Fault::new(format!("cannot hold {c:?}"))
                .help(format!("it names a directory below /etc/selinux: {example}")));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Fault::new("does not begin with a letter or digit").help(example));
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
