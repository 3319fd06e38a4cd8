//! Scriptlets of packages: what they are, when RPM would run them, and what is done in their place.

mod accounts;
mod collect;
mod error;
pub mod events;
pub mod ledger;
mod leftovers;
pub mod lua;
mod macros;
pub mod order;
mod owners;
pub mod replaced;
mod run;
pub mod sandbox;
mod schedule;
mod shell;
#[cfg(test)]
mod testing;

pub use collect::{CollectError, Condition, Kind, Scriptlet, of_package};
pub use error::ScriptletError;
pub use replaced::Native;
pub use run::{Done, Settings};
pub use schedule::{Action, Decision, Planned, Rule, Schedule, alone};
