//! From JSON to [`Metadata`]: everything that is not known and safe is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Luks2Error;
use super::hash::Hash;
use super::json::Object;
use super::kdf::{Argon2Costs, Kdf, SALT_SIZE};
use super::metadata::{
    Area, CIPHER, Config, Digest, Keyslot, MAX_KEYSLOTS, Metadata, Priority, Segment, Token, is_key_size,
};
use super::stripes::STRIPES;
use super::xts::SectorSize;

const MAX_DIGESTS: u32 = 8;
const MAX_SEGMENTS: u32 = 32;
/// Length of digests in volumes that were converted from LUKS1.
const LUKS1_DIGEST: usize = 20;

/// Reads the metadata. How its parts fit together, and to the volume, is for `check.rs`.
pub(super) fn metadata(map: &Map<String, Value>) -> Result<Metadata, Luks2Error> {
    let root = Object::new("its JSON", map);
    let mut tokens = BTreeMap::new();
    for (number, token) in root.numbered("tokens", "token", MAX_KEYSLOTS)? {
        let parsed = Token::try_from(token.map.clone()).map_err(|error| match error {
            Luks2Error::Metadata { why, .. } => token.error(why),
            other => other,
        })?;
        tokens.insert(number, parsed);
    }
    Ok(Metadata {
        keyslots: items(root.numbered("keyslots", "keyslot", MAX_KEYSLOTS)?, keyslot)?,
        tokens,
        segment: only_segment(&root)?,
        digests: items(root.numbered("digests", "digest", MAX_DIGESTS)?, digest)?,
        config: config(&root.object("config")?)?,
    })
}

fn items<T>(
    objects: Vec<(u32, Object<'_>)>,
    parse: fn(&Object<'_>) -> Result<T, Luks2Error>,
) -> Result<BTreeMap<u32, T>, Luks2Error> {
    objects
        .iter()
        .map(|(number, object)| Ok((*number, parse(object)?)))
        .collect()
}

fn keyslot(object: &Object<'_>) -> Result<Keyslot, Luks2Error> {
    object.only("type", "luks2")?;
    let af = object.object("af")?;
    af.only("type", "luks1")?;
    if af.count("stripes")? as usize != STRIPES {
        return Err(af.error(format!(
            "has not {STRIPES} stripes, which is all that cryptsetup takes"
        )));
    }
    let area = object.object("area")?;
    area.only("type", "raw")?;
    area.only("encryption", CIPHER)?;
    let derivation = object.object("kdf")?;
    let priority = if object.has("priority") {
        match object.count("priority")? {
            0 => Priority::Ignore,
            1 => Priority::Normal,
            2 => Priority::Prefer,
            other => return Err(object.error(format!("has the unknown priority {other}"))),
        }
    } else {
        Priority::Normal
    };
    Ok(Keyslot {
        key_size: key_size(object)?,
        priority,
        af_hash: hash(&af)?,
        area: Area {
            offset: area.decimal("offset")?,
            size: area.decimal("size")?,
            key_size: key_size(&area)?,
        },
        kdf: kdf(&derivation)?,
        salt: salt(&derivation)?,
    })
}

fn key_size(object: &Object<'_>) -> Result<usize, Luks2Error> {
    let size = object.count("key_size")?;
    if !is_key_size(size.into()) {
        return Err(object.error(format!("has a key of {size} bytes; AES-XTS takes 64 or 32")));
    }
    Ok(size as usize)
}

fn hash(object: &Object<'_>) -> Result<Hash, Luks2Error> {
    let name = object.text("hash")?;
    Hash::named(name).ok_or_else(|| object.error(format!("has the unknown hash {name:?}")))
}

fn salt(object: &Object<'_>) -> Result<[u8; SALT_SIZE], Luks2Error> {
    let wrong = |salt: Vec<u8>| object.error(format!("has a salt of {} bytes, not {SALT_SIZE}", salt.len()));
    object.bytes("salt")?.try_into().map_err(wrong)
}

/// A number of passes, iterations or the like: none at all is an attack on the passphrase.
fn cost(object: &Object<'_>, key: &str) -> Result<u32, Luks2Error> {
    match object.count(key)? {
        0 => Err(object.error(format!("has {key} 0"))),
        cost => Ok(cost),
    }
}

fn kdf(object: &Object<'_>) -> Result<Kdf, Luks2Error> {
    let costs = || {
        let costs = Argon2Costs {
            time: cost(object, "time")?,
            memory: cost(object, "memory")?,
            lanes: cost(object, "cpus")?,
        };
        // RFC 9106 does not define it for less.
        if costs.memory / 8 < costs.lanes {
            let (memory, lanes) = (costs.memory, costs.lanes);
            return Err(object.error(format!(
                "has {memory} KiB of memory for {lanes} lanes of at least 8"
            )));
        }
        Ok(costs)
    };
    match object.text("type")? {
        "pbkdf2" => Ok(Kdf::Pbkdf2 {
            hash: hash(object)?,
            iterations: cost(object, "iterations")?,
        }),
        "argon2i" => Ok(Kdf::Argon2i(costs()?)),
        "argon2id" => Ok(Kdf::Argon2id(costs()?)),
        other => Err(object.error(format!("is of the unknown type {other:?}"))),
    }
}

/// The one segment. Several are there only while a volume is re-encrypted.
fn only_segment(root: &Object<'_>) -> Result<Segment, Luks2Error> {
    let segments = root.numbered("segments", "segment", MAX_SEGMENTS)?;
    let [(number, object)] = segments.as_slice() else {
        let why = format!("has {} segments; exactly one is accepted", segments.len());
        return Err(root.error(why));
    };
    object.only("type", "crypt")?;
    object.only("encryption", CIPHER)?;
    for unknown in ["integrity", "flags"] {
        if object.has(unknown) {
            return Err(object.error(format!("has {unknown:?}, which is not supported")));
        }
    }
    let size = match object.text("size")? {
        "dynamic" => None,
        _ => Some(object.decimal("size")?),
    };
    let sector_size = object.count("sector_size")?;
    Ok(Segment {
        number: *number,
        offset: object.decimal("offset")?,
        size,
        iv_tweak: object.decimal("iv_tweak")?,
        sector_size: SectorSize::new(sector_size)
            .ok_or_else(|| object.error(format!("has sectors of {sector_size} bytes")))?,
    })
}

fn digest(object: &Object<'_>) -> Result<Digest, Luks2Error> {
    object.only("type", "pbkdf2")?;
    let hash = hash(object)?;
    let digest = object.bytes("digest")?;
    if digest.len() != hash.size() && digest.len() != LUKS1_DIGEST {
        return Err(object.error(format!("has {} bytes, not {}", digest.len(), hash.size())));
    }
    Ok(Digest {
        keyslots: object.numbers("keyslots")?,
        segments: object.numbers("segments")?,
        hash,
        iterations: cost(object, "iterations")?,
        salt: salt(object)?,
        digest,
    })
}

fn config(object: &Object<'_>) -> Result<Config, Luks2Error> {
    if object.has("requirements") {
        let requirements = object.object("requirements")?;
        let mandatory = match requirements.has("mandatory") {
            true => requirements.strings("mandatory")?,
            false => Vec::new(),
        };
        if let Some(first) = mandatory.first() {
            let why = format!("demands {first:?} of its reader, which is not supported");
            return Err(requirements.error(why));
        }
    }
    let flags = match object.has("flags") {
        true => object.strings("flags")?,
        false => Vec::new(),
    };
    Ok(Config {
        json_size: object.decimal("json_size")?,
        keyslots_size: object.decimal("keyslots_size")?,
        flags: flags.into_iter().map(str::to_owned).collect(),
    })
}
