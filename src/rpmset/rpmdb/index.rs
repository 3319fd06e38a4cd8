//! The index tables of RPM's sqlite database: which they are, and the rows that a header gives.

use super::rich;
use crate::formats::rpm::header_writer::kind;
use crate::formats::rpm::tag::{self, sense};
use crate::formats::rpm::{Header, HeaderError};

/// An index table, by the name of its tag.
pub(super) struct Index {
    pub name: &'static str,
    tag: u32,
    /// Keys are text and indexed, or binary data.
    pub text: bool,
    /// The tag has several values a header, and rows are also found by header.
    pub array: bool,
}

const fn index(name: &'static str, tag: u32, text: bool, array: bool) -> Index {
    Index {
        name,
        tag,
        text,
        array,
    }
}

/// In the order in which RPM opens them.
pub(super) const INDEXES: &[Index] = &[
    index("Name", tag::NAME, true, false),
    index("Basenames", tag::BASENAMES, true, true),
    index("Group", tag::GROUP, true, false),
    index("Requirename", tag::REQUIRENAME, true, true),
    index("Providename", tag::PROVIDENAME, true, true),
    index("Conflictname", tag::CONFLICTNAME, true, true),
    index("Obsoletename", tag::OBSOLETENAME, true, true),
    index("Triggername", tag::TRIGGERNAME, true, true),
    index("Dirnames", tag::DIRNAMES, true, true),
    index("Installtid", tag::INSTALLTID, false, false),
    index("Sigmd5", tag::SIGMD5, false, false),
    index("Sha1header", tag::SHA1HEADER, true, false),
    index("Filetriggername", tag::FILETRIGGERNAME, true, true),
    index("Transfiletriggername", tag::TRANSFILETRIGGERNAME, true, true),
    index("Recommendname", tag::RECOMMENDNAME, true, true),
    index("Suggestname", tag::SUGGESTNAME, true, true),
    index("Supplementname", tag::SUPPLEMENTNAME, true, true),
    index("Enhancename", tag::ENHANCENAME, true, true),
];

/// What is only needed while a package is being installed, and of no concern to an installed one.
const INSTALLING: u32 = sense::SCRIPT_PRE
    | sense::SCRIPT_POST
    | sense::PRETRANS
    | sense::POSTTRANS
    | sense::RPMLIB
    | sense::KEYRING;
const ERASING: u32 = sense::SCRIPT_PREUN | sense::SCRIPT_POSTUN | sense::PREUNTRANS | sense::POSTUNTRANS;

impl Index {
    /// Keys with the numbers of their values, as `tag2index` of RPM finds them in a header of the rpmdb.
    pub fn rows(&self, header: &Header) -> Result<Vec<(Vec<u8>, u32)>, HeaderError> {
        let Some(value) = header.value(self.tag) else {
            let unknown = (self.tag == tag::GROUP).then(|| (b"Unknown".to_vec(), 0));
            return Ok(unknown.into_iter().collect());
        };
        if !self.text {
            // RPM binds an integer's bytes as they lie in memory.
            let mut key = value.bytes.to_vec();
            if value.kind == kind::INT32 {
                key.reverse();
            }
            return Ok(vec![(key, 0)]);
        }
        if !self.array {
            let key = header.string(self.tag)?.unwrap_or_default();
            return Ok(vec![(key.to_vec(), 0)]);
        }
        let keys = header.strings(self.tag)?;
        let flags = match self.tag {
            tag::REQUIRENAME => header.u32s(tag::REQUIREFLAGS)?,
            _ => Vec::new(),
        };
        let triggers = match self.tag {
            tag::FILETRIGGERNAME => header.u32s(tag::FILETRIGGERINDEX)?,
            tag::TRANSFILETRIGGERNAME => header.u32s(tag::TRANSFILETRIGGERINDEX)?,
            _ => Vec::new(),
        };
        let mut rows = Vec::with_capacity(keys.len());
        for ((number, key), position) in (0..).zip(&keys).zip(0..) {
            let flags = flags.get(position).copied().unwrap_or(0);
            if flags & INSTALLING != 0 && flags & ERASING == 0 {
                continue;
            }
            if self.tag == tag::TRIGGERNAME && keys[..position].contains(key) {
                continue;
            }
            let number = triggers.get(position).copied().unwrap_or(number);
            rows.push((key.to_vec(), number));
            if key.starts_with(b"(") && self.has_rich() {
                rows.extend(rich::keys(key).into_iter().map(|key| (key, number)));
            }
        }
        Ok(rows)
    }

    fn has_rich(&self) -> bool {
        !matches!(
            self.tag,
            tag::PROVIDENAME
                | tag::OBSOLETENAME
                | tag::BASENAMES
                | tag::DIRNAMES
                | tag::TRIGGERNAME
                | tag::FILETRIGGERNAME
                | tag::TRANSFILETRIGGERNAME
        )
    }
}
