//! From the entry of a file list to a node of the tree.

use std::collections::HashMap;
use std::sync::Arc;

use super::Ima;
use crate::formats::rpm::tag::fileflag;
use crate::rpmset::FileEntry;
use crate::store::Blob;
use crate::tree::{Children, FileData, Kind, LinkId, Meta, capability};

/// The extended attribute of IMA's signature.
const IMA_XATTR: &[u8] = b"security.ima";
/// `struct signature_v2_hdr` of the kernel's integrity code. Where it is all zero, there is no signature.
const IMA_HEADER: usize = 9;

/// Makes nodes; owners of one name share it.
pub(super) struct Nodes<'a> {
    pub ima: Ima,
    names: HashMap<&'a str, Arc<str>>,
}

impl<'a> Nodes<'a> {
    pub fn new(ima: Ima) -> Self {
        let names = HashMap::new();
        Self { ima, names }
    }

    /// Mode, owner, time and attributes of `file`; what is wrong otherwise.
    pub fn meta(&mut self, file: &'a FileEntry) -> Result<Meta, String> {
        let mut meta = Meta::root(file.mode & 0o7777, i64::from(file.mtime));
        if file.is_symlink() {
            meta.mode = 0o777;
        }
        if file.is_regular() {
            if let Some(value) = capability::from_text(&file.capabilities)? {
                meta.xattrs.insert(capability::XATTR.into(), value.into());
            }
            if let Some(value) = self.signature(file) {
                meta.xattrs.insert(IMA_XATTR.into(), value.into());
            }
        }
        meta.user = self.owner(&file.user);
        meta.group = self.owner(&file.group);
        Ok(meta)
    }

    /// As RPM's plugin has it by default: configuration is meant to change, and is not signed.
    fn signature(&self, file: &'a FileEntry) -> Option<&'a [u8]> {
        let signature = file.signature.as_slice();
        let header = signature.get(..IMA_HEADER)?;
        let wanted = self.ima == Ima::Keep && file.flags & fileflag::CONFIG == 0;
        (wanted && header.iter().any(|&byte| byte != 0)).then_some(signature)
    }

    /// `None` for root, whose number is known.
    fn owner(&mut self, name: &'a str) -> Option<Arc<str>> {
        (name != "root").then(|| Arc::clone(self.names.entry(name).or_insert_with(|| name.into())))
    }
}

/// What `file` is, with `blob` as its content; what is wrong otherwise.
pub(super) fn kind(file: &FileEntry, blob: Option<&Blob>, link: Option<LinkId>) -> Result<Kind, String> {
    let (major, minor) = (u32::from(file.rdev >> 8), u32::from(file.rdev & 0xff));
    Ok(match file.format() {
        0o040_000 => Kind::Dir(Children::new()),
        0o120_000 if file.target.is_empty() => return Err("an empty link target".to_owned()),
        0o120_000 => Kind::Symlink(file.target.clone().into()),
        0o100_000 => {
            let blob = blob.cloned().ok_or("no content")?;
            Kind::File(FileData { blob, link })
        }
        0o020_000 => Kind::CharDevice { major, minor },
        0o060_000 => Kind::BlockDevice { major, minor },
        0o010_000 => Kind::Fifo,
        0o140_000 => Kind::Socket,
        other => return Err(format!("the unknown file type {other:o}")),
    })
}
