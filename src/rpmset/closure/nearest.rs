//! What comes nearest to something that no package provides: mostly the right name in the wrong version.

use std::collections::BTreeMap;

use super::dependency::Dependency;
use super::providers::Providers;
use super::rpmlib;

/// Names longer than this are not compared, bytes.
const MAX_NAME: usize = 200;
/// Names that are compared for one that is missing, and missing ones that are compared with any.
const MAX_NAMES: usize = 100_000;
const MAX_SEARCHES: usize = 100;
/// What counts as near, of 1.
const NEAR: f64 = 0.9;
/// Providers that are named.
const MAX_NAMED: usize = 3;

/// Finds what is near; keeps what costs time to find.
#[derive(Debug, Default)]
pub struct Nearest<'a> {
    /// Provided names by what stands before their first `(`.
    stems: Option<BTreeMap<&'a [u8], Vec<&'a [u8]>>>,
    searches: usize,
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
        if wanted.len() > MAX_NAME || wanted.starts_with(b"/") || self.searches == MAX_SEARCHES {
            return None;
        }
        self.searches += 1;
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
        // `libc.so.6(GLIBC_2.41)(64bit)` is nearest to the newest that is older, of the same class.
        let of_class = |name: &&[u8]| name.ends_with(b"(64bit)") == wanted.ends_with(b"(64bit)");
        if let Some(symbol) = before_version(wanted) {
            let family = stems.get(stem(wanted)).into_iter().flatten().copied();
            let family: Vec<_> = family
                .filter(of_class)
                .filter(|name| name.starts_with(symbol))
                .collect();
            let older = family.iter().filter(|name| version_order(name, wanted).is_lt());
            let newest = older.max_by(|a, b| version_order(a, b)).copied();
            let oldest = family.iter().min_by(|a, b| version_order(a, b)).copied();
            if let Some(name) = newest.or(oldest) {
                return Some(name);
            }
        }
        // Nobody mistakes the first letter.
        let mut plain = stems
            .values()
            .flatten()
            .copied()
            .filter(|name| name.first() == wanted.first())
            .filter(of_class);
        best(&mut plain)
            .filter(|(score, _)| *score >= NEAR)
            .map(|(_, name)| name)
    }
}

fn version_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    crate::rpmset::compare_versions(a, b).then_with(|| a.cmp(b))
}

/// Of `libc.so.6(GLIBC_2.41)`, `libc.so.6(GLIBC_`.
fn before_version(name: &[u8]) -> Option<&[u8]> {
    let open = stem(name).len();
    let digit = name[open..].iter().position(u8::is_ascii_digit)?;
    name[open..open + digit]
        .len()
        .gt(&1)
        .then(|| &name[..open + digit])
}

fn stem(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == b'(');
    &name[..end.unwrap_or(name.len())]
}
