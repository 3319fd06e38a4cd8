//! `[[disk.partitions]]`: what else stands on the disk, for what machines write.

use serde::{Serialize, Serializer};
use uuid::{Uuid, uuid};

use super::names::Identifier;
use super::plan::{EncryptionMode, RootFormat};
use super::reader::Section;
use super::values::{ByteSize, Fault, FromText};
use crate::path::TreePath;

/// A partition beside those of the layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataPartition {
    /// Its name in the table, and of the opened volume.
    pub label: Identifier,
    #[serde(rename = "type")]
    pub kind: PartitionType,
    #[serde(flatten)]
    pub size: PartitionSize,
    /// The file system; `None` for swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<RootFormat>,
    /// Where it is mounted; `None` for swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<TreePath>,
    pub encryption: EncryptionMode,
}

/// Bytes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PartitionSize {
    Fixed {
        size: ByteSize,
    },
    /// Decided at first boot, by what the disk has and the others ask for.
    Range {
        minimum: ByteSize,
        #[serde(skip_serializing_if = "Option::is_none")]
        maximum: Option<ByteSize>,
    },
}

impl PartitionSize {
    /// What it has at least, in bytes.
    pub fn least(self) -> u64 {
        match self {
            Self::Fixed { size } => size.0,
            Self::Range { minimum, .. } => minimum.0,
        }
    }

    /// What it has at most; `None`: whatever there is.
    pub fn most(self) -> Option<u64> {
        match self {
            Self::Fixed { size } => Some(size.0),
            Self::Range { maximum, .. } => maximum.map(|size| size.0),
        }
    }
}

/// A partition type: a name of the Discoverable Partitions Specification, or a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionType(pub Uuid);

impl PartitionType {
    pub const SWAP: Self = Self(uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"));
    /// Anything.
    pub const LINUX: Self = Self(uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"));
    const NAMES: [(&str, Self); 7] = [
        ("linux-generic", Self::LINUX),
        // What people call it.
        ("data", Self::LINUX),
        ("swap", Self::SWAP),
        ("home", Self(uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"))),
        ("srv", Self(uuid!("3b8f8425-20e0-4f3b-907f-1a25a76f98e8"))),
        ("var", Self(uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d"))),
        ("tmp", Self(uuid!("7ec6f557-3bc5-4aca-b293-16ef5df639d1"))),
    ];
    /// Where the specification has file systems of a type.
    const PLACES: [(&str, &str); 4] = [
        ("home", "/home"),
        ("srv", "/srv"),
        ("var", "/var"),
        ("tmp", "/var/tmp"),
    ];

    fn name(self) -> Option<&'static str> {
        let mut names = Self::NAMES.iter();
        names.find(|(_, kind)| *kind == self).map(|(name, _)| *name)
    }

    /// Where its file system belongs.
    fn place(self) -> Option<TreePath> {
        let mut places = Self::PLACES.iter();
        let (_, path) = places.find(|(name, _)| Some(*name) == self.name())?;
        Some(TreePath::literal(path))
    }
}

impl FromText for PartitionType {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == text);
        if let Some((_, kind)) = known {
            return Ok(*kind);
        }
        match Uuid::try_parse(text) {
            Ok(uuid) if !uuid.is_nil() => Ok(Self(uuid)),
            _ => {
                let names: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                Err(Fault::new(format!("\"{text}\" is no type of a partition"))
                    .help(format!("the types are {}, or a UUID", names.join(", "))))
            }
        }
    }
}

impl Serialize for PartitionType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.collect_str(&self.0),
        }
    }
}

/// Reads an entry of an image whose root partition is encrypted as `root` says.
pub(super) fn read(table: &Section<'_>, root: EncryptionMode) -> Option<DataPartition> {
    let label = table.require("label", "\"containers\"");
    let kind = table.or("type", PartitionType::LINUX);
    let (size, minimum, maximum) = (table.get("size"), table.get("minimum"), table.get("maximum"));
    let format: Option<RootFormat> = table.get("format");
    let mount: Option<TreePath> = table.get("mount");
    let is_swap = kind == PartitionType::SWAP;
    // A key of its own at each boot protects swap whatever the root has.
    let usual = match root {
        EncryptionMode::None if !is_swap => EncryptionMode::None,
        _ => EncryptionMode::FirstBoot,
    };
    let encryption = table.or("encryption", usual);
    let size = match (size, minimum, maximum) {
        (Some(size), None, None) => PartitionSize::Fixed { size },
        (None, Some(minimum), maximum) => PartitionSize::Range { minimum, maximum },
        (Some(_), ..) => {
            let path = table.path("size");
            let problem = table
                .context
                .problem_at(&path, format!("`{path}` stands beside `minimum` or `maximum`"));
            table
                .context
                .report(problem.help("a `size` is fixed; leave it out, or the others"));
            return None;
        }
        (None, None, _) => {
            if ["size", "minimum"].iter().all(|key| table.entry(key).is_none()) {
                table.missing("size", "\"8GiB\"");
            }
            return None;
        }
    };
    Some(DataPartition {
        label: label?,
        kind,
        size,
        format: match is_swap {
            true => format,
            false => format.or(Some(RootFormat::Ext4)),
        },
        mount: mount.or_else(|| kind.place()),
        encryption,
    })
}
