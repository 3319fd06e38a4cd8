//! The definitions that systemd-repart finds in the image (`repart.d(5)`): what it completes on
//! the first boot, and leaves as it is on every later one.
//!
//! repart takes partitions that exist by type in the order of file names, so *every* partition
//! of the disk has a file, slot A before slot B.

use std::fmt::Write as _;

use crate::tree::path::TreePath;

/// A partition, as repart is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `Type=`: `esp`, `usr`, `usr-verity`, `usr-verity-sig`, `root`, or a GUID.
    pub kind: String,
    /// `Label=`: at most 36 characters; `_empty` for a slot that holds nothing yet.
    pub label: String,
    /// In bytes; `None` for the root partition, which takes what is left of the disk.
    pub size: Option<u64>,
    /// One that a definition declares beside those of the layout.
    pub other: Option<Other>,
}

/// What is special of such a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Bytes that it has at most, if `size` is the least; `None`: its share of what is left.
    pub maximum: Option<u64>,
}

/// How the root partition is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFormat {
    /// `Format=`: `ext4`, `xfs` or `btrfs`; its `mkfs` must be in the initrd.
    pub file_system: String,
    pub encryption: Encryption,
    /// What the new root holds.
    pub entries: Vec<RootEntry>,
}

/// `Encrypt=`: the keyslots that the new root is born with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Plain.
    None,
    /// LUKS2 with a key of the TPM, whose policy stands on repart's command line.
    Tpm2,
    /// The same, and the key in the file that is named on the command line.
    KeyFileAndTpm2,
}

/// Something that the new root file system is born with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootEntry {
    Directory(TreePath),
    /// A link and its target as written; repart makes it relative to the link's directory.
    Symlink(TreePath, String),
}

/// The plan cannot be told to repart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepartError {
    #[error("partition label `{0}` has {1} characters: GPT holds 36")]
    LongLabel(String, usize),
    #[error(
        "`{0}` cannot stand in a line of repart.d: it has a control character, a space, a quote, a backslash, `:` or `%`"
    )]
    Unwritable(String),
    #[error(
        "{0} of the partitions have no size: only the root partition, the last, takes the rest of the disk"
    )]
    Growing(usize),
}

/// The files of `/usr/lib/repart.d`, as (name, text), for `partitions` in the order in which they
/// lie on the disk. The one without a size is formatted as `root` says and grows with its disk,
/// its file system with it.
///
/// # Errors
/// Labels and paths that cannot be written down; more or fewer than one partition without a size,
/// or another than the last.
pub fn definitions(
    partitions: &[Partition],
    root: &RootFormat,
) -> Result<Vec<(String, String)>, RepartError> {
    let growing = partitions.iter().filter(|p| p.size.is_none()).count();
    if growing != 1 || partitions.last().is_none_or(|p| p.size.is_some()) {
        return Err(RepartError::Growing(growing));
    }
    let mut files = Vec::new();
    for (index, partition) in partitions.iter().enumerate() {
        let characters = partition.label.encode_utf16().count();
        if characters > 36 {
            return Err(RepartError::LongLabel(partition.label.clone(), characters));
        }
        let kind = word(&partition.kind)?;
        let mut text = format!("[Partition]\nType={kind}\nLabel={}\n", word(&partition.label)?);
        match partition.size {
            Some(size) if let Some(other) = partition.other => {
                let _ = writeln!(text, "SizeMinBytes={size}");
                if let Some(maximum) = other.maximum {
                    let _ = writeln!(text, "SizeMaxBytes={maximum}");
                }
                // `no-auto`: its own unit checks it, opens it and mounts it, and nobody else is to.
                text.push_str("Flags=0x8000000000000000\n");
            }
            Some(size) => {
                let _ = write!(text, "SizeMinBytes={size}\nSizeMaxBytes={size}\n");
                // Otherwise a new slot of /usr would be writable, and grown on every boot.
                if kind.starts_with("usr") {
                    text.push_str("ReadOnly=yes\n");
                }
            }
            None => root.write(&mut text)?,
        }
        // Two digits, so that repart's order of names is the order on the disk.
        let name = match partition.other {
            Some(_) => partition.label.as_str(),
            None => kind,
        };
        files.push((format!("{:02}-{name}.conf", (index + 1) * 5), text));
    }
    Ok(files)
}

impl RootFormat {
    fn write(&self, text: &mut String) -> Result<(), RepartError> {
        let _ = writeln!(text, "Format={}\nGrowFileSystem=yes", word(&self.file_system)?);
        match self.encryption {
            Encryption::None => {}
            Encryption::Tpm2 => text.push_str("Encrypt=tpm2\n"),
            Encryption::KeyFileAndTpm2 => text.push_str("Encrypt=key-file+tpm2\n"),
        }
        for entry in &self.entries {
            let _ = match entry {
                RootEntry::Directory(path) => writeln!(text, "MakeDirectories={}", word(&path.to_string())?),
                RootEntry::Symlink(path, target) => writeln!(
                    text,
                    "MakeSymlinks={}:{}",
                    word(&path.to_string())?,
                    word(target)?
                ),
            };
        }
        Ok(())
    }
}

/// `text`, where it means itself in a value: no specifier, quoting or separator.
fn word(text: &str) -> Result<&str, RepartError> {
    let special = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ':' | '%');
    if text.is_empty() || text.chars().any(special) {
        return Err(RepartError::Unwritable(text.escape_debug().to_string()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(kind: &str, label: &str, size: Option<u64>) -> Partition {
        Partition {
            kind: kind.into(),
            label: label.into(),
            size,
            other: None,
        }
    }

    fn root() -> RootFormat {
        RootFormat {
            file_system: "ext4".into(),
            encryption: Encryption::None,
            entries: vec![
                RootEntry::Directory(TreePath::literal("/etc")),
                RootEntry::Symlink(TreePath::literal("/bin"), "usr/bin".into()),
            ],
        }
    }

    #[test]
    fn every_partition_has_a_file_in_the_order_of_the_disk() {
        let partitions = [
            partition("esp", "esp", Some(1 << 29)),
            partition("usr", "os_1", Some(1 << 30)),
            partition("usr", "_empty", Some(1 << 30)),
            partition("root", "root", None),
        ];
        let files = definitions(&partitions, &root()).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["05-esp.conf", "10-usr.conf", "15-usr.conf", "20-root.conf"]
        );
        assert_eq!(
            files[1].1,
            "[Partition]\nType=usr\nLabel=os_1\nSizeMinBytes=1073741824\nSizeMaxBytes=1073741824\nReadOnly=yes\n"
        );
        assert!(!files[0].1.contains("ReadOnly"));
        assert_eq!(
            files[3].1,
            "[Partition]\nType=root\nLabel=root\nFormat=ext4\nGrowFileSystem=yes\n\
             MakeDirectories=/etc\nMakeSymlinks=/bin:usr/bin\n"
        );
    }

    #[test]
    fn an_encrypted_root_names_its_keyslots() {
        for (encryption, line) in [
            (Encryption::Tpm2, "Encrypt=tpm2"),
            (Encryption::KeyFileAndTpm2, "Encrypt=key-file+tpm2"),
        ] {
            let root = RootFormat { encryption, ..root() };
            let files = definitions(&[partition("root", "root", None)], &root).unwrap();
            assert_eq!(
                files[0].1.lines().filter(|text| *text == line).count(),
                1,
                "{}",
                files[0].1
            );
        }
    }

    #[test]
    fn plans_that_repart_would_read_otherwise_are_refused() {
        let long = "x".repeat(37);
        let cases = [
            (
                vec![partition("root", &long, None)],
                RepartError::LongLabel(long.clone(), 37),
            ),
            (
                vec![partition("root", "a%b", None)],
                RepartError::Unwritable("a%b".into()),
            ),
            (
                vec![
                    partition("usr", "a\nFormat=ext4", Some(1)),
                    partition("root", "r", None),
                ],
                RepartError::Unwritable("a\\nFormat=ext4".into()),
            ),
            (vec![partition("root", "root", Some(1))], RepartError::Growing(0)),
            (
                vec![partition("root", "r", None), partition("usr", "u", None)],
                RepartError::Growing(2),
            ),
            (
                vec![partition("root", "r", None), partition("usr", "u", Some(1))],
                RepartError::Growing(1),
            ),
        ];
        for (partitions, expected) in cases {
            assert_eq!(definitions(&partitions, &root()), Err(expected));
        }
    }
}
