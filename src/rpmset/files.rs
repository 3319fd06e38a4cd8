//! The file list of a package, from its header.

use std::collections::HashSet;

use super::error::Problem;
use crate::formats::rpm::tag::{self, fileflag, signature};
use crate::formats::rpm::{Header, Preamble};
use crate::path::TreePath;
use crate::store::unhex;

/// A file as the header describes it. The header, not the payload, decides what is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    pub path: TreePath,
    /// `st_mode`: type and permissions.
    pub mode: u16,
    pub user: String,
    pub group: String,
    /// Bytes; of a symbolic link, its target's length.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Of regular files with content.
    pub digest: Option<FileDigest>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Bits of [`fileflag`].
    pub flags: u32,
    /// What `rpm -V` compares.
    pub verify_flags: u32,
    /// Device number of a device file, as `makedev` packs 16 bits.
    pub rdev: u16,
    /// The inode it shares with other files of the package.
    pub link: Option<HardLink>,
    /// Capabilities in the text form of `cap_from_text(3)`; empty for none.
    pub capabilities: Vec<u8>,
    /// ELF class: bit 0 for 32-bit, bit 1 for 64-bit.
    pub color: u32,
    /// Languages (`%lang`), separated by `|`; empty for all.
    pub languages: Vec<u8>,
    /// IMA's signature of the content, as `security.ima` has it; empty for none.
    pub signature: Vec<u8>,
}

/// Device and inode number at build time: equal ones are hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardLink {
    pub device: u32,
    pub inode: u32,
}

/// Digest of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    pub algorithm: DigestAlgorithm,
    /// Lower-case hexadecimal.
    pub hex: String,
}

/// Algorithms of file and payload digests, by their OpenPGP numbers (RFC 9580, 9.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Sha224,
    Sha3_256,
    Sha3_512,
}

impl DigestAlgorithm {
    /// From the OpenPGP number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Md5,
            2 => Self::Sha1,
            8 => Self::Sha256,
            9 => Self::Sha384,
            10 => Self::Sha512,
            11 => Self::Sha224,
            12 => Self::Sha3_256,
            14 => Self::Sha3_512,
            _ => return None,
        })
    }

    /// As standards write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Sha3_256 => "SHA3-256",
            Self::Sha3_512 => "SHA3-512",
        }
    }

    /// Digits of the hexadecimal form.
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha224 => 56,
            Self::Sha256 | Self::Sha3_256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 | Self::Sha3_512 => 128,
        }
    }
}

impl FileEntry {
    /// `S_IFMT` part of the mode.
    pub fn format(&self) -> u16 {
        self.mode & 0o170_000
    }

    pub fn is_regular(&self) -> bool {
        self.format() == 0o100_000
    }

    pub fn is_dir(&self) -> bool {
        self.format() == 0o040_000
    }

    pub fn is_symlink(&self) -> bool {
        self.format() == 0o120_000
    }

    /// Owned by the package, but not in its payload.
    pub fn is_ghost(&self) -> bool {
        self.flags & fileflag::GHOST != 0
    }
}

/// The file list of a package, in its own order.
pub(super) fn read(preamble: &Preamble) -> Result<Vec<FileEntry>, Problem> {
    let header = &preamble.header;
    let paths = paths(header)?;
    let count = paths.len();
    let column = |what, values: Vec<u32>| check(what, values, count);
    let sizes = if header.has(tag::LONGFILESIZES) {
        check("LONGFILESIZES", header.u64s(tag::LONGFILESIZES)?, count)?
    } else {
        let sizes = column("FILESIZES", header.u32s(tag::FILESIZES)?)?;
        sizes.into_iter().map(u64::from).collect()
    };
    let modes = check("FILEMODES", header.u16s(tag::FILEMODES)?, count)?;
    let rdevs = check("FILERDEVS", header.u16s(tag::FILERDEVS)?, count)?;
    let mtimes = column("FILEMTIMES", header.u32s(tag::FILEMTIMES)?)?;
    let flags = column("FILEFLAGS", header.u32s(tag::FILEFLAGS)?)?;
    let digests = check("FILEDIGESTS", header.strings(tag::FILEDIGESTS)?, count)?;
    let targets = check("FILELINKTOS", header.strings(tag::FILELINKTOS)?, count)?;
    let users = check("FILEUSERNAME", header.strings(tag::FILEUSERNAME)?, count)?;
    let groups = check("FILEGROUPNAME", header.strings(tag::FILEGROUPNAME)?, count)?;
    let devices = optional(column("FILEDEVICES", header.u32s(tag::FILEDEVICES)?), 0, count)?;
    let inodes = optional(column("FILEINODES", header.u32s(tag::FILEINODES)?), 0, count)?;
    let verify = optional(
        column("FILEVERIFYFLAGS", header.u32s(tag::FILEVERIFYFLAGS)?),
        u32::MAX,
        count,
    )?;
    let colors = optional(column("FILECOLORS", header.u32s(tag::FILECOLORS)?), 0, count)?;
    let capabilities = optional(
        check("FILECAPS", header.strings(tag::FILECAPS)?, count),
        b"",
        count,
    )?;
    let languages = optional(
        check("FILELANGS", header.strings(tag::FILELANGS)?, count),
        b"",
        count,
    )?;
    // Signing adds them to the signature header; RPM itself keeps them in the rpmdb's.
    let signatures = match preamble.signature.strings(signature::FILESIGNATURES)? {
        own if own.is_empty() => header.strings(tag::FILESIGNATURES)?,
        own => own,
    };
    let signatures = optional(check("FILESIGNATURES", signatures, count), b"", count)?;

    let number = header.u32(tag::FILEDIGESTALGO)?.unwrap_or(1);
    let algorithm = DigestAlgorithm::from_number(number).ok_or_else(|| Problem::File {
        path: "FILEDIGESTALGO".to_owned(),
        what: format!("the unknown digest algorithm {number}"),
    })?;
    let mut entries = Vec::with_capacity(count);
    for (index, path) in paths.into_iter().enumerate() {
        let refuse = |what: String| Problem::File {
            path: path.to_string(),
            what,
        };
        let text = |bytes: &[u8]| {
            let name = std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty());
            let shown = bytes.escape_ascii();
            name.map(str::to_owned)
                .ok_or_else(|| refuse(format!("an owner that is no name: `{shown}`")))
        };
        let entry = FileEntry {
            mode: modes[index],
            user: text(users[index])?,
            group: text(groups[index])?,
            size: sizes[index],
            mtime: mtimes[index],
            digest: digest(algorithm, digests[index]).map_err(&refuse)?,
            target: targets[index].to_vec(),
            flags: flags[index],
            verify_flags: verify[index],
            rdev: rdevs[index],
            link: None,
            capabilities: capabilities[index].to_vec(),
            color: colors[index],
            languages: languages[index].to_vec(),
            signature: hexadecimal(signatures[index])
                .ok_or_else(|| refuse("an IMA signature that is not hexadecimal".to_owned()))?,
            path,
        };
        entries.push(entry);
    }
    find_hard_links(&mut entries, &devices, &inodes);
    Ok(entries)
}

/// Regular files of equal device and inode are linked where there is more than one of them.
fn find_hard_links(entries: &mut [FileEntry], devices: &[u32], inodes: &[u32]) {
    let link = |index: usize| HardLink {
        device: devices[index],
        inode: inodes[index],
    };
    let mut seen = HashSet::new();
    let mut shared = HashSet::new();
    // Packages without inode numbers have 0 everywhere.
    let candidates = || (0..inodes.len()).filter(|&index| inodes[index] != 0);
    for index in candidates() {
        if entries[index].is_regular() && !entries[index].is_ghost() && !seen.insert(link(index)) {
            shared.insert(link(index));
        }
    }
    for index in candidates() {
        let entry = &mut entries[index];
        if entry.is_regular() && !entry.is_ghost() && shared.contains(&link(index)) {
            entry.link = Some(link(index));
        }
    }
}

fn paths(header: &Header) -> Result<Vec<TreePath>, Problem> {
    let mut paths = Vec::new();
    if header.has(tag::BASENAMES) {
        let directories = header.strings(tag::DIRNAMES)?;
        let names = header.strings(tag::BASENAMES)?;
        let indexes = check("DIRINDEXES", header.u32s(tag::DIRINDEXES)?, names.len())?;
        for (name, index) in names.iter().zip(indexes) {
            let directory = usize::try_from(index)
                .ok()
                .and_then(|index| directories.get(index));
            let directory = directory.ok_or(Problem::DirIndex(index))?;
            if name.contains(&b'/') {
                return Err(Problem::File {
                    path: name.escape_ascii().to_string(),
                    what: "a slash in its base name".to_owned(),
                });
            }
            paths.push(TreePath::new([directory, *name].concat())?);
        }
    } else {
        for name in header.strings(tag::OLDFILENAMES)? {
            paths.push(TreePath::new(name)?);
        }
    }
    let mut seen = HashSet::with_capacity(paths.len());
    match paths.iter().find(|path| !seen.insert(*path)) {
        Some(path) => Err(Problem::Duplicate(path.to_string())),
        None => Ok(paths),
    }
}

fn digest(algorithm: DigestAlgorithm, text: &[u8]) -> Result<Option<FileDigest>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let hex = text.to_ascii_lowercase();
    match String::from_utf8(hex) {
        Ok(hex) if hex.len() == algorithm.digits() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(Some(FileDigest { algorithm, hex }))
        }
        _ => Err(format!(
            "a malformed {algorithm:?} digest: `{}`",
            text.escape_ascii()
        )),
    }
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    unhex(std::str::from_utf8(text).ok()?)
}

fn check<T>(what: &'static str, values: Vec<T>, expected: usize) -> Result<Vec<T>, Problem> {
    let found = values.len();
    if found == expected {
        Ok(values)
    } else {
        Err(Problem::ListLength {
            what,
            found,
            expected,
        })
    }
}

/// A column that packages may leave out.
fn optional<T: Clone>(values: Result<Vec<T>, Problem>, default: T, count: usize) -> Result<Vec<T>, Problem> {
    match values {
        Err(Problem::ListLength { found: 0, .. }) => Ok(vec![default; count]),
        other => other,
    }
}
