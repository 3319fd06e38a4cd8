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
