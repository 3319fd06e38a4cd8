//! Running the operations of a part: what objects it makes.

use std::io::Read as _;
use std::sync::LazyLock;

use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::super::Error;
use super::super::object::{Ownership, decode, parse_xattrs};
use super::part::{PLAIN, XZ, op};
use crate::formats::bsdiff;
use crate::formats::gvariant::{Type, Value};
use crate::store::Digest;
use crate::tree::Xattrs;

/// Memory for liblzma: more than its highest preset takes.
const MEMORY: u64 = 1 << 30;
/// Bytes of a part, unpacked, beside those of its objects: for each object, and at all.
const OVERHEAD: u64 = 4096;

static TYPE: LazyLock<Type> = LazyLock::new(|| Type::parse(b"(a(uuu)aa(ayay)ayay)").unwrap_or(Type::Variant));

/// Finds a content by its checksum; `None` where there is none.
pub type Find<'a> = dyn Fn(&Digest) -> Result<Option<Vec<u8>>, Error> + 'a;

/// Makes the objects of a part that a superblock says to have `objects`, by number of the type and checksum, and
/// `unpacked` bytes of them; `find` gives contents that clients have. How many of the objects are made of contents that
/// are not there; all others have been made, and have their checksums.
///
/// What it allocates is in proportion to `unpacked`, which callers have bounded, and to the part.
///
/// # Errors
/// A part that is malformed, or makes other objects, or more.
pub fn apply_part(
    part: &[u8],
    objects: &[(u8, Digest)],
    unpacked: u64,
    find: &Find<'_>,
    name: &str,
) -> Result<usize, Error> {
    let malformed = |what: &str| Error::Malformed {
        name: name.to_owned(),
        what: what.to_owned(),
    };
    let limit = (objects.len() as u64 + 16)
        .saturating_mul(OVERHEAD)
        .saturating_add(unpacked.saturating_mul(2));
    let content = match part.split_first() {
        Some((&PLAIN, content)) => content.to_vec(),
        Some((&XZ, packed)) => {
            let stream = Stream::new_stream_decoder(MEMORY, 0);
            let stream = stream.map_err(|error| malformed(&format!("it cannot be unpacked: {error}")))?;
            let mut content = Vec::new();
            let mut decoder = XzDecoder::new_stream(packed, stream).take(limit.saturating_add(1));
            decoder
                .read_to_end(&mut content)
                .map_err(|error| malformed(&format!("it cannot be unpacked: {error}")))?;
            content
        }
        _ => return Err(malformed("it is compressed in an unknown way")),
    };
    if content.len() as u64 > limit {
        return Err(malformed("it unpacks to more than its objects take"));
    }
    let value = decode(&TYPE, &content, name)?;
    let Some([modes, attributes, Value::Bytes(payload), Value::Bytes(operations)]) = value.items() else {
        return Err(malformed("it has not four members"));
    };
    let mut run = Run {
        name,
        modes: modes.items().unwrap_or_default(),
        attributes: attributes.items().unwrap_or_default(),
        payload,
        operations,
        objects: objects.iter(),
        left: unpacked,
        find,
        source: None,
        open: None,
        unmade: 0,
    };
    while let Some((&operation, rest)) = run.operations.split_first() {
        run.operations = rest;
        run.step(operation)?;
    }
    match run.open.is_none() && run.objects.next().is_none() {
        true => Ok(run.unmade),
        false => Err(malformed("it is over before all its objects are made")),
    }
}

/// An object on its way.
struct Open {
    digest: Digest,
    owned: Ownership,
    size: usize,
    /// `None` where some of it cannot be known.
    bytes: Option<Vec<u8>>,
}

struct Run<'a> {
    name: &'a str,
    modes: &'a [Value<'a>],
    attributes: &'a [Value<'a>],
    payload: &'a [u8],
    operations: &'a [u8],
    objects: std::slice::Iter<'a, (u8, Digest)>,
    /// Bytes of objects that may still be made.
    left: u64,
    find: &'a Find<'a>,
    /// What is read from; inside, `None` where it is not there.
    source: Option<Option<Vec<u8>>>,
    open: Option<Open>,
    unmade: usize,
}

impl Run<'_> {
    fn malformed(&self, what: &str) -> Error {
        Error::Malformed {
            name: self.name.to_owned(),
            what: what.to_owned(),
        }
    }

    fn number(&mut self) -> Result<usize, Error> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.operations.split_first() else {
                break;
            };
            self.operations = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| self.malformed("a number is too large"));
            }
        }
        Err(self.malformed("an operation is cut short"))
    }

    fn payload(&self, place: usize, size: usize) -> Result<&[u8], Error> {
        let end = place.checked_add(size);
        let bytes = end.and_then(|end| self.payload.get(place..end));
        bytes.ok_or_else(|| self.malformed("an operation reads beyond the end"))
    }

    /// Bytes are going to be made.
    fn take(&mut self, size: usize) -> Result<(), Error> {
        let left = self.left.checked_sub(size as u64);
        self.left = left.ok_or_else(|| self.malformed("it makes more than the superblock says"))?;
        Ok(())
    }

    fn next_object(&mut self) -> Result<(u8, Digest), Error> {
        if self.open.is_some() {
            return Err(self.malformed("an object is begun inside another"));
        }
        let next = self.objects.next().copied();
        next.ok_or_else(|| self.malformed("it makes more objects than the superblock says"))
    }

    fn owned(&mut self) -> Result<Ownership, Error> {
        let (mode, attributes) = (self.number()?, self.number()?);
        let mode = self.modes.get(mode).and_then(Value::items);
        let numbers: Vec<_> = mode
            .unwrap_or_default()
            .iter()
            .filter_map(|number| number.as_u32().map(u32::swap_bytes))
            .collect();
        let xattrs: Option<Xattrs> = match self.attributes.get(attributes) {
            Some(list) => Some(parse_xattrs(list, self.name)?),
            None => None,
        };
        match (&numbers[..], xattrs) {
            (&[uid, gid, mode], Some(xattrs)) => Ok(Ownership {
                uid,
                gid,
                mode,
                xattrs,
            }),
            _ => Err(self.malformed("an operation names an owner or attributes that it has not")),
        }
    }

    fn step(&mut self, operation: u8) -> Result<(), Error> {
        match operation {
            op::SPLICE => {
                let (kind, digest) = self.next_object()?;
                if kind != 1 {
                    let (size, place) = (self.number()?, self.number()?);
                    self.take(size)?;
                    let found = Digest::of(self.payload(place, size)?);
                    return self.check(digest, found);
                }
                let owned = self.owned()?;
                let (size, place) = (self.number()?, self.number()?);
                let bytes = self.payload(place, size)?.to_vec();
                let open = Open {
                    digest,
                    owned,
                    size,
                    bytes: Some(bytes),
                };
                // Of links, the superblock does not count the target.
                if open.owned.mode & 0o170_000 != 0o120_000 {
                    self.take(size)?;
                }
                self.close(open)
            }
            op::OPEN => {
                let (kind, digest) = self.next_object()?;
                if kind != 1 {
                    return Err(self.malformed("a metadata object is made of pieces"));
                }
                let owned = self.owned()?;
                let size = self.number()?;
                self.take(size)?;
                self.open = Some(Open {
                    digest,
                    owned,
                    size,
                    bytes: Some(Vec::new()),
                });
                Ok(())
            }
            op::WRITE => {
                let (size, place) = (self.number()?, self.number()?);
                self.write(size, place)
            }
            op::PATCH => {
                let (place, size) = (self.number()?, self.number()?);
                self.patch(place, size)
            }
            op::SET_SOURCE => {
                let place = self.number()?;
                let digest = self.payload(place, 32)?.try_into().map(Digest);
                let digest = digest.map_err(|_| self.malformed("an operation reads beyond the end"))?;
                self.source = Some((self.find)(&digest)?);
                Ok(())
            }
            op::UNSET_SOURCE => {
                self.source = None;
                Ok(())
            }
            op::CLOSE => {
                self.source = None;
                let open = self.open.take();
                let open = open.ok_or_else(|| self.malformed("it ends an object that is not begun"))?;
                self.close(open)
            }
            _ => Err(self.malformed(&format!("it has an unknown operation, {operation:#x}"))),
        }
    }

    /// From the source, where there is one, else from the part.
    fn write(&mut self, size: usize, place: usize) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else {
            return Err(self.malformed("it writes where no object is begun"));
        };
        let from = match &self.source {
            None => Some(self.payload(place, size)?),
            Some(None) => None,
            Some(Some(source)) => {
                let piece = place.checked_add(size).and_then(|end| source.get(place..end));
                Some(piece.ok_or_else(|| self.malformed("an operation reads beyond its source"))?)
            }
        };
        open.bytes = match (open.bytes, from) {
            (Some(bytes), Some(piece)) if bytes.len() + piece.len() > open.size => {
                return Err(self.malformed("it writes more than the object has"));
            }
            (Some(mut bytes), Some(piece)) => {
                bytes.extend_from_slice(piece);
                Some(bytes)
            }
            _ => None,
        };
        self.open = Some(open);
        Ok(())
    }

    fn patch(&mut self, place: usize, size: usize) -> Result<(), Error> {
        let (Some(mut open), Some(source)) = (self.open.take(), &self.source) else {
            return Err(self.malformed("it has differences and nothing that they are from"));
        };
        let patch = self.payload(place, size)?;
        open.bytes = match source {
            Some(source) => {
                let bytes = bsdiff::patch(source, patch, open.size);
                Some(bytes.map_err(|error| self.malformed(&error.to_string()))?)
            }
            None => None,
        };
        self.open = Some(open);
        Ok(())
    }

    fn close(&mut self, open: Open) -> Result<(), Error> {
        let Some(bytes) = open.bytes else {
            self.unmade += 1;
            return Ok(());
        };
        if bytes.len() != open.size {
            return Err(self.malformed("an object is ended before it is complete"));
        }
        let found = match open.owned.mode & 0o170_000 {
            0o120_000 => {
                let target =
                    std::str::from_utf8(&bytes).map_err(|_| self.malformed("a target is not UTF-8"))?;
                Digest::of(&open.owned.content_header(target))
            }
            _ => Digest::of(&[&open.owned.content_header("")[..], &bytes].concat()),
        };
        self.check(open.digest, found)
    }

    fn check(&self, expected: Digest, found: Digest) -> Result<(), Error> {
        match found == expected {
            true => Ok(()),
            false => Err(self.malformed(&format!("it makes object {found} in place of {expected}"))),
        }
    }
}
