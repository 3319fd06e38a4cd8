//! Scriptlets of packages: what they are, when RPM would run them, and what is done in their place.

mod collect;

pub use collect::{CollectError, Condition, Kind, Scriptlet, of_package};
pub mod sandbox;
