//! A delta's superblock: both commits, the new commit object, the list of parts.

use std::sync::LazyLock;

use super::super::Error;
use super::super::object::decode;
use super::name::DeltaName;
use super::part::{Entry, Part, number};
use crate::formats::gvariant::{self, Fixed, Text, Type, Value};
use crate::ostree::object::Kind;
use crate::store::Digest;

/// The types of its members.
const MEMBERS: [&[u8]; 8] = [
    b"a{sv}",
    b"t",
    b"ay",
    b"ay",
    b"(a{sv}aya(say)sstayay)",
    b"ay",
    b"a(uayttay)",
    b"a(yaytt)",
];

static TYPE: LazyLock<Type> = LazyLock::new(|| Type::Tuple(MEMBERS.iter().map(|text| kind(text)).collect()));

fn kind(text: &[u8]) -> Type {
    // Every text here is one, as the tests see.
    Type::parse(text).unwrap_or(Type::Variant)
}

/// An object that is fetched by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fallback {
    pub object: Digest,
    /// Bytes of the object file, and of its content.
    pub packed: u64,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Seconds since the epoch, UTC.
    pub timestamp: u64,
    pub name: DeltaName,
    /// The new commit object.
    pub commit: Vec<u8>,
    pub entries: Vec<Entry>,
    pub fallbacks: Vec<Fallback>,
}

/// Parts inside a superblock: the name of each, and its bytes.
pub(super) type Inline = Vec<(String, Vec<u8>)>;

impl Superblock {
    /// Its bytes, with `parts` and detached metadata of the commit inside.
    pub(super) fn serialise(&self, parts: &[Part], detached: Option<&[u8]>) -> Result<Vec<u8>, Error> {
        let directory = self.name.directory();
        let directory = directory.to_string_lossy();
        let names: Vec<_> = (0..parts.len())
            .map(|index| format!("{directory}/{index}"))
            .collect();
        let detached_name = format!("{directory}/commitmeta");
        let mut metadata = vec![("ostree.endianness", Value::Fixed(Fixed::Byte, u64::from(b'l')))];
        metadata.extend(names.iter().zip(parts).map(|(name, part)| {
            let (compression, bytes) = part.bytes.split_first().unwrap_or((&0, &[]));
            let compression = Value::Fixed(Fixed::Byte, u64::from(*compression));
            (
                name.as_str(),
                Value::Tuple(vec![compression, Value::bytes(bytes)]),
            )
        }));
        if let Some(detached) = detached {
            let value = decode(&kind(b"a{sv}"), detached, "the commit's detached metadata")?;
            metadata.push((&detached_name, value));
        }
        let commit = decode(&kind(MEMBERS[4]), &self.commit, "the commit")?;
        let objects: Vec<Vec<u8>> = self.entries.iter().map(objects).collect();
        let entries = self.entries.iter().zip(&objects).map(|(entry, objects)| {
            Value::Tuple(vec![
                Value::u32(0),
                Value::bytes(&entry.checksum.0),
                Value::u64(entry.size),
                Value::u64(entry.unpacked),
                Value::bytes(objects),
            ])
        });
        let fallbacks = self.fallbacks.iter().map(|fallback| {
            Value::Tuple(vec![
                Value::Fixed(Fixed::Byte, u64::from(number(Kind::File))),
                Value::bytes(&fallback.object.0),
                Value::u64(fallback.packed),
                Value::u64(fallback.size),
            ])
        });
        Ok(gvariant::serialise(&Value::Tuple(vec![
            Value::vardict(metadata),
            Value::u64(self.timestamp.swap_bytes()),
            Value::bytes(self.name.from.as_ref().map_or(&[], |from| &from.0)),
            Value::bytes(&self.name.to.0),
            commit,
            // Deltas to be applied before this one: nobody has ever written any.
            Value::bytes(&[]),
            Value::Array(kind(b"(uayttay)"), entries.collect()),
            Value::Array(kind(b"(yaytt)"), fallbacks.collect()),
        ])))
    }

    /// Reads one that says it is little-endian, with the parts inside it: name and bytes.
    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<(Self, Inline), Error> {
        let malformed = |what: &str| Error::Malformed {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        let value = decode(&TYPE, bytes, name)?;
        let Some([metadata, time, from, to, commit, before, entries, fallbacks]) = value.items() else {
            return Err(malformed("it has not eight members"));
        };
        let digest = |value: &Value<'_>| {
            let bytes = value.as_bytes().and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(Digest)
                .ok_or_else(|| malformed("a checksum has not 32 bytes"))
        };
        let number = |value: &Value<'_>| value.as_u64().unwrap_or_default();
        let mut little = false;
        let mut inline = Vec::new();
        for entry in metadata.items().unwrap_or_default() {
            let Some([Value::Text(Text::String, key), Value::Variant(value)]) = entry.items() else {
                return Err(malformed("its metadata is not keys and values"));
            };
            match &**value {
                Value::Fixed(Fixed::Byte, byte) if key == "ostree.endianness" => {
                    little = *byte == u64::from(b'l');
                }
                Value::Tuple(members) => {
                    if let [Value::Fixed(Fixed::Byte, compression), Value::Bytes(bytes)] = &members[..] {
                        let compression = u8::try_from(*compression).unwrap_or_default();
                        inline.push((key.to_string(), [&[compression], &bytes[..]].concat()));
                    }
                }
                _ => {}
            }
        }
        if !little {
            return Err(malformed("it does not say that its numbers are little-endian"));
        }
        if before.as_bytes() != Some(&[]) {
            return Err(malformed("it asks for other deltas before"));
        }
        let entries = entries.items().unwrap_or_default().iter().map(|entry| {
            let Some([version, checksum, size, unpacked, list]) = entry.items() else {
                return Err(malformed("a part has not five members"));
            };
            let list = list.as_bytes().unwrap_or_default();
            if version.as_u32() != Some(0) || list.len() % 33 != 0 {
                return Err(malformed("a part is of an unknown version"));
            }
            let objects = list.chunks_exact(33).filter_map(|object| {
                let (kind, digest) = object.split_first()?;
                Some((*kind, Digest(digest.try_into().ok()?)))
            });
            Ok(Entry {
                checksum: digest(checksum)?,
                size: number(size),
                unpacked: number(unpacked),
                objects: objects.collect(),
            })
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let fallbacks = fallbacks.items().unwrap_or_default().iter().map(|fallback| {
            let Some([_, object, packed, size]) = fallback.items() else {
                return Err(malformed("an object to be fetched has not four members"));
            };
            Ok(Fallback {
                object: digest(object)?,
                packed: number(packed),
                size: number(size),
            })
        });
        let superblock = Self {
            timestamp: number(time).swap_bytes(),
            name: DeltaName {
                from: match from.as_bytes() {
                    Some([]) => None,
                    _ => Some(digest(from)?),
                },
                to: digest(to)?,
            },
            commit: gvariant::serialise(commit),
            entries,
            fallbacks: fallbacks.collect::<Result<_, _>>()?,
        };
        Ok((superblock, inline))
    }
}

/// The objects of a part, as the superblock lists them.
fn objects(entry: &Entry) -> Vec<u8> {
    let mut list = Vec::with_capacity(entry.objects.len() * 33);
    for (kind, digest) in &entry.objects {
        list.push(*kind);
        list.extend_from_slice(&digest.0);
    }
    list
}

/// Reads a superblock and says what it is for: the name, and how many parts and objects it lists.
///
/// # Errors
/// Bytes that are no superblock, or one of a machine with the other byte order.
pub fn parse_superblock(bytes: &[u8]) -> Result<(DeltaName, usize, usize), Error> {
    let (superblock, _) = Superblock::parse(bytes, "superblock")?;
    let objects = superblock.entries.iter().map(|entry| entry.objects.len());
    Ok((superblock.name, superblock.entries.len(), objects.sum()))
}
