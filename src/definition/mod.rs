//! Image definitions: text in, a checked [`Plan`] or a spanned error out.

pub mod plan;
pub mod values;

pub use plan::Plan;
