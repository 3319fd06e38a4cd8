//! The repository that is written in process, held against the `ostree` program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod against_ostree;
mod deltas;
mod from_store;
mod reading;
mod refusals;
#[expect(dead_code, reason = "this server does not misbehave")]
#[path = "../lock/server.rs"]
mod server;
mod support;
#[path = "../../src/testing.rs"]
mod testing;
