//! `hullwright sandbox-first-process`: the program started again as the first process of a scriptlet's sandbox. Nobody
//! else has a use for it.

use std::process::ExitCode;

/// The first process of a scriptlet's sandbox
pub fn run() -> ExitCode {
    hullwright::scriptlet::sandbox::first_process()
}
