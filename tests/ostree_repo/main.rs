//! The repository that is written in process, held against the `ostree` program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod against_ostree;
mod from_store;
mod reading;
mod refusals;
mod support;
#[path = "../../src/testing.rs"]
mod testing;
