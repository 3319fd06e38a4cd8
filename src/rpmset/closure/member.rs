//! A package as the closure sees it: what its header says of dependencies and files.

use super::dependency::{Dependency, List, ListError};
use crate::formats::rpm::Header;
use crate::formats::rpm::HeaderError;
use crate::formats::rpm::tag::{self, fileflag};

/// ELF classes that a system takes: 32 and 64 bits. RPM's `_transaction_color` on x86-64 and aarch64.
const SYSTEM_COLOR: u32 = 3;

/// A package of the set, borrowed from its header.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub name: &'a [u8],
    /// `[epoch:]version-release`.
    pub evr: Vec<u8>,
    /// Empty where the header has none, as public keys in an rpmdb.
    pub arch: &'a [u8],
    pub provides: Vec<Dependency<'a>>,
    pub requires: Vec<Dependency<'a>>,
    pub conflicts: Vec<Dependency<'a>>,
    pub obsoletes: Vec<Dependency<'a>>,
    header: &'a Header,
}

/// A file of a package: directory with its last `/`, name, and where it leads if it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    pub directory: &'a [u8],
    pub name: &'a [u8],
    pub target: Option<&'a [u8]>,
}

impl<'a> Member<'a> {
    /// # Errors
    /// Where lists of the header do not fit each other, or tags have the wrong type.
    pub fn read(header: &'a Header) -> Result<Self, ListError> {
        let text = |tag| Ok::<_, HeaderError>(header.string(tag)?.unwrap_or_default());
        let mut evr = match header.u32(tag::EPOCH)? {
            Some(epoch) => format!("{epoch}:").into_bytes(),
            None => Vec::new(),
        };
        evr.extend([text(tag::VERSION)?, b"-", text(tag::RELEASE)?].concat());
        Ok(Self {
            name: text(tag::NAME)?,
            evr,
            arch: text(tag::ARCH)?,
            provides: Dependency::list(header, List::Provides)?,
            requires: Dependency::list(header, List::Requires)?,
            conflicts: Dependency::list(header, List::Conflicts)?,
            obsoletes: Dependency::list(header, List::Obsoletes)?,
            header,
        })
    }

    /// Name, version and architecture in one text.
    pub fn nevra(&self) -> String {
        let arch = match self.arch {
            [] => String::new(),
            arch => format!(".{}", arch.escape_ascii()),
        };
        let (name, evr) = (self.name.escape_ascii(), self.evr.escape_ascii());
        format!("{name}-{evr}{arch}")
    }

    /// Calls `visit` with the files that a dependency can mean: not those that are not installed, be it that
    /// documentation is left out (`without_docs`) or that an rpmdb notes so, nor those of a foreign ELF class.
    ///
    /// # Errors
    /// Where tags have the wrong type, or the lists are of different length.
    pub fn each_file(&self, without_docs: bool, visit: &mut dyn FnMut(File<'a>)) -> Result<(), ListError> {
        let header = self.header;
        let names = header.strings(tag::BASENAMES)?;
        let directories = header.strings(tag::DIRNAMES)?;
        let indexes = header.u32s(tag::DIRINDEXES)?;
        let modes = header.u16s(tag::FILEMODES)?;
        let targets = header.strings(tag::FILELINKTOS)?;
        let flags = header.u32s(tag::FILEFLAGS)?;
        let colors = header.u32s(tag::FILECOLORS)?;
        let states = header.value(tag::FILESTATES).map_or(&[][..], |value| value.bytes);
        for (number, (name, index)) in names.into_iter().zip(indexes).enumerate() {
            let directory = usize::try_from(index)
                .ok()
                .and_then(|index| directories.get(index));
            let Some(&directory) = directory else { continue };
            let color = colors.get(number).copied().unwrap_or(0);
            let is_doc = flags.get(number).is_some_and(|flags| flags & fileflag::DOC != 0);
            // Of the states of an rpmdb, 0 is installed, 3 is shared over the network.
            let is_there = matches!(states.get(number), None | Some(0 | 3));
            if !is_there || (without_docs && is_doc) || (color != 0 && color & SYSTEM_COLOR == 0) {
                continue;
            }
            let is_link = modes
                .get(number)
                .is_some_and(|mode| mode & 0o170_000 == 0o120_000);
            let target = if is_link {
                targets.get(number).copied()
            } else {
                None
            };
            visit(File {
                directory,
                name,
                target,
            });
        }
        // Packages of before 1999 have whole paths.
        for path in header.strings(tag::OLDFILENAMES)? {
            let slash = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            let (directory, name) = path.split_at(slash);
            visit(File {
                directory,
                name,
                target: None,
            });
        }
        Ok(())
    }
}
