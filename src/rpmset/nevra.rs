//! What a package is called.

use std::fmt;

/// Name, epoch, version, release and architecture. Orders by name, then as RPM compares versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nevra {
    pub name: String,
    /// An absent epoch counts as 0.
    pub epoch: Option<u32>,
    pub version: String,
    pub release: String,
    pub arch: String,
}

impl fmt::Display for Nevra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            version,
            release,
            arch,
            ..
        } = self;
        match self.epoch {
            Some(epoch) => write!(f, "{name}-{epoch}:{version}-{release}.{arch}"),
            None => write!(f, "{name}-{version}-{release}.{arch}"),
        }
    }
}

impl Nevra {
    /// `[epoch:]version-release`.
    pub fn evr(&self) -> String {
        match self.epoch {
            Some(epoch) => format!("{epoch}:{}-{}", self.version, self.release),
            None => format!("{}-{}", self.version, self.release),
        }
    }
}

/// Bytes of one part: each becomes part of a file's name.
const LONGEST: usize = 255;

/// What is wrong with the name of a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NevraError {
    #[error("it has no {0}")]
    Lacks(&'static str),
    #[error("its {0} has characters that no package may have there")]
    Characters(&'static str),
    #[error("its {0} is longer than {LONGEST} bytes")]
    Long(&'static str),
    #[error("its epoch is no number")]
    Epoch,
}

impl Nevra {
    /// Takes `name-[epoch:]version-release.arch`, also with the epoch before the name (`epoch:name-…`), as older
    /// tools write it, and with `.rpm` at its end.
    ///
    /// # Errors
    /// Where it is not of that form.
    pub fn parse(text: &str) -> Result<Self, NevraError> {
        let text = text.strip_suffix(".rpm").unwrap_or(text);
        let (rest, arch) = text.rsplit_once('.').ok_or(NevraError::Lacks("architecture"))?;
        let (rest, release) = rest.rsplit_once('-').ok_or(NevraError::Lacks("release"))?;
        let (name, version) = rest.rsplit_once('-').ok_or(NevraError::Lacks("version"))?;
        let (name, epoch, version) = match (name.split_once(':'), version.split_once(':')) {
            (None, None) => (name, None, version),
            (None, Some((epoch, version))) => (name, Some(epoch), version),
            (Some((epoch, name)), None) => (name, Some(epoch), version),
            (Some(_), Some(_)) => return Err(NevraError::Epoch),
        };
        let epoch = match epoch {
            // As `%{EPOCH}` writes that there is none.
            None | Some("(none)") => None,
            Some(epoch) => Some(epoch.parse().map_err(|_| NevraError::Epoch)?),
        };
        let nevra = Self {
            name: name.to_owned(),
            epoch,
            version: version.to_owned(),
            release: release.to_owned(),
            arch: arch.to_owned(),
        };
        nevra.check().map(|()| nevra)
    }

    /// Whether every part is one that a package may have.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), NevraError> {
        let parts = [
            (&self.name, "name"),
            (&self.version, "version"),
            (&self.release, "release"),
            (&self.arch, "architecture"),
        ];
        for (text, what) in parts {
            if text.is_empty() {
                return Err(NevraError::Lacks(what));
            }
            if text.len() > LONGEST {
                return Err(NevraError::Long(what));
            }
            if !Self::fits(text) {
                return Err(NevraError::Characters(what));
            }
        }
        Ok(())
    }

    /// Whether `text` may be a part of a package's name: these become parts of file names.
    pub(super) fn fits(text: &str) -> bool {
        let fit = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '\\');
        !text.is_empty() && !text.starts_with('.') && text.chars().all(fit)
    }

    /// Whether both name the same build: an absent epoch is 0.
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.arch == other.arch
            && self.epoch.unwrap_or(0) == other.epoch.unwrap_or(0)
            && self.version == other.version
            && self.release == other.release
    }
}

impl Ord for Nevra {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let versions = |a: &str, b: &str| super::compare_versions(a.as_bytes(), b.as_bytes());
        self.name
            .cmp(&other.name)
            .then_with(|| self.epoch.unwrap_or(0).cmp(&other.epoch.unwrap_or(0)))
            .then_with(|| versions(&self.version, &other.version))
            .then_with(|| versions(&self.release, &other.release))
            .then_with(|| self.arch.cmp(&other.arch))
            // Texts that compare equal as versions (`1.0`, `1_0`) still need an order.
            .then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl PartialOrd for Nevra {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_the_forms_that_tools_write() {
        for (text, expected) in [
            ("bash-5.2-1.fc43.x86_64", "bash-5.2-1.fc43.x86_64"),
            ("bash-0:5.2-1.x86_64", "bash-0:5.2-1.x86_64"),
            ("2:bash-5.2-1.x86_64", "bash-2:5.2-1.x86_64"),
            ("bash-(none):5.2-1.x86_64", "bash-5.2-1.x86_64"),
            (
                "python3-a-b-1~rc1^git-1.noarch.rpm",
                "python3-a-b-1~rc1^git-1.noarch",
            ),
        ] {
            assert_eq!(Nevra::parse(text).unwrap().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("bash", NevraError::Lacks("architecture")),
            ("bash.x86_64", NevraError::Lacks("release")),
            ("bash-5.2.x86_64", NevraError::Lacks("version")),
            ("-5.2-1.x86_64", NevraError::Lacks("name")),
            ("bash-x:5.2-1.x86_64", NevraError::Epoch),
            ("1:bash-1:5.2-1.x86_64", NevraError::Epoch),
            (
                &format!("bash-{}-1.x86_64", "5".repeat(256)),
                NevraError::Long("version"),
            ),
            ("ba/sh-5.2-1.x86_64", NevraError::Characters("name")),
            ("bash-5 2-1.x86_64", NevraError::Characters("version")),
        ] {
            assert_eq!(Nevra::parse(text).unwrap_err(), expected, "{text}");
        }
        let [a, b, c] = ["a-0:1-1.x", "a-1-1.x", "a-1:1-1.x"].map(|text| Nevra::parse(text).unwrap());
        assert!(a.same(&b) && !a.same(&c));
    }
}
