//! `hullwright lock` against repositories of createrepo_c, signatures of gpg, and servers that misbehave.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bench;
mod check;
mod lists;
mod network;
mod repodata;
mod server;
mod signatures;
#[path = "../support/mod.rs"]
mod support;
