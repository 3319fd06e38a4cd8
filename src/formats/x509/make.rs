//! Writing self-signed certificates, version 3.

use std::time::Duration;

use der::Encode as _;
use der::asn1::{GeneralizedTime, ObjectIdentifier, UtcTime};
use sha2::{Digest as _, Sha256};

use super::{PublicKey, Scheme};
use crate::formats::asn1::{
    NULL, OCTET_STRING, SET, UTF8_STRING, bit_string, context, element, integer, oid, sequence, unsigned,
};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const TRUE: [u8; 3] = [1, 1, 0xff];
/// The first second of 2050, from which on `UTCTime` means another century.
const YEAR_2050: i64 = 2_524_608_000;

/// A certificate to be made: of an end entity, for signing.
#[derive(Debug, Clone, Copy)]
pub struct NewCertificate<'a> {
    /// Issuer and subject alike; at most 64 characters.
    pub common_name: &'a str,
    pub public_key: &'a PublicKey,
    /// How it will be signed.
    pub scheme: Scheme,
    /// Big-endian; the highest bit is taken as part of a number that is not negative.
    pub serial: [u8; 16],
    /// First and last second, since 1970.
    pub validity: (i64, i64),
    /// Whether its use is code alone.
    pub code_signing: bool,
}

impl NewCertificate<'_> {
    /// What the key must sign.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let name = sequence(&[
            &oid(COMMON_NAME),
            &element(UTF8_STRING, &[self.common_name.as_bytes()]),
        ]);
        let name = sequence(&[&element(SET, &[&name])]);
        let validity = sequence(&[&time(self.validity.0), &time(self.validity.1)]);
        sequence(&[
            &element(context(0), &[&integer(2)]),
            &unsigned(&self.serial),
            &algorithm(self.scheme),
            &name,
            &validity,
            &name,
            self.public_key.spki(),
            &element(context(3), &[&sequence(&[&self.extensions()])]),
        ])
    }

    /// The certificate with its signature, which is not checked here.
    pub fn attach(&self, signature: &[u8]) -> Vec<u8> {
        sequence(&[
            &self.to_be_signed(),
            &algorithm(self.scheme),
            &bit_string(signature),
        ])
    }

    fn extensions(&self) -> Vec<u8> {
        let extension = |id, critical: bool, value: &[u8]| {
            let critical: &[u8] = if critical { &TRUE } else { &[] };
            sequence(&[&oid(id), critical, &element(OCTET_STRING, &[value])])
        };
        // RFC 7093: the leftmost 160 bits of the key's SHA-256.
        let key_id = Sha256::digest(self.public_key.key());
        let mut all = vec![
            extension(BASIC_CONSTRAINTS, true, &sequence(&[])),
            // digitalSignature, the first bit of a named bit list.
            extension(KEY_USAGE, true, &[0x03, 0x02, 0x07, 0x80]),
            extension(SUBJECT_KEY_ID, false, &element(OCTET_STRING, &[&key_id[..20]])),
        ];
        if self.code_signing {
            let purposes = sequence(&[&oid(CODE_SIGNING)]);
            all.push(extension(EXTENDED_KEY_USAGE, false, &purposes));
        }
        all.concat()
    }
}

fn algorithm(scheme: Scheme) -> Vec<u8> {
    let (id, null) = match scheme {
        Scheme::RsaPkcs1Sha256 => ("1.2.840.113549.1.1.11", true),
        Scheme::RsaPkcs1Sha384 => ("1.2.840.113549.1.1.12", true),
        Scheme::RsaPkcs1Sha512 => ("1.2.840.113549.1.1.13", true),
        Scheme::EcdsaP256Sha256 => ("1.2.840.10045.4.3.2", false),
        Scheme::EcdsaP384Sha384 => ("1.2.840.10045.4.3.3", false),
        Scheme::Ed25519 => ("1.3.101.112", false),
    };
    let parameters: &[u8] = if null { &NULL } else { &[] };
    sequence(&[&oid(ObjectIdentifier::new_unwrap(id)), parameters])
}

/// `Time` of RFC 5280: two digits of the year until 2049, four from then on.
fn time(seconds: i64) -> Vec<u8> {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let encoded = if seconds < YEAR_2050 {
        UtcTime::from_unix_duration(since).and_then(|time| time.to_der())
    } else {
        GeneralizedTime::from_unix_duration(since).and_then(|time| time.to_der())
    };
    // Years until 9999 can be written.
    encoded.unwrap_or_default()
}
