//! What comes nearest to something that no package provides: mostly the right name in the wrong version.

use std::collections::BTreeMap;

use super::dependency::Dependency;
use super::providers::Providers;
use super::rpmlib;

/// Names longer than this are not compared, bytes.
const MAX_NAME: usize = 200;
/// Names that are compared for one that is missing.
const MAX_NAMES: usize = 200_000;
/// What counts as near, of 1.
const NEAR: f64 = 0.9;
/// Providers that are named.
const MAX_NAMED: usize = 3;

/// Finds what is near; keeps what costs time to find.
#[derive(Debug, Default)]
pub struct Nearest<'a> {
    /// Provided names by what stands before their first `(`.
    stems: Option<BTreeMap<&'a [u8], Vec<&'a [u8]>>>,
}

impl<'a> Nearest<'a> {
    /// Up to three sentences such as `glibc-2.38-1.x86_64 provides glibc = 2.38-1`.
    pub fn to(&mut self, wanted: &Dependency<'_>, providers: &Providers<'a>) -> Vec<String> {
        if let Some(feature) = rpmlib::feature(wanted) {
            return vec![format!("this program has {feature}")];
        }
        let sentence = |(number, provided): (usize, &Dependency<'_>)| {
            format!("{} provides {provided}", providers.members[number].nevra())
        };
        let mut found: Vec<_> = providers
            .named(wanted.name)
            .take(MAX_NAMED)
            .map(sentence)
            .collect();
        if found.is_empty() && wanted.is_file() {
            let elsewhere = providers.files.elsewhere(wanted.name).take(MAX_NAMED);
            found.extend(elsewhere.map(|(number, path)| {
                format!(
                    "{} has {}",
                    providers.members[number].nevra(),
                    path.escape_ascii()
                )
            }));
        }
        if found.is_empty()
            && let Some(name) = self.name(wanted.name, providers)
        {
            found.extend(providers.named(name).take(1).map(sentence));
        }
        found
    }

    /// The provided name that is most like `wanted`.
    fn name(&mut self, wanted: &[u8], providers: &Providers<'a>) -> Option<&'a [u8]> {
        if wanted.len() > MAX_NAME || wanted.starts_with(b"/") {
            return None;
        }
        let stems = self.stems.get_or_insert_with(|| {
            let mut stems: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for name in providers.names().filter(|name| name.len() <= MAX_NAME) {
                stems.entry(stem(name)).or_default().push(name);
            }
            stems.values_mut().for_each(|names| names.sort_unstable());
            stems
        });
        let text = String::from_utf8_lossy(wanted);
        let score = |name: &[u8]| strsim::jaro_winkler(&String::from_utf8_lossy(name), &text);
        let best = |names: &mut dyn Iterator<Item = &'a [u8]>| {
            let scored = names.take(MAX_NAMES).map(|name| (score(name), name));
            scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| version_order(a.1, b.1)))
        };
        // `libc.so.6(GLIBC_2.41)(64bit)` is near to all that libc.so.6 has, of the same class.
        if let Some(names) = stems.get(stem(wanted)).filter(|_| wanted.contains(&b'(')) {
            let class = wanted.ends_with(b"(64bit)");
            let mut same = names
                .iter()
                .copied()
                .filter(|name| name.ends_with(b"(64bit)") == class);
            return best(&mut same).map(|(_, name)| name);
        }
        let mut plain = stems.values().flatten().copied();
        best(&mut plain)
            .filter(|(score, _)| *score >= NEAR)
            .map(|(_, name)| name)
    }
}

fn version_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    crate::rpmset::compare_versions(a, b).then_with(|| a.cmp(b))
}

fn stem(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == b'(');
    &name[..end.unwrap_or(name.len())]
}
