//! On-disk formats, one file (or folder) each. A format takes readers, writers and plain
//! values; it knows nothing of images and opens no path of its own.

pub mod elf;
pub mod kconfig;
pub mod kmod;
pub mod kmodindex;
pub mod ldcache;
