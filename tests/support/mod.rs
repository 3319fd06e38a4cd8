//! What tests of the built program share with the crate's own tests.

#[path = "../../src/testing.rs"]
mod testing;

#[allow(unused_imports)]
pub use testing::*;

#[allow(dead_code)]
pub mod detached;

#[allow(dead_code)]
pub mod image;

#[allow(dead_code)]
pub mod rpm_verify;

#[allow(dead_code)]
pub mod signed;
