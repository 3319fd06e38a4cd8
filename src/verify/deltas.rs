//! The static deltas in `repo/`.

use super::commit::REPO;
use super::{Notes, Place, Subject};
use crate::ostree::{self, list_deltas};

/// Check `deltas`.
pub fn deltas(subject: &Subject, notes: &mut Notes) {
    let Some(repo) = &subject.repo else {
        return notes.not_checked("a disk image by itself has no static deltas: name the output directory");
    };
    let Ok(repo) = repo else {
        return notes.not_checked("the repository cannot be opened (see check `commit`)");
    };
    let names = match list_deltas(repo.path()) {
        Ok(names) => names,
        Err(error) => return notes.fail(Place::file(REPO), error.to_string()),
    };
    if names.is_empty() {
        return notes.held("there is none");
    }
    for name in names {
        match ostree::check_delta(repo, &name, None) {
            Ok(checked) => notes.held(format!(
                "from {}: {} parts, {} objects{}",
                name.from.map_or("nothing".to_owned(), |from| format!(
                    "{}…",
                    &from.to_string()[..12]
                )),
                checked.parts,
                checked.objects,
                match checked.unmade {
                    0 => String::new(),
                    unmade => format!(", {unmade} of them from contents of that commit, so not made here"),
                }
            )),
            Err(error) => notes.fail(Place::file(REPO), error.to_string()),
        }
    }
}
