//! The sandbox of scriptlets, with real programs in a small tree: what is recorded and shown, and what is contained.
//! As whoever runs the tests, and, where that is root, as an ordinary user too.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod metadata;
mod ordinary;
mod tree;
mod work;
