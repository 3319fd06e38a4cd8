//! Scriptlets of packages: what they are, when RPM would run them, and what is done in their place.

pub mod sandbox;
