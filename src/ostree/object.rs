//! The objects of a repository and their encodings.
//!
//! Integers inside objects are big-endian, although GVariant is little-endian here: ostree swaps them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Error;
use crate::formats::gvariant::{self, Type, Value};
use crate::store::Digest;
use crate::tree::{Meta, Xattrs};

/// The largest metadata object that is written or read. libostree's own limit is higher; the largest
/// real ones take a few MiB.
pub(super) const MAX_METADATA: usize = 32 << 20;

/// The kinds of object, by file extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Commit,
    DirTree,
    DirMeta,
    /// A regular file or symbolic link, as in `archive` repositories.
    FileZ,
    /// The same, as in `bare-user` repositories.
    File,
}

impl Kind {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::FileZ => "filez",
            Self::File => "file",
        }
    }
}

/// Its name as people and `ostree fsck` write it: `<checksum>.<kind>`.
pub(super) fn object_name(checksum: &Digest, kind: Kind) -> String {
    format!("{checksum}.{}", kind.extension())
}

/// The types of objects, as `ostree-core.h` lists them.
pub(super) struct Types {
    commit: Type,
    dirtree: Type,
    dirmeta: Type,
    archive_header: Type,
    /// Elements of the arrays in them: an attribute, a file and a directory of a `dirtree`.
    xattr: Type,
    file: Type,
    dir: Type,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let array = |element| Type::Array(Box::new(element));
    let byte = || Type::Fixed(gvariant::Fixed::Byte);
    let u32 = || Type::Fixed(gvariant::Fixed::U32);
    let u64 = || Type::Fixed(gvariant::Fixed::U64);
    let string = || Type::Text(gvariant::Text::String);
    let bytes = || array(byte());
    let pair = Type::DictEntry(Box::new((string(), Type::Variant)));
    let xattr = Type::Tuple(vec![bytes(), bytes()]);
    let file = Type::Tuple(vec![string(), bytes()]);
    let dir = Type::Tuple(vec![string(), bytes(), bytes()]);
    Types {
        commit: Type::Tuple(vec![
            array(pair),
            bytes(),
            // Related objects: a list that nothing ever filled.
            array(file.clone()),
            string(),
            string(),
            u64(),
            bytes(),
            bytes(),
        ]),
        dirtree: Type::Tuple(vec![array(file.clone()), array(dir.clone())]),
        dirmeta: Type::Tuple(vec![u32(), u32(), u32(), array(xattr.clone())]),
        archive_header: Type::Tuple(vec![
            u64(),
            u32(),
            u32(),
            u32(),
            u32(),
            string(),
            array(xattr.clone()),
        ]),
        xattr,
        file,
        dir,
    }
});

/// Owner, mode and extended attributes, as directories and files have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ownership {
    pub uid: u32,
    pub gid: u32,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    pub xattrs: Xattrs,
}

impl Ownership {
    pub(super) fn new(meta: &Meta, st_mode: u16) -> Self {
        Self {
            uid: meta.uid,
            gid: meta.gid,
            mode: u32::from(st_mode),
            xattrs: meta.xattrs.clone(),
        }
    }

    /// The `dirmeta` object of a directory; for a file, what `user.ostreemeta` holds.
    pub(super) fn dirmeta(&self) -> Vec<u8> {
        let names = self.xattr_names();
        gvariant::serialise(&Value::Tuple(vec![
            big_u32(self.uid),
            big_u32(self.gid),
            big_u32(self.mode),
            self.xattrs_value(&names),
        ]))
    }

    /// The header that a content object's checksum begins with: framed, `target` empty for files.
    pub(super) fn content_header(&self, target: &str) -> Vec<u8> {
        let names = self.xattr_names();
        frame(&Value::Tuple(self.header_members(target, &names)))
    }

    /// The header that an `archive` object begins with: framed; `size` is the content's.
    pub(super) fn archive_header(&self, size: u64, target: &str) -> Vec<u8> {
        let names = self.xattr_names();
        let mut members = vec![Value::u64(size.swap_bytes())];
        members.extend(self.header_members(target, &names));
        frame(&Value::Tuple(members))
    }

    fn header_members<'a>(&'a self, target: &'a str, names: &'a [Vec<u8>]) -> Vec<Value<'a>> {
        vec![
            big_u32(self.uid),
            big_u32(self.gid),
            big_u32(self.mode),
            // The device number: objects are never devices.
            Value::u32(0),
            Value::str(target),
            self.xattrs_value(names),
        ]
    }

    /// The names as objects have them: each ends in a NUL byte.
    pub(super) fn xattr_names(&self) -> Vec<Vec<u8>> {
        self.xattrs.keys().map(|name| [&**name, b"\0"].concat()).collect()
    }

    /// `a(ayay)`, with the names that [`Self::xattr_names`] gives.
    pub(super) fn xattrs_value<'a>(&'a self, names: &'a [Vec<u8>]) -> Value<'a> {
        let pairs = names.iter().zip(self.xattrs.values());
        let pairs = pairs.map(|(name, value)| Value::Tuple(vec![Value::bytes(name), Value::bytes(value)]));
        Value::Array(TYPES.xattr.clone(), pairs.collect())
    }

    /// Reads a `dirmeta` object or `user.ostreemeta`.
    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let value = decode(&TYPES.dirmeta, bytes, name)?;
        match value.items() {
            Some([uid, gid, mode, xattrs]) => Self::from_values([uid, gid, mode], xattrs, name),
            _ => Err(malformed(name, "it has not four members")),
        }
    }

    /// Reads the header of an `archive` object, its frame taken off: the content's size, the
    /// ownership, the target.
    pub(super) fn parse_archive_header(bytes: &[u8], name: &str) -> Result<(u64, Self, String), Error> {
        let value = decode(&TYPES.archive_header, bytes, name)?;
        let Some([size, uid, gid, mode, device, target, xattrs]) = value.items() else {
            return Err(malformed(name, "its header has not seven members"));
        };
        if device.as_u32() != Some(0) {
            return Err(malformed(name, "it claims to be a device"));
        }
        let owned = Self::from_values([uid, gid, mode], xattrs, name)?;
        match (size.as_u64(), target.as_str()) {
            (Some(size), Some(target)) => Ok((size.swap_bytes(), owned, target.to_owned())),
            _ => Err(malformed(name, "its header has no size or target")),
        }
    }

    fn from_values(numbers: [&Value<'_>; 3], pairs: &Value<'_>, name: &str) -> Result<Self, Error> {
        let [Some(uid), Some(gid), Some(mode)] = numbers.map(|n| n.as_u32().map(u32::swap_bytes)) else {
            return Err(malformed(name, "its owner or mode is not a number"));
        };
        let xattrs = parse_xattrs(pairs, name)?;
        Ok(Self {
            uid,
            gid,
            mode,
            xattrs,
        })
    }
}

/// Reads extended attributes, `a(ayay)`, of object `name`.
pub(super) fn parse_xattrs(pairs: &Value<'_>, name: &str) -> Result<Xattrs, Error> {
    let mut xattrs = Xattrs::new();
    for pair in pairs.items().unwrap_or_default() {
        let Some([Some(key), Some(value)]) = pair
            .items()
            .and_then(|p| <&[_; 2]>::try_from(p).ok())
            .map(|p| p.each_ref().map(Value::as_bytes))
        else {
            return Err(malformed(name, "an extended attribute is not a name and a value"));
        };
        let key = key
            .strip_suffix(b"\0")
            .filter(|key| !key.is_empty() && !key.contains(&0));
        let key = key.ok_or_else(|| malformed(name, "an extended attribute has no proper name"))?;
        if xattrs.last_key_value().is_some_and(|(last, _)| **last >= *key) {
            return Err(malformed(name, "its extended attributes are out of order"));
        }
        xattrs.insert(key.into(), value.into());
    }
    Ok(xattrs)
}

/// A directory: names with checksums, in byte order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DirTree {
    pub files: Vec<(String, Digest)>,
    /// Name, `dirtree`, `dirmeta`.
    pub dirs: Vec<(String, Digest, Digest)>,
}

impl DirTree {
    pub(super) fn serialise(&self) -> Vec<u8> {
        let files = self.files.iter();
        let files = files.map(|(name, file)| Value::Tuple(vec![Value::str(name), Value::bytes(&file.0)]));
        let dirs = self.dirs.iter().map(|(name, tree, meta)| {
            Value::Tuple(vec![
                Value::str(name),
                Value::bytes(&tree.0),
                Value::bytes(&meta.0),
            ])
        });
        gvariant::serialise(&Value::Tuple(vec![
            Value::Array(TYPES.file.clone(), files.collect()),
            Value::Array(TYPES.dir.clone(), dirs.collect()),
        ]))
    }

    /// Names are checked: one path component each, in order, none twice.
    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let value = decode(&TYPES.dirtree, bytes, name)?;
        let mut tree = Self::default();
        let members = value.items().unwrap_or_default();
        let entries = members.iter().flat_map(|list| list.items().unwrap_or_default());
        for entry in entries {
            let (label, checksums) = match entry.items() {
                Some([label, checksums @ ..]) => (label.as_str().unwrap_or_default(), checksums),
                _ => return Err(malformed(name, "an entry has no name")),
            };
            if label.is_empty() || label == "." || label == ".." || label.contains('/') {
                return Err(malformed(
                    name,
                    &format!("`{}` is not a file name", label.escape_debug()),
                ));
            }
            match checksums {
                [file] => tree.files.push((label.to_owned(), digest(file, name)?)),
                [tree_sum, meta] => {
                    let sums = (digest(tree_sum, name)?, digest(meta, name)?);
                    tree.dirs.push((label.to_owned(), sums.0, sums.1));
                }
                _ => return Err(malformed(name, "an entry has no checksum")),
            }
        }
        let ordered = tree.files.is_sorted_by(|a, b| a.0 < b.0) && tree.dirs.is_sorted_by(|a, b| a.0 < b.0);
        let both = |file: &(String, Digest)| tree.dirs.binary_search_by(|dir| dir.0.cmp(&file.0)).is_ok();
        if !ordered || tree.files.iter().any(both) {
            return Err(malformed(
                name,
                "its entries are out of order, or one is there twice",
            ));
        }
        Ok(tree)
    }
}

/// A commit, as its object holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitObject {
    /// Metadata by key: what `ostree show --print-metadata-key` shows, but numbers by convention
    /// big-endian, so to be swapped. (The order that the keys have in the object is not kept.)
    pub metadata: BTreeMap<String, Value<'static>>,
    pub parent: Option<Digest>,
    pub subject: String,
    pub body: String,
    /// Seconds since the epoch, UTC.
    pub timestamp: u64,
    /// The root directory's entries.
    pub root_dirtree: Digest,
    /// The root directory's owner and mode.
    pub root_dirmeta: Digest,
}

impl CommitObject {
    /// The object's bytes, with the metadata in the order given rather than the map's.
    pub(super) fn serialise<'a>(
        &'a self,
        metadata: impl IntoIterator<Item = (&'a str, Value<'a>)>,
    ) -> Vec<u8> {
        gvariant::serialise(&Value::Tuple(vec![
            Value::vardict(metadata),
            Value::bytes(self.parent.as_ref().map_or(&[], |parent| &parent.0)),
            Value::Array(TYPES.file.clone(), Vec::new()),
            Value::str(&self.subject),
            Value::str(&self.body),
            Value::u64(self.timestamp.swap_bytes()),
            Value::bytes(&self.root_dirtree.0),
            Value::bytes(&self.root_dirmeta.0),
        ]))
    }

    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let value = decode(&TYPES.commit, bytes, name)?;
        let Some([entries, parent, _, subject, body, timestamp, dirtree, dirmeta]) = value.items() else {
            return Err(malformed(name, "it has not eight members"));
        };
        let mut metadata: BTreeMap<String, Value<'static>> = BTreeMap::new();
        for entry in entries.items().unwrap_or_default() {
            let Some([key, Value::Variant(value)]) = entry.items() else {
                return Err(malformed(name, "its metadata is not keys and values"));
            };
            let key = key.as_str().unwrap_or_default().to_owned();
            if let Some((key, _)) = metadata.remove_entry(&key) {
                return Err(malformed(
                    name,
                    &format!("metadata `{}` is there twice", key.escape_debug()),
                ));
            }
            metadata.insert(key, (**value).clone().into_owned());
        }
        let parent = match parent.as_bytes() {
            Some([]) => None,
            _ => Some(digest(parent, name)?),
        };
        let text = |value: &Value<'_>| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            metadata,
            parent,
            subject: text(subject),
            body: text(body),
            timestamp: timestamp.as_u64().unwrap_or_default().swap_bytes(),
            root_dirtree: digest(dirtree, name)?,
            root_dirmeta: digest(dirmeta, name)?,
        })
    }
}

/// `value` behind its length (big-endian, four bytes) and four zero bytes.
fn frame(value: &Value<'_>) -> Vec<u8> {
    let body = gvariant::serialise(value);
    // Targets and attributes are held to what Linux takes, so it never comes near the limit.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), [0; 4].as_slice(), &body].concat()
}

fn big_u32(number: u32) -> Value<'static> {
    Value::u32(number.swap_bytes())
}

/// Reads a value of object `name`.
pub(super) fn decode<'a>(kind: &Type, bytes: &'a [u8], name: &str) -> Result<Value<'a>, Error> {
    gvariant::parse(kind, bytes).map_err(|source| Error::Encoding {
        name: name.to_owned(),
        source,
    })
}

fn digest(value: &Value<'_>, name: &str) -> Result<Digest, Error> {
    let bytes = value.as_bytes().and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(Digest)
        .ok_or_else(|| malformed(name, "a checksum has not 32 bytes"))
}

fn malformed(name: &str, what: &str) -> Error {
    Error::Malformed {
        name: name.to_owned(),
        what: what.to_owned(),
    }
}
