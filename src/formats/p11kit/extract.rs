//! What `trust extract` writes: PEM bundles, OpenSSL's trusted certificates, a directory with hashed links, EDK2's list.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::parse::REJECT;
use super::x509::{self, oid};
use super::{Entry, RESERVED_PURPOSE, der};

const fn purpose(number: u8) -> [u8; 8] {
    [0x2b, 6, 1, 5, 5, 7, 3, number]
}

/// serverAuth, clientAuth, codeSigning, emailProtection, ipsecEndSystem, ipsecTunnel, ipsecUser, timeStamping.
pub(super) const KNOWN_PURPOSES: [&[u8]; 8] = [
    &purpose(1),
    &purpose(2),
    &purpose(3),
    &purpose(4),
    &purpose(5),
    &purpose(6),
    &purpose(7),
    &purpose(8),
];

/// `EFI_CERT_X509_GUID` and the GUID of p11-kit as owner, as UEFI stores them.
const X509_GUID: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
const OWNER_GUID: [u8; 16] = [
    0x50, 0x3b, 0xdd, 0xdc, 0x05, 0xf4, 0xfd, 0x43, 0x96, 0xbe, 0xbd, 0x33, 0xb1, 0x73, 0x47, 0x76,
];

/// `--format=pem-bundle --comment`.
pub fn pem_bundle(entries: &[&Entry]) -> Vec<u8> {
    bundle(entries, "CERTIFICATE", |entry| entry.der.clone())
}

/// `--format=openssl-bundle --comment`: every certificate with what it is trusted for.
pub fn openssl_bundle(entries: &[&Entry]) -> Vec<u8> {
    bundle(entries, "TRUSTED CERTIFICATE", |entry| {
        [entry.der.as_slice(), &trust(entry)].concat()
    })
}

fn bundle(entries: &[&Entry], kind: &str, content: impl Fn(&Entry) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.extend_from_slice(b"# ");
        out.extend_from_slice(entry.label());
        out.push(b'\n');
        out.extend_from_slice(&pem(kind, &content(entry)));
    }
    out
}

fn pem(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("-----BEGIN {kind}-----\n").into_bytes();
    for line in STANDARD.encode(bytes).as_bytes().chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {kind}-----\n").as_bytes());
    out
}

/// OpenSSL's `CertAux`: purposes, refused purposes, name, key identifier.
fn trust(entry: &Entry) -> Vec<u8> {
    let attached = |id: &[u8]| {
        let mut purposes = x509::purposes(entry.attached.get(id)?)?;
        purposes.retain(|purpose| purpose != RESERVED_PURPOSE);
        Some(purposes)
    };
    let mut rejects = attached(REJECT);
    let trusts = if entry.distrusted {
        let known = KNOWN_PURPOSES.map(<[u8]>::to_vec);
        rejects.get_or_insert_default().extend(known);
        None
    } else if entry.trusted {
        attached(oid::EXTENDED_KEY_USAGE)
    } else {
        Some(Vec::new())
    };
    let list = |tag, purposes: Vec<Vec<u8>>| {
        let purposes = purposes.iter().map(|purpose| der::encode(der::OID, purpose));
        der::encode(tag, &purposes.collect::<Vec<_>>().concat())
    };
    let mut fields = Vec::new();
    fields.extend(trusts.map(|trusts| list(der::SEQUENCE, trusts)));
    fields.extend(rejects.map(|rejects| list(0xa0, rejects)));
    if !entry.label.is_empty() {
        fields.push(der::encode(der::UTF8_STRING, &entry.label));
    }
    let key_id = entry.attached.get(oid::SUBJECT_KEY_ID);
    fields.extend(key_id.map(|value| der::encode(der::OCTET_STRING, value)));
    der::encode(der::SEQUENCE, &fields.concat())
}

/// A name in a directory of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hashed {
    Certificate {
        name: Vec<u8>,
        pem: Vec<u8>,
    },
    /// A link to the certificate `target`, by the hash of its subject.
    Link {
        name: Vec<u8>,
        target: Vec<u8>,
    },
}

/// `--format=pem-directory-hash`: a file a certificate, and links to them as OpenSSL looks them up (`rehash`).
pub fn directory_hash(entries: &[&Entry]) -> Vec<Hashed> {
    let mut names = BTreeSet::new();
    let mut unique = |make: &dyn Fn(usize) -> Vec<u8>| {
        // The numbers that are tried never run out before names do.
        let name = (0..)
            .map(make)
            .find(|name| !names.contains(name))
            .unwrap_or_default();
        names.insert(name.clone());
        name
    };
    let mut out = Vec::new();
    for entry in entries {
        let kept = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
        let base: Vec<u8> = entry
            .label()
            .iter()
            .map(|byte| if kept(byte) { *byte } else { b'_' })
            .collect();
        let target = unique(&|number| match number {
            0 => [base.as_slice(), b".pem"].concat(),
            _ => [base.as_slice(), format!(".{number}.pem").as_bytes()].concat(),
        });
        out.push(Hashed::Certificate {
            name: target.clone(),
            pem: pem("CERTIFICATE", &entry.der),
        });
        let (hash, old_hash) = x509::subject_hashes(&entry.subject);
        for hash in hash.into_iter().chain([old_hash]) {
            let name = unique(&|number| format!("{hash:08x}.{number}").into_bytes());
            out.push(Hashed::Link {
                name,
                target: target.clone(),
            });
        }
    }
    out
}

/// `--format=edk2-cacerts`: UEFI signature lists of one certificate each (UEFI 2.7, 31.4.1), little endian.
pub fn edk2_cacerts(entries: &[&Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        // Certificates are cut from files far below 4 GiB.
        let signature = (16 + entry.der.len()) as u32;
        out.extend_from_slice(&X509_GUID);
        for field in [28 + signature, 0, signature] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&OWNER_GUID);
        out.extend_from_slice(&entry.der);
    }
    out
}
