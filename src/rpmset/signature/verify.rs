//! The verdict on one package.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::crypto::hash::HashAlgorithm;
use pgp::errors::Error as PgpError;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType};

use super::certificate::Key;
use super::keyring::issuers;
use super::{Certificate, Fault, Keyring, Policy, Signer, Verdict};
use crate::formats::rpm::tag::{self, signature};
use crate::formats::rpm::{Header, HeaderError};
use crate::rpmset::error::{Error, Problem};
use crate::rpmset::{DigestAlgorithm, Package};

/// Each costs a hash of the header; RPM sets no bound.
const MOST: usize = 64;

/// What a signature is made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    Header,
    HeaderAndPayload,
}

/// A signature as the package holds it.
#[derive(Debug)]
struct Found {
    tag: &'static str,
    cover: Cover,
    bytes: Vec<u8>,
}

/// What one signature comes to.
enum Finding {
    Good(Signer, Cover),
    Weak(Signer, String),
    Unknown(Vec<String>),
    Bad(Option<String>, Fault),
}

/// Holds the signatures of `package` against `keyring`. Digests are not looked at: what a signature of the
/// header alone says of the payload is true only once the payload's digest has been checked.
///
/// # Errors
/// Where the package's file cannot be read.
pub fn verify(package: &Package, keyring: &Keyring, policy: &Policy) -> Result<Verdict, Error> {
    let found = match signatures(&package.preamble.signature) {
        Ok(found) => found,
        Err(fault) => return Ok(Verdict::Bad { key_id: None, fault }),
    };
    let mut good: Vec<(Signer, Cover)> = Vec::new();
    let mut weak = None;
    let mut unknown = Vec::new();
    for found in &found {
        let finding = examine(found, package, keyring, policy);
        match finding.map_err(|error| Problem::Io(error).at(&package.path))? {
            Finding::Good(signer, cover) => good.push((signer, cover)),
            Finding::Weak(signer, hash) => weak = weak.or(Some((signer, hash))),
            Finding::Unknown(ids) => unknown.extend(ids),
            Finding::Bad(key_id, fault) => return Ok(Verdict::Bad { key_id, fault }),
        }
    }
    unknown.sort();
    unknown.dedup();
    let covered = header_covers_payload(package);
    let whole = |cover: Cover| cover == Cover::HeaderAndPayload || covered;
    let best = good.iter().find(|(_, cover)| whole(*cover));
    Ok(match (best, good.first(), weak) {
        (Some((signer, _)), _, _) => Verdict::Signed {
            signer: signer.clone(),
            unknown,
        },
        (None, _, Some((signer, hash))) => Verdict::Weak { signer, hash },
        (None, Some((signer, _)), None) => Verdict::Bad {
            key_id: Some(signer.key_fingerprint.clone()),
            fault: Fault::HeaderOnly,
        },
        (None, None, None) if found.is_empty() => Verdict::Unsigned,
        (None, None, None) => Verdict::Unknown { key_ids: unknown },
    })
}

/// Every signature of a signature header.
fn signatures(header: &Header) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    let single = [
        ("RSA", signature::RSA, Cover::Header),
        ("DSA", signature::DSA, Cover::Header),
        ("PGP", signature::PGP, Cover::HeaderAndPayload),
        ("GPG", signature::GPG, Cover::HeaderAndPayload),
    ];
    let malformed = |tag: &'static str, problem: String| Fault::Malformed { tag, problem };
    let failed = |tag| move |error: HeaderError| malformed(tag, error.to_string());
    for (tag, number, cover) in single {
        if let Some(bytes) = header.binary(number).map_err(failed(tag))? {
            let bytes = bytes.to_vec();
            found.push(Found { tag, cover, bytes });
        }
    }
    let tag = "OPENPGP";
    for text in header.strings(signature::OPENPGP).map_err(failed(tag))? {
        let text: Vec<u8> = text
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| malformed(tag, error.to_string()))?;
        let cover = Cover::Header;
        found.push(Found { tag, cover, bytes });
    }
    if found.len() > MOST {
        return Err(malformed(
            tag,
            format!("{} signatures, more than {MOST}", found.len()),
        ));
    }
    Ok(found)
}

/// Takes the one signature packet that `bytes` must be.
pub(super) fn parse(tag: &'static str, bytes: &[u8]) -> Result<Signature, Fault> {
    let malformed = |problem: String| Fault::Malformed { tag, problem };
    let mut packets = PacketParser::new(bytes);
    let signature = match packets.next() {
        Some(Ok(Packet::Signature(signature))) => signature,
        Some(Ok(_)) => return Err(malformed("another packet than a signature".to_owned())),
        Some(Err(error)) => return Err(malformed(error.to_string())),
        None => return Err(malformed("no whole packet".to_owned())),
    };
    match packets.next() {
        None => Ok(signature),
        Some(_) => Err(malformed("something follows the signature".to_owned())),
    }
}

/// # Errors
/// Where the package's file cannot be read.
fn examine(found: &Found, package: &Package, keyring: &Keyring, policy: &Policy) -> io::Result<Finding> {
    let signature = match parse(found.tag, &found.bytes) {
        Ok(signature) => signature,
        Err(fault) => return Ok(Finding::Bad(None, fault)),
    };
    let ids = issuers(&signature);
    let candidates = keyring.candidates(&signature);
    let stranger = || {
        Finding::Unknown(if ids.is_empty() {
            vec!["unnamed".to_owned()]
        } else {
            ids.clone()
        })
    };
    if candidates.is_empty() {
        return Ok(stranger());
    }
    let bad = |fault| Ok(Finding::Bad(ids.first().cloned(), fault));
    let (kind, made) = match (signature.typ(), signature.created()) {
        (Some(kind), Some(made)) => (kind, made.as_secs()),
        (Some(_), None) => return bad(Fault::Timeless),
        // Of a version that is not known; then neither is its maker.
        (None, _) => return Ok(stranger()),
    };
    if kind != SignatureType::Binary {
        return bad(Fault::Type(kind.into()));
    }
    let mut fault = Fault::Forged;
    for (certificate, key) in candidates {
        match key.holds(&signature, Covered::open(package, found.cover)?) {
            Ok(()) => {
                return Ok(match judge(&signature, made, certificate, key, package, policy) {
                    Ok((signer, None)) => Finding::Good(signer, found.cover),
                    Ok((signer, Some(hash))) => Finding::Weak(signer, hash),
                    Err(fault) => Finding::Bad(Some(key.id.clone()), fault),
                });
            }
            Err(PgpError::IO { source, .. }) => return Err(source),
            Err(error @ PgpError::Unsupported { .. }) => fault = Fault::Unsupported(error.to_string()),
            Err(_) => {}
        }
    }
    // Without a name on it, it may be anyone's.
    if ids.is_empty() {
        Ok(stranger())
    } else {
        bad(fault)
    }
}

/// Whether a signature that fits the package counts; with the name of its hash, where that is weak and not
/// allowed.
fn judge(
    signature: &Signature,
    made: u32,
    certificate: &Certificate,
    key: &Key,
    package: &Package,
    policy: &Policy,
) -> Result<(Signer, Option<String>), Fault> {
    key.check_at(made)?;
    let signer = Signer {
        fingerprint: certificate.fingerprint.clone(),
        key_fingerprint: key.fingerprint.clone(),
        user_id: certificate.user_id.clone(),
        created: made,
    };
    let allowed = policy.weak_packages.contains(&package.nevra.name)
        || policy.weak_keys.contains(&certificate.fingerprint);
    let weak = match signature.hash_alg() {
        Some(hash @ (HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160)) => Some(hash),
        _ => None,
    };
    Ok((signer, weak.filter(|_| !allowed).map(|hash| hash.to_string())))
}

/// The bytes that a signature is over.
struct Covered<'a> {
    header: &'a [u8],
    payload: Option<BufReader<File>>,
}

impl<'a> Covered<'a> {
    fn open(package: &'a Package, cover: Cover) -> io::Result<Self> {
        let preamble = &package.preamble;
        let payload = match cover {
            Cover::Header => None,
            Cover::HeaderAndPayload => {
                let mut file = File::open(&package.path)?;
                file.seek(SeekFrom::Start(preamble.header_range.end))?;
                Some(BufReader::with_capacity(128 << 10, file))
            }
        };
        Ok(Self {
            header: preamble.header.raw(),
            payload,
        })
    }
}

impl Read for Covered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.header.read(buffer)?, &mut self.payload) {
            (0, Some(payload)) => payload.read(buffer),
            (count, _) => Ok(count),
        }
    }
}

/// Whether the header holds strong digests of what the payload brings: of the payload itself, or, in packages
/// older than RPM 4.14, of each file in it.
fn header_covers_payload(package: &Package) -> bool {
    let header = &package.preamble.header;
    let strong =
        |algorithm: DigestAlgorithm| !matches!(algorithm, DigestAlgorithm::Md5 | DigestAlgorithm::Sha1);
    let number = header.u32(tag::PAYLOADDIGESTALGO).ok().flatten().unwrap_or(8);
    let of_payload = header.has(tag::PAYLOADDIGEST);
    if of_payload && DigestAlgorithm::from_number(number).is_some_and(strong) {
        return true;
    }
    let mut regular = package
        .files
        .iter()
        .filter(|file| file.is_regular() && !file.is_ghost());
    regular.all(|file| match &file.digest {
        Some(digest) => strong(digest.algorithm),
        None => file.size == 0,
    })
}
