//! Image definitions: text in, a checked [`Plan`] or a spanned error out.
//!
//! [`load`] reads a definition and those that it `extends`, merges them ([`raw`]), takes the values
//! out ([`schema`], [`reader`]) and holds them against each other ([`check`]). Everything that is
//! wrong is reported at once, with its place in whichever file it stands.

mod check;
mod choices;
mod error;
mod expanded;
mod load;
pub mod measured_boot;
pub mod names;
pub mod partitions;
pub mod plan;
mod raw;
mod reader;
mod schema;
pub mod sealing;
mod source;
mod spent;
#[cfg(test)]
mod tests;
mod typed;
pub mod uki;
mod unbuilt;
pub mod values;

pub use error::{DefinitionError, Problem};
pub use load::{Definition, load, load_with};
pub use plan::Plan;
pub use source::{Disk, Found, Loader, SpentDisk, ids_beside};
pub use spent::Kept;
