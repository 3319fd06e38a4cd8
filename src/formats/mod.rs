//! On-disk formats, one file (or folder) each. A format takes readers, writers and plain
//! values; it knows nothing of images and opens no path of its own.

pub mod elf;
#[cfg(test)]
pub(crate) mod elf_fixture;
#[cfg(test)]
mod elf_tests;
pub mod kconfig;
pub mod kmod;
pub mod kmodindex;
pub mod ldcache;
