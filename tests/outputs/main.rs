//! What the built program leaves, held against independent tools; and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod closure;
mod detached;
mod disk;
mod manifest;
mod measured;
mod real_rpms;
mod refused_packages;
mod refused_plans;
mod reproducible;
mod revoked;
mod rpm_verify;
mod rpms;
mod run;
mod sealed;
mod signed;
#[path = "../support/mod.rs"]
mod support;
mod token;
mod tree;
