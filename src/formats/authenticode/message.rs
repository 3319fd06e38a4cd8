//! The signature's side: a PKCS #7 message that holds an image's digest.

use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader};
use spki::AlgorithmIdentifierRef;

use super::AuthenticodeError;
use crate::formats::asn1::{BIT_STRING, NULL, OCTET_STRING, context, element, oid, sequence};
use crate::formats::cms::{Content, Hash, Message, Prepared, SignedData};
use crate::formats::x509::Certificate;

/// `SPC_INDIRECT_DATA`
const INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
/// `SPC_PE_IMAGE_DATA`
const PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");

/// A signature as it lies in a file.
#[derive(Debug, Clone)]
pub struct Signature {
    pub message: Message,
    pub hash: Hash,
    /// The digest of the image that was signed.
    pub digest: Vec<u8>,
}

impl Signature {
    /// Reads a signature; zeroes may follow it.
    ///
    /// # Errors
    /// Where it is no Authenticode signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthenticodeError> {
        let wrong = AuthenticodeError::NotAuthenticode;
        // Tables are padded; some writers count the padding in.
        let whole = SliceReader::new(bytes).and_then(|mut reader| reader.tlv_bytes());
        let whole = whole.map_err(|_| wrong("it is not DER"))?;
        if bytes[whole.len()..].iter().any(|&byte| byte != 0) {
            return Err(wrong("something follows it"));
        }
        let message = Message::parse(whole)?;
        if message.content_type != INDIRECT_DATA {
            return Err(wrong("it holds something else than an image's digest"));
        }
        let content = message.content.as_deref().ok_or(wrong("it holds no digest"))?;
        let (oid, digest) = indirect_data(content).map_err(|_| wrong("its digest is malformed"))?;
        let hash = Hash::from_oid(oid)?;
        Ok(Self {
            hash,
            digest,
            message,
        })
    }
}

/// A signature over the image digest `sha256` by the key of `signer`; `chain` are the signer's
/// issuers, which the message carries beside the signer's certificate.
pub fn prepare(sha256: &[u8; 32], signer: &Certificate, chain: &[Certificate]) -> Prepared {
    let scheme = signer.public_key().scheme();
    // What `SpcPeImageData` could say of the file is obsolete: no flags, an empty file name.
    let link = element(context(0), &[&element(context(2), &[&[0x80, 0]])]);
    let image_data = sequence(&[&element(BIT_STRING, &[&[0]]), &link]);
    let data = sequence(&[&oid(PE_IMAGE_DATA), &image_data]);
    let algorithm = sequence(&[&oid(Hash::Sha256.oid()), &NULL]);
    let digest = sequence(&[&algorithm, &element(OCTET_STRING, &[sha256])]);
    let value = [data, digest].concat();
    SignedData {
        content: Content::Sequence {
            content_type: INDIRECT_DATA,
            value: &value,
        },
        signer,
        scheme,
        certificates: std::iter::once(signer).chain(chain).collect(),
        attributes: Some(Vec::new()),
    }
    .prepare()
}

/// Algorithm and digest of `SpcIndirectDataContent`, given without tag and length.
fn indirect_data(content: &[u8]) -> der::Result<(ObjectIdentifier, Vec<u8>)> {
    let mut reader = SliceReader::new(content)?;
    reader.tlv_bytes()?;
    let found = reader.sequence(|reader| {
        let algorithm = AlgorithmIdentifierRef::decode(reader)?;
        let digest = OctetStringRef::decode(reader)?;
        Ok((algorithm.oid, digest.as_bytes().to_vec()))
    })?;
    reader.finish(found)
}
