//! Trust stores of p11-kit: which certificates are anchors for what, and the bundles that `trust extract` makes of them.
//!
//! A store has tokens (a directory each), a token objects: certificates, and extensions that are attached to all
//! certificates with a public key, in place of the certificates' own. A certificate is an anchor where it is marked
//! trusted, belongs to an authority, and neither it nor its key nor its issuer and number is distrusted anywhere.
//! Follows p11-kit 0.24 and 0.25.

mod extract;
mod parse;
#[cfg(test)]
mod tests;
mod x509;

use std::collections::{BTreeMap, BTreeSet};

use super::der;
pub use extract::{Hashed, directory_hash, edk2_cacerts, openssl_bundle, pem_bundle};
pub use parse::parse;
use x509::{Certificate, oid};

/// An extended key usage that stands for "no purpose at all": the extension cannot be empty.
const RESERVED_PURPOSE: &[u8] = &[0x2b, 6, 1, 4, 1, 0x99, 0x77, 6, 10, 16];
/// Good for every purpose.
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 37, 0];

/// What an anchor may be trusted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    ServerAuth,
    Email,
    CodeSigning,
}

impl Purpose {
    fn oid(self) -> &'static [u8] {
        match self {
            Self::ServerAuth => extract::KNOWN_PURPOSES[0],
            Self::CodeSigning => extract::KNOWN_PURPOSES[2],
            Self::Email => extract::KNOWN_PURPOSES[3],
        }
    }
}

/// What a file's directory says about the certificates in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Trusted, unless they say otherwise themselves.
    Anchors,
    /// Distrusted, whatever they say.
    Blocklist,
    /// As they say themselves.
    Neutral,
}

/// An object as a file tells it.
#[derive(Debug, Clone, Default)]
pub struct Object {
    class: Option<Class>,
    /// Of the section, in the object format.
    line: usize,
    x509: bool,
    value: Option<Vec<u8>>,
    label: Option<Vec<u8>>,
    trusted: Option<bool>,
    distrusted: Option<bool>,
    authority: Option<bool>,
    issuer: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    serial: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Certificate,
    Extension,
    Other,
}

/// A part of a file that is left out, or surprising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub file: String,
    /// From 1; 0 where there is none.
    pub line: usize,
    pub what: &'static str,
}

/// A file in the object format is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct TrustError {
    pub file: String,
    pub line: usize,
    pub what: String,
}

/// All tokens' certificates, in order.
#[derive(Debug, Default)]
pub struct Store {
    entries: Vec<Entry>,
    distrusted_keys: BTreeSet<Vec<u8>>,
    distrusted_serials: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

/// A certificate of a store.
#[derive(Debug)]
pub struct Entry {
    der: Vec<u8>,
    label: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    public_key: Vec<u8>,
    trusted: bool,
    distrusted: bool,
    authority: bool,
    /// Extensions from outside of the certificate.
    attached: BTreeMap<Vec<u8>, Vec<u8>>,
    purposes: Purposes,
}

#[derive(Debug, PartialEq, Eq)]
enum Purposes {
    All,
    These(Vec<Vec<u8>>),
    /// The extension cannot be read: the certificate is never extracted.
    Damaged,
}

impl Store {
    /// Adds a token with `objects`.
    pub fn add_token(&mut self, objects: Vec<Object>) {
        let mut attached: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
        for object in &objects {
            if object.class == Some(Class::Extension)
                && let (Some(value), Some(key)) = (&object.value, &object.public_key)
                && let Some((id, value)) = x509::extension_parts(value)
            {
                let of_key = attached.entry(key.clone()).or_default();
                of_key.insert(id.to_vec(), value.to_vec());
            }
        }
        for object in objects {
            if object.class == Some(Class::Certificate) && object.x509 {
                self.add(object, &attached);
            }
        }
    }

    fn add(&mut self, object: Object, attached: &BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>) {
        let der = object.value.unwrap_or_default();
        let parsed = Certificate::parse(&der);
        // What the file says itself goes before what the certificate says.
        let field = |told: Option<Vec<u8>>, own: fn(&Certificate<'_>) -> Vec<u8>| {
            told.or_else(|| parsed.as_ref().map(own)).unwrap_or_default()
        };
        let issuer = field(object.issuer, |parsed| parsed.issuer.to_vec());
        let serial = field(object.serial, |parsed| parsed.serial.to_vec());
        let public_key = field(object.public_key, |parsed| parsed.public_key.to_vec());
        let distrusted = object.distrusted == Some(true);
        if distrusted {
            if !issuer.is_empty() && !serial.is_empty() {
                self.distrusted_serials.insert((issuer.clone(), serial.clone()));
            }
            if !public_key.is_empty() {
                self.distrusted_keys.insert(public_key.clone());
            }
        }
        let Some(parsed) = &parsed else {
            return;
        };
        let attached = attached.get(&public_key).cloned().unwrap_or_default();
        let extension = |id: &[u8]| {
            attached
                .get(id)
                .map(Vec::as_slice)
                .or_else(|| parsed.extension(id))
        };
        let purposes = match extension(oid::EXTENDED_KEY_USAGE).map(x509::purposes) {
            None => Purposes::All,
            Some(None) => Purposes::Damaged,
            Some(Some(mut these)) => {
                these.retain(|purpose| purpose != RESERVED_PURPOSE);
                Purposes::These(these)
            }
        };
        let told = object
            .authority
            .filter(|_| !attached.contains_key(oid::BASIC_CONSTRAINTS));
        let authority = told.unwrap_or_else(|| match extension(oid::BASIC_CONSTRAINTS) {
            Some(constraints) => x509::is_authority(constraints) == Some(true),
            None => parsed.first_version && parsed.subject == parsed.issuer,
        });
        let entry = Entry {
            label: field(object.label, |parsed| parsed.label().unwrap_or_default()),
            subject: field(object.subject, |parsed| parsed.subject.to_vec()),
            issuer,
            serial,
            public_key,
            trusted: object.trusted == Some(true),
            distrusted,
            authority,
            attached,
            purposes,
            der,
        };
        self.entries.push(entry);
    }

    /// The authorities that are trusted for `purpose`, each once.
    pub fn anchors(&self, purpose: Purpose) -> Vec<&Entry> {
        let mut seen = BTreeSet::new();
        let entries = self.entries.iter();
        entries
            .filter(|entry| entry.authority && entry.trusted && !self.distrusts(entry))
            .filter(|entry| seen.insert(&entry.der))
            .filter(|entry| match &entry.purposes {
                Purposes::All => true,
                Purposes::Damaged => false,
                Purposes::These(these) => {
                    let fits = |id: &Vec<u8>| *id == purpose.oid() || *id == ANY_PURPOSE;
                    these.iter().any(fits)
                }
            })
            .collect()
    }

    fn distrusts(&self, entry: &Entry) -> bool {
        entry.distrusted
            || self.distrusted_keys.contains(&entry.public_key)
            || self
                .distrusted_serials
                .contains(&(entry.issuer.clone(), entry.serial.clone()))
    }

    /// All certificates, trusted or not, each once.
    pub fn certificates(&self) -> Vec<&Entry> {
        let mut seen = BTreeSet::new();
        let entries = self.entries.iter();
        entries
            .filter(|entry| seen.insert(&entry.der))
            .filter(|entry| entry.purposes != Purposes::Damaged)
            .collect()
    }
}

impl Entry {
    /// The encoded certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its name as told or found, empty where there is none.
    pub fn name(&self) -> &[u8] {
        &self.label
    }

    /// Its name for people, up to a NUL; never empty.
    pub fn label(&self) -> &[u8] {
        let label = self.label.split(|&byte| byte == 0).next().unwrap_or_default();
        if label.is_empty() { b"certificate" } else { label }
    }
}
