//! When packages may share a path, and whose file is there then.

use crate::rpmset::FileEntry;

/// Kinds of file that RPM tells apart here; what it does not know counts as a regular file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Regular,
    Link,
    Device,
    Other,
}

fn what(file: &FileEntry) -> What {
    match file.format() {
        0o120_000 => What::Link,
        0o020_000 | 0o060_000 => What::Device,
        0o040_000 | 0o010_000 | 0o140_000 => What::Other,
        _ => What::Regular,
    }
}

/// Whether RPM would install `a` and `b` at one path: `rpmfilesCompare`. It goes by headers alone; times, flags and
/// what `rpm -V` is to compare do not count. Neither may be a ghost.
pub(super) fn same(a: &FileEntry, b: &FileEntry) -> bool {
    let kind = what(a);
    let links = kind == What::Link && what(b) == What::Link;
    if !links && a.mode != b.mode {
        return false;
    }
    if matches!(kind, What::Link | What::Regular) && a.size != b.size {
        return false;
    }
    if a.user != b.user || a.group != b.group {
        return false;
    }
    match kind {
        What::Link => a.target == b.target,
        // RPM lets the package that comes first in its order win; nobody should count on that.
        What::Regular => a.digest == b.digest && a.capabilities == b.capabilities,
        What::Device => a.rdev == b.rdev,
        What::Other => true,
    }
}

/// Whether ELF classes decide between `a` and `b`, which are not the same, as far as `color` (those that the system
/// takes) goes. The 64-bit one is then there.
pub(super) fn decided_by_class(a: &FileEntry, b: &FileEntry, color: u32) -> bool {
    let (a, b) = (a.color & color, b.color & color);
    a != 0 && b != 0 && a != b && (a | b) & PREFERRED != 0
}

/// The 64-bit class: RPM's `%_prefer_color`.
pub(super) const PREFERRED: u32 = 2;

/// What `file` is, as far as it differs from `other`, with its article.
pub(super) fn describe(file: &FileEntry, other: &FileEntry) -> String {
    let noun = noun(file);
    if file.format() != other.format() {
        return match what(file) {
            What::Link => format!("a link to `{}`", file.target.escape_ascii()),
            _ => noun.to_owned(),
        };
    }
    match what(file) {
        What::Link if file.target != other.target => {
            format!("a link to `{}`", file.target.escape_ascii())
        }
        What::Regular if (file.size, &file.digest) != (other.size, &other.digest) => {
            let digest = file.digest.as_ref().map_or_else(
                || "without a digest".to_owned(),
                |digest| {
                    let start = digest.hex.get(..12).unwrap_or_default();
                    format!("{} {start}…", digest.algorithm.name())
                },
            );
            format!("a file of {} bytes ({digest})", file.size)
        }
        What::Device if file.rdev != other.rdev => {
            format!("{noun} {}:{}", file.rdev >> 8, file.rdev & 0xff)
        }
        What::Regular if file.capabilities != other.capabilities => {
            format!(
                "a file with the capabilities `{}`",
                file.capabilities.escape_ascii()
            )
        }
        What::Link => format!("a link of {}:{}", file.user, file.group),
        _ => {
            let mode = file.mode & 0o7777;
            format!("{noun} of {}:{} with mode {mode:04o}", file.user, file.group)
        }
    }
}

fn noun(file: &FileEntry) -> &'static str {
    match file.format() {
        0o040_000 => "a directory",
        0o120_000 => "a symbolic link",
        0o020_000 => "a character device",
        0o060_000 => "a block device",
        0o010_000 => "a FIFO",
        0o140_000 => "a socket",
        _ => "a file",
    }
}
