//! A volume as text: what the writer has a choice about, one line each, so that two volumes can be
//! compared and a wrong byte be found.

use std::fmt::Write as _;
use std::io::Write;

use super::format::{Layout, S_IFDIR, S_IFLNK, S_IFMT};
use super::model::Content;
use super::read_error::ReadError;
use super::reader::{Image, StoredInode};

/// Writes `image` to `out` as text: the superblock, then every path with its inode, extended
/// attributes and extents, each directory before its entries. Bytes that are not printable ASCII are
/// escaped.
///
/// # Errors
/// Where the volume is malformed or `out` fails.
pub fn dump<S: Content>(image: &Image<S>, out: &mut impl Write) -> Result<(), ReadError> {
    // Shows that directories form a tree, so that the walk below ends.
    image.tree()?;
    let volume = image.volume();
    let uuid: String = volume.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = volume.name.escape_ascii();
    writeln!(
        out,
        "volume \"{name}\" uuid {uuid} blocks {} inodes {} built {}",
        volume.blocks, volume.inodes, volume.build_time
    )
    .map_err(ReadError::Write)?;
    let mut pending = vec![(String::new(), image.root()?)];
    while let Some((path, inode)) = pending.pop() {
        let mut text = String::new();
        describe(image, &path, &inode, &mut text)?;
        out.write_all(text.as_bytes()).map_err(ReadError::Write)?;
        if inode.st_mode() & S_IFMT == S_IFDIR {
            for (name, nid) in image.children(&inode)?.into_iter().rev() {
                pending.push((format!("{path}/{}", name.escape_ascii()), image.inode(nid)?));
            }
        }
    }
    Ok(())
}

/// The lines of one path. Writing to a `String` cannot fail, so results of `write!` are dropped.
fn describe<S: Content>(
    image: &Image<S>,
    path: &str,
    inode: &StoredInode,
    text: &mut String,
) -> Result<(), ReadError> {
    let head = &inode.head;
    let path = if path.is_empty() { "/" } else { path };
    let _ = write!(
        text,
        "{path} nid {} mode {:o} links {} owner {}:{} time {} size {} {:?} at {}",
        inode.nid(),
        head.mode,
        head.nlink,
        head.uid,
        head.gid,
        head.mtime,
        head.size,
        head.layout,
        head.union,
    );
    if head.mode & S_IFMT == S_IFLNK {
        let _ = write!(text, " -> {}", image.target(inode)?.escape_ascii());
    }
    text.push('\n');
    for (name, value) in image.xattrs(inode)? {
        let _ = writeln!(text, "  xattr {} = {}", name.escape_ascii(), value.escape_ascii());
    }
    if matches!(head.layout, Layout::CompressedCompact | Layout::CompressedFull) {
        if let Some(start) = image.fragment_start(inode)? {
            let _ = writeln!(text, "  fragment at {start}");
        }
        image.extents(inode, |found| {
            let kind = match (found.raw, found.is_tail) {
                (false, false) if found.partial => "packed, the beginning",
                (false, false) => "packed",
                (false, true) => "packed, elsewhere",
                (true, false) => "plain",
                (true, true) => "plain, elsewhere",
            };
            let _ = writeln!(
                text,
                "  extent {}+{} blocks {}+{} {kind}",
                found.start, found.length, found.block, found.blocks
            );
            Ok(())
        })?;
    }
    Ok(())
}
