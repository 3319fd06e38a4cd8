//! The merge of packages, held against what RPM itself installs, rule by rule and over whole sets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod header_only;
mod oracle;
mod rules;
mod sets;
mod spec;
#[path = "../support/mod.rs"]
mod support;
