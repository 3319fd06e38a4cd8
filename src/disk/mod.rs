//! The disk: partition plan, budget, assembly.

pub mod repart;
