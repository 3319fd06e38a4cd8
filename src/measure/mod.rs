//! Measured boot: what the TPM of a machine that boots an image will hold, and policies over it.

mod compare;
mod error;
mod events;
mod firmware;
mod initrd;
mod policy;

pub use compare::{Difference, differences, predict};
pub use error::MeasureError;
pub use events::{Addon, Chain, Event, events, of_addons};
pub use firmware::{Firmware, PREDICTED};
pub use policy::{PolicyKey, PublicSource};
