//! The closure of a set: whether its dependencies hold among its own packages.

mod dependency;
mod rich;

pub use dependency::Dependency;
pub use rich::{Rich, parse};
