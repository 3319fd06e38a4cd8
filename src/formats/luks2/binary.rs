//! The binary part of a header: what stands before the JSON, twice on a volume.
//!
//! Specification: *LUKS2 On-Disk Format* 1.1, section 2. Integers are big-endian. Each copy is 4096 bytes and the JSON
//! area; the second one follows the first.

use super::hash::Hash;

/// Bytes before the JSON.
pub const BINARY_SIZE: u64 = 4096;
/// Sizes that a copy of the header may have, JSON included; also where the second copy may begin.
pub const HEADER_SIZES: [u64; 9] = [
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
];
/// Longest label or subsystem, in bytes: a field of 48 that ends with NUL.
pub const MAX_LABEL: usize = 47;
/// Bytes of a header's salt.
pub const HEADER_SALT_SIZE: usize = 64;

const BINARY: usize = 4096;
const FIRST_MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
const SECOND_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";
const VERSION: u16 = 2;

const VERSION_AT: usize = 6;
const SIZE_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const LABEL_AT: usize = 24;
const LABEL: usize = 48;
const CHECKSUM_NAME_AT: usize = 72;
const CHECKSUM_NAME: usize = 32;
const SALT_AT: usize = 104;
const UUID_AT: usize = 168;
const UUID: usize = 40;
const SUBSYSTEM_AT: usize = 208;
const OFFSET_AT: usize = 256;
const CHECKSUM_AT: usize = 448;
const CHECKSUM: usize = 64;

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Second,
}

/// What the binary part says, but for size and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub sequence: u64,
    pub label: String,
    pub subsystem: String,
    /// As it stands there: cryptsetup takes any text, so a reader decides only when the copy is chosen.
    pub uuid: String,
    pub salt: [u8; HEADER_SALT_SIZE],
}

/// Writes one copy: binary part, JSON, zeros up to `size`; `json` is shorter than that by more than [`BINARY_SIZE`].
pub(super) fn encode(which: Which, fields: &Fields, size: usize, json: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let (magic, offset) = match which {
        Which::First => (FIRST_MAGIC, 0),
        Which::Second => (SECOND_MAGIC, size as u64),
    };
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, magic);
    put(VERSION_AT, &VERSION.to_be_bytes());
    put(SIZE_AT, &(size as u64).to_be_bytes());
    put(SEQUENCE_AT, &fields.sequence.to_be_bytes());
    put(LABEL_AT, fields.label.as_bytes());
    put(CHECKSUM_NAME_AT, Hash::Sha256.name().as_bytes());
    put(SALT_AT, &fields.salt);
    put(UUID_AT, fields.uuid.as_bytes());
    put(SUBSYSTEM_AT, fields.subsystem.as_bytes());
    put(OFFSET_AT, &offset.to_be_bytes());
    put(BINARY, json);
    let checksum = Hash::Sha256.digest(&[&bytes]);
    bytes[CHECKSUM_AT..CHECKSUM_AT + checksum.len()].copy_from_slice(&checksum);
    bytes
}

/// The size that a copy gives itself, from its first [`BINARY_SIZE`] bytes, so that the rest can be read.
///
/// # Errors
/// Why there is no such header at `offset`.
pub(super) fn size(which: Which, offset: u64, binary: &[u8; BINARY]) -> Result<u64, String> {
    let magic = match which {
        Which::First => FIRST_MAGIC,
        Which::Second => SECOND_MAGIC,
    };
    if binary[..magic.len()] != *magic {
        return Err("is not there".to_owned());
    }
    let version = u16::from_be_bytes([binary[VERSION_AT], binary[VERSION_AT + 1]]);
    if version != VERSION {
        return Err(format!("is of version {version}, not 2"));
    }
    let size = number(binary, SIZE_AT);
    if !HEADER_SIZES.contains(&size) {
        return Err(format!("says it has {size} bytes, which no LUKS2 header has"));
    }
    let said = number(binary, OFFSET_AT);
    if said != offset || (which == Which::Second && offset != size) {
        return Err(format!("was made for another place than byte {offset}"));
    }
    Ok(size)
}

/// Checks the checksum of a whole copy, whose [`size`] was found good; gives fields and JSON.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<(Fields, &[u8]), String> {
    let (binary, json) = bytes
        .split_at_checked(BINARY)
        .ok_or_else(|| "is cut off".to_owned())?;
    let name = text(&binary[CHECKSUM_NAME_AT..][..CHECKSUM_NAME]);
    let hash = Hash::named(&name).ok_or_else(|| format!("has a checksum of the unknown kind {name:?}"))?;
    let (before, rest) = binary.split_at(CHECKSUM_AT);
    let (checksum, after) = rest.split_at(CHECKSUM);
    let found = hash.digest(&[before, &[0; CHECKSUM], after, json]);
    if checksum[..found.len()] != found {
        return Err("is damaged: its checksum is of other bytes".to_owned());
    }
    let mut salt = [0; HEADER_SALT_SIZE];
    salt.copy_from_slice(&binary[SALT_AT..][..HEADER_SALT_SIZE]);
    let fields = Fields {
        sequence: number(binary, SEQUENCE_AT),
        label: text(&binary[LABEL_AT..][..LABEL]),
        subsystem: text(&binary[SUBSYSTEM_AT..][..LABEL]),
        uuid: text(&binary[UUID_AT..][..UUID]),
        salt,
    };
    Ok((fields, json))
}

fn number(binary: &[u8], at: usize) -> u64 {
    binary[at..at + 8]
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Text up to the first NUL. Programs put any bytes into labels, so what is no UTF-8 is replaced.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
