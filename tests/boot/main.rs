//! Booting the sample image: what a machine is after its first boot and its second, and that a
//! damaged one does not come up. One machine at a time, since emulated ones take minutes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/mod.rs"]
mod support;

mod built_root;
mod buses;
mod damage;
mod detached;
mod fec;
mod first_boot;
mod lab;
mod measured;
mod partitions;
mod rekeyed_root;
mod rpm_verify;
mod sealed_lab;
mod sealed_root;
mod sealed_secure;
mod secure_boot;
