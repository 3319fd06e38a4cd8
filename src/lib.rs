//! Hullwright composes sealed, immutable operating-system images.
//!
//! In: an image definition (TOML) and a resolved set of RPMs. Out: an ostree
//! commit and a bootable GPT disk whose kernel is a UKI and whose `/usr` is under
//! dm-verity. Both outputs come from one [`tree::Tree`].

pub mod compose;
pub mod definition;
pub mod disk;
pub mod fetch;
pub mod firmware;
pub mod formats;
pub mod initrd;
pub mod measure;
pub mod ostree;
pub mod path;
pub mod recovery;
pub mod remote;
pub mod report;
pub mod rpmset;
pub mod scriptlet;
pub mod signing;
pub mod store;
mod sys;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod verify;
pub mod vm;
