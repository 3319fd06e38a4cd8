//! Calls that no safe library offers: the only room of the crate with `unsafe` code.
//!
//! Each file wraps one foreign interface in safe functions and says at every block why it is sound. What the calls
//! are good for is decided elsewhere.

#![allow(unsafe_code)]

pub mod environment;
pub mod handle;
pub mod lz4;
pub mod process;
pub mod seccomp;
