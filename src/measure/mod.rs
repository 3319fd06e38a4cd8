//! Measured boot: what the TPM of a machine that boots an image will hold, and policies over it.

mod error;
mod policy;

pub use error::MeasureError;
pub use policy::{PolicyKey, PublicSource};
