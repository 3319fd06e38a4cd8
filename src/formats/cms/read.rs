//! Reading messages and checking who signed them.

use der::asn1::{ObjectIdentifier, OctetStringRef, SetOfVec};
use der::{Any, Decode as _, Header, Reader, SliceReader, Tag, TagNumber};
use spki::AlgorithmIdentifierRef;

use super::{CONTENT_TYPE, CmsError, Hash, MESSAGE_DIGEST, SIGNED_DATA};
use crate::formats::asn1::{SET, element};
use crate::formats::x509::Certificate;

/// The longest chain from a signer up to a trusted certificate.
const LONGEST_CHAIN: usize = 8;

/// A signed message.
#[derive(Debug, Clone)]
pub struct Message {
    pub content_type: ObjectIdentifier,
    /// The content's value, without tag and length, where the message holds it.
    pub content: Option<Vec<u8>>,
    /// Those that could be read; others are of no use here.
    pub certificates: Vec<Certificate>,
    pub signers: Vec<Signer>,
}

/// A signature in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// `Name` and `INTEGER` of the signer's certificate, in DER.
    pub issuer: Vec<u8>,
    pub serial: Vec<u8>,
    digest: ObjectIdentifier,
    attributes: Option<Attributes>,
    signature: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attributes {
    /// As signed: with the tag of a set.
    der: Vec<u8>,
    content_type: Option<ObjectIdentifier>,
    message_digest: Option<Vec<u8>>,
}

impl Message {
    /// Reads a `ContentInfo` with signed data, or bare `SignedData`.
    ///
    /// # Errors
    /// Where the bytes are no such message.
    pub fn parse(bytes: &[u8]) -> Result<Self, CmsError> {
        let mut kind = None;
        let mut reader = SliceReader::new(bytes).map_err(CmsError::Malformed)?;
        let message = reader.sequence(|reader| {
            if reader.peek_header()?.tag != Tag::ObjectIdentifier {
                return signed_data(reader);
            }
            let oid = ObjectIdentifier::decode(reader)?;
            if oid != SIGNED_DATA {
                kind = Some(oid);
                return Err(Tag::ObjectIdentifier.value_error());
            }
            within(reader, TagNumber::N0, |reader| reader.sequence(signed_data))
        });
        let message = message.and_then(|message| reader.finish(message));
        message.map_err(|error| kind.map_or(CmsError::Malformed(error), CmsError::Kind))
    }

    /// Whether the message is signed over its own or the detached `content`, and its signer is one
    /// of `trusted` or issued by one of them, directly or through certificates in the message.
    /// Returns the signers' certificates. Time and usage are not looked at.
    ///
    /// # Errors
    /// What of it does not hold.
    pub fn verify(
        &self,
        content: Option<&[u8]>,
        trusted: &[Certificate],
    ) -> Result<Vec<Certificate>, CmsError> {
        if self.signers.is_empty() {
            return Err(CmsError::NoSigner);
        }
        let check = |signer: &Signer| {
            let certificate = self.check_signer(signer, content, trusted)?;
            self.chain(&certificate, trusted)?;
            Ok(certificate)
        };
        self.signers.iter().map(check).collect()
    }

    /// Whether `signer` signed the content; its certificate is taken from the message, or else from `others`.
    ///
    /// # Errors
    /// What of it does not hold.
    pub fn check_signer(
        &self,
        signer: &Signer,
        content: Option<&[u8]>,
        others: &[Certificate],
    ) -> Result<Certificate, CmsError> {
        let mut known = self.certificates.iter().chain(others);
        let certificate = known
            .find(|known| known.issuer_der() == signer.issuer && known.serial_der() == signer.serial)
            .ok_or(CmsError::UnknownSigner)?;
        let content = match (&self.content, content) {
            (Some(held), None) => held.as_slice(),
            (None, Some(content)) => content,
            _ => return Err(CmsError::OtherContent),
        };
        let hash = Hash::from_oid(signer.digest)?;
        let key = certificate.public_key();
        let subject = || certificate.subject().to_owned();
        let scheme = hash
            .scheme(key.algorithm())
            .ok_or_else(|| CmsError::Scheme(subject()))?;
        let signed = match &signer.attributes {
            None => content,
            Some(attributes) => {
                if attributes.content_type != Some(self.content_type)
                    || attributes.message_digest.as_deref() != Some(&hash.digest(content)[..])
                {
                    return Err(CmsError::OtherContent);
                }
                &attributes.der
            }
        };
        key.verify(scheme, signed, &signer.signature)
            .map_err(|_| CmsError::BadSignature(subject()))?;
        Ok(certificate.clone())
    }

    /// The certificates from `leaf` up to the first that is in `trusted`, both included.
    ///
    /// # Errors
    /// Where no chain leads there.
    pub fn chain(&self, leaf: &Certificate, trusted: &[Certificate]) -> Result<Vec<Certificate>, CmsError> {
        let mut chain = vec![leaf.clone()];
        while chain.len() <= LONGEST_CHAIN {
            let Some(last) = chain.last() else { break };
            if trusted.contains(last) {
                return Ok(chain);
            }
            let issued = |issuer: &&Certificate| last.issued_by(issuer).is_ok();
            let issuer = trusted.iter().find(issued).or_else(|| {
                let mut between = self.certificates.iter();
                between.find(|issuer| !chain.contains(issuer) && issuer.is_authority() && issued(issuer))
            });
            match issuer.cloned() {
                Some(issuer) => chain.push(issuer),
                None => break,
            }
        }
        Err(CmsError::Untrusted(leaf.subject().to_owned()))
    }
}

fn signed_data<'r>(reader: &mut impl Reader<'r>) -> der::Result<Message> {
    u8::decode(reader)?;
    // Digest algorithms; each signer names its own again.
    reader.tlv_bytes()?;
    let (content_type, content) = reader.sequence(|reader| {
        let content_type = ObjectIdentifier::decode(reader)?;
        let content = if reader.is_finished() {
            None
        } else {
            Some(within(reader, TagNumber::N0, |reader| {
                Ok(Any::decode(reader)?.value().to_vec())
            })?)
        };
        Ok((content_type, content))
    })?;
    let mut certificates = Vec::new();
    if let Some(content) = take(reader, TagNumber::N0)? {
        let mut set = SliceReader::new(content)?;
        while !set.is_finished() {
            certificates.extend(Certificate::from_der(set.tlv_bytes()?).ok());
        }
    }
    // Revocation lists.
    take(reader, TagNumber::N1)?;
    let header = Header::decode(reader)?;
    header.tag.assert_eq(Tag::Set)?;
    let mut set = SliceReader::new(reader.read_slice(header.length)?)?;
    let mut signers = Vec::new();
    while !set.is_finished() {
        signers.push(set.sequence(signer)?);
    }
    Ok(Message {
        content_type,
        content,
        certificates,
        signers,
    })
}

fn signer<'r>(reader: &mut impl Reader<'r>) -> der::Result<Signer> {
    u8::decode(reader)?;
    let (issuer, serial) = reader.sequence(|reader| {
        let issuer = reader.tlv_bytes()?.to_vec();
        Ok((issuer, reader.tlv_bytes()?.to_vec()))
    })?;
    let digest = AlgorithmIdentifierRef::decode(reader)?.oid;
    let attributes = take(reader, TagNumber::N0)?.map(attributes).transpose()?;
    AlgorithmIdentifierRef::decode(reader)?;
    let signature = OctetStringRef::decode(reader)?.as_bytes().to_vec();
    // Attributes that are not signed: timestamps, which nothing here relies on.
    take(reader, TagNumber::N1)?;
    Ok(Signer {
        issuer,
        serial,
        digest,
        attributes,
        signature,
    })
}

fn attributes(content: &[u8]) -> der::Result<Attributes> {
    let mut found = Attributes {
        der: element(SET, &[content]),
        content_type: None,
        message_digest: None,
    };
    let mut reader = SliceReader::new(content)?;
    while !reader.is_finished() {
        let (oid, values) = reader.sequence(|reader| {
            Ok((
                ObjectIdentifier::decode(reader)?,
                SetOfVec::<Any>::decode(reader)?,
            ))
        })?;
        let [value] = values.as_slice() else { continue };
        match oid {
            CONTENT_TYPE => found.content_type = Some(value.decode_as()?),
            MESSAGE_DIGEST => {
                found.message_digest = Some(value.decode_as::<OctetStringRef<'_>>()?.as_bytes().to_vec());
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The content of the next element if it is `[number]`, constructed.
fn take<'r>(reader: &mut impl Reader<'r>, number: TagNumber) -> der::Result<Option<&'r [u8]>> {
    let expected = Tag::ContextSpecific {
        constructed: true,
        number,
    };
    if reader.is_finished() || reader.peek_header()?.tag != expected {
        return Ok(None);
    }
    let header = Header::decode(reader)?;
    reader.read_slice(header.length).map(Some)
}

/// Reads the content of the next element, which must be `[number]`.
fn within<'r, T>(
    reader: &mut impl Reader<'r>,
    number: TagNumber,
    read: impl FnOnce(&mut SliceReader<'r>) -> der::Result<T>,
) -> der::Result<T> {
    let content = take(reader, number)?.ok_or(der::ErrorKind::Incomplete {
        expected_len: der::Length::ONE,
        actual_len: der::Length::ZERO,
    })?;
    let mut inner = SliceReader::new(content)?;
    let value = read(&mut inner)?;
    inner.finish(value)
}
