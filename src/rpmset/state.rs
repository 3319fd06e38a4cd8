//! Which files of a package are installed, by the choices of whoever installs it.

use std::collections::BTreeMap;

use super::FileEntry;
use crate::formats::rpm::tag::fileflag;
use crate::path::TreePath;

/// Whether and why a file of an installed package is there: RPM's numbers, as the rpmdb has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FileState {
    Normal = 0,
    /// Left out by choice.
    NotInstalled = 2,
    /// The same path of the preferred ELF class is there, or the system takes no such class.
    WrongColor = 4,
}

/// The state of every file of a set: by package, then by number in its file list.
pub type States = Vec<Vec<FileState>>;

/// RPM's choices at installation.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// As `rpm --excludedocs`: files marked as documentation are left out.
    pub exclude_docs: bool,
    /// As RPM's `%_install_langs`: files of other languages are left out. Empty, or with `all` among them, keeps all.
    pub languages: &'a [String],
    /// ELF classes that the system takes: bit 0 for 32-bit, bit 1 for 64-bit; 0 for all. RPM's `%_transaction_color`.
    pub color: u32,
}

impl Filter<'static> {
    /// Keeps every file, on a system of 32 and 64 bits: RPM's own default.
    pub const KEEP: Self = Self {
        exclude_docs: false,
        languages: &[],
        color: 3,
    };
}

impl Filter<'_> {
    /// What becomes of `files`, the list of one package, as far as it does not depend on other packages. Ghosts are
    /// [`FileState::Normal`], as RPM notes them.
    pub fn states(&self, files: &[FileEntry]) -> Vec<FileState> {
        let mut states: Vec<_> = files.iter().map(|file| self.state(file)).collect();
        if states.iter().any(|state| *state != FileState::Normal) {
            empty_directories(files, &mut states);
        }
        states
    }

    fn state(&self, file: &FileEntry) -> FileState {
        if self.color != 0 && file.color != 0 && file.color & self.color == 0 {
            return FileState::WrongColor;
        }
        // Licences stay, whatever else they are marked as.
        if file.flags & fileflag::LICENSE != 0 {
            return FileState::Normal;
        }
        let documentation = self.exclude_docs && file.flags & fileflag::DOC != 0;
        if documentation || !self.speaks(&file.languages) {
            return FileState::NotInstalled;
        }
        FileState::Normal
    }

    /// Whether a file of `languages` (separated by `|`) is wanted. RPM compares as far as the file's language goes:
    /// who wants `de_AT` gets files of `de` as well, but who wants `de` gets none of `de_AT`.
    fn speaks(&self, languages: &[u8]) -> bool {
        if languages.is_empty() || self.languages.is_empty() || self.languages.iter().any(|l| l == "all") {
            return true;
        }
        let of_file = |wanted: &String| {
            let mut parts = languages.split(|&b| b == b'|');
            parts.any(|part| !part.is_empty() && wanted.as_bytes().starts_with(part))
        };
        self.languages.iter().any(of_file)
    }
}

/// A directory of the package goes where something in it was left out and nothing of the package remains; then the
/// one above it may go as well.
fn empty_directories(files: &[FileEntry], states: &mut [FileState]) {
    /// What the package has in a directory.
    #[derive(Default)]
    struct Held {
        remaining: usize,
        lost: bool,
    }
    let mut held: BTreeMap<TreePath, Held> = BTreeMap::new();
    for (file, state) in files.iter().zip(&*states) {
        let Some(parent) = file.path.parent() else {
            continue;
        };
        let held = held.entry(parent).or_default();
        match state {
            FileState::Normal => held.remaining += 1,
            _ => held.lost = true,
        }
    }
    // The deepest first.
    let directories: Vec<_> = held.keys().rev().cloned().collect();
    let own: BTreeMap<_, _> = (0..files.len())
        .filter(|&index| files[index].is_dir())
        .map(|index| (files[index].path.clone(), index))
        .collect();
    for directory in directories {
        let is_emptied = held
            .get(&directory)
            .is_some_and(|held| held.remaining == 0 && held.lost);
        let Some(&index) = own.get(&directory).filter(|_| is_emptied) else {
            continue;
        };
        if states[index] != FileState::Normal {
            continue;
        }
        states[index] = FileState::NotInstalled;
        if let Some(above) = directory.parent().and_then(|parent| held.get_mut(&parent)) {
            above.remaining -= 1;
            above.lost = true;
        }
    }
}
