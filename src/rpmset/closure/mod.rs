//! The closure of a set: whether its dependencies hold among its own packages.

mod check;
mod dependency;
mod rich;

pub use check::{Open, Report, check};
pub use dependency::Dependency;
pub use rich::{Rich, parse};
