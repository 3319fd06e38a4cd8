//! The JSON metadata: keyslots, tokens, one segment, digests and configuration. `parse.rs` reads it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::entropy::VolumeKey;
use super::error::Luks2Error;
use super::hash::Hash;
use super::json::encode;
use super::kdf::{Argon2Costs, Kdf, SALT_SIZE};
use super::stripes::STRIPES;
use super::xts::SectorSize;

/// The one cipher that is written and accepted, for the data and for keyslots, as metadata names it.
pub const CIPHER: &str = "aes-xts-plain64";
/// Most keyslots, and most tokens, of a volume.
pub const MAX_KEYSLOTS: u32 = 32;

/// All that the JSON says.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// By number.
    pub keyslots: BTreeMap<u32, Keyslot>,
    /// By number.
    pub tokens: BTreeMap<u32, Token>,
    pub segment: Segment,
    /// By number. Exactly one belongs to the segment; others are of keyslots that hold unrelated keys.
    pub digests: BTreeMap<u32, Digest>,
    pub config: Config,
}

/// A key, encrypted under a key that derives from a passphrase or key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyslot {
    /// Length of the key that it holds, in bytes: 64 or 32.
    pub key_size: usize,
    pub priority: Priority,
    /// Hash of the anti-forensic splitter.
    pub af_hash: Hash,
    pub area: Area,
    pub kdf: Kdf,
    /// Salt of the key derivation.
    pub salt: [u8; SALT_SIZE],
}

/// Which keyslots are tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not tried unless named.
    Ignore,
    Normal,
    /// Before the others.
    Prefer,
}

/// Where a keyslot's stripes lie, encrypted in sectors of 512 bytes that are numbered from the area's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// From the start of the volume, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// Length of the key that the area is encrypted with, in bytes: 64 or 32.
    pub key_size: usize,
}

/// How a keyslot may be unlocked, for programs that know the token's type (`systemd-tpm2`, `systemd-recovery`).
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its `type`.
    pub kind: String,
    /// Numbers of the keyslots that it is for, rising.
    pub keyslots: Vec<u32>,
    /// All its other fields, as they are.
    pub fields: Map<String, Value>,
}

/// The encrypted data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub number: u32,
    /// From the start of the volume, in bytes.
    pub offset: u64,
    /// In bytes; `None` is all there is behind `offset`.
    pub size: Option<u64>,
    /// Added to every sector's tweak, in units of 512 bytes.
    pub iv_tweak: u64,
    pub sector_size: SectorSize,
}

/// By what a key is known to be the right one: PBKDF2 of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Numbers of the keyslots that hold this key, rising.
    pub keyslots: Vec<u32>,
    /// Numbers of the segments that are encrypted with it, rising.
    pub segments: Vec<u32>,
    pub hash: Hash,
    pub iterations: u32,
    pub salt: [u8; SALT_SIZE],
    /// As long as the hash's digest, or 20 bytes in volumes that were LUKS1 once.
    pub digest: Vec<u8>,
}

/// Sizes and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of JSON in each copy of the header.
    pub json_size: u64,
    /// Bytes for keyslot areas behind the two copies.
    pub keyslots_size: u64,
    /// What `cryptsetup open` does with the volume by itself, such as `allow-discards`.
    pub flags: Vec<String>,
}

impl Metadata {
    /// The digest of the volume key.
    pub fn segment_digest(&self) -> Option<&Digest> {
        self.digests
            .values()
            .find(|digest| digest.segments.contains(&self.segment.number))
    }

    /// Its JSON, sections and fields in cryptsetup's order.
    pub(super) fn to_json(&self) -> Value {
        fn section<T>(items: &BTreeMap<u32, T>, json: impl Fn(&T) -> Value) -> Value {
            let named = |(number, item): (&u32, &T)| (number.to_string(), json(item));
            Value::Object(items.iter().map(named).collect())
        }
        json!({
            "keyslots": section(&self.keyslots, Keyslot::to_json),
            "tokens": section(&self.tokens, Token::to_json),
            "segments": { self.segment.number.to_string(): self.segment.to_json() },
            "digests": section(&self.digests, Digest::to_json),
            "config": self.config.to_json(),
        })
    }
}

impl Keyslot {
    /// Bytes of all its stripes: a whole number of sectors of 512 bytes.
    pub(super) fn stripes_size(&self) -> usize {
        self.key_size * STRIPES
    }

    fn to_json(&self) -> Value {
        let mut keyslot = json!({
            "type": "luks2",
            "key_size": self.key_size,
            "af": {
                "type": "luks1",
                "stripes": STRIPES,
                "hash": self.af_hash.name(),
            },
            "area": {
                "type": "raw",
                "offset": self.area.offset.to_string(),
                "size": self.area.size.to_string(),
                "encryption": CIPHER,
                "key_size": self.area.key_size,
            },
            "kdf": self.kdf_json(),
        });
        match self.priority {
            Priority::Ignore => keyslot["priority"] = 0.into(),
            Priority::Normal => {}
            Priority::Prefer => keyslot["priority"] = 2.into(),
        }
        keyslot
    }

    fn kdf_json(&self) -> Value {
        let salt = encode(&self.salt);
        let argon2 = |kind: &str, costs: &Argon2Costs| {
            json!({
                "type": kind,
                "time": costs.time,
                "memory": costs.memory,
                "cpus": costs.lanes,
                "salt": salt,
            })
        };
        match &self.kdf {
            Kdf::Pbkdf2 { hash, iterations } => json!({
                "type": "pbkdf2",
                "hash": hash.name(),
                "iterations": iterations,
                "salt": salt,
            }),
            Kdf::Argon2i(costs) => argon2("argon2i", costs),
            Kdf::Argon2id(costs) => argon2("argon2id", costs),
        }
    }
}

impl Token {
    fn to_json(&self) -> Value {
        let mut token = Map::new();
        token.insert("type".to_owned(), self.kind.as_str().into());
        token.insert("keyslots".to_owned(), numbers(&self.keyslots));
        token.extend(self.fields.clone());
        Value::Object(token)
    }
}

impl Segment {
    fn to_json(&self) -> Value {
        let size = self.size.map(|size| size.to_string());
        json!({
            "type": "crypt",
            "offset": self.offset.to_string(),
            "size": size.unwrap_or_else(|| "dynamic".to_owned()),
            "iv_tweak": self.iv_tweak.to_string(),
            "encryption": CIPHER,
            "sector_size": self.sector_size.bytes(),
        })
    }
}

impl Digest {
    /// Whether `key` is the key that this was made of.
    pub fn fits(&self, key: &VolumeKey) -> bool {
        self.digest == Self::of(self.hash, key, &self.salt, self.iterations, self.digest.len())
    }

    pub(super) fn of(
        hash: Hash,
        key: &VolumeKey,
        salt: &[u8; SALT_SIZE],
        iterations: u32,
        size: usize,
    ) -> Vec<u8> {
        let mut digest = vec![0; size];
        hash.pbkdf2(key.as_bytes(), salt, iterations, &mut digest);
        digest
    }

    fn to_json(&self) -> Value {
        json!({
            "type": "pbkdf2",
            "keyslots": numbers(&self.keyslots),
            "segments": numbers(&self.segments),
            "hash": self.hash.name(),
            "iterations": self.iterations,
            "salt": encode(&self.salt),
            "digest": encode(&self.digest),
        })
    }
}

impl Config {
    fn to_json(&self) -> Value {
        let mut config = json!({
            "json_size": self.json_size.to_string(),
            "keyslots_size": self.keyslots_size.to_string(),
        });
        if !self.flags.is_empty() {
            config["flags"] = json!(self.flags);
        }
        config
    }
}

fn numbers(numbers: &[u32]) -> Value {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().into()
}

/// Whether a key of so many bytes is one of AES-XTS.
pub(super) fn is_key_size(size: u64) -> bool {
    matches!(size, 32 | 64)
}

impl TryFrom<Map<String, Value>> for Token {
    type Error = Luks2Error;

    /// A token as programs write it: an object with `type` and `keyslots`, and whatever else.
    ///
    /// # Errors
    /// Either of the two is missing or of another type.
    fn try_from(mut fields: Map<String, Value>) -> Result<Self, Luks2Error> {
        let object = super::json::Object::new("a token", &fields);
        let kind = object.text("type")?.to_owned();
        let keyslots = object.numbers("keyslots")?;
        fields.shift_remove("type");
        fields.shift_remove("keyslots");
        Ok(Self {
            kind,
            keyslots,
            fields,
        })
    }
}
