//! Making a message, in two steps, so that the signature may come from elsewhere.

use der::asn1::ObjectIdentifier;

use super::{CONTENT_TYPE, DATA, Hash, MESSAGE_DIGEST, SIGNED_DATA};
use crate::formats::asn1::{NULL, OCTET_STRING, SET, context, element, integer, oid, sequence, set_of};
use crate::formats::x509::{Certificate, Scheme};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Bytes that lie elsewhere; the message does not hold them.
    Detached(&'a [u8]),
    /// A `SEQUENCE` that the message holds. The signature covers its value, without tag and length.
    Sequence {
        content_type: ObjectIdentifier,
        /// What the sequence holds.
        value: &'a [u8],
    },
}

/// A signed attribute beside the content's type and digest.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub oid: ObjectIdentifier,
    /// The one value, a whole element in DER.
    pub value: Vec<u8>,
}

/// A message to be signed.
#[derive(Debug, Clone)]
pub struct SignedData<'a> {
    pub content: Content<'a>,
    /// Whose key signs.
    pub signer: &'a Certificate,
    pub scheme: Scheme,
    /// Those that the message carries; none are needed where the verifier has them.
    pub certificates: Vec<&'a Certificate>,
    /// `None`: the signature covers the content itself. Else it covers attributes: type and
    /// digest of the content, and these.
    pub attributes: Option<Vec<Attribute>>,
}

/// A message that wants its signature.
#[derive(Debug, Clone)]
pub struct Prepared {
    to_sign: Vec<u8>,
    /// `SignedData` up to the signer, and the signer up to the signature.
    before: [Vec<u8>; 2],
}

impl<'a> SignedData<'a> {
    /// A message about `content` that lies elsewhere, without attributes or certificates: what
    /// dm-verity takes for a root hash.
    pub fn detached(content: &'a [u8], signer: &'a Certificate) -> Self {
        Self {
            content: Content::Detached(content),
            signer,
            scheme: signer.public_key().scheme(),
            certificates: Vec::new(),
            attributes: None,
        }
    }

    /// All but the signature.
    pub fn prepare(&self) -> Prepared {
        let hash = Hash::of(self.scheme);
        let digest_algorithm = sequence(&[&oid(hash.oid()), &NULL]);
        let (content_type, value, held) = match self.content {
            Content::Detached(bytes) => (DATA, bytes, Vec::new()),
            Content::Sequence { content_type, value } => {
                let held = element(context(0), &[&sequence(&[value])]);
                (content_type, value, held)
            }
        };
        let certificates = match self.certificates.len() {
            0 => Vec::new(),
            _ => {
                let ders = self
                    .certificates
                    .iter()
                    .map(|certificate| certificate.der().to_vec());
                let mut ders: Vec<_> = ders.collect();
                ders.sort();
                ders.dedup();
                set_of(context(0), ders)
            }
        };
        let body = [
            integer(1),
            set_of(SET, vec![digest_algorithm.clone()]),
            sequence(&[&oid(content_type), &held]),
            certificates,
        ];
        let attributes = self.attributes.as_ref().map(|others| {
            let attribute = |id, value: &[u8]| sequence(&[&oid(id), &element(SET, &[value])]);
            let digest = element(OCTET_STRING, &[&hash.digest(value)]);
            let mut all = vec![
                attribute(CONTENT_TYPE, &oid(content_type)),
                attribute(MESSAGE_DIGEST, &digest),
            ];
            all.extend(others.iter().map(|other| attribute(other.oid, &other.value)));
            all
        });
        let (to_sign, attributes) = match attributes {
            // What is signed has the tag of a set; in the message, the context's takes its place.
            Some(all) => (set_of(SET, all.clone()), set_of(context(0), all)),
            None => (value.to_vec(), Vec::new()),
        };
        let signer = [
            integer(1),
            sequence(&[self.signer.issuer_der(), self.signer.serial_der()]),
            digest_algorithm,
            attributes,
            signature_algorithm(self.scheme),
        ];
        Prepared {
            to_sign,
            before: [body.concat(), signer.concat()],
        }
    }
}

impl Prepared {
    /// The bytes that the signature covers; the signer hashes them by itself.
    pub fn to_sign(&self) -> &[u8] {
        &self.to_sign
    }

    /// The whole message (`ContentInfo`) with `signature`, which is not checked here.
    pub fn attach(&self, signature: &[u8]) -> Vec<u8> {
        let signed_data = self.attach_bare(signature);
        sequence(&[&oid(SIGNED_DATA), &element(context(0), &[&signed_data])])
    }

    /// As [`Self::attach`], without the outer `ContentInfo`, as authenticated variables of UEFI hold it.
    pub fn attach_bare(&self, signature: &[u8]) -> Vec<u8> {
        let [body, signer] = &self.before;
        let signer = sequence(&[signer, &element(OCTET_STRING, &[signature])]);
        sequence(&[body, &element(SET, &[&signer])])
    }
}

/// RSA is named without its digest, as PKCS #7 does it and some verifiers insist on.
fn signature_algorithm(scheme: Scheme) -> Vec<u8> {
    match scheme {
        Scheme::RsaPkcs1Sha256 | Scheme::RsaPkcs1Sha384 | Scheme::RsaPkcs1Sha512 => {
            sequence(&[&oid(RSA), &NULL])
        }
        Scheme::EcdsaP256Sha256 => sequence(&[&oid(ECDSA_SHA256)]),
        Scheme::EcdsaP384Sha384 => sequence(&[&oid(ECDSA_SHA384)]),
        Scheme::Ed25519 => sequence(&[&oid(ED25519)]),
    }
}
