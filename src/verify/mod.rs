//! What an image claims, held against its bytes: nothing is booted or mounted, and nothing of it is trusted.
//!
//! [`CHECKS`] lists the checks. [`Subject::open`] opens an output directory or a disk image and reads what several of
//! them look at; [`verify`] runs them all. What does not hold is a [`Finding`]; what could not be checked is said too.

mod addons;
mod commit;
mod deltas;
mod disk;
mod equal;
mod error;
mod esp;
mod kernel;
mod luks;
mod manifest;
mod medium;
mod outdir;
mod pcrs;
mod policies;
mod registry;
mod report;
mod sbat;
mod sealed;
mod signatures;
mod signed;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use error::VerifyError;
pub use registry::{CHECKS, Check};
pub use report::{Checked, Finding, Notes, Outcome, Place, Report};
pub use subject::{Options, Subject};

use rayon::prelude::*;

/// Runs every check on `subject`, on all threads of the current `rayon` pool.
pub fn verify(subject: &Subject) -> Report {
    let checked = CHECKS.par_iter().with_max_len(1).map(|check| {
        let mut notes = Notes::default();
        (check.run)(subject, &mut notes);
        notes.done(check)
    });
    Report {
        subject: subject.path.clone(),
        checked: checked.collect(),
    }
}
