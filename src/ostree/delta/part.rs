//! A part of a delta: objects, as contents and the operations that make them.

use std::io::Write as _;
use std::path::Path;

use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
use liblzma::write::XzEncoder;

use super::super::Error;
use super::super::object::{Kind, Ownership};
use super::super::read::Repo;
use super::content::Content;
use crate::formats::bsdiff;
use crate::formats::gvariant::{self, Fixed, Type, Value};
use crate::store::Digest;

/// Operations, by the byte that stands for each.
pub(super) mod op {
    /// Makes an object of bytes of the part.
    pub const SPLICE: u8 = b'S';
    pub const OPEN: u8 = b'o';
    pub const WRITE: u8 = b'w';
    /// Names the object that is read from, by its checksum among the part's bytes.
    pub const SET_SOURCE: u8 = b'r';
    pub const UNSET_SOURCE: u8 = b'R';
    pub const CLOSE: u8 = b'c';
    /// Writes what [`bsdiff`](crate::formats::bsdiff) makes of the source.
    pub const PATCH: u8 = b'B';
}

/// The first byte of a part: how what follows is compressed.
pub(super) const XZ: u8 = b'x';
pub(super) const PLAIN: u8 = 0;

/// liblzma's preset; its dictionary holds a part.
const LEVEL: u32 = 6;

/// What is made.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Metadata(Kind, Digest),
    /// With the content of the earlier commit that it is like.
    Content(Digest, Option<Digest>),
}

/// What the superblock says of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub checksum: Digest,
    /// Bytes of the part, and of the objects that it makes.
    pub size: u64,
    pub unpacked: u64,
    /// With their type's number.
    pub objects: Vec<(u8, Digest)>,
}

/// A part as it is written.
pub(super) struct Part {
    pub entry: Entry,
    pub bytes: Vec<u8>,
    /// Objects that are made of an earlier one.
    pub patched: usize,
}

/// The number that stands for a kind of object.
pub(super) fn number(kind: Kind) -> u8 {
    match kind {
        Kind::File | Kind::FileZ => 1,
        Kind::DirTree => 2,
        Kind::DirMeta => 3,
        Kind::Commit => 4,
    }
}

impl Part {
    pub(super) fn build(earlier: &Repo, repo: &Repo, items: &[Item]) -> Result<Self, Error> {
        let mut builder = Builder::default();
        for item in items {
            match item {
                Item::Metadata(kind, digest) => {
                    let bytes = repo.layout.read_metadata(digest, *kind)?;
                    builder.unpacked += bytes.len() as u64;
                    builder.objects.push((number(*kind), *digest));
                    builder.operations.push(op::SPLICE);
                    builder.append(&bytes);
                }
                Item::Content(digest, similar) => {
                    let (content, bytes) = Content::read(repo, digest)?;
                    let patch = match similar {
                        Some(source) => patch(earlier, source, &bytes)?,
                        None => None,
                    };
                    builder.objects.push((number(Kind::File), *digest));
                    builder.unpacked += content.size;
                    builder.content(&content.owned, &bytes, patch);
                }
            }
        }
        builder.finish(&repo.layout.path)
    }
}

/// A source and the differences from it; `None` where they take more than the file itself.
fn patch(earlier: &Repo, source: &Digest, bytes: &[u8]) -> Result<Option<(Digest, Vec<u8>)>, Error> {
    let (_, old) = Content::read(earlier, source)?;
    let Some(patch) = bsdiff::diff(&old, bytes) else {
        return Ok(None);
    };
    drop(old);
    // A quick compressor tells which is smaller, the checksum of the source included.
    let size = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).map_or(bytes.len(), |packed| packed.len());
    Ok((size(&patch) + 48 < size(bytes)).then_some((*source, patch)))
}

#[derive(Default)]
struct Builder {
    objects: Vec<(u8, Digest)>,
    unpacked: u64,
    modes: Vec<[u32; 3]>,
    /// Only their attributes count.
    attributes: Vec<Ownership>,
    payload: Vec<u8>,
    operations: Vec<u8>,
    patched: usize,
}

impl Builder {
    /// Adds bytes of the part to the operation that was begun: how many, and where.
    fn append(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.number(self.payload.len());
        self.payload.extend_from_slice(bytes);
    }

    fn content(&mut self, owned: &Ownership, bytes: &[u8], patch: Option<(Digest, Vec<u8>)>) {
        let mode = [owned.uid, owned.gid, owned.mode].map(u32::swap_bytes);
        let mode = place(&mut self.modes, mode, PartialEq::eq);
        let same = |one: &Ownership, other: &Ownership| one.xattrs == other.xattrs;
        let attributes = place(&mut self.attributes, owned.clone(), same);
        let Some((source, patch)) = patch else {
            self.operations.push(op::SPLICE);
            self.number(mode);
            self.number(attributes);
            return self.append(bytes);
        };
        self.patched += 1;
        self.operations.push(op::SET_SOURCE);
        self.number(self.payload.len());
        self.payload.extend_from_slice(&source.0);
        self.operations.push(op::OPEN);
        for number in [mode, attributes, bytes.len()] {
            self.number(number);
        }
        // Here the place comes first.
        self.operations.push(op::PATCH);
        self.number(self.payload.len());
        self.number(patch.len());
        self.payload.extend_from_slice(&patch);
        self.operations.push(op::CLOSE);
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self, number: usize) {
        let mut rest = number;
        while rest >= 0x80 {
            self.operations.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.operations.push(rest as u8);
    }

    fn finish(self, path: &Path) -> Result<Part, Error> {
        let numbers = Type::Fixed(Fixed::U32);
        let mode = Type::Tuple(vec![numbers.clone(), numbers.clone(), numbers]);
        let modes = self.modes.iter().map(|mode| {
            let numbers = mode.iter().map(|number| Value::u32(*number));
            Value::Tuple(numbers.collect())
        });
        let names: Vec<_> = self.attributes.iter().map(Ownership::xattr_names).collect();
        let attributes = self.attributes.iter().zip(&names);
        let attributes: Vec<_> = attributes
            .map(|(owned, names)| owned.xattrs_value(names))
            .collect();
        let bytes = Type::Array(Box::new(Type::Fixed(Fixed::Byte)));
        let list = Type::Array(Box::new(Type::Tuple(vec![bytes.clone(), bytes])));
        let content = gvariant::serialise(&Value::Tuple(vec![
            Value::Array(mode, modes.collect()),
            Value::Array(list, attributes),
            Value::bytes(&self.payload),
            Value::bytes(&self.operations),
        ]));
        let (objects, unpacked, patched) = (self.objects, self.unpacked, self.patched);
        drop(self.payload);
        let bytes = compress(&content).map_err(Error::io("compress a static delta for", path))?;
        Ok(Part {
            entry: Entry {
                checksum: Digest::of(&bytes),
                size: bytes.len() as u64,
                unpacked,
                objects,
            },
            bytes,
            patched,
        })
    }
}

/// Where `item` stands in `list`, at its end if it is new.
fn place<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) -> usize {
    match list.iter().position(|known| same(known, &item)) {
        Some(place) => place,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

fn compress(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut options = LzmaOptions::new_preset(LEVEL)?;
    // No larger than what there is, so that a small delta takes little memory on both sides.
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    options.dict_size(size.clamp(1 << 16, 8 << 20).next_power_of_two());
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc64)?;
    let mut encoder = XzEncoder::new_stream(vec![XZ], stream);
    encoder.write_all(content)?;
    encoder.finish()
}
