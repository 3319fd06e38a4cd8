//! `hullwright rpm closure` against the verdicts of `rpm --install --test`.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod fixture;
mod handmade;
mod oracle;
mod rich;
mod sample;
