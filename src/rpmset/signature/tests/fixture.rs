//! Keys, signatures and packages to order.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::composed::{KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey, SubkeyParamsBuilder};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    PacketTrait as _, Signature, SignatureConfig, SignatureType, SignatureVersionSpecific, Subpacket,
    SubpacketData,
};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyVersion, Password, SigningKey, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::formats::rpm::tag::{self, signature};
use crate::rpmset::Package;
use crate::rpmset::signature::{Keyring, Policy, Verdict, verify};
use crate::store::hex;

/// When the keys here were made.
pub const BORN: u32 = 1_000_000_000;

pub fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// A key made at [`BORN`] that may sign, with a subkey that may, too.
pub fn key(kind: KeyType, version: KeyVersion) -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .version(version)
        .key_type(kind.clone())
        .can_sign(true)
        .created_at(Timestamp::from_secs(BORN))
        .build()
        .unwrap();
    SecretKeyParamsBuilder::default()
        .version(version)
        .key_type(kind)
        .can_sign(true)
        .can_certify(true)
        .created_at(Timestamp::from_secs(BORN))
        .primary_user_id("Packager <p@example.org>".to_owned())
        .subkeys(vec![subkey])
        .build()
        .unwrap()
        .generate(rng())
        .unwrap()
}

pub fn ed25519() -> SignedSecretKey {
    key(KeyType::Ed25519Legacy, KeyVersion::V4)
}

/// What is particular about a signature to make.
pub struct Make {
    pub kind: SignatureType,
    pub hash: HashAlgorithm,
    pub made: u32,
    /// As version 3 has it.
    pub v3: bool,
    pub extra: Vec<SubpacketData>,
}

impl Default for Make {
    fn default() -> Self {
        Self {
            kind: SignatureType::Binary,
            hash: HashAlgorithm::Sha256,
            made: BORN + 1000,
            v3: false,
            extra: Vec::new(),
        }
    }
}

impl Make {
    pub fn at(made: u32) -> Self {
        Self {
            made,
            ..Self::default()
        }
    }

    pub fn config(&self, key: &impl SigningKey) -> SignatureConfig {
        let (created, algorithm) = (Timestamp::from_secs(self.made), key.algorithm());
        if self.v3 {
            return SignatureConfig::v3(self.kind, algorithm, self.hash, created, key.legacy_key_id());
        }
        let mut config = match key.version() {
            KeyVersion::V6 => SignatureConfig::v6(rng(), self.kind, algorithm, self.hash).unwrap(),
            _ => SignatureConfig::v4(self.kind, algorithm, self.hash),
        };
        let mut data = vec![
            SubpacketData::SignatureCreationTime(created),
            SubpacketData::IssuerFingerprint(key.fingerprint()),
        ];
        data.extend(self.extra.iter().cloned());
        config.hashed_subpackets = data
            .into_iter()
            .map(|it| Subpacket::regular(it).unwrap())
            .collect();
        assert_eq!(
            key.version() == KeyVersion::V6,
            matches!(config.version_specific, SignatureVersionSpecific::V6 { .. })
        );
        config
    }

    /// The packet, signed over `data`.
    pub fn sign(&self, key: &impl SigningKey, data: &[u8]) -> Vec<u8> {
        let config = self.config(key);
        if !self.v3 {
            return packet(&config.sign(key, &Password::empty(), data).unwrap());
        }
        // Nothing makes these any more.
        let mut hasher = self.hash.new_hasher().unwrap();
        hasher.update(data);
        config.hash_signature_data(&mut hasher).unwrap();
        let hash = hasher.finalize();
        let signed = key.sign(&Password::empty(), self.hash, &hash).unwrap();
        packet(&Signature::from_config(config, [hash[0], hash[1]], signed).unwrap())
    }
}

pub fn packet(signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.to_writer_with_header(&mut bytes).unwrap();
    bytes
}

/// A certificate whose self-certification was made anew, at `made` and with `extra`.
pub fn certified(secret: &SignedSecretKey, made: u32, extra: Vec<SubpacketData>) -> SignedPublicKey {
    let mut public = secret.to_public_key();
    let make = Make {
        kind: SignatureType::CertPositive,
        extra,
        ..Make::at(made)
    };
    let user = &mut public.details.users[0];
    let signature = make
        .config(&secret.primary_key)
        .sign_certification(
            &secret.primary_key,
            secret.primary_key.public_key(),
            &Password::empty(),
            pgp::types::Tag::UserId,
            &user.id,
        )
        .unwrap();
    user.signatures = vec![signature];
    public
}

pub fn lifetime(seconds: u32) -> SubpacketData {
    SubpacketData::KeyExpirationTime(Duration::from_secs(seconds))
}

/// A header of `values` (tag, type, count, bytes), in that order.
fn header(values: &[(u32, u32, u32, Vec<u8>)]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, kind, count, value) in values {
        while *kind == 4 && store.len() % 4 != 0 {
            store.push(0);
        }
        for word in [*tag, *kind, store.len() as u32, *count] {
            index.extend(word.to_be_bytes());
        }
        store.extend(value);
    }
    let mut raw = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    raw.extend((values.len() as u32).to_be_bytes());
    raw.extend((store.len() as u32).to_be_bytes());
    [raw, index, store].concat()
}

fn text(tag: u32, value: &str) -> (u32, u32, u32, Vec<u8>) {
    (tag, 6, 1, [value.as_bytes(), &[0]].concat())
}

/// A package without files, to be signed.
pub struct Unsigned {
    pub header: Vec<u8>,
    pub payload: Vec<u8>,
    directory: TempDir,
    name: &'static str,
}

impl Unsigned {
    pub fn new() -> Self {
        Self::named("tool", true)
    }

    /// With `digest`, the header has the payload's.
    pub fn named(name: &'static str, digest: bool) -> Self {
        let payload = b"not unpacked here".to_vec();
        let mut values = vec![
            text(tag::NAME, name),
            text(tag::VERSION, "1"),
            text(tag::RELEASE, "1"),
            text(tag::ARCH, "noarch"),
        ];
        if digest {
            values.push(text(tag::PAYLOADDIGEST, &hex(&Sha256::digest(&payload))));
        } else {
            // A file whose content only an MD5 speaks for.
            values.extend([
                (tag::FILESIZES, 4, 1, 3_u32.to_be_bytes().to_vec()),
                (tag::FILEMODES, 3, 1, 0o100_644_u16.to_be_bytes().to_vec()),
                (tag::FILERDEVS, 3, 1, vec![0; 2]),
                (tag::FILEMTIMES, 4, 1, vec![0; 4]),
                (tag::FILEDIGESTS, 8, 1, [&[b'a'; 32][..], &[0]].concat()),
                (tag::FILELINKTOS, 8, 1, vec![0]),
                (tag::FILEFLAGS, 4, 1, vec![0; 4]),
                (tag::FILEUSERNAME, 8, 1, b"root\0".to_vec()),
                (tag::FILEGROUPNAME, 8, 1, b"root\0".to_vec()),
                (tag::FILEVERIFYFLAGS, 4, 1, vec![0; 4]),
                (tag::DIRINDEXES, 4, 1, vec![0; 4]),
                (tag::BASENAMES, 8, 1, b"file\0".to_vec()),
                (tag::DIRNAMES, 8, 1, b"/usr/\0".to_vec()),
            ]);
        }
        Self {
            header: header(&values),
            payload,
            directory: TempDir::new().unwrap(),
            name,
        }
    }

    pub fn both(&self) -> Vec<u8> {
        [&self.header[..], &self.payload].concat()
    }

    pub fn write(&self, signatures: &[(u32, Vec<u8>)]) -> PathBuf {
        let single = |&(tag, ref bytes): &(u32, Vec<u8>)| (tag, 7, bytes.len() as u32, bytes.clone());
        let mut values = vec![text(signature::SHA256, &hex(&Sha256::digest(&self.header)))];
        values.extend(
            signatures
                .iter()
                .filter(|it| it.0 != signature::OPENPGP)
                .map(single),
        );
        let many: Vec<_> = signatures
            .iter()
            .filter(|it| it.0 == signature::OPENPGP)
            .collect();
        if !many.is_empty() {
            let texts = many
                .iter()
                .flat_map(|it| [STANDARD.encode(&it.1).into_bytes(), vec![0]].concat());
            values.push((signature::OPENPGP, 8, many.len() as u32, texts.collect()));
        }
        let mut lead = vec![0; 96];
        lead[..4].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb]);
        let mut file = [lead, header(&values)].concat();
        file.resize(file.len().next_multiple_of(8), 0);
        file.extend(self.both());
        let path = self.directory.path().join(format!("{}.rpm", self.name));
        std::fs::write(&path, file).unwrap();
        path
    }

    pub fn with(&self, signatures: &[(u32, Vec<u8>)]) -> Package {
        Package::open(&self.write(signatures)).unwrap()
    }

    /// The verdict with `signatures`, of the keys in `certificates`.
    pub fn verdict(&self, signatures: &[(u32, Vec<u8>)], certificates: &[SignedPublicKey]) -> Verdict {
        let keyring = keyring(certificates);
        verify(&self.with(signatures), &keyring, &Policy::default()).unwrap()
    }
}

/// Goes through files, as the program does.
pub fn keyring(certificates: &[SignedPublicKey]) -> Keyring {
    let directory = TempDir::new().unwrap();
    let write = |(number, certificate): (usize, &SignedPublicKey)| {
        let path = directory.path().join(number.to_string());
        // Binary and armored in turn.
        let bytes = match number % 2 {
            0 => certificate.to_bytes().unwrap(),
            _ => certificate.to_armored_bytes(None.into()).unwrap(),
        };
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let paths: Vec<_> = certificates.iter().enumerate().map(write).collect();
    Keyring::read(&paths).unwrap()
}

pub fn read(bytes: &[u8]) -> Result<Keyring, crate::rpmset::signature::SignatureError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, bytes).unwrap();
    Keyring::read(&[path])
}

pub fn upper(fingerprint: &impl std::fmt::Display) -> String {
    fingerprint.to_string().to_uppercase()
}

pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
