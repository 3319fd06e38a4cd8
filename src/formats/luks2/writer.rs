//! Making a volume: both headers and the keyslots. Its data is written through [`Header::open`].

use std::collections::BTreeMap;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::at::WriteAt;
use super::binary::{self, BINARY_SIZE, Fields, HEADER_SALT_SIZE, HEADER_SIZES, MAX_LABEL, Which};
use super::check::{self, AREA_ALIGNMENT, MAX_KEYSLOTS_SIZE};
use super::entropy::{EMPTY_SECRET, Entropy, Purpose, VolumeKey};
use super::error::Luks2Error;
use super::hash::Hash;
use super::header::{CopyState, Header};
use super::kdf::{Kdf, SALT_SIZE};
use super::metadata::{Area, Config, Digest, Keyslot, MAX_KEYSLOTS, Metadata, Priority, Segment, Token};
use super::xts::SectorSize;

/// What the data's start is aligned to, in bytes.
const DATA_ALIGNMENT: u64 = 1 << 20;
/// The longest key file that cryptsetup reads.
const MAX_SECRET: usize = 8 << 20;
/// The deepest nesting that json-c, and so cryptsetup, reads; a token's fields lie three levels down.
const MAX_DEPTH: usize = 32;

/// What a volume is made with, beside its key.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    pub uuid: Uuid,
    /// At most 47 bytes; empty for none.
    pub label: &'a str,
    /// At most 47 bytes; empty for none.
    pub subsystem: &'a str,
    pub layout: Layout,
    pub sector_size: SectorSize,
    /// In the order of their numbers, from 0 on.
    pub keyslots: Vec<NewKeyslot<'a>>,
    /// In the order of their numbers, from 0 on.
    pub tokens: Vec<Token>,
    /// See [`Config::flags`].
    pub flags: Vec<String>,
    /// PBKDF2 iterations of the volume key's digest. The key is random, so [`Kdf::RANDOM_KEY`]'s are enough.
    pub digest_iterations: u32,
}

/// Where the parts of a volume lie, in bytes: two headers, the keyslots' space, data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// One copy of the header: a power of two from 16 KiB to 4 MiB.
    pub header_size: u64,
    /// A multiple of 4096, up to 128 MiB. A keyslot of a 512-bit key takes 252 KiB.
    pub keyslots_size: u64,
    /// A multiple of 1 MiB.
    pub data_offset: u64,
}

/// A keyslot to be made.
#[derive(Clone)]
pub struct NewKeyslot<'a> {
    /// The passphrase, or all bytes of the key file, a newline at its end included.
    pub secret: &'a [u8],
    pub kdf: Kdf,
    pub priority: Priority,
}

impl std::fmt::Debug for NewKeyslot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewKeyslot({:?}, {:?})", self.kdf, self.priority)
    }
}

impl Default for Layout {
    /// That of cryptsetup: data from 16 MiB on, headers of 16 KiB, all between for keyslots.
    fn default() -> Self {
        Self {
            header_size: 16 << 10,
            keyslots_size: (16 << 20) - (32 << 10),
            data_offset: 16 << 20,
        }
    }
}

impl Layout {
    /// Headers and keyslots of these sizes, and data on the next boundary of 1 MiB.
    pub fn new(header_size: u64, keyslots_size: u64) -> Self {
        let end = header_size.saturating_mul(2).saturating_add(keyslots_size);
        Self {
            header_size,
            keyslots_size,
            data_offset: end.div_ceil(DATA_ALIGNMENT).saturating_mul(DATA_ALIGNMENT),
        }
    }

    fn check(&self) -> Result<(), Luks2Error> {
        let refuse = |what: String| Err(Luks2Error::Parameters(what));
        let (header, keyslots, data) = (self.header_size, self.keyslots_size, self.data_offset);
        if !HEADER_SIZES.contains(&header) {
            return refuse(format!(
                "a header has a power of two from 16 KiB to 4 MiB, not {header} bytes"
            ));
        }
        if keyslots > MAX_KEYSLOTS_SIZE || !keyslots.is_multiple_of(AREA_ALIGNMENT) {
            return refuse(format!(
                "the keyslots' space is a multiple of 4096 bytes up to 128 MiB, not {keyslots} bytes"
            ));
        }
        if !data.is_multiple_of(DATA_ALIGNMENT) || data < 2 * header + keyslots {
            return refuse(format!(
                "the data begins on a boundary of 1 MiB behind headers and keyslots, not at byte {data}"
            ));
        }
        Ok(())
    }
}

impl<'a> Params<'a> {
    /// One keyslot in cryptsetup's layout, sectors of 4096 bytes, no label, no token.
    pub fn new(uuid: Uuid, secret: &'a [u8], kdf: Kdf) -> Self {
        let keyslot = NewKeyslot {
            secret,
            kdf,
            priority: Priority::Normal,
        };
        Self {
            uuid,
            label: "",
            subsystem: "",
            layout: Layout::default(),
            sector_size: SectorSize::MAX,
            keyslots: vec![keyslot],
            tokens: Vec::new(),
            flags: Vec::new(),
            digest_iterations: 1000,
        }
    }

    fn check(&self) -> Result<(), Luks2Error> {
        let refuse = |what: String| Err(Luks2Error::Parameters(what));
        self.layout.check()?;
        for (what, text) in [("label", self.label), ("subsystem", self.subsystem)] {
            if text.len() > MAX_LABEL || text.contains('\0') {
                return refuse(format!(
                    "the {what} {text:?} is not of up to {MAX_LABEL} bytes without NUL"
                ));
            }
        }
        for (what, count) in [("keyslots", self.keyslots.len()), ("tokens", self.tokens.len())] {
            if count > MAX_KEYSLOTS as usize {
                return refuse(format!("it can have {MAX_KEYSLOTS} {what}, not {count}"));
            }
        }
        if self.keyslots.is_empty() {
            return refuse("without a keyslot nothing could ever open it".to_owned());
        }
        for keyslot in &self.keyslots {
            keyslot.kdf.check()?;
            if keyslot.secret.is_empty() {
                return refuse(EMPTY_SECRET.to_owned());
            }
            if keyslot.secret.len() > MAX_SECRET {
                return refuse(
                    "the key file is longer than 8 MiB, which cryptsetup does not read".to_owned(),
                );
            }
        }
        if let Some(token) = self.tokens.iter().find(|token| too_deep(token)) {
            return refuse(format!(
                "the token of type {:?} is nested deeper than {MAX_DEPTH} levels",
                token.kind
            ));
        }
        Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: self.digest_iterations,
        }
        .check()
    }
}

fn too_deep(token: &Token) -> bool {
    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    3 + token.fields.values().map(depth).max().unwrap_or(0) >= MAX_DEPTH
}

/// Makes a volume of `size` bytes in `volume`: writes both headers and the keyslots, and gives the header as it would be
/// read back.
///
/// Everything else is left as it is, the space for further keyslots and the data; `volume` should be new or wiped there.
/// The same arguments and the same entropy give the same bytes.
///
/// # Errors
/// Parameters that cryptsetup would not read, or that protect nothing; a volume too small for them; I/O.
pub fn format(
    volume: &impl WriteAt,
    size: u64,
    key: &VolumeKey,
    params: &Params<'_>,
    entropy: &mut impl Entropy,
) -> Result<Header, Luks2Error> {
    params.check()?;
    let header = header(size, key, params, entropy)?;
    let json = serde_json::to_vec(&header.metadata.to_json()).map_err(std::io::Error::from)?;
    if json.len() as u64 >= header.metadata.config.json_size {
        return Err(Luks2Error::Parameters(format!(
            "its metadata has {} bytes of JSON, too many for headers of {} bytes; give it larger ones",
            json.len(),
            header.header_size
        )));
    }
    // The headers come last: a volume that was not finished is none.
    for ((number, keyslot), new) in header.metadata.keyslots.iter().zip(&params.keyslots) {
        let mut stripes = Zeroizing::new(vec![0; keyslot.stripes_size()]);
        let random = keyslot.stripes_size() - keyslot.key_size;
        entropy.fill(Purpose::Stripes { keyslot: *number }, &mut stripes[..random])?;
        keyslot.seal(key, new.secret, &mut stripes)?;
        volume.write_all_at(&stripes, keyslot.area.offset)?;
    }
    // At most 4 MiB: `Layout::check` accepts no more.
    let header_size = header.header_size as usize;
    for (copy, which, offset) in [(0, Which::First, 0), (1, Which::Second, header.header_size)] {
        let mut salt = [0; HEADER_SALT_SIZE];
        entropy.fill(Purpose::HeaderSalt { copy }, &mut salt)?;
        let fields = Fields {
            sequence: header.sequence,
            label: header.label.clone(),
            subsystem: header.subsystem.clone(),
            uuid: header.uuid.hyphenated().to_string(),
            salt,
        };
        volume.write_all_at(&binary::encode(which, &fields, header_size, &json), offset)?;
    }
    Ok(header)
}

fn header(
    size: u64,
    key: &VolumeKey,
    params: &Params<'_>,
    entropy: &mut impl Entropy,
) -> Result<Header, Luks2Error> {
    let layout = params.layout;
    let key_size = key.as_bytes().len();
    let mut keyslots = BTreeMap::new();
    let mut offset = 2 * layout.header_size;
    for (number, new) in (0..).zip(&params.keyslots) {
        let mut salt = [0; SALT_SIZE];
        entropy.fill(Purpose::KeyslotSalt { keyslot: number }, &mut salt)?;
        let mut keyslot = Keyslot {
            key_size,
            priority: new.priority,
            af_hash: Hash::Sha256,
            area: Area {
                offset,
                size: 0,
                key_size: 64,
            },
            kdf: new.kdf,
            salt,
        };
        keyslot.area.size = (keyslot.stripes_size() as u64).next_multiple_of(AREA_ALIGNMENT);
        offset += keyslot.area.size;
        keyslots.insert(number, keyslot);
    }
    let mut salt = [0; SALT_SIZE];
    entropy.fill(Purpose::DigestSalt, &mut salt)?;
    let (hash, iterations) = (Hash::Sha256, params.digest_iterations);
    let digest = Digest {
        keyslots: keyslots.keys().copied().collect(),
        segments: vec![0],
        hash,
        iterations,
        salt,
        digest: Digest::of(hash, key, &salt, iterations, hash.size()),
    };
    let metadata = Metadata {
        keyslots,
        tokens: (0..).zip(params.tokens.iter().cloned()).collect(),
        segment: Segment {
            number: 0,
            offset: layout.data_offset,
            size: None,
            iv_tweak: 0,
            sector_size: params.sector_size,
        },
        digests: BTreeMap::from([(0, digest)]),
        config: Config {
            json_size: layout.header_size - BINARY_SIZE,
            keyslots_size: layout.keyslots_size,
            flags: params.flags.clone(),
        },
    };
    check::check(&metadata, layout.header_size, size).map_err(|error| match error {
        Luks2Error::Metadata { place, why } => Luks2Error::Parameters(format!("{place} {why}")),
        other => other,
    })?;
    Ok(Header {
        uuid: params.uuid,
        label: params.label.to_owned(),
        subsystem: params.subsystem.to_owned(),
        sequence: 1,
        header_size: layout.header_size,
        metadata,
        copies: [CopyState::Good, CopyState::Good],
        volume_size: size,
    })
}
