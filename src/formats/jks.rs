//! Java key stores (JKS, version 2) that hold certificates alone, as `trust extract --format=java-cacerts` writes them.
//!
//! Big endian: magic, version, count; an entry: type 2, alias, time in milliseconds, `X.509`, length, certificate.
//! A SHA-1 over password, a phrase and all of it ends the file; the password is Java's usual `changeit`.

use std::collections::BTreeSet;

use sha1::{Digest as _, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;
/// `changeit` in UTF-16.
const PASSWORD: &[u8] = b"\0c\0h\0a\0n\0g\0e\0i\0t";
const PHRASE: &[u8] = b"Mighty Aphrodite";
/// Of a string: p11-kit cuts longer ones.
const MAX_STRING: usize = i16::MAX as usize;

/// A store with `certificates` (names for people, and the encoded certificates), all said to be added at `time`, in
/// seconds since the epoch.
pub fn write<'a>(certificates: impl Iterator<Item = (&'a [u8], &'a [u8])>, time: i64) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0u32;
    let mut aliases = BTreeSet::new();
    for (label, der) in certificates {
        count += 1;
        entries.extend_from_slice(&TRUSTED_CERTIFICATE.to_be_bytes());
        put_string(&mut entries, &alias(label, &mut aliases));
        entries.extend_from_slice(&time.saturating_mul(1000).max(0).to_be_bytes());
        put_string(&mut entries, b"X.509");
        // Certificates are cut from files far below 2 GiB.
        entries.extend_from_slice(&(der.len() as u32).to_be_bytes());
        entries.extend_from_slice(der);
    }
    let mut out = Vec::with_capacity(entries.len() + 32);
    for number in [MAGIC, VERSION, count] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.append(&mut entries);
    let digest = Sha1::new()
        .chain_update(PASSWORD)
        .chain_update(PHRASE)
        .chain_update(&out)
        .finalize();
    out.extend_from_slice(&digest);
    out
}

/// A name of its own for a certificate: the label in lower case, without spaces and what is not ASCII.
fn alias(label: &[u8], taken: &mut BTreeSet<Vec<u8>>) -> Vec<u8> {
    let kept = |byte: &u8| byte.is_ascii() && !byte.is_ascii_whitespace() && *byte != 0x0b;
    let label = if label.is_empty() { b"unlabeled" } else { label };
    let plain: Vec<u8> = label
        .iter()
        .copied()
        .filter(kept)
        .map(|byte| byte.to_ascii_lowercase())
        .collect();
    let tries = std::iter::once(plain.clone()).chain((1..).map(|number| numbered(&plain, number)));
    let alias = tries
        .into_iter()
        .find(|alias| !taken.contains(alias))
        .unwrap_or(plain);
    taken.insert(alias.clone());
    alias
}

fn numbered(plain: &[u8], number: u32) -> Vec<u8> {
    [plain, format!("-{number}").as_bytes()].concat()
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(MAX_STRING)];
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}
