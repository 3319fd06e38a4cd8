//! `rpm.ver` objects and `rpm.vercmp`.

use std::cmp::Ordering;

use mlua::prelude::{LuaError, LuaMetaMethod, LuaResult, LuaUserData, LuaUserDataMethods, LuaUserDataRef};

use crate::rpmset::compare_versions;

/// `[epoch:]version[-release]`.
#[derive(Debug, Clone)]
pub struct Ver {
    epoch: Option<String>,
    version: String,
    release: Option<String>,
}

impl Ver {
    /// Takes apart what stands before `:` and after the last `-`.
    pub fn parse(text: &str) -> LuaResult<Self> {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if epoch.chars().all(|c| c.is_ascii_digit()) => (Some(epoch), rest),
            _ => (None, text),
        };
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release)),
            None => (rest, None),
        };
        Self::new(epoch, version, release)
    }

    pub fn new(epoch: Option<&str>, version: &str, release: Option<&str>) -> LuaResult<Self> {
        if version.is_empty() {
            return Err(LuaError::runtime("invalid version"));
        }
        Ok(Self {
            epoch: epoch.map(str::to_owned),
            version: version.to_owned(),
            release: release.map(str::to_owned),
        })
    }

    /// RPM's order; a release that one of the two does not name does not count.
    pub fn compare(&self, other: &Self) -> Ordering {
        fn order(a: &str, b: &str) -> Ordering {
            compare_versions(a.as_bytes(), b.as_bytes())
        }
        let epoch = |ver: &'_ Self| ver.epoch.clone().unwrap_or_else(|| "0".to_owned());
        order(&epoch(self), &epoch(other))
            .then_with(|| order(&self.version, &other.version))
            .then_with(|| match (&self.release, &other.release) {
                (Some(a), Some(b)) => order(a, b),
                _ => Ordering::Equal,
            })
    }

    fn text(&self) -> String {
        let epoch = self
            .epoch
            .as_ref()
            .map(|epoch| format!("{epoch}:"))
            .unwrap_or_default();
        let release = self
            .release
            .as_ref()
            .map(|release| format!("-{release}"))
            .unwrap_or_default();
        format!("{epoch}{}{release}", self.version)
    }
}

impl LuaUserData for Ver {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(LuaMetaMethod::Index, |_, this, key: String| match key.as_str() {
            "e" => Ok(this.epoch.clone()),
            "v" => Ok(Some(this.version.clone())),
            "r" => Ok(this.release.clone()),
            _ => Err(LuaError::runtime(format!("invalid attribute: {key}"))),
        });
        methods.add_meta_method(LuaMetaMethod::ToString, |_, this, ()| Ok(this.text()));
        methods.add_meta_method(LuaMetaMethod::Eq, |_, this, other: LuaUserDataRef<Self>| {
            Ok(this.compare(&other) == Ordering::Equal)
        });
        methods.add_meta_method(LuaMetaMethod::Lt, |_, this, other: LuaUserDataRef<Self>| {
            Ok(this.compare(&other) == Ordering::Less)
        });
        methods.add_meta_method(LuaMetaMethod::Le, |_, this, other: LuaUserDataRef<Self>| {
            Ok(this.compare(&other) != Ordering::Greater)
        });
    }
}
