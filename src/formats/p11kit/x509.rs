//! What a trust store looks at in an X.509 certificate (RFC 5280). Signatures are none of it.

use md5::Digest as _;
use md5::Md5;
use sha1::Sha1;

use super::der::{self, Tlv};

/// Extensions and attributes of names, as the content of an object identifier.
pub mod oid {
    pub const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];
    pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
}

/// A certificate; every field as encoded, tag and length included.
#[derive(Debug, Clone)]
pub struct Certificate<'a> {
    pub first_version: bool,
    pub serial: &'a [u8],
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    pub public_key: &'a [u8],
    /// Object identifiers' contents, and the contents of the octet strings.
    pub extensions: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Certificate<'a> {
    /// Reads the certificate that `der` is; `None` where it is none.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let outer = der::elements(der::only(der, der::SEQUENCE)?)?;
        let [body, algorithm, signature] = outer[..] else {
            return None;
        };
        if [body.tag, algorithm.tag, signature.tag] != [der::SEQUENCE, der::SEQUENCE, der::BIT_STRING] {
            return None;
        }
        let mut fields = der::elements(body.content)?.into_iter().peekable();
        let version = fields.next_if(|field| field.tag == 0xa0);
        let first_version = match version {
            Some(version) => der::only(version.content, der::INTEGER)? == [0],
            None => true,
        };
        let mut take = |tag| fields.next_if(|field| field.tag == tag).map(|field| field.whole);
        let serial = take(der::INTEGER)?;
        take(der::SEQUENCE)?;
        let issuer = take(der::SEQUENCE)?;
        take(der::SEQUENCE)?;
        let subject = take(der::SEQUENCE)?;
        let public_key = take(der::SEQUENCE)?;
        let mut extensions = Vec::new();
        for field in fields {
            if field.tag != 0xa3 {
                continue;
            }
            for extension in der::elements(der::only(field.content, der::SEQUENCE)?)? {
                extensions.push(extension_parts(extension.whole)?);
            }
        }
        Some(Self {
            first_version,
            serial,
            issuer,
            subject,
            public_key,
            extensions,
        })
    }

    /// The value of the extension `oid`.
    pub fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let found = self.extensions.iter().find(|(id, _)| *id == oid);
        found.map(|(_, value)| *value)
    }

    /// The name by which people know it: common name, else organizational unit, else organization.
    pub fn label(&self) -> Option<Vec<u8>> {
        [oid::COMMON_NAME, oid::ORGANIZATIONAL_UNIT, oid::ORGANIZATION]
            .iter()
            .find_map(|oid| utf8(attribute(self.subject, oid)?))
    }
}

/// Identifier and value of an encoded `Extension`.
pub fn extension_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let parts = der::elements(der::only(der, der::SEQUENCE)?)?;
    let (id, value) = match parts[..] {
        [id, value] => (id, value),
        [id, critical, value] if critical.tag == der::BOOLEAN => (id, value),
        _ => return None,
    };
    (id.tag == der::OID && value.tag == der::OCTET_STRING).then_some((id.content, value.content))
}

/// The purposes of an extended key usage (a sequence of object identifiers), as contents.
pub fn purposes(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let purposes = der::elements(der::only(value, der::SEQUENCE)?)?;
    purposes
        .into_iter()
        .map(|purpose| (purpose.tag == der::OID).then(|| purpose.content.to_vec()))
        .collect()
}

/// Whether basic constraints say that the certificate is an authority's.
pub fn is_authority(value: &[u8]) -> Option<bool> {
    let parts = der::elements(der::only(value, der::SEQUENCE)?)?;
    let first = parts.first().filter(|part| part.tag == der::BOOLEAN);
    Some(first.is_some_and(|part| part.content == [0xff]))
}

/// The value of the first attribute `oid` in the encoded `name`.
fn attribute<'a>(name: &'a [u8], oid: &[u8]) -> Option<Tlv<'a>> {
    for set in der::elements(der::only(name, der::SEQUENCE)?)? {
        for pair in der::elements(set.content)? {
            if let [id, value] = der::elements(pair.content)?[..]
                && id.tag == der::OID
                && id.content == oid
            {
                return Some(value);
            }
        }
    }
    None
}

/// A directory string as UTF-8; `None` where it is damaged or no string.
fn utf8(value: Tlv<'_>) -> Option<Vec<u8>> {
    match value.tag {
        // UTF8String, NumericString, PrintableString, TeletexString, IA5String.
        12 | 18 | 19 | 20 | 22 => std::str::from_utf8(value.content)
            .ok()?
            .to_owned()
            .into_bytes()
            .into(),
        // UniversalString and BMPString.
        28 => text(value.content, 4),
        30 => text(value.content, 2),
        _ => None,
    }
}

/// Characters of `width` bytes each, big endian.
fn text(bytes: &[u8], width: usize) -> Option<Vec<u8>> {
    let characters = bytes.chunks(width).map(|chunk| {
        let code = chunk.iter().fold(0, |code, &byte| code << 8 | u32::from(byte));
        (chunk.len() == width).then_some(())?;
        char::from_u32(code)
    });
    let text: Option<String> = characters.collect();
    Some(text?.into_bytes())
}

/// The hashes of a subject by which OpenSSL looks certificates up in a directory: of today, and of versions before 1.0.
pub fn subject_hashes(subject: &[u8]) -> (Option<u32>, u32) {
    let word = |digest: &[u8]| {
        let first = digest.first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(first)
    };
    let canonical = canonical_name(subject).map(|name| word(&Sha1::digest(name)));
    (canonical, word(&Md5::digest(subject)))
}

/// The sets of a name one after the other, strings in UTF-8, lower case, with single spaces.
fn canonical_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for set in der::elements(der::only(name, der::SEQUENCE)?)? {
        let mut pairs = Vec::new();
        for pair in der::elements(set.content)? {
            let [id, value] = der::elements(pair.content)?[..] else {
                return None;
            };
            let value = match value.tag {
                12 | 18 | 19 | 20 | 22 | 28 | 30 => {
                    der::encode(der::UTF8_STRING, &canonical_text(&utf8(value)?))
                }
                _ => value.whole.to_vec(),
            };
            pairs.push(der::encode(der::SEQUENCE, &[id.whole, &value].concat()));
        }
        pairs.sort();
        out.extend_from_slice(&der::encode(der::SET, &pairs.concat()));
    }
    Some(out)
}

fn canonical_text(text: &[u8]) -> Vec<u8> {
    let words = text
        .split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ').to_ascii_lowercase()
}
